"""What becomes of an attempt that is sent, whatever the other side does."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest
import trustme

from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.models import Registration
from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.tasks import Route, Task
from opscore_middleware.server.allowed import Allowed, AllowedTransport
from opscore_middleware.server.dispatch import sending
from opscore_middleware.server.dispatch.refusals import Refused
from opscore_middleware.server.dispatch.sending import Sender
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.support.attempts import (
    Behaviour,
    answering,
    attempt,
    endpoint,
    listening_agent,
)
from tests.support.waiting import TIMEOUT, wait_until_async

pytestmark = pytest.mark.asyncio

NOW = 1_790_000_000 * SECOND
STRAIGHT = (Route.DIRECT,)
BOTH = (Route.AGENTKIT, Route.DIRECT)


class Sending:
    """A sender, and by which routes its attempts were taken."""

    def __init__(self, sender: Sender) -> None:
        self.taken: list[Route] = []
        self._sender = sender

    async def __call__(
        self,
        where: Endpoint | str | None,
        routes: Sequence[Route] = STRAIGHT,
        task: Task | None = None,
    ) -> Refused | None:
        where = where if isinstance(where, Endpoint) else endpoint(where)
        return await self._sender.send(task or attempt(), where, routes, taken=self._take)

    async def _take(self, route: Route) -> None:
        self.taken.append(route)


@asynccontextmanager
async def sender(
    agentkit: AsyncAgentKit | None = None, *, allowed: str = ""
) -> AsyncIterator[Sending]:
    transport = AllowedTransport(Allowed.parse(allowed))
    made = Sender(transport, agentkit=agentkit, clock=lambda: NOW)
    try:
        yield Sending(made)
    finally:
        await made.close()


async def sent_to(behave: Behaviour) -> tuple[Refused | None, list[Route]]:
    async with listening_agent(behave) as agent, sender() as send:
        return await asyncio.wait_for(send(agent.url), TIMEOUT), send.taken


async def refused_by(behave: Behaviour) -> Refused:
    refusal, taken = await sent_to(behave)
    assert refusal is not None
    assert taken == []
    return refusal


@pytest.fixture
def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


# --- straight to the agent -----------------------------------------------------------------------


async def test_the_agent_gets_the_attempt_in_body_and_headers() -> None:
    async with listening_agent(answering("202 Accepted")) as agent, sender() as send:
        task = attempt(name="Zusammenfassen, gründlich", attempt=3)
        assert await send(agent.url, task=task) is None
    headers, body = agent.requests[0]
    assert body == {
        "senderId": "opscore_system_id",
        "timestamp": "2026-09-21T14:13:20Z",
        "messageType": "workflow_task",
        "payload": {"text": "long"},
        "sessionContext": {"sessionId": "session-1", "priorMessages": []},
        "task_name": "Zusammenfassen, gründlich",
        "opscore_session_id": "session-1",
        "opscore_task_id": "task-1.3",
    }
    said = {name: value for name, value in headers.items() if name.startswith("x-opscore")}
    assert said == {
        "x-opscore-task-id": "task-1.3",
        "x-opscore-session-id": "session-1",
        "x-opscore-task-name": "Zusammenfassen, gründlich",
        "x-opscore-capability": "summarise",
    }
    assert "authorization" not in headers


async def test_no_agent_gets_the_cookies_of_another_on_its_host() -> None:
    baking = answering("202 Accepted", "Set-Cookie: secret=1; Path=/")
    async with (
        listening_agent(baking) as one,
        listening_agent(baking) as other,
        sender() as send,
    ):
        assert await send(one.url) is None
        assert await send(other.url) is None
    ((headers, _),) = other.requests
    assert "cookie" not in headers


async def test_an_agent_whose_address_has_a_password_gets_it() -> None:
    async with listening_agent(answering("202 Accepted")) as agent, sender() as send:
        assert await send(agent.url.replace("//", "//me:p%40ss@")) is None
    ((headers, _),) = agent.requests
    assert b64decode(headers["authorization"].removeprefix("Basic ")) == b"me:p@ss"


@pytest.mark.parametrize("status", ["200 OK", "202 Accepted", "204 No Content"])
async def test_an_agent_that_accepts_has_the_attempt(status: str) -> None:
    assert await sent_to(answering(status)) == (None, [Route.DIRECT])


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "422 Unprocessable"])
async def test_an_agents_refusal_is_final_and_says_what_it_said(status: str) -> None:
    refusal = await refused_by(answering(status, body='{"detail":"no such thing"}'))
    assert (refusal.final, refusal.later) == (True, False)
    assert refusal.error == {
        "type": "AgentRefused",
        "message": f"The agent answered {status}",
        "status": int(status[:3]),
        "route": "direct",
        "answer": '{"detail":"no such thing"}',
    }


async def test_a_long_answer_is_cut() -> None:
    refusal = await refused_by(answering("422 Unprocessable", body="x" * 1_000_000))
    assert refusal.error["answer"] == "x" * 2000


async def test_an_answer_that_comes_packed_is_not_unpacked() -> None:
    async def pack(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packed = gzip.compress(b"x" * 1_000_000)
        head = f"HTTP/1.1 500 Sorry\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}"
        writer.write(head.encode() + b"\r\n\r\n" + packed)

    refusal = await refused_by(pack)
    assert (refusal.error["status"], refusal.error["answer"]) == (500, "")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 7", 7.0),
        ("Retry-After: Mon, 21 Sep 2026 14:13:50 GMT", 30.0),
        ("Retry-After: Mon, 21 Sep 2026 14:00:00 GMT", 0.0),
        ("Retry-After: 99999999", 86400.0),
        ("Retry-After: soon", None),
        ("Retry-After: Mon, 21 Sep 99999999999999999999 14:13:50 GMT", None),
        ("Retry-After: Mon, 21 Sep 2026 14:13:50 +9999999999999999", None),
        ("X-Nothing: 1", None),
    ],
)
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
async def test_an_agent_that_is_busy_is_asked_again_when_it_wants(
    status: str, header: str, seconds: float | None
) -> None:
    refusal = await refused_by(answering(status, header))
    assert (refusal.later, refusal.final, refusal.retry_after) == (True, False, seconds)


@pytest.mark.parametrize("status", ["408 Request Timeout", "425 Too Early", "500 Oops", "502 Oops"])
async def test_an_agent_that_fails_may_be_asked_again(status: str) -> None:
    refusal = await refused_by(answering(status))
    assert (refusal.later, refusal.final) == (False, False)


async def test_a_redirect_is_not_followed_and_the_refusal_says_what_to_do() -> None:
    async with listening_agent(answering("202 Accepted")) as elsewhere:
        refusal = await refused_by(answering("307 Moved", f"Location: {elsewhere.url}"))
    assert elsewhere.requests == []
    assert refusal.final
    assert f"leads to {elsewhere.url}; redirects are not" in refusal.error["message"]


async def test_nobody_has_an_attempt_where_nobody_listens(closed_port: int) -> None:
    async with sender() as send:
        refusal = await send(f"http://127.0.0.1:{closed_port}/task")
    assert refusal is not None
    assert (refusal.final, refusal.later, refusal.reached) == (False, False, False)
    assert f"http://127.0.0.1:{closed_port}/task: ConnectError" in refusal.error["message"]
    assert send.taken == []


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with listening_agent(answering("202 OK"), context=context) as agent, sender() as send:
        refusal = await send(agent.url)
    assert refusal is not None
    assert "CERTIFICATE_VERIFY_FAILED" in refusal.error["message"]
    assert agent.requests == []


async def test_an_endpoint_that_is_not_allowed_is_never_connected_to() -> None:
    async with listening_agent(answering("202 OK")) as agent, sender(allowed="10.0.0.0/8") as send:
        refusal = await send(agent.url)
    assert refusal is not None
    assert refusal.error["type"] == "EndpointNotAllowed"
    assert agent.requests == []


@pytest.mark.parametrize(
    "url", ["http://[::1/task", "http://1.2.3.999/", "http://a:99999/", "http://xn--/"]
)
async def test_an_address_that_is_none_is_told_of(url: str) -> None:
    async with sender() as send:
        refusal = await send(url)
    assert refusal is not None
    assert url in refusal.error["message"]


@pytest.mark.parametrize("host", ["127.0.0.1:1", "xn--"])
async def test_no_refusal_tells_an_addresss_password(host: str) -> None:
    async with sender() as send:
        refusal = await send(f"http://me:p%40ss@{host}/")
    assert refusal is not None
    assert f"http://{host}/" in refusal.error["message"]
    assert "ss@" not in str(refusal)


async def test_an_agent_without_an_address_is_told_of() -> None:
    async with sender() as send:
        straight, nowhere = await send(None), await send(None, ())
    assert straight is not None
    assert nowhere is not None
    assert "no contactEndpoint" in straight.error["message"]
    assert nowhere.error["type"] == "NoRoute"


async def test_an_agent_that_closes_before_it_answers_may_have_the_attempt() -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    assert await sent_to(close) == (None, [Route.DIRECT])


async def test_an_agent_that_works_in_line_has_the_attempt_long_before_it_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "SILENCE", 0.01)
    done = asyncio.Event()

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        await answering("200 OK", body="{}")(reader, writer)

    async with listening_agent(work) as agent, sender() as send:
        under_way = asyncio.ensure_future(send(agent.url))
        await wait_until_async(lambda: send.taken, message="the attempt to be taken")
        assert not under_way.done()
        done.set()
        assert await under_way is None
    assert send.taken == [Route.DIRECT]


async def test_an_agent_that_was_never_reached_before_has_the_attempt_as_soon_as_it_is_sent() -> (
    None
):
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        assert await reader.read(1) == b""

    async with listening_agent(hang) as agent, sender() as send:
        under_way = asyncio.ensure_future(send(agent.url, task=attempt(route=None)))
        await wait_until_async(lambda: send.taken, message="the attempt to be taken")
        under_way.cancel()


async def test_an_agent_may_refuse_after_a_long_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SILENCE", 0.01)
    done = asyncio.Event()

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        await answering("422 Unprocessable")(reader, writer)

    async with listening_agent(work) as agent, sender() as send:
        under_way = asyncio.ensure_future(send(agent.url))
        await wait_until_async(lambda: send.taken, message="the attempt to be taken")
        done.set()
        refusal = await under_way
    assert refusal is not None
    assert refusal.final


async def test_an_agent_that_streams_is_listened_to_until_it_has_ended() -> None:
    go_on = asyncio.Event()

    async def stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"4\r\nlast\r\n0\r\n\r\n")
        await writer.drain()

    async with listening_agent(stream) as agent, sender() as send:
        under_way = asyncio.ensure_future(send(agent.url))
        await wait_until_async(lambda: send.taken, message="the attempt to be taken")
        assert not under_way.done()
        assert not agent.left.is_set()
        go_on.set()
        assert await under_way is None


async def test_whoever_waits_no_longer_hangs_up() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        assert await reader.read(1) == b""

    async with listening_agent(hang) as agent, sender() as send:
        under_way = asyncio.ensure_future(send(agent.url))
        await wait_until_async(lambda: agent.requests, message="the agent to have the attempt")
        under_way.cancel()
        await asyncio.wait_for(agent.left.wait(), TIMEOUT)


# --- through AgentKit ----------------------------------------------------------------------------


@asynccontextmanager
async def agentkit(
    url: str, quirks: Quirks | None = None
) -> AsyncIterator[tuple[SimulatedAgentKit, AsyncAgentKit, Endpoint]]:
    """Run an AgentKit that knows an agent at `url`."""
    kit = SimulatedAgentKit()
    async with (
        kit,
        AsyncAgentKit("http://agentkit", transport=kit.transport(), timeout=1) as client,
    ):
        agent_id = await client.register(
            Registration(agent_name="a", version="1", contact_endpoint=url)
        )
        kit.quirks = quirks or Quirks()
        yield kit, client, Endpoint(agent_id, "", url, None)


async def test_agentkit_hands_the_attempt_on() -> None:
    async with (
        listening_agent(answering("202 OK")) as agent,
        agentkit(agent.url) as (kit, client, where),
        sender(client) as send,
    ):
        assert await send(where, BOTH) is None
        (forwarded,) = await kit.forwards_made()
    assert send.taken == [Route.AGENTKIT]
    assert len(agent.requests) == 1
    message = json.loads(forwarded.body)
    assert message["opscore_task_id"] == "task-1.1"
    assert message["opscore_session_id"] == "session-1"
    assert message["task_name"] == "Summarise"
    assert message["payload"] == {"text": "long"}


async def test_an_agent_that_agentkit_has_forgotten_is_reached_straight() -> None:
    async with (
        listening_agent(answering("202 OK")) as agent,
        agentkit(agent.url) as (kit, client, where),
        sender(client) as send,
    ):
        kit.restart()
        assert await send(where, BOTH) is None
    assert send.taken == [Route.DIRECT]
    assert agent.requests[0][1]["opscore_task_id"] == "task-1.1"


async def test_an_agent_is_reached_straight_while_agentkit_is_down() -> None:
    async with (
        listening_agent(answering("202 OK")) as agent,
        agentkit(agent.url, Quirks(down=True)) as (_, client, where),
        sender(client) as send,
    ):
        assert await send(where, BOTH) is None
    assert send.taken == [Route.DIRECT]


async def test_agentkit_helps_out_where_the_straight_route_does_not_work(closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}/task"
    async with agentkit(url) as (_, client, where), sender(client) as send:
        assert await send(where, (Route.DIRECT, Route.AGENTKIT)) is None
    assert send.taken == [Route.AGENTKIT]


async def test_an_agentkit_that_hangs_up_may_have_the_attempt_so_it_is_not_sent_twice() -> None:
    async with (
        listening_agent(answering("202 OK")) as agent,
        agentkit(agent.url, Quirks(hang=0.01)) as (_, client, where),
        sender(client) as send,
    ):
        assert await send(where, BOTH) is None
    assert send.taken == [Route.AGENTKIT]
    assert agent.requests == []


async def test_an_attempt_that_no_route_takes_is_refused_with_what_each_said(
    closed_port: int,
) -> None:
    url = f"http://127.0.0.1:{closed_port}/task"
    async with agentkit(url, Quirks(down=True)) as (_, client, where), sender(client) as send:
        refusal = await send(where, BOTH)
    assert refusal is not None
    assert (refusal.final, refusal.later) == (False, False)
    assert refusal.error["message"].count("ConnectError") == 2
    assert [each["route"] for each in refusal.error["routes"]] == ["agentkit", "direct"]


@pytest.mark.parametrize(
    ("status", "final", "later"),
    [
        (404, False, False),
        (422, True, False),
        (429, False, True),
        (503, False, True),
        (500, False, False),
    ],
)
async def test_agentkits_refusal_counts_where_there_is_no_other_route(
    status: int, final: bool, later: bool
) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json={"detail": "no"})

    transport = httpx.MockTransport(refuse)
    async with (
        AsyncAgentKit("http://agentkit", transport=transport) as client,
        sender(client) as send,
    ):
        refusal = await send(None, (Route.AGENTKIT,))
    assert refusal is not None
    assert (refusal.final, refusal.later) == (final, later)


async def test_a_route_through_an_agentkit_that_is_not_configured_is_told_of() -> None:
    async with sender() as send:
        refusal = await send(None, (Route.AGENTKIT,))
    assert refusal is not None
    assert "AGENTKIT_API_URL is not set" in refusal.error["message"]
