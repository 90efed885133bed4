"""Chance that spreads load, so that a fleet that was started at once does not ask as one."""

from __future__ import annotations

from random import SystemRandom
from typing import Final

__all__ = ["between"]

# The `random` module's own generator is the host's: it may be seeded alike in each process of a
# fleet, and a test of the host's that draws from it must not find it moved by us.
_CHANCE: Final = SystemRandom()


def between(low: float, high: float) -> float:
    """Return a number between two bounds, any as likely as another."""
    return _CHANCE.uniform(low, high)
