"""One attempt at a task while it is done, and what is told of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

import anyio
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response

from opscore_middleware.agent.ended import TaskEnd, asked_to_wait
from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.origin import Origin
from opscore_middleware.agent.outcome import describe_unit_failure
from opscore_middleware.agent.results import LIMIT, TaskResult
from opscore_middleware.agent.tasks.attempts import Attempt
from opscore_middleware.agent.tasks.context import TaskContext
from opscore_middleware.agent.tasks.handler import Handler
from opscore_middleware.agent.tasks.message import TaskMessage
from opscore_middleware.agent.unit import Unit

__all__ = ["Run"]

logger = logging.getLogger("opscore_middleware")


class Run:
    """Does one attempt at a task.

    Args:
        handler: what does it.
        arguments: what it is called with.
        message: what came.
        attempt: where its end is noted for those that come again.
        origin: the request, as the middleware sees it; None without one.
    """

    def __init__(
        self,
        handler: Handler,
        arguments: Mapping[str, Any],
        message: TaskMessage,
        attempt: Attempt,
        origin: Origin | None,
    ) -> None:
        self._handler = handler
        self._arguments = arguments
        self._attempt = attempt
        self._origin = origin
        self._task_id = message.opscore_task_id
        self._name = f"task {handler.name}"
        self._raised: Exception | None = None
        self._context = TaskContext(
            name=handler.name,
            task_id=message.opscore_task_id,
            session_id=message.opscore_session_id,
            payload=message.payload,
            tell=self._tell,
        )

    async def inline(self) -> Response:
        """Do it, and return the answer; what the handler raises beyond HTTP is raised."""
        unit = None if self._origin is None else Unit(self._origin, self._name)
        try:
            body = await self._handler(self._arguments, self._context)
        except HTTPException as raised:
            refused = _as_failure(raised)
            self._over(unit, None)
            self._attempt.ends(refused.status_code, _in_json(refused), refused.headers)
        except BaseException as raised:
            self._over(unit, raised)
            if isinstance(raised, Exception):
                self._attempt.ends(500, None)
            raise
        else:
            self._over(unit, None)
            self._attempt.ends(200, body)
        return self._attempt.answer()

    async def in_background(self) -> None:
        """Do it and report its end; what the handler raises beyond HTTP is raised.

        In a task of its own: cancelling the work on it must not cancel the server's.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._work)
        if self._raised is not None:
            raise self._raised

    async def _work(self) -> None:
        # It alone says how the task ends: what was answered has only acknowledged it.
        unit = None if self._origin is None else Unit(self._origin, self._name, alone=True)
        try:
            body = await self._handler(self._arguments, self._context)
        except HTTPException as refused:
            self._refuse(unit, _as_failure(refused))
        except Exception as raised:
            self._raised = raised
            self._over(unit, raised)
            self._attempt.ends(500, None)
        except BaseException as cancelled:
            self._over(unit, cancelled)
            raise
        else:
            self._over(unit, None, end=TaskEnd("completed", result=self._result(body)))
            self._attempt.ends(200, body)

    def _refuse(self, unit: Unit | None, refused: HTTPException) -> None:
        """End it as an answer of that status would: below 500 the agent itself has not failed."""
        status = refused.status_code
        failure = Failure(f"HTTP {status}", str(refused.detail))
        wait = asked_to_wait(status, Headers(refused.headers).raw)
        if status >= 500:
            end = TaskEnd("failed", status, retry_after=wait)
            self._over(unit, None, failure, end)
        else:
            error = describe_unit_failure(failure, self._name)
            if self._origin is not None:
                error = self._origin.runtime.hooks.redacted(error)
            end = TaskEnd("failed", status, error=error, retry_after=wait)
            self._over(unit, None, end=end)
        self._attempt.ends(status, None, refused.headers)

    def _over(
        self,
        unit: Unit | None,
        raised: BaseException | None,
        failure: Failure | None = None,
        end: TaskEnd | None = None,
    ) -> None:
        if unit is not None and self._origin is not None:
            if self._task_id is not None:
                self._origin.runtime.progress.forget(self._task_id)
            unit.end(raised, failure, end)

    def _result(self, body: bytes) -> TaskResult | None:
        if self._origin is None or not self._origin.runtime.reports_results:
            return None
        result = TaskResult(body)
        if len(body) > LIMIT:
            logger.warning(
                "%s came to a result of %d bytes; more than %d are not reported, so it is "
                "completed without a result for Ops-Core; return what points to it instead",
                self._name,
                len(body),
                LIMIT,
            )
            result.drop()
        return result

    def _tell(self, progress: float, message: str | None) -> None:
        if self._origin is not None and self._task_id is not None:
            self._origin.runtime.progress.put(self._task_id, progress, message)


def _as_failure(raised: HTTPException) -> HTTPException:
    """Return what was raised; a status that tells of no failure is the handler's mistake, a 500."""
    return raised if raised.status_code >= 400 else HTTPException(500, raised.detail)


def _in_json(refused: HTTPException) -> bytes:
    # Whatever the handler gave: a failure that cannot be told is still this one, and no other.
    return json.dumps({"detail": refused.detail, "code": "task_failed"}, default=str).encode()
