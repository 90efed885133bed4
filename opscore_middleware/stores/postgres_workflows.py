"""Definitions of workflows in PostgreSQL, each with all of its versions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from typing import Final

from opscore_middleware.core.runs.records import Creation, StoredWorkflow
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_creations import keep, refuse_repeats
from opscore_middleware.stores.postgres_locks import WORKFLOW

__all__ = ["Definitions", "get_workflow", "list_workflows", "save_workflow"]

_REMEMBERED: Final = 256


class Definitions:
    """The definitions that runs have used lately, by their keys: since none ever changes, they need
    not be read with each run.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, StoredWorkflow] = OrderedDict()

    async def of(
        self, connection: Connection, workflow_keys: Collection[int]
    ) -> dict[int, StoredWorkflow]:
        """Return the definitions with these keys."""
        found = {key: self._known[key] for key in workflow_keys if key in self._known}
        missing = [key for key in workflow_keys if key not in found]
        if missing:
            for row in await connection.fetch(_BY_KEYS, missing):
                found[row["workflow_key"]] = StoredWorkflow(*row[1:])
        for key, workflow in found.items():
            self._known[key] = workflow
            self._known.move_to_end(key)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found


async def save_workflow(
    connection: Connection,
    *,
    workflow_id: str,
    definition: str,
    now: int,
    creation: Creation | None,
) -> tuple[StoredWorkflow, bool]:
    """Keep `core.runs.store.RunStore.save_workflow`'s promise within the open transaction."""
    await refuse_repeats(connection, creation, now=now)
    # Of several that save one id at once, the others wait here and then see its version.
    await connection.execute(_LOCK, workflow_id)
    latest = await get_workflow(connection, workflow_id=workflow_id, version=None)
    is_new = latest is None or latest.definition != definition
    if latest is None or is_new:
        version = 1 if latest is None else latest.version + 1
        latest = StoredWorkflow(workflow_id, version, definition, now)
        await connection.execute(_INSERT, *latest)
    await keep(connection, creation, (latest, is_new))
    return latest, is_new


async def get_workflow(
    connection: Connection, *, workflow_id: str, version: int | None
) -> StoredWorkflow | None:
    """Keep `core.runs.store.RunStore.get_workflow`'s promise."""
    if version is None:
        row = await connection.fetchrow(_LATEST, workflow_id)
    else:
        row = await connection.fetchrow(_VERSION, workflow_id, version)
    return None if row is None else StoredWorkflow(*row)


async def list_workflows(
    connection: Connection, *, after: str | None, limit: int
) -> list[StoredWorkflow]:
    """Keep `core.runs.store.RunStore.list_workflows`'s promise."""
    rows = await connection.fetch(_LIST, after or "", limit)
    return [StoredWorkflow(*row) for row in rows]


_LOCK: Final = f"SELECT pg_advisory_xact_lock({WORKFLOW}, hashtext($1))"
_SELECT: Final = "SELECT workflow_id, version, definition, created_at FROM opscore.workflows"
_VERSION: Final = f"{_SELECT} WHERE workflow_id = $1 AND version = $2"
_LATEST: Final = f"{_SELECT} WHERE workflow_id = $1 ORDER BY version DESC LIMIT 1"
_LIST: Final = f"""
    SELECT DISTINCT ON (workflow_id) * FROM ({_SELECT} WHERE workflow_id > $1) AS later
    ORDER BY workflow_id, version DESC LIMIT $2"""  # noqa: S608 - made of constants
_BY_KEYS: Final = """
    SELECT workflow_key, workflow_id, version, definition, created_at
    FROM opscore.workflows WHERE workflow_key = ANY($1::bigint[])"""
_INSERT: Final = """
    INSERT INTO opscore.workflows (workflow_id, version, definition, created_at)
    VALUES ($1, $2, $3, $4)"""
