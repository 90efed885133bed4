"""Who is alive: silence, measured only while somebody was listening."""

from __future__ import annotations

from typing import Final, NamedTuple

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.models import Liveness
from opscore_middleware.core.records import AgentRecord, InstanceRecord
from opscore_middleware.core.states import AgentState

__all__ = [
    "DEAF_AFTER",
    "LATE_AFTER",
    "LATE_GRACE",
    "LOST_AFTER",
    "NEVER",
    "Watermark",
    "advance",
    "is_lost",
    "is_overdue",
    "liveness",
]

LOST_AFTER: Final = 3
"""How many of its advertised intervals an instance may be silent before it is lost."""

LATE_AFTER: Final = 1.5
"""How many of its advertised intervals an instance may be silent before it is late."""

LATE_GRACE: Final = 2 * SECOND
"""What those who speak often are given on top of one interval before they are late."""

DEAF_AFTER: Final = 5 * SECOND
"""A gap between two looks of this length, in microseconds, means that nobody was listening."""


class Watermark(NamedTuple):
    """Since when Ops-Core has been listening without a gap, and when it last was.

    Kept in the store, shared by all replicas, moved on each second. Microseconds since the Unix
    epoch.
    """

    since: int
    seen_at: int


NEVER: Final = Watermark(0, 0)
"""Nobody has listened yet, so nobody is late or lost."""


def advance(mark: Watermark | None, now: int) -> Watermark:
    """Move the watermark on; after a gap, listening starts anew.

    So it does where the clock is set back by more than that: else whoever comes after it would be
    as silent as the clock was ahead.
    """
    if mark is None or abs(now - mark.seen_at) > DEAF_AFTER:
        return Watermark(now, now)
    # A clock that is set back a little does not take back what was heard.
    return Watermark(mark.since, max(mark.seen_at, now))


def is_overdue(agent: AgentRecord, mark: Watermark | None) -> bool:
    """Tell whether an agent that wants to be taken out once it is lost for long has been.

    Every instance that has not finished must have been lost for that long, and there must be one:
    who finished in order, or never sent a heartbeat, stays.
    """
    if agent.deregister_after is None or agent.deregistered_at is not None or mark is None:
        return False
    earlier = mark._replace(seen_at=mark.seen_at - agent.deregister_after)
    unfinished = [i for i in agent.instances if i.state != AgentState.FINISHED]
    return bool(unfinished) and all(is_lost(i, earlier) for i in unfinished)


def is_lost(instance: InstanceRecord, mark: Watermark | None) -> bool:
    """Tell whether an instance has vanished without a word.

    One that has said `finished`, or that never advertised an interval, is never lost. Silence
    counts only while Ops-Core was listening: no restart or outage of its own loses anyone. A gap
    too short to be noticed may stand between a last heartbeat and the next, so those who speak
    often are given as much on top of two intervals.
    """
    return liveness(instance, mark) is Liveness.LOST


def liveness(instance: InstanceRecord, mark: Watermark | None) -> Liveness:
    """Tell whether an instance is heard from, as `is_lost` says, and whether it is overdue.

    It is late after one and a half of its intervals, and not before two seconds more than one.
    """
    interval = instance.interval
    if mark is None or interval is None or instance.state == AgentState.FINISHED:
        return Liveness.ALIVE
    silence = mark.seen_at - max(instance.last_seen_at, mark.since)
    if silence > max(LOST_AFTER * interval, 2 * interval + DEAF_AFTER):
        return Liveness.LOST
    if silence > max(LATE_AFTER * interval, interval + LATE_GRACE):
        return Liveness.LATE
    return Liveness.ALIVE
