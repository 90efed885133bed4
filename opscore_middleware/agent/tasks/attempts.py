"""The attempts at tasks that came, so that one that comes again is not done again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import anyio
from starlette.responses import Response

__all__ = ["Attempt", "Attempts"]

LIMIT: Final = 1024
"""How many attempts that are over are remembered."""
MOST_BYTES: Final = 4 << 20
"""How many bytes of results are remembered with them."""

_FAILED: Final = json.dumps(
    {"detail": "This attempt has come before, and has failed.", "code": "attempt_failed"}
).encode()


class Attempt:
    """One attempt at a task.

    `status`, `headers` and `body` are what is answered once it is `over`; a body of None where it
    came to nothing.
    """

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.status = 0
        self.headers: Mapping[str, str] | None = None
        self.body: bytes | None = None

    def ends(
        self, status: int, body: bytes | None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Note how it ended."""
        self.status = status
        self.headers = headers
        self.body = body
        self.over.set()

    def answer(self) -> Response:
        """Return what whoever sends it is answered, also one who sends it again."""
        body = _FAILED if self.body is None else self.body
        return Response(body, self.status, self.headers, media_type="application/json")


class Attempts:
    """Remembers attempts by their ids: all that are open, and the last that are over."""

    def __init__(self) -> None:
        self._known: dict[str, Attempt] = {}

    def begin(self, task_id: str | None) -> tuple[Attempt, bool]:
        """Return the attempt of that id, and whether it is new; without an id it always is."""
        known = None if task_id is None else self._known.get(task_id)
        if known is not None:
            return known, False
        attempt = Attempt()
        if task_id is not None:
            self._forget_earliest()
            self._known[task_id] = attempt
        return attempt, True

    def forget(self, task_id: str | None) -> None:
        """Forget an attempt that came to nothing, so that it may come again."""
        if task_id is not None:
            self._known.pop(task_id, None)

    def _forget_earliest(self) -> None:
        over = [(task_id, known) for task_id, known in self._known.items() if known.over.is_set()]
        size = sum(len(known.body or b"") for _, known in over)
        count = len(over)
        for task_id, known in over:
            if count < LIMIT and size <= MOST_BYTES:
                return
            del self._known[task_id]
            count -= 1
            size -= len(known.body or b"")
