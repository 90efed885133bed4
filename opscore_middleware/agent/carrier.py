"""Calls over a transport of the host's: a proxy's, or a test's."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import httpx

from opscore_middleware.agent.delivery import Answer
from opscore_middleware.agent.wire import LONGEST_ANSWER
from opscore_middleware.protocol.call import Call

__all__ = ["Carrier"]

# Within the exchange, httpx takes its timeouts one by one.
_TIMEOUT: Final = {"connect": 3.0, "read": 5.0, "write": 5.0, "pool": 5.0}


class Carrier:
    """Sends calls over an `httpx.BaseTransport`, for one thread.

    The transport is used without an `httpx.Client` around it: a client would log each address at
    INFO in the host's logs, follow redirects with our key, and cost twice the time.

    Args:
        transport: carries the requests.
        url: the server's address, as `protocol.address.base_url` returns it.
        headers: sent with every call.
        longest: seconds that a call may take; until the answer begins, the waits are the
            transport's own.
    """

    def __init__(
        self,
        transport: httpx.BaseTransport,
        url: str,
        headers: Mapping[str, str],
        *,
        longest: float,
    ) -> None:
        self._transport = transport
        self._url = url
        self._headers = headers
        self._longest = longest

    def send(self, call: Call[Any]) -> Answer:
        """Send a call and return its answer; raises what the transport raises."""
        deadline = time.monotonic() + self._longest
        request = httpx.Request(
            call.method,
            self._url + call.path,
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
        return Answer(response.status_code, dict(response.headers), body)

    def close(self) -> None:
        """Let go of the transport."""
        self._transport.close()


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
        if len(body) > LONGEST_ANSWER:
            break
    return bytes(body)
