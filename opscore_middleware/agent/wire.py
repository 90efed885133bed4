"""HTTP over a socket of our own, with a deadline for each exchange as a whole."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPResponse, IncompleteRead
from typing import Any, Final, cast

import httpx

from opscore_middleware.agent.delivery import Answer
from opscore_middleware.protocol.call import Call

__all__ = ["LONGEST_ANSWER", "Wire"]

LONGEST_ANSWER: Final = 1 << 20
"""How much of an answer is read, in bytes."""
KEPT: Final = 5.0
"""Seconds for which a connection is used again: as long as uvicorn keeps them by default."""

# Seconds that one step may take, within the exchange.
_CONNECTING: Final = 3.0
_MOVING: Final = 5.0

# What it looks like when a server has closed a connection that we had kept.
_LOST: Final = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Wire:
    """Sends calls one at a time over a kept-alive connection, for one thread.

    Written with the standard library's sockets and its reader of answers: a client and its pool
    take four times the processor time, which is the host's, and bound each wait for some bytes but
    not all of them together, so that a server that says a byte now and then would keep them for
    ever. Here nothing is waited for beyond a deadline.

    Args:
        url: the server's address, as `protocol.address.base_url` returns it.
        headers: sent with every call.
        longest: seconds that a call may take, from the connection to the answer's last byte.
    """

    def __init__(self, url: str, headers: Mapping[str, str], *, longest: float) -> None:
        # Taken apart by httpx, which writes names of other alphabets as they travel.
        at = httpx.URL(url)
        self._host = at.raw_host.decode("ascii")
        self._port = at.port or (443 if at.scheme == "https" else 80)
        self._secure = at.scheme == "https"
        self._path = at.raw_path.decode("ascii").rstrip("/")
        self._context: ssl.SSLContext | None = None
        self._longest = longest
        said = {"Host": at.netloc.decode("ascii"), **headers}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        self._connection: _Connection | None = None
        self._reached: Any = None  # the address that was reached last

    def send(self, call: Call[Any]) -> Answer:
        """Send a call and return its answer. Raises `OSError` and `http.client.HTTPException`."""
        until = time.monotonic() + self._longest
        kept = self._connection
        if kept is not None and time.monotonic() - kept.used_at < KEPT:
            try:
                return self._exchange(kept, call, until)
            except _LOST:
                pass  # closed at the other end meanwhile; what we tell may be told twice
        self.close()
        self._connection = connection = self._connect(until)
        return self._exchange(connection, call, until)

    def close(self) -> None:
        """Drop the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _exchange(self, connection: _Connection, call: Call[Any], until: float) -> Answer:
        answer, goes_on = connection.exchange(self._request(call), call.method, until)
        if not goes_on:
            self.close()
        return answer

    def _request(self, call: Call[Any]) -> bytes:
        body = call.body or b""
        own = "".join(f"{name}: {value}\r\n" for name, value in call.headers.items())
        length = f"Content-Length: {len(body)}\r\n" if body or call.method != "GET" else ""
        head = f"{call.method} {self._path}{call.path} HTTP/1.1\r\n{self._headers}{own}{length}\r\n"
        return head.encode("latin-1") + body

    def _connect(self, until: float) -> _Connection:
        plain = self._reach(until)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._secure:
                plain.settimeout(min(_MOVING, _left(until)))
                return _Connection(
                    self._certificates().wrap_socket(plain, server_hostname=self._host)
                )
            return _Connection(plain)
        except BaseException:
            plain.close()
            raise

    def _reach(self, until: float) -> socket.socket:
        """Connect to the server at whichever of its addresses can be reached."""
        found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        # Where one before it swallows all that is sent, as IPv6 without a route does, it would cost
        # its whole wait each time, and more than the last word has.
        found.sort(key=lambda it: it[4] != self._reached)
        failure = OSError("the name has no address")
        for family, kind, protocol, _, address in found:
            try:
                plain = _connected(address, (family, kind, protocol), until)
            except OSError as reason:
                failure = reason
            else:
                self._reached = address
                return plain
        raise failure

    def _certificates(self) -> ssl.SSLContext:
        # Loaded with the first connection that needs them: that takes a moment, and a megabyte.
        if self._context is None:
            self._context = httpx.create_ssl_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context


class _Connection:
    """One connection, which is used until `exchange` says that it does not go on."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._until = 0.0
        self.used_at = time.monotonic()

    def exchange(self, request: bytes, method: str, until: float) -> tuple[Answer, bool]:
        """Return the answer to a request, and whether another may follow."""
        self._until = until
        self._socket.settimeout(min(_MOVING, _left(until)))
        self._socket.sendall(request)
        response = self._answer(method)
        try:
            body = response.read(LONGEST_ANSWER)
            if response.length and len(body) < LONGEST_ANSWER:
                raise IncompleteRead(body, response.length)  # read() alone tells of no such end
            goes_on = response.isclosed() and not response.will_close
        finally:
            response.close()
        self.used_at = time.monotonic()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status, headers, body), goes_on

    def _answer(self, method: str) -> HTTPResponse:
        """Return the answer, past what a server may say before it: early hints, say."""
        self._incoming = _Kept(_Incoming(self._socket, self._until))
        while True:
            # It asks for nothing but the file to read from.
            response = HTTPResponse(cast("socket.socket", self), method=method)
            response.begin()
            if response.status >= 200:
                return response

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return what `HTTPResponse` reads from."""
        return self._incoming

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


class _Kept(io.BufferedReader):
    """Outlives each response that is read from it, and holds nothing that closing would free."""

    def close(self) -> None:
        pass


class _Incoming(io.RawIOBase):
    """Reads what comes until the deadline of the exchange."""

    def __init__(self, connected: socket.socket, until: float) -> None:
        self._socket = connected
        self._until = until

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(min(_MOVING, _left(self._until)))
        return self._socket.recv_into(buffer)


def _connected(address: Any, like: tuple[int, int, int], until: float) -> socket.socket:
    plain = socket.socket(*like)
    try:
        plain.settimeout(min(_CONNECTING, _left(until)))
        plain.connect(address)
    except BaseException:
        plain.close()
        raise
    return plain


def _left(until: float) -> float:
    """Return the seconds that are left. Raises `TimeoutError` where none are."""
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError("the exchange took too long")
    return left
