"""Sessions in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opscore_middleware.core.clock import to_micros
from opscore_middleware.core.refusals import deregistered_agent, unknown_agent
from opscore_middleware.core.runs.records import Creation
from opscore_middleware.core.sessions import Session
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_creations import keep, refuse_repeats
from opscore_middleware.stores.rows import session as session_of
from opscore_middleware.stores.rows import stored_json

__all__ = ["get_session", "list_sessions", "start_session", "update_session"]


async def start_session(
    connection: Connection, *, new: Session, creation: Creation | None
) -> tuple[Session, bool]:
    """Keep `core.store.Store.start_session`'s promise within the transaction that is open."""
    await refuse_repeats(connection, creation, now=to_micros(new.created_at))
    started = await _start(connection, new)
    await keep(connection, creation, started)
    return started


async def _start(connection: Connection, new: Session) -> tuple[Session, bool]:
    kept = await get_session(connection, session_id=new.session_id)
    if kept is not None:
        return kept, False
    agent = await connection.fetchrow(_AGENT, new.agent_id)
    if agent is None:
        raise unknown_agent(new.agent_id)
    if agent["deregistered_at"] is not None:
        raise deregistered_agent(new.agent_id)
    # Another replica may start it at the same time; its session is the one that is kept then.
    created = await connection.fetchrow(
        _INSERT, *_columns(new), agent["agent_key"], new.workflow_id, to_micros(new.created_at)
    )
    return await _read_back(connection, new.session_id), created is not None


async def update_session(
    connection: Connection, *, session_id: str, change: Callable[[Session], Session]
) -> Session | None:
    """Keep `core.store.Store.update_session`'s promise within the transaction that is open."""
    row = await connection.fetchrow(f"{_SELECT} WHERE session_id = $1 FOR UPDATE OF s", session_id)
    if row is None:
        return None
    kept = session_of(row)
    after = change(kept)
    if after == kept:
        return kept
    await connection.execute(_UPDATE, *_columns(after))
    return await _read_back(connection, session_id)


async def get_session(connection: Connection, *, session_id: str) -> Session | None:
    """Return a session, or None when it was never started."""
    row = await connection.fetchrow(f"{_SELECT} WHERE session_id = $1", session_id)
    return None if row is None else session_of(row)


async def list_sessions(
    connection: Connection,
    *,
    agent_id: str | None,
    state: str | None,
    after: tuple[int, str] | None,
    limit: int,
) -> list[Session]:
    """List sessions, newest first."""
    conditions = ["true"]
    values: list[Any] = [limit]
    if agent_id is not None:
        values.append(agent_id)
        conditions.append(f"a.agent_id = ${len(values)}")
    if state is not None:
        values.append(state)
        conditions.append(f"s.state = ${len(values)}")
    if after is not None:
        values += after
        conditions.append(f"(s.created_at, s.session_id) < (${len(values) - 1}, ${len(values)})")
    rows = await connection.fetch(
        f"{_SELECT} WHERE {' AND '.join(conditions)}"
        " ORDER BY s.created_at DESC, s.session_id DESC LIMIT $1",
        *values,
    )
    return [session_of(row) for row in rows]


async def _read_back(connection: Connection, session_id: str) -> Session:
    # What is answered is what is kept: JSON has no NaN, for one, and Python has.
    session = await get_session(connection, session_id=session_id)
    assert session is not None  # noqa: S101 - for the type checker: it was written before
    return session


def _columns(session: Session) -> tuple[Any, ...]:
    """Return the session's id and, in the order of both statements, what can change."""
    return (
        session.session_id,
        session.state.value,
        stored_json(session.result),
        stored_json(session.error),
        stored_json(session.metadata),
        to_micros(session.updated_at),
        None if session.ended_at is None else to_micros(session.ended_at),
    )


_AGENT: Final = "SELECT agent_key, deregistered_at FROM opscore.agents WHERE agent_id = $1"
_SELECT: Final = """
    SELECT s.session_id, a.agent_id, s.workflow_id, w.version AS workflow_version,
           s.initial_payload, s.state, s.result, s.error, s.metadata, s.created_at, s.updated_at,
           s.ended_at
    FROM opscore.sessions AS s JOIN opscore.agents AS a USING (agent_key)
    LEFT JOIN opscore.workflows AS w USING (workflow_key)"""
_INSERT: Final = """
    INSERT INTO opscore.sessions (session_id, state, result, error, metadata, updated_at, ended_at,
                                  agent_key, workflow_id, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
    ON CONFLICT (session_id) DO NOTHING RETURNING session_id"""
_UPDATE: Final = """
    UPDATE opscore.sessions SET state = $2, result = $3, error = $4, metadata = $5,
                                updated_at = $6, ended_at = $7
    WHERE session_id = $1"""
