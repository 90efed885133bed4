"""Definitions that are kept, and runs that are started from them."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from opscore_middleware.core import cursors
from opscore_middleware.core.clock import to_micros
from opscore_middleware.core.models import Page
from opscore_middleware.core.refusals import deregistered_agent, unknown_agent
from opscore_middleware.core.runs.advancing import Stepper
from opscore_middleware.core.runs.records import Creation, Run, StoredWorkflow, answering
from opscore_middleware.core.runs.refusals import unknown_workflow
from opscore_middleware.core.runs.steps.filling import as_known_json
from opscore_middleware.core.runs.steps.starting import begun
from opscore_middleware.core.runs.views import (
    WorkflowQuery,
    WorkflowStart,
    WorkflowStarted,
    WorkflowView,
    as_workflow,
)
from opscore_middleware.core.workflows.definition import WorkflowDefinition
from opscore_middleware.errors import ValidationFailed

__all__ = ["Parse", "Starts"]

Parse = Callable[[Mapping[str, Any]], WorkflowDefinition]
"""Returns the definition that a document spells. Raises `InvalidDefinition`."""


class Starts:
    """Keeps definitions, and starts runs from them.

    Args:
        stepper: has the store.
        parse: reads definitions that somebody wrote.
    """

    def __init__(self, stepper: Stepper, *, parse: Parse) -> None:
        self._stepper = stepper
        self._store = stepper.store
        self._parse = parse

    async def save(
        self, document: Mapping[str, Any], *, creation: Creation | None = None
    ) -> tuple[WorkflowView, bool]:
        """Keep a definition; returns it and whether it is new. Raises `InvalidDefinition`.

        A `creation` answers with what this returns.
        """
        definition = self._parse(document)

        def answer(saved: tuple[StoredWorkflow, bool]) -> tuple[WorkflowView, bool]:
            stored, is_new = saved
            return as_workflow(stored), is_new

        return answer(
            await self._store.save_workflow(
                definition.id,
                _text(definition),
                now=self._stepper.clock(),
                creation=answering(creation, answer),
            )
        )

    async def workflow(self, workflow_id: str, version: int | None = None) -> WorkflowView:
        """Return a definition, its latest version unless told. Raises `WorkflowNotFound`."""
        return as_workflow(await self._kept(workflow_id, version))

    async def workflows(self, query: WorkflowQuery) -> Page[WorkflowView]:
        """List the latest version of each definition, by id. Raises `InvalidCursor`."""
        after = cursors.text(query.cursor)
        found = await self._store.list_workflows(after=after, limit=query.limit + 1)
        items = [as_workflow(stored) for stored in found[: query.limit]]
        more = len(found) > query.limit
        return Page(
            items=items, next_cursor=cursors.encode(items[-1].workflow_id) if more else None
        )

    async def start(
        self,
        agent_id: str,
        start: WorkflowStart,
        *,
        creation: Creation | None = None,
        session_id: str | None = None,
        traceparent: str | None = None,
    ) -> WorkflowStarted:
        """Start a workflow for an agent; an id that is given makes a repeat harmless.

        A definition that comes along is kept as a version of its own where it says something new.
        Its tasks carry `traceparent` on, the trace that this is a part of.
        Raises `ValidationFailed` unless just one of id and definition is given, `WorkflowNotFound`,
        `InvalidDefinition`, `AgentNotFound`, `AgentDeregistered` or `SessionExists`.
        """

        def answer(started: tuple[Run, bool]) -> WorkflowStarted:
            run, _ = started
            return WorkflowStarted(session_id=run.session_id, workflow_id=run.workflow.workflow_id)

        return answer(
            await self._started(
                agent_id,
                start,
                session_id or str(uuid.uuid4()),
                creation=answering(creation, answer),
                traceparent=traceparent,
            )
        )

    async def start_once(self, agent_id: str, start: WorkflowStart, *, session_id: str) -> bool:
        """Start a workflow unless that session is there already; tells whether it was not.

        Raises as `start` does.
        """
        _, is_new = await self._started(agent_id, start, session_id)
        return is_new

    async def _started(
        self,
        agent_id: str,
        start: WorkflowStart,
        session_id: str,
        *,
        creation: Creation | None = None,
        traceparent: str | None = None,
    ) -> tuple[Run, bool]:
        workflow = await self._meant(agent_id, start)
        now = self._stepper.clock()
        payload = start.initial_payload
        run = begun(
            workflow,
            rules=self._stepper.rules,
            session_id=session_id,
            agent_id=agent_id,
            initial_payload=None if payload is None else as_known_json(payload),
            traceparent=traceparent,
            run_at=None if start.run_at is None else to_micros(start.run_at),
            # Ids that grow with time keep an index small and quick.
            base=f"{now:013x}{secrets.token_hex(6)}",
            now=now,
        )
        return await self._store.start_run(run, creation=creation, placed=self._stepper.on_ready)

    async def _meant(self, agent_id: str, start: WorkflowStart) -> StoredWorkflow:
        workflow_id, document = start.workflow_definition_id, start.workflow_definition
        if (workflow_id is None) == (document is None):
            raise _one_of_two(is_both=document is not None)
        if workflow_id is not None:
            return await self._kept(workflow_id, None)
        definition = self._parse(document or {})
        # Nothing is kept for a start that fails.
        agent = await self._store.get_agent(agent_id)
        if agent is None:
            raise unknown_agent(agent_id)
        if agent.deregistered_at is not None:
            raise deregistered_agent(agent_id)
        stored, _ = await self._store.save_workflow(
            definition.id, _text(definition), now=self._stepper.clock()
        )
        return stored

    async def _kept(self, workflow_id: str, version: int | None) -> StoredWorkflow:
        stored = await self._store.get_workflow(workflow_id, version=version)
        if stored is None:
            raise unknown_workflow(workflow_id, version)
        return stored


def _text(definition: WorkflowDefinition) -> str:
    """Return a definition as it is kept: what its author said, in one spelling."""
    said = definition.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return json.dumps(said, separators=(",", ":"))


def _one_of_two(*, is_both: bool) -> ValidationFailed:
    which = "both are given" if is_both else "neither is given"
    return ValidationFailed(
        [
            {
                "type": "value_error",
                "loc": ("body",),
                "msg": "give either workflowDefinitionId, for a workflow that is kept here, or "
                f"workflowDefinition, for one that comes along; {which}",
                "input": None,
            }
        ]
    )
