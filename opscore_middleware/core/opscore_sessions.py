"""Ops-Core's use cases with sessions."""

from __future__ import annotations

import uuid

from opscore_middleware.core import cursors
from opscore_middleware.core.clock import Clock, from_micros, to_micros
from opscore_middleware.core.models import Page
from opscore_middleware.core.refusals import unknown_session
from opscore_middleware.core.runs.records import Creation, answering
from opscore_middleware.core.sessions import (
    Session,
    SessionChange,
    SessionQuery,
    SessionStart,
    SessionState,
    changed,
)
from opscore_middleware.core.store import Store
from opscore_middleware.errors import SessionExists

__all__ = ["Sessions"]


class Sessions:
    """What can be done with sessions.

    Args:
        store: where they are kept.
        clock: returns now, in microseconds since the Unix epoch.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self._clock = clock

    async def start_session(
        self, start: SessionStart, *, creation: Creation | None = None
    ) -> tuple[Session, bool]:
        """Start a session of an agent.

        Returns the session and whether it is new: starting one again under its id, for the same
        agent and workflow, returns it as it is. Raises `SessionExists` where the id belongs to
        another, `AgentNotFound` or `AgentDeregistered`. `creation` as in `register`.
        """
        now = from_micros(self._clock())
        new = Session(
            session_id=start.session_id or str(uuid.uuid4()),
            agent_id=start.agent_id,
            workflow_id=start.workflow_id,
            state=SessionState.STARTED,
            metadata=start.metadata,
            created_at=now,
            updated_at=now,
        )

        def answer(started: tuple[Session, bool]) -> tuple[Session, bool]:
            kept, _ = started
            if (kept.agent_id, kept.workflow_id) != (new.agent_id, new.workflow_id):
                raise SessionExists(
                    f"Session {new.session_id!r} exists already, for agent {kept.agent_id!r} and "
                    f"workflow {kept.workflow_id!r}; leave sessionId out to get a new one.",
                    session_id=new.session_id,
                )
            return started

        # Looked at within the transaction too, so that no key is kept for what is refused.
        return answer(await self.store.start_session(new, creation=answering(creation, answer)))

    async def update_session(self, session_id: str, change: SessionChange) -> Session:
        """Change a session; a terminal state ends it for good.

        Raises `SessionNotFound` or `SessionEnded`.
        """
        now = from_micros(self._clock())
        session = await self.store.update_session(session_id, lambda s: changed(s, change, now))
        if session is None:
            raise unknown_session(session_id)
        return session

    async def session(self, session_id: str) -> Session:
        """Return one session. Raises `SessionNotFound`."""
        session = await self.store.get_session(session_id)
        if session is None:
            raise unknown_session(session_id)
        return session

    async def sessions(self, query: SessionQuery | None = None) -> Page[Session]:
        """List sessions, newest first. Raises `InvalidCursor`."""
        query = query or SessionQuery()
        found = await self.store.list_sessions(
            agent_id=query.agent_id,
            state=query.state,
            after=cursors.moment_and_id(query.cursor),
            limit=query.limit + 1,
        )
        items = list(found[: query.limit])
        if len(found) <= query.limit:
            return Page(items=items)
        last = items[-1]
        position = [to_micros(last.created_at), last.session_id]
        return Page(items=items, next_cursor=cursors.encode(position))
