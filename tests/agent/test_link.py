"""The way to Ops-Core over real sockets: what a server may do to whom it answers."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from opscore_middleware.agent.link import Link, Unreachable
from opscore_middleware.protocol import calls
from tests.agent.support import KEY
from tests.support.waiting import TIMEOUT

HEADER = b"HTTP/1.1 200 OK\r\nX-Slow: "
BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


class Dripping:
    """A server that goes on a byte at a time after its beginning, while its client listens."""

    def __init__(self, secured: ssl.SSLContext | None) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        scheme = "http" if secured is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._socket.getsockname()[1]}"
        self._secured = secured
        self.begins = b""
        self.left = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(TIMEOUT)

    def _serve(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:
            return  # nobody came
        if self._secured is not None:
            client = self._secured.wrap_socket(client, server_side=True)
        with client:
            client.recv(65536)
            try:
                client.sendall(self.begins)
                while not self._over.wait(0.01):
                    client.sendall(b"x")
            except OSError:
                self.left.set()


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Have this process trust whoever serves with it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=["http", "https"])
def dripping(request: pytest.FixtureRequest, secured: ssl.SSLContext) -> Iterator[Dripping]:
    server = Dripping(secured if request.param == "https" else None)
    yield server
    server.close()


@pytest.mark.parametrize(
    ("transport", "begins", "kind"),
    [
        (None, HEADER, "TimeoutError"),
        (None, BODY, "TimeoutError"),
        (httpx.HTTPTransport, BODY, "ReadTimeout"),
    ],
    ids=["header", "body", "body over another transport"],
)
def test_a_server_that_drips_is_left_at_the_deadline(
    dripping: Dripping, transport: type[httpx.HTTPTransport] | None, begins: bytes, kind: str
) -> None:
    dripping.begins = begins
    link = Link(dripping.url, KEY, transport, longest=0.2)
    with pytest.raises(Unreachable, match=f"^{kind}$") as failure:
        link.send(calls.health())
    assert failure.value.url == dripping.url
    assert dripping.left.wait(TIMEOUT)
    link.close()


def test_a_server_that_quotes_the_key_gets_it_into_no_log() -> None:
    def quote(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401, json={"detail": f"bad: {request.headers['authorization']}"})

    link = Link("http://ops-core.test", KEY, lambda: httpx.MockTransport(quote))
    assert link.send(calls.health()).reason == "bad: Bearer <the key>"
    link.close()
