"""The fleet at a glance, in PostgreSQL."""

from __future__ import annotations

from typing import Final

from opscore_middleware.core.doubt import Census
from opscore_middleware.core.fleet import Headcount
from opscore_middleware.core.liveness import Watermark
from opscore_middleware.stores.fleet_sql import (
    POSTGRES,
    census_query,
    crews_query,
    forget_query,
    headcount,
    longest_silent_query,
    overdue_query,
)
from opscore_middleware.stores.postgres_connections import Connection

__all__ = ["census", "count_fleet", "deregister_overdue", "forget_instances"]

_CENSUS: Final = census_query(POSTGRES)
_CREWS: Final = crews_query(POSTGRES)
# The slots' rows in the order of their keys, as whoever gives them to tasks has them.
_FORGET_AND_LET_GO: Final = f"""
    WITH forgotten AS ({forget_query(POSTGRES)}
    ), locked AS (
        SELECT s.agent_id, s.instance_id
        FROM forgotten AS i
        JOIN opscore.agents AS a ON a.agent_key = i.agent_key
        JOIN opscore.slots AS s ON s.agent_id = a.agent_id AND s.instance_id = i.instance_id
        ORDER BY s.agent_id, s.instance_id FOR UPDATE OF s
    ), let_go AS (
        DELETE FROM opscore.slots AS s USING locked
        WHERE s.agent_id = locked.agent_id AND s.instance_id = locked.instance_id
    )
    SELECT FROM forgotten"""  # noqa: S608 - made of constants
_OVERDUE: Final = overdue_query(POSTGRES)
_SILENT: Final = longest_silent_query(POSTGRES)


async def census(connection: Connection, *, before: Watermark, mark: Watermark) -> Census:
    """Keep `core.store.Store.census`'s promise."""
    (row,) = await connection.fetch(_CENSUS, *before, *mark)
    return Census(*row)


async def deregister_overdue(connection: Connection, *, mark: Watermark, now: int) -> list[str]:
    """Keep `core.store.Store.deregister_overdue`'s promise."""
    return [row["agent_id"] for row in await connection.fetch(_OVERDUE, *mark, now)]


async def forget_instances(
    connection: Connection, *, mark: Watermark, before: int, now: int
) -> int:
    """Keep `core.store.Store.forget_instances`'s promise."""
    return len(await connection.fetch(_FORGET_AND_LET_GO, *mark, before, now))


async def count_fleet(connection: Connection, *, mark: Watermark) -> Headcount:
    """Keep `core.store.Store.headcount`'s promise."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        crews = await connection.fetch(_CREWS, *mark)
        return headcount(crews, await connection.fetchrow(_SILENT))
