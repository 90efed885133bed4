"""Whether a server fails at what it was sent, or at everything."""

from __future__ import annotations

from typing import Final

from opscore_middleware.agent.delivery import Answer, retry_after

__all__ = ["Suspicion", "may_be_at_fault"]

TRIES: Final = 5
"""How often in a row a server fails before what it was sent is looked into."""
PROOFS: Final = 3
"""How often another report must pass meanwhile, before the one that does not is given up."""


def may_be_at_fault(answer: Answer) -> bool:
    """Tell whether a server may have failed by what it was sent: it asks for no patience."""
    if answer.status < 500 or retry_after(answer, now=0.0) is not None:
        return False
    return answer.status != 503 or answer.code is None  # Ops-Core's own 503 says what it lacks


class Suspicion:
    """Counts what speaks against the report that is the first to be told.

    It is looked into every second time only: a server of which one in two replicas fails would else
    take the others, in turn, and never this one.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Suspect nothing: all that was sent is told."""
        self._tries = self._proofs = 0
        self.doubts = 0
        """How often the other report did not pass either: then another one may."""

    def passed(self) -> None:
        """Look at those that follow: what came before them is told."""
        self._proofs = 0

    def failed(self) -> bool:
        """Count a failure; returns whether to look into it."""
        self._tries += 1
        return self._tries >= TRIES and (self._tries - TRIES) % 2 == 0

    def is_proven(self, *, another_passes: bool) -> bool:
        """Count what became of another report right after; returns whether this one is bad."""
        if another_passes:
            self._proofs += 1
        else:
            self._proofs = 0
            self.doubts += 1
        return self._proofs >= PROOFS
