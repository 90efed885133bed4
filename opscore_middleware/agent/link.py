"""The way to a server: one blocking HTTP call at a time, and nothing of it in the host's logs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import httpx

from opscore_middleware.agent.carrier import Carrier
from opscore_middleware.agent.delivery import Answer
from opscore_middleware.agent.wire import Wire
from opscore_middleware.protocol.call import Call

__all__ = ["Busy", "Link", "Unreachable"]

_LONGEST: Final = 10.0
_HIDDEN: Final = b"<the key>"


class Unreachable(Exception):
    """There was no answer; `url` is the server's. The message is the kind of failure alone."""

    def __init__(self, kind: str, url: str) -> None:
        super().__init__(kind)
        self.url = url


class Busy(Exception):
    """A server, at `url`, cannot serve a call now; `answer` is what it said."""

    def __init__(self, answer: Answer, url: str) -> None:
        super().__init__(f"status {answer.status}")
        self.answer = answer
        self.url = url


class _Way(Protocol):
    def send(self, call: Call[Any]) -> Answer: ...

    def close(self) -> None: ...


class Link:
    """Sends calls to one address over a kept-alive connection.

    Args:
        api_url: the server's address, as `protocol.address.base_url` returns it.
        api_key: sent as a bearer token.
        transport: makes what calls go over instead of our own connection, for proxies and tests.
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
        self._transport = transport
        self._longest = longest
        headers = {"User-Agent": "opscore-middleware", "Accept": "application/json"}
        if api_key is not None:
            headers["Authorization"] = f"Bearer {api_key}"
        self._secret = (api_key or "").encode()
        self._headers: Mapping[str, str] = headers
        self._way: _Way | None = None

    def __repr__(self) -> str:
        return f"Link({self.api_url!r})"

    def send(self, call: Call[Any]) -> Answer:
        """Send a call and wait for its answer. Raises `Unreachable` when there is none."""
        try:
            if self._way is None:
                self._way = self._open()
            answer = self._way.send(call)
        except Exception as failure:
            # Any failure: what a transport of the host's raises must not end the reporter.
            self.close()
            raise Unreachable(type(failure).__name__, self.api_url) from None
        if self._secret and self._secret in answer.body:
            # Some quote what they were sent, and what they say may be logged.
            return answer._replace(body=answer.body.replace(self._secret, _HIDDEN))
        return answer

    def ask(self, call: Call[Any]) -> Answer:
        """Send a call that another time may answer. Raises `Busy` too, where now is none."""
        answer = self.send(call)
        if answer.status in {408, 429} or answer.status >= 500:
            raise Busy(answer, self.api_url)
        return answer

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        way, self._way = self._way, None
        if way is not None:
            with contextlib.suppress(Exception):
                way.close()

    def forget(self) -> None:
        """Leave the connection to the parent process, after a fork."""
        # Dropped, not closed: a transport's locks may be held by a thread that stayed in the
        # parent. Closing our copy of the socket says nothing to the server; Python would warn.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self._way = None

    def _open(self) -> _Way:
        if self._transport is None:
            return Wire(self.api_url, self._headers, longest=self._longest)
        return Carrier(self._transport(), self.api_url, self._headers, longest=self._longest)
