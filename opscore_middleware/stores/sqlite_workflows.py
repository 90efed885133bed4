"""Definitions of workflows in SQLite, in versions."""

from __future__ import annotations

import sqlite3
from typing import Final

from opscore_middleware.core.runs.kept import Kept
from opscore_middleware.core.runs.records import StoredWorkflow

__all__ = ["Latest", "get_workflow", "latest_workflow", "list_workflows", "save_workflow"]

Latest = Kept[str, StoredWorkflow]
"""The latest versions of definitions, by id; changed by the one thread that writes alone."""


def save_workflow(
    connection: sqlite3.Connection,
    *,
    at_hand: Latest,
    workflow_id: str,
    definition: str,
    now: int,
) -> tuple[StoredWorkflow, bool]:
    """Keep `core.runs.store.RunStore.save_workflow`'s promise within the open transaction."""
    latest = get_workflow(connection, workflow_id=workflow_id, version=None)
    if latest is not None and latest.definition == definition:
        return latest, False
    version = 1 if latest is None else latest.version + 1
    new = StoredWorkflow(workflow_id, version, definition, now)
    connection.execute(_INSERT, new)
    at_hand.pop(workflow_id, None)  # whoever asks from now on is answered after this is kept
    return new, True


def latest_workflow(
    connection: sqlite3.Connection, *, at_hand: Latest, workflow_id: str
) -> StoredWorkflow | None:
    """Return the latest version of a definition, and have it at hand from then on.

    To be asked of the thread that writes, so that no other version comes in between.
    """
    found = get_workflow(connection, workflow_id=workflow_id, version=None)
    if found is not None:
        at_hand[workflow_id] = found
    return found


def get_workflow(
    connection: sqlite3.Connection, *, workflow_id: str, version: int | None
) -> StoredWorkflow | None:
    """Return a version of a definition, or the latest."""
    row = connection.execute(_SELECT, {"workflow_id": workflow_id, "version": version}).fetchone()
    return None if row is None else StoredWorkflow(*row)


def list_workflows(
    connection: sqlite3.Connection, *, after: str | None, limit: int
) -> list[StoredWorkflow]:
    """List the latest version of each definition by id."""
    rows = connection.execute(_LIST, {"after": after or "", "limit": limit})
    return [StoredWorkflow(*row) for row in rows.fetchall()]


_COLUMNS: Final = ", ".join(StoredWorkflow._fields)
_INSERT: Final = f"INSERT INTO workflows ({_COLUMNS}) VALUES (?, ?, ?, ?)"  # noqa: S608 - constants
_SELECT: Final = f"""
    SELECT {_COLUMNS} FROM workflows
    WHERE workflow_id = :workflow_id AND (:version IS NULL OR version = :version)
    ORDER BY version DESC LIMIT 1"""  # noqa: S608 - made of constants
_LIST: Final = f"""
    SELECT {_COLUMNS} FROM workflows WHERE (workflow_id, version) IN (
        SELECT workflow_id, max(version) FROM workflows WHERE workflow_id > :after
        GROUP BY workflow_id ORDER BY workflow_id LIMIT :limit)
    ORDER BY workflow_id"""  # noqa: S608 - made of constants
