"""Where agents are reached, and who may have a task, in PostgreSQL."""

from __future__ import annotations

from typing import Final

from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.rows import Row

__all__ = ["URL", "candidates", "endpoint", "endpoint_of", "prefer_route"]

_MOST: Final = 1000


async def endpoint(connection: Connection, *, agent_id: str, instance_id: str) -> Endpoint | None:
    """Keep `core.runs.store.RunStore.endpoint`'s promise."""
    row = await connection.fetchrow(_ENDPOINT, agent_id, instance_id)
    return None if row is None else endpoint_of(row)


def endpoint_of(row: Row) -> Endpoint:
    """Read a row of `agents` and `instances` that carries `URL`."""
    route = row["route"]
    return Endpoint(
        row["agent_id"], row["instance_id"], row["url"], None if route is None else Route(route)
    )


async def prefer_route(connection: Connection, *, agent_id: str, route: Route) -> None:
    """Keep `core.runs.store.RunStore.prefer_route`'s promise."""
    await connection.execute(_PREFER, agent_id, route.value)


async def candidates(
    connection: Connection, *, pinned: str | None, capability: str | None
) -> list[str]:
    """Keep `core.runs.store.RunStore.candidates`'s promise."""
    if pinned is not None:
        rows = await connection.fetch(_PINNED, pinned)
    else:
        rows = await connection.fetch(_CAPABLE, [] if capability is None else [capability], _MOST)
    return [row["agent_id"] for row in rows]


URL: Final = "coalesce(i.contact_endpoint, a.contact_endpoint) AS url"
"""Says of an instance `i` of an agent `a` where it is reached."""

_ENDPOINT: Final = f"""
    SELECT a.agent_id, i.instance_id, a.route, {URL}
    FROM opscore.agents AS a JOIN opscore.instances AS i ON i.agent_key = a.agent_key
    WHERE a.agent_id = $1 AND i.instance_id = $2"""  # noqa: S608 - made of constants

# Nothing is written where it is so already, which it nearly always is.
_PREFER: Final = """
    UPDATE opscore.agents SET route = $2 WHERE agent_id = $1 AND route IS DISTINCT FROM $2"""

_KNOWN: Final = "SELECT agent_id FROM opscore.agents WHERE deregistered_at IS NULL"
_PINNED: Final = f"{_KNOWN} AND agent_id = $1"
_CAPABLE: Final = f"{_KNOWN} AND capabilities::jsonb ?| $1::text[] ORDER BY agent_id LIMIT $2"
