"""The default store: SQLite, in a file for one process, or in memory."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from opscore_middleware.core.models import (
    AgentRecord,
    Order,
    Registration,
    ReportOutcome,
    StoredReport,
    Transition,
)
from opscore_middleware.core.states import AgentState
from opscore_middleware.core.store import Registered
from opscore_middleware.errors import StoreUnavailable
from opscore_middleware.stores.rows import agent_records, stored_json, transition
from opscore_middleware.stores.sqlite_file import SqliteFile
from opscore_middleware.stores.sqlite_readers import SqliteReaders
from opscore_middleware.stores.sqlite_writer import SqliteWriter

__all__ = ["SqliteStore"]

T = TypeVar("T")


class _Reads(Protocol):
    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T: ...


class SqliteStore:
    """Keeps `core.store.Store`'s promise on SQLite, for asyncio.

    Writes are gathered by one thread, reads of a file go beside it. A file serves one process.

    Args:
        path: the file, or `:memory:`.
        busy_timeout: how long to wait for another program that holds the file, in seconds.
    """

    name = "sqlite"

    def __init__(self, path: str, *, busy_timeout: float = 5.0) -> None:
        self._file = SqliteFile(path, busy_timeout=busy_timeout)
        self._writer: SqliteWriter | None = None
        self._readers: SqliteReaders | None = None

    def __repr__(self) -> str:
        return f"SqliteStore({self._file.path!r})"

    async def open(self) -> None:
        await asyncio.to_thread(self._open)

    async def close(self) -> None:
        await asyncio.to_thread(self._close)

    async def register(self, registration: Registration, *, new_id: str, now: int) -> Registered:
        return await self._open_writer().run(
            partial(_register, registration=registration, new_id=new_id, now=now)
        )

    async def apply_reports(
        self, reports: Sequence[StoredReport], *, whole: bool = False
    ) -> Sequence[ReportOutcome]:
        return await self._open_writer().report(reports, whole=whole)

    async def get_agent(self, agent_id: str) -> AgentRecord | None:
        return await self._reads().run(partial(_get_agent, agent_id=agent_id))

    async def list_agents(
        self,
        *,
        name: str | None,
        capability: str | None,
        after: tuple[str, str] | None,
        limit: int,
    ) -> Sequence[AgentRecord]:
        return await self._reads().run(
            partial(_list_agents, name=name, capability=capability, after=after, limit=limit)
        )

    async def history(
        self, agent_id: str, *, order: Order, after: int | None, limit: int
    ) -> Sequence[Transition]:
        return await self._reads().run(
            partial(_history, agent_id=agent_id, order=order, after=after, limit=limit)
        )

    def _open_writer(self) -> SqliteWriter:
        if self._writer is None:
            raise StoreUnavailable("The store is not open; call open() first.")
        return self._writer

    def _reads(self) -> _Reads:
        return self._readers or self._open_writer()

    def _open(self) -> None:
        connection = self._file.open()
        self._writer = SqliteWriter(connection, explain=self._file.unavailable)
        if not self._file.in_memory:
            self._readers = SqliteReaders(self._file.connect, explain=self._file.unavailable)

    def _close(self) -> None:
        # The readers first: the last connection to close puts the log into the file.
        if self._readers is not None:
            self._readers.close()
        if self._writer is not None:
            self._writer.close()
        self._file.release()


def _register(
    connection: sqlite3.Connection, *, registration: Registration, new_id: str, now: int
) -> Registered:
    known = _known(connection, registration)
    shared_endpoint = registration.contact_endpoint
    values: dict[str, Any] = {
        "agent_key": known["agent_key"] if known else None,
        "agent_id": registration.agent_id or new_id,
        "agent_name": registration.agent_name,
        "version": registration.version,
        "capabilities": stored_json(registration.capabilities),
        "contact_endpoint": shared_endpoint,
        "of_instance": registration.instance_id is not None,
        "metadata": stored_json(registration.metadata),
        "now": now,
    }
    if known:
        connection.execute(_UPDATE_AGENT, values)
        agent_id = known["agent_id"]
    else:
        values["agent_key"] = connection.execute(_INSERT_AGENT, values).lastrowid
        agent_id = values["agent_id"]
    if registration.instance_id is not None:
        connection.execute(
            _REGISTER_INSTANCE,
            {**values, "instance_id": registration.instance_id, "unknown": AgentState.UNKNOWN},
        )
    record = _get_agent(connection, agent_id=agent_id)
    assert record is not None  # noqa: S101 - for the type checker: it was written above
    return Registered(record, created=known is None)


def _known(connection: sqlite3.Connection, registration: Registration) -> sqlite3.Row | None:
    if registration.agent_id is not None:
        query, value = _BY_ID, registration.agent_id
    else:
        query, value = _BY_NAME, registration.agent_name
    row: sqlite3.Row | None = connection.execute(query, (value,)).fetchone()
    return row


def _get_agent(connection: sqlite3.Connection, *, agent_id: str) -> AgentRecord | None:
    agents = connection.execute(_BY_ID, (agent_id,)).fetchall()
    return next(iter(_with_instances(connection, agents)), None)


def _list_agents(
    connection: sqlite3.Connection,
    *,
    name: str | None,
    capability: str | None,
    after: tuple[str, str] | None,
    limit: int,
) -> list[AgentRecord]:
    conditions = ["deregistered_at IS NULL"]
    values: list[Any] = []
    if name is not None:
        conditions.append("agent_name = ?")
        values.append(name)
    if capability is not None:
        conditions.append("? IN (SELECT value FROM json_each(capabilities))")
        values.append(capability)
    if after is not None:
        conditions.append("(agent_name, agent_id) > (?, ?)")
        values += after
    agents = connection.execute(
        f"SELECT * FROM agents WHERE {' AND '.join(conditions)}"  # noqa: S608 - constants above
        " ORDER BY agent_name, agent_id LIMIT ?",
        (*values, limit),
    ).fetchall()
    return _with_instances(connection, agents)


def _with_instances(
    connection: sqlite3.Connection, agents: Sequence[sqlite3.Row]
) -> list[AgentRecord]:
    keys = json.dumps([agent["agent_key"] for agent in agents])
    return agent_records(agents, connection.execute(_INSTANCES, (keys,)).fetchall())


def _history(
    connection: sqlite3.Connection, *, agent_id: str, order: Order, after: int | None, limit: int
) -> list[Transition]:
    query, start = (_HISTORY_UP, 0) if order is Order.ASC else (_HISTORY_DOWN, _LAST_EVENT)
    rows = connection.execute(query, (agent_id, start if after is None else after, limit))
    return [transition(row, agent_id=agent_id) for row in rows.fetchall()]


_BY_ID: Final = "SELECT * FROM agents WHERE agent_id = ?"
_BY_NAME: Final = """
    SELECT * FROM agents WHERE agent_name = ? ORDER BY updated_at DESC, agent_key DESC LIMIT 1"""

_INSERT_AGENT: Final = """
    INSERT INTO agents (agent_id, agent_name, version, capabilities, contact_endpoint, metadata,
                        registered_at, updated_at)
    VALUES (:agent_id, :agent_name, :version, :capabilities, :contact_endpoint, :metadata,
            :now, :now)"""
_UPDATE_AGENT: Final = """
    UPDATE agents SET
        agent_name = :agent_name,
        version = :version,
        capabilities = :capabilities,
        contact_endpoint = CASE WHEN :of_instance
            THEN ifnull(contact_endpoint, :contact_endpoint)
            ELSE ifnull(:contact_endpoint, contact_endpoint) END,
        metadata = :metadata,
        updated_at = :now,
        deregistered_at = NULL
    WHERE agent_key = :agent_key"""
# An effective_at of 0 lets any first report be the newer one.
_REGISTER_INSTANCE: Final = """
    INSERT INTO instances (agent_key, instance_id, state, timestamp, effective_at, last_seen_at,
                           contact_endpoint)
    VALUES (:agent_key, :instance_id, :unknown, :now, 0, :now, :contact_endpoint)
    ON CONFLICT (agent_key, instance_id) DO UPDATE SET
        last_seen_at = max(last_seen_at, excluded.last_seen_at),
        contact_endpoint = ifnull(excluded.contact_endpoint, contact_endpoint)"""

_INSTANCES: Final = """
    SELECT * FROM instances WHERE agent_key IN (SELECT value FROM json_each(?))
    ORDER BY instance_key"""

_LAST_EVENT: Final = 2**63 - 1
_HISTORY: Final = """
    SELECT e.*, i.instance_id FROM events AS e JOIN instances AS i USING (instance_key)
    WHERE e.agent_key = (SELECT agent_key FROM agents WHERE agent_id = ?)"""
_HISTORY_UP: Final = f"{_HISTORY} AND e.event_id > ? ORDER BY e.event_id LIMIT ?"
_HISTORY_DOWN: Final = f"{_HISTORY} AND e.event_id < ? ORDER BY e.event_id DESC LIMIT ?"
