"""How the app's threads wake the one that reports, at next to no cost to them."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Bell"]


class Bell:
    """A plain lock used as a binary semaphore, with a mark that says it is not needed.

    While the listener is at work it looks at the mark before it sleeps, so a waker only sets it;
    only a listener that sleeps is rung for. Releasing never blocks: `wake` is safe even where a
    signal handler has interrupted another `wake`.

    Args:
        nobody_home: called instead of ringing while nobody has ever listened: it starts the
            listener.
    """

    __slots__ = ("_lock", "_nobody_home", "home", "listening", "marked")

    def __init__(self, nobody_home: Callable[[], None]) -> None:
        self._nobody_home = nobody_home
        self.reset()

    def reset(self) -> None:
        """Start over with nobody home, in a forked child."""
        self._lock = threading.Lock()
        self._lock.acquire()
        self.marked = False
        """Something is new since the listener last looked."""
        self.home = False
        """There is a listener, at work or asleep."""
        self.listening = True
        """`ring` is needed; also true when nobody is home."""

    def wake(self) -> None:
        """Say that there is something new."""
        self.marked = True
        if self.listening:
            self.ring()

    def ring(self) -> None:
        """Wake the listener whatever it waits for, or start it."""
        self.listening = False
        if not self.home:
            self._nobody_home()
        else:
            try:
                self._lock.release()
            except RuntimeError:
                pass  # it rings already

    def listen(self, timeout: float | None) -> None:
        """Sleep until something is new, at most `timeout` seconds."""
        self.listening = True
        # Looked at after `listening` is set: who comes in between rings, or has left the mark.
        if not self.marked:
            self._sleep(timeout)
        self.listening = False

    def nap(self, timeout: float) -> None:
        """Sleep for `timeout` seconds; only `ring` ends it sooner, what is new does not."""
        self._sleep(timeout)

    def _sleep(self, timeout: float | None) -> None:
        self._lock.acquire(timeout=-1 if timeout is None else timeout)
