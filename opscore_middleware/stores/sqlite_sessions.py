"""Sessions in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from opscore_middleware.core.clock import to_micros
from opscore_middleware.core.refusals import deregistered_agent, unknown_agent
from opscore_middleware.core.sessions import Session
from opscore_middleware.stores.rows import session as session_of
from opscore_middleware.stores.rows import stored_json
from opscore_middleware.stores.sqlite_recent_runs import RecentRuns

__all__ = ["get_session", "list_sessions", "start_session", "update_session"]


def start_session(connection: sqlite3.Connection, *, new: Session) -> tuple[Session, bool]:
    """Keep `core.store.Store.start_session`'s promise within the transaction that is open."""
    kept = get_session(connection, session_id=new.session_id)
    if kept is not None:
        return kept, False
    agent = connection.execute(_AGENT, (new.agent_id,)).fetchone()
    if agent is None:
        raise unknown_agent(new.agent_id)
    if agent["deregistered_at"] is not None:
        raise deregistered_agent(new.agent_id)
    connection.execute(_INSERT, {**_columns(new), "agent_key": agent["agent_key"]})
    return _read_back(connection, new.session_id), True


def update_session(
    connection: sqlite3.Connection,
    *,
    runs: RecentRuns,
    session_id: str,
    change: Callable[[Session], Session],
) -> Session | None:
    """Keep `core.store.Store.update_session`'s promise within the transaction that is open."""
    kept = get_session(connection, session_id=session_id)
    if kept is None:
        return None
    after = change(kept)
    if after == kept:
        return kept
    runs.drop(session_id)
    connection.execute(_UPDATE, _columns(after))
    return _read_back(connection, session_id)


def get_session(connection: sqlite3.Connection, *, session_id: str) -> Session | None:
    """Return a session, or None when it was never started."""
    row = connection.execute(f"{_SELECT} WHERE session_id = ?", (session_id,)).fetchone()
    return None if row is None else session_of(row)


def list_sessions(
    connection: sqlite3.Connection,
    *,
    agent_id: str | None,
    state: str | None,
    after: tuple[int, str] | None,
    limit: int,
) -> list[Session]:
    """List sessions, newest first."""
    conditions = ["true"]
    values: list[Any] = []
    if agent_id is not None:
        conditions.append("s.agent_key = (SELECT agent_key FROM agents WHERE agent_id = ?)")
        values.append(agent_id)
    if state is not None:
        conditions.append("s.state = ?")
        values.append(state)
    if after is not None:
        conditions.append("(s.created_at, s.session_id) < (?, ?)")
        values += after
    rows = connection.execute(
        f"{_SELECT} WHERE {' AND '.join(conditions)}"
        " ORDER BY s.created_at DESC, s.session_id DESC LIMIT ?",
        (*values, limit),
    )
    return [session_of(row) for row in rows.fetchall()]


def _read_back(connection: sqlite3.Connection, session_id: str) -> Session:
    # What is answered is what is kept: JSON has no NaN, for one, and Python has.
    session = get_session(connection, session_id=session_id)
    assert session is not None  # noqa: S101 - for the type checker: it was written before
    return session


def _columns(session: Session) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "workflow_id": session.workflow_id,
        "state": session.state,
        "result": stored_json(session.result),
        "error": stored_json(session.error),
        "metadata": stored_json(session.metadata),
        "created_at": to_micros(session.created_at),
        "updated_at": to_micros(session.updated_at),
        "ended_at": None if session.ended_at is None else to_micros(session.ended_at),
    }


_AGENT: Final = "SELECT agent_key, deregistered_at FROM agents WHERE agent_id = ?"
_SELECT: Final = """
    SELECT s.*, a.agent_id, w.version AS workflow_version
    FROM sessions AS s
    JOIN agents AS a USING (agent_key)
    LEFT JOIN workflows AS w USING (workflow_key)"""
_INSERT: Final = """
    INSERT INTO sessions (session_id, agent_key, workflow_id, state, result, error, metadata,
                          created_at, updated_at, ended_at)
    VALUES (:session_id, :agent_key, :workflow_id, :state, :result, :error, :metadata,
            :created_at, :updated_at, :ended_at)"""
_UPDATE: Final = """
    UPDATE sessions SET state = :state, result = :result, error = :error, metadata = :metadata,
                        updated_at = :updated_at, ended_at = :ended_at
    WHERE session_id = :session_id"""
