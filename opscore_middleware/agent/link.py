"""The way to a server: one blocking HTTP call at a time, and nothing of it in the host's logs."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx

from opscore_middleware.agent.delivery import Answer
from opscore_middleware.protocol.calls import Call

__all__ = ["Link", "Unreachable"]

_LONGEST = 10.0
# Within it, httpx takes its timeouts one by one.
_TIMEOUT = {"connect": 3.0, "read": 5.0, "write": 5.0, "pool": 5.0}
_MAX_ANSWER = 1 << 20


class Unreachable(Exception):
    """There was no answer; `url` is the server's. The message is the kind of failure alone."""

    def __init__(self, kind: str, url: str) -> None:
        super().__init__(kind)
        self.url = url


class Link:
    """Sends calls to one address over a kept-alive connection.

    The transport is used without an `httpx.Client` around it: a client would log each address at
    INFO in the host's logs, follow redirects with our key, and cost twice the time.

    Args:
        api_url: the server's address, as `protocol.address.base_url` returns it.
        api_key: sent as a bearer token.
        transport: makes another transport than our own, for proxies and tests; until its answer
            begins, the waits are the transport's own.
        longest: seconds that a call may take, whatever little comes meanwhile.
    """

    def __init__(
        self,
        api_url: str,
        api_key: str | None,
        transport: Callable[[], httpx.BaseTransport] | None = None,
        *,
        longest: float = _LONGEST,
    ) -> None:
        self.api_url = api_url
        self._longest = longest
        self._make = transport or self._http
        self._transport: httpx.BaseTransport | None = None
        self._headers = {"User-Agent": "opscore-middleware", "Accept": "application/json"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def __repr__(self) -> str:
        return f"Link({self.api_url!r})"

    def send(self, call: Call[Any]) -> Answer:
        """Send a call and wait for its answer. Raises `Unreachable` when there is none."""
        deadline = time.monotonic() + self._longest
        try:
            if self._transport is None:
                self._transport = self._make()
            request = httpx.Request(
                call.method,
                self.api_url + call.path,
                headers={**self._headers, **call.headers},
                content=call.body,
                extensions={"timeout": _TIMEOUT},
            )
            with _untraced():
                response = self._transport.handle_request(request)
                try:
                    body = _read(response, deadline)
                finally:
                    response.close()
        except Exception as failure:
            # Any failure: what a transport of the host's raises must not end the reporter.
            self.close()
            raise Unreachable(type(failure).__name__, self.api_url) from None
        return Answer(response.status_code, dict(response.headers), body)

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(Exception):
                transport.close()

    def forget(self) -> None:
        """Leave the connection to the parent process, after a fork."""
        # Dropped, not closed: its locks may be held by a thread that stayed in the parent. Closing
        # our copy of the socket says nothing to the server; Python would warn of it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self._transport = None

    def _http(self) -> httpx.BaseTransport:
        # Here, in the reporter's thread, and not as the host starts: it imports httpcore, which
        # takes as long as httpx, and which httpx puts off until here as well.
        from opscore_middleware.agent.wire import Wire

        return Wire(secure=self.api_url.startswith("https:"), longest=self._longest)


def _untraced() -> AbstractContextManager[None]:
    """Keep our own calls out of the host's traces and metrics, where OpenTelemetry makes them.

    Each call alone, not the thread: the host's hooks run in it, too.
    """
    # Only an app that is instrumented has imported it; we never do.
    utils = sys.modules.get("opentelemetry.instrumentation.utils")
    suppress = getattr(utils, "suppress_instrumentation", contextlib.nullcontext)
    untraced: AbstractContextManager[None] = suppress()
    return untraced


def _read(response: httpx.Response, deadline: float) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer came too slowly")
        body += chunk
        if len(body) > _MAX_ANSWER:
            break
    return bytes(body)
