"""Heartbeats, deregistration and sessions through both clients, against a real Ops-Core."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from opscore_middleware.client import AsyncOpsCoreClient, OpsCoreClient
from opscore_middleware.core.models import Heartbeat, Registration
from opscore_middleware.core.sessions import (
    Session,
    SessionChange,
    SessionQuery,
    SessionStart,
    SessionState,
)
from opscore_middleware.errors import RemoteError
from tests.support.processes import OpsCoreProcess

pytestmark = pytest.mark.anyio

T = TypeVar("T")
Ask = Callable[..., Awaitable[Any]]


@asynccontextmanager
async def asking(opscore: OpsCoreProcess, kind: str) -> AsyncIterator[Ask]:
    """Yield a function that calls a method of one kind of client by its name."""
    if kind == "sync":
        with OpsCoreClient(opscore.url, opscore.api_key) as client:

            async def ask(method: str, *arguments: Any) -> Any:
                return getattr(client, method)(*arguments)

            yield ask
    else:
        async with AsyncOpsCoreClient(opscore.url, opscore.api_key) as concurrent:

            async def ask_async(method: str, *arguments: Any) -> Any:
                return await getattr(concurrent, method)(*arguments)

            yield ask_async


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_an_agent_lives_and_is_taken_out(opscore: OpsCoreProcess, kind: str) -> None:
    async with asking(opscore, kind) as ask:
        agent = await ask("register_agent", Registration(agent_name=f"agent-{uuid4()}"))
        beat = Heartbeat(instance_id="i", state="idle", sequence=3, interval_seconds=10)
        answer = await ask("heartbeat", agent.agent_id, beat)
        assert (answer.state, answer.last_sequence, answer.interval_seconds) == ("UNKNOWN", 0, 10)
        for _ in range(2):
            assert await ask("deregister_agent", agent.agent_id) is None
        for method, arguments in (
            ("heartbeat", (agent.agent_id, beat)),
            ("get_agent", (agent.agent_id,)),
        ):
            with pytest.raises(RemoteError) as raised:
                await ask(method, *arguments)
            assert (raised.value.remote_status, raised.value.remote_code) == (
                *(410, "agent_deregistered"),
            )


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_session_from_its_start_to_its_end(opscore: OpsCoreProcess, kind: str) -> None:
    async with asking(opscore, kind) as ask:
        agent = await ask("register_agent", Registration(agent_name=f"agent-{uuid4()}"))
        start = SessionStart(agent_id=agent.agent_id, workflow_id="w", metadata={"k": 1})
        session: Session = await ask("start_session", start)
        running = SessionChange(state=SessionState.RUNNING, metadata=None)
        changed: Session = await ask("update_session", session.session_id, running)
        assert (changed.state, changed.metadata, changed.workflow_id) == ("running", None, "w")
        ended: Session = await ask(
            "update_session",
            session.session_id,
            SessionChange(state=SessionState.COMPLETED, result={"n": [1]}),
        )
        assert (ended.result, ended.ended_at) == ({"n": [1]}, ended.updated_at)
        seen = await ask("get_session", session.session_id)
        assert dict(seen) == {**dict(ended), "progress": None}
        query = SessionQuery(agent_id=agent.agent_id, state=SessionState.COMPLETED)
        assert (await ask("list_sessions", query)).items == [ended]
        with pytest.raises(RemoteError) as raised:
            await ask("update_session", session.session_id, running)
        assert raised.value.remote_code == "session_ended"


async def test_all_sessions_are_gone_through_page_by_page(opscore: OpsCoreProcess) -> None:
    with OpsCoreClient(opscore.url, opscore.api_key) as client:
        agent = client.register_agent(Registration(agent_name=f"agent-{uuid4()}"))
        start = SessionStart(agent_id=agent.agent_id)
        ids = {client.start_session(start).session_id for _ in range(5)}
        query = SessionQuery(agent_id=agent.agent_id, limit=2)
        found = [session.session_id for session in client.iter_sessions(query)]
    async with AsyncOpsCoreClient(opscore.url, opscore.api_key) as concurrent:
        again = [session.session_id async for session in concurrent.iter_sessions(query)]
    assert found == again
    assert (set(found), len(found)) == (ids, 5)
