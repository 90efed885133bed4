"""What the agents of these tests do, whichever framework they are on."""

from __future__ import annotations

import threading

from tests.support.waiting import TIMEOUT

__all__ = ["EASEL", "LIFE", "Easel"]

LIFE = ("initializing", "idle")


class Easel:
    """Paints at once, once it is let, or not at all, as it is asked to."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()

    def paint(self, what: str) -> str:
        self.has_begun.set()
        if what == "fail":
            raise ValueError("no ink")
        if what == "wait":
            assert self.may_go_on.wait(TIMEOUT), "nobody has let it go on"
        return f"{what} painted"


EASEL = Easel()
"""The one of the process: most frameworks want to know their functions when they are loaded."""
