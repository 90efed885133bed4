"""Our own connection to a server: kept, made anew, and whatever way the answer comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from opscore_middleware.agent.link import Link, Unreachable
from opscore_middleware.protocol import calls, reporting
from tests.agent.support import KEY
from tests.support.waiting import TIMEOUT

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Said: yes\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE
HINTED = b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + WHOLE
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
OLD = b"HTTP/1.0 200 OK\r\n\r\n{}"
ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2_000_000


class Scripted:
    """A server that answers as it is told, one connection after the other.

    Args:
        connections: what is answered to the requests of each, in turn; after that it hangs up.
    """

    def __init__(self, *connections: list[bytes]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.connections = 0
        self._left = list(connections)
        self.hung_up = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(TIMEOUT)

    def _serve(self) -> None:
        for answers in self._left:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with client:
                try:
                    self._answer(client, answers)
                except OSError:
                    pass  # it has read enough
            self.hung_up.set()

    def _answer(self, client: socket.socket, answers: list[bytes]) -> None:
        for answer in answers:
            request = client.recv(65536)
            if not request:
                return
            self.requests.append(request)
            client.sendall(answer)


@pytest.fixture
def serve() -> Iterator[type[Scripted]]:
    servers: list[Scripted] = []

    class Served(Scripted):
        def __init__(self, *connections: list[bytes]) -> None:
            super().__init__(*connections)
            servers.append(self)

    yield Served
    for server in servers:
        server.close()


def test_a_call_is_one_request_with_the_key_and_its_length(serve: type[Scripted]) -> None:
    server = serve([WHOLE])
    link = Link(server.url + "/base", KEY)
    answer = link.send(reporting.progress_task("t.1", 0.5, None))
    assert (answer.status, answer.body, answer.headers["x-said"]) == (200, b"{}", "yes")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    assert first == "POST /base/v1/opscore/tasks/t.1/progress HTTP/1.1"
    assert f"Authorization: Bearer {KEY}" in headers
    assert f"Host: {server.url.removeprefix('http://')}" in headers
    assert f"Content-Length: {len(body)}" in headers
    assert "Content-Type: application/json" in headers
    link.close()


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED, EMPTY, CONTINUED, HINTED])
def test_a_connection_is_used_again_after_a_whole_answer(
    serve: type[Scripted], answer: bytes
) -> None:
    server = serve([answer, WHOLE])
    link = Link(server.url, KEY)
    for _ in range(2):
        said = link.send(calls.health())
        assert (said.status, said.body) in {(200, b"{}"), (204, b"")}
    assert server.connections == 1
    link.close()


@pytest.mark.parametrize("answer", [LAST, OLD, ENDLESS])
def test_a_connection_that_is_not_to_go_on_is_not_used_again(
    serve: type[Scripted], answer: bytes
) -> None:
    server = serve([answer], [WHOLE])
    link = Link(server.url, KEY)
    assert len(link.send(calls.health()).body) <= 1 << 20
    assert link.send(calls.health()).body == b"{}"
    assert server.connections == 2
    link.close()


def test_a_kept_connection_that_the_server_has_closed_costs_nothing(
    serve: type[Scripted],
) -> None:
    server = serve([WHOLE], [WHOLE])
    link = Link(server.url, KEY)
    link.send(calls.health())
    assert server.hung_up.wait(TIMEOUT)
    assert link.send(calls.health()).body == b"{}"
    assert server.connections == 2
    link.close()


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-server\r\n", CHUNKED[:-8], WHOLE[:-1]])
def test_what_is_no_answer_is_none(serve: type[Scripted], answer: bytes) -> None:
    link = Link(serve([answer]).url, KEY)
    with pytest.raises(Unreachable) as failure:
        link.send(calls.health())
    assert KEY not in repr(failure.value)
    link.close()


def test_the_address_that_answered_last_is_tried_first(
    serve: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where another one swallows what is sent, each connection would wait for it first."""
    server = serve([LAST], [LAST], [LAST])
    with socket.create_server(("127.0.0.1", 0)) as closed:
        elsewhere = closed.getsockname()
    addresses = [elsewhere, ("127.0.0.1", int(server.url.rpartition(":")[2]))]

    def found(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    link = Link("http://ops-core.test", KEY)
    link.send(calls.health())
    with socket.create_server(elsewhere) as opened:
        opened.settimeout(0)
        link.send(calls.health())
        with pytest.raises(BlockingIOError):
            opened.accept()
    link.send(calls.health())
    assert server.connections == 3
    link.close()


def test_a_name_without_an_address_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(Unreachable):
        Link("http://ops-core.test", KEY).send(calls.health())
