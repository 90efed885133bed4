"""What to do about an answer, and when to try again: decisions without I/O."""

from __future__ import annotations

import email.utils
import json
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, NamedTuple

from opscore_middleware.core.jitter import between

__all__ = [
    "LONGEST",
    "Answer",
    "Budget",
    "Load",
    "Verdict",
    "backoff",
    "judge",
    "load_of",
    "parse_retry_after",
    "retry_after",
]


class Answer(NamedTuple):
    """What a server said; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """Ops-Core's word for what is wrong; None where somebody else answered."""
        code = self._said("code")
        # `not_found` is Ops-Core's word for a path that it does not have.
        return code if isinstance(code, str) and code != "not_found" else None

    @property
    def is_page(self) -> bool:
        """Whether it is for people, as a proxy's, and so from nobody who has read what was sent."""
        return self.headers.get("content-type", "").lower().startswith("text/html")

    @property
    def reason(self) -> str:
        """The sentence for a person, bounded."""
        return str(self._said("detail") or "no reason given")[:300]

    def _said(self, field: str) -> object:
        try:
            said = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return said.get(field) if isinstance(said, dict) else None


class Verdict(Enum):
    """What an answer means for the reports that it is about."""

    DELIVERED = auto()
    """They are stored."""
    LATER = auto()
    """The server cannot take them now."""
    UNKNOWN_AGENT = auto()
    """The server does not know the agent yet."""
    NO_BATCHES = auto()
    """The server takes single reports only."""
    UNAUTHORIZED = auto()
    """The key is missing or wrong."""
    REFUSED = auto()
    """The server will never take them as they are."""
    GONE = auto()
    """The agent was taken out on purpose."""


_BY_STATUS: Final = {
    400: Verdict.REFUSED,
    401: Verdict.UNAUTHORIZED,
    403: Verdict.UNAUTHORIZED,
    410: Verdict.GONE,
    413: Verdict.REFUSED,
    422: Verdict.REFUSED,
}


def judge(answer: Answer, *, batch: bool) -> Verdict:
    """Say what an answer means; `batch` tells whether it is one to a batch of reports.

    Answers that no Ops-Core gives (a proxy's redirect, say) mean "later".
    """
    if 200 <= answer.status < 300:
        return Verdict.LATER if answer.is_page else Verdict.DELIVERED
    if answer.status in {404, 405}:
        # Servers that know only the fixed contract have no batch route, and no `code` either.
        if batch and (answer.status == 405 or answer.code is None):
            return Verdict.NO_BATCHES
        return Verdict.UNKNOWN_AGENT if answer.status == 404 else Verdict.LATER
    if answer.status == 410 and answer.is_page:
        return Verdict.LATER  # only Ops-Core can say that somebody wants to hear no more
    return _BY_STATUS.get(answer.status, Verdict.LATER)


def retry_after(answer: Answer, *, now: float, longest: float = 300.0) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, at most `longest`, or None."""
    return parse_retry_after(answer.headers.get("retry-after", ""), now=now, longest=longest)


def parse_retry_after(value: str, *, now: float, longest: float) -> float | None:
    """Return the seconds that the value of a `Retry-After` asks for; None where it says nothing.

    Both forms of RFC 9110 are read: seconds, and a date (`now` is seconds since the epoch).
    """
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(float(value), longest)
    try:
        seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), longest)


LONGEST: Final = 10.0
"""Seconds that a delivery is put off after a failure, at most."""


def backoff(
    attempt: int,
    *,
    first: float = 0.2,
    longest: float = LONGEST,
    uniform: Callable[[float, float], float] = between,
) -> float:
    """Return how long to wait after the given failed attempt (from 1), with full jitter.

    Full jitter spreads a fleet evenly: a random time up to an exponentially rising bound (Marc
    Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
    """
    bound = min(longest, first * 2.0 ** min(attempt - 1, 30))
    return uniform(0.0, bound)


class Load(Enum):
    """How much there is to tell at once."""

    CALM = auto()
    BUSY = auto()
    """More than anybody would follow: there is no hurry."""
    RUSH = auto()
    """More than could be kept: what is told is out of date at once."""


BUSY: Final = 64
"""With more transitions at once there is no hurry: telling them more often would say no more."""


def load_of(count: int, *, coalesced: bool) -> Load:
    """Return how much that many transitions are; `coalesced` where others are folded into them."""
    if coalesced:
        return Load.RUSH
    return Load.BUSY if count > BUSY else Load.CALM


class Budget:
    """Keeps the reporter's own processor time below a share of what the host needs and leaves.

    A token bucket in seconds of processor time: what is not used adds up to `burst`, so a quiet
    agent reports at once and a busy one in larger batches.

    Args:
        share: the part of one processor that reporting may use while the host uses all of it.
        spare: the part that it may use on top of that of what the host leaves of one processor,
            while there is little to tell.
        burst: seconds of processor time that may be used at once.
        rush: the part of one processor that reporting may use in a rush, and no more.
    """

    def __init__(
        self, *, share: float = 0.01, spare: float = 0.1, burst: float = 0.02, rush: float = 0.003
    ) -> None:
        self._rates: Final = {Load.CALM: share + spare, Load.BUSY: share, Load.RUSH: rush}
        self._spare: Final = spare
        self._burst: Final = burst
        self._credit = burst
        self._at: float | None = None
        self._used = 0.0

    def spend(self, cost: float, *, now: float, used: float, load: Load = Load.CALM) -> float:
        """Pay for a delivery that took `cost`; return the seconds to wait before the next.

        `used` is the processor time of the whole process so far, this delivery's with it. The
        first is free: it pays for imports and the connection, once.
        """
        rate, calm = self._rates[load], load is Load.CALM
        if self._at is not None and now > self._at:
            passed = now - self._at
            if calm:
                busy = min(1.0, max(0.0, used - self._used - cost) / passed)
                rate -= self._spare * busy
            self._credit = min(self._burst if calm else 0.0, self._credit + passed * rate)
            self._credit -= cost
        self._at, self._used = now, used
        return max(0.0, -self._credit / rate)
