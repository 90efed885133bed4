"""What agents with open attempts say, in PostgreSQL, and whom to tell that an attempt is off."""

from __future__ import annotations

from typing import Final

from opscore_middleware.core.runs.records import Stopped, Word
from opscore_middleware.stores.postgres_connections import Connection
from opscore_middleware.stores.postgres_tasks import IS_OPEN
from opscore_middleware.stores.rows import NO_INSTANCE, stopped_attempts

__all__ = ["has_named", "heard", "hearing", "stopped", "words"]


async def hearing(connection: Connection, *, holder: str, lease: int, now: int) -> int | None:
    """Keep `core.runs.store.RunStore.hearing`'s promise; `now` is the database's."""
    event_id: int | None = await connection.fetchval(_TAKE_TURN, holder, now + lease, now)
    return event_id


async def heard(connection: Connection, *, holder: str, event_id: int) -> None:
    """Keep `core.runs.store.RunStore.heard`'s promise."""
    await connection.execute(_HEARD, holder, event_id)


async def words(
    connection: Connection, *, after: int, limit: int, since: int
) -> tuple[list[Word], int]:
    """Keep `core.runs.store.RunStore.words`'s promise."""
    rows = await connection.fetch(_WORDS, after, limit, since)
    last: int = rows[0]["last"]
    found = [Word(*row[1:]) for row in rows if row["event_id"] is not None]
    return found, found[-1].event_id if len(found) == limit else last


async def has_named(connection: Connection, *, agent_id: str) -> bool:
    """Keep `core.runs.store.RunStore.has_named`'s promise."""
    return bool(await connection.fetchval(_HAS_NAMED, agent_id))


async def stopped(connection: Connection, *, since: int) -> list[Stopped]:
    """Keep `core.runs.store.RunStore.stopped`'s promise."""
    return stopped_attempts(await connection.fetch(_STOPPED, since))


# Not waited for on its way to the disk: if it is lost with the server, somebody takes the turn
# anew, and hears again what was heard. What that led to is on disk before.
_SOON: Final = "soon AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"

# Of several that take it at once, the others wait for the first and then find it taken. One that
# lasts for longer than it could was taken before the clock was put back.
_TAKE_TURN: Final = f"""
    WITH {_SOON}
    UPDATE opscore.hearing SET holder = $1, until = $2 FROM soon
    WHERE holder IS NULL OR holder = $1 OR until <= $3 OR until > $2 + ($2 - $3)
    RETURNING event_id"""  # noqa: S608 - made of constants
_HEARD: Final = f"""
    WITH {_SOON}
    UPDATE opscore.hearing SET event_id = $2 FROM soon
    WHERE holder = $1 AND event_id < $2"""  # noqa: S608 - made of constants

# Where everything ends is asked in the same statement, so that nothing comes between; events appear
# in the order of their ids. There is one row at least, which says that.
_WORDS: Final = f"""
    WITH ends AS (
        SELECT greatest($1, coalesce((SELECT max(event_id) FROM opscore.events), 0)) AS last
    ), said AS (
        SELECT e.event_id, a.agent_id, i.instance_id, e.state, e.details, e.received_at, e.sequence
        FROM opscore.events AS e
        JOIN opscore.agents AS a ON a.agent_key = e.agent_key
        JOIN opscore.instances AS i ON i.instance_key = e.instance_key
        WHERE e.event_id > $1
          AND (EXISTS (SELECT FROM opscore.tasks AS t WHERE {IS_OPEN} AND t.agent_id = a.agent_id)
               OR a.agent_id = ANY(ARRAY(
                   SELECT s.agent_id FROM opscore.slots AS s
                   WHERE s.stopped IS NOT NULL AND s.stopped_at >= $3)))
        ORDER BY e.event_id LIMIT $2
    )
    SELECT ends.last, said.* FROM ends LEFT JOIN said ON true ORDER BY said.event_id
    """  # noqa: S608 - made of constants

_HAS_NAMED: Final = f"""
    SELECT EXISTS (SELECT FROM opscore.instances AS i
                   WHERE i.agent_key = a.agent_key AND i.instance_id <> '{NO_INSTANCE}')
        OR EXISTS (SELECT FROM opscore.events AS e
                   WHERE e.agent_key = a.agent_key AND strpos(e.details, 'opscore_task_id') > 0)
    FROM opscore.agents AS a WHERE a.agent_id = $1"""  # noqa: S608 - made of constants
_STOPPED: Final = """
    SELECT agent_id, instance_id, stopped FROM opscore.slots
    WHERE stopped IS NOT NULL AND stopped_at >= $1 ORDER BY stopped_at, stopped"""
