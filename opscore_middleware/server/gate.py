"""What every request passes first: the key, the routes under load, the limit on bodies."""

from __future__ import annotations

from collections import Counter
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from opscore_middleware.errors import ValidationFailed
from opscore_middleware.server.access import Names
from opscore_middleware.server.auth import Guard
from opscore_middleware.server.body import Disconnected, read, replay
from opscore_middleware.server.errors import answer_to, refuse, send_answer
from opscore_middleware.server.ingest import Ingest, target

__all__ = ["ACCESS", "Gate", "route_path"]

ACCESS: Final = "opscore.access"
"""Where a request's scope says what its key opens."""


class Gate:
    """Pure ASGI around the rest of the app; nothing of a request is kept on it.

    Args:
        rest: answers whatever is neither a report nor a heartbeat.
        guard: holds each request against the keys.
        names: knows whose agent an id is, for keys that open some agents alone.
        ingest: takes those.
        refusals: counts what is refused, by code.
        max_body_bytes: bounds every body that is not a batch of reports.
    """

    def __init__(
        self,
        rest: ASGIApp,
        *,
        guard: Guard,
        names: Names,
        ingest: Ingest,
        refusals: Counter[str],
        max_body_bytes: int,
    ) -> None:
        self._rest = rest
        self._guard = guard
        self._names = names
        self._ingest = ingest
        self._refusals = refusals
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a report here, and hand everything else on with its body in memory."""
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        if "\0" in scope["path"]:
            # As servers read bytes that are no text: nobody is called that.
            scope = {**scope, "path": scope["path"].replace("\0", "\ufffd")}
        path = route_path(scope)
        report = None
        try:
            access = self._guard.check(scope["method"], path, scope["headers"])
            _refuse_nul(scope["query_string"])
            if access.scope.names is not None:
                await self._names.require(access, path)
            report = target(scope["method"], path)
            if report is not None:
                await self._ingest.take(report, scope, receive, send)
                return
            body = await read(scope["headers"], receive, self._max_body_bytes)
        except Disconnected:
            return
        except Exception as error:
            event = "request_refused" if report is None else "report_refused"
            answer = refuse(event, scope, answer_to(error), self._refusals)
            await send_answer(answer, send)
            return
        scope[ACCESS] = access
        await self._rest(scope, replay(body, receive), send)


def _refuse_nul(query: bytes) -> None:
    """Raise `ValidationFailed` for a character that no name or id has, and that PostgreSQL cannot
    be asked for. What bodies may hold, their models say."""
    if b"%00" in query or b"\0" in query:
        fault = {
            "type": "nul",
            "loc": ("query",),
            "msg": "the character U+0000 (%00) may not stand here; leave it out",
            "input": "%00",
        }
        raise ValidationFailed([fault])


def route_path(scope: Scope) -> str:
    """Return the path as this app sees it, also where it is mounted under another one."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    below = path.removeprefix(root) if root else path
    return below if below.startswith("/") else path
