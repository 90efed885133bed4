"""The client of AgentKit's API: what is sent, and how each answer is read."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from opscore_middleware.agentkit import AgentKit, AsyncAgentKit, Message
from opscore_middleware.core.models import Registration
from opscore_middleware.errors import (
    AgentNameTaken,
    AgentUnknownToAgentKit,
    ConfigurationError,
    MessageRefused,
    RemoteError,
    RemoteUnavailable,
)
from tests.agentkit.support import details

Handler = Callable[[httpx.Request], httpx.Response]
REGISTERED = {
    "status": "success",
    "message": "…",
    "data": {"agentId": "a-1"},
    "error_code": None,
}


def client(answer: httpx.Response | Handler, url: str = "http://agentkit:8000") -> AgentKit:
    handler = answer if callable(answer) else lambda _request: answer
    return AgentKit(url, transport=httpx.MockTransport(handler))


@pytest.mark.parametrize(
    "url", ["http://agentkit:8000", "http://agentkit:8000/v1", "http://agentkit:8000/v1/"]
)
def test_an_agent_is_registered_whichever_way_the_address_is_spelled(
    url: str, registration: Registration
) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(201, json=REGISTERED)

    with client(answer, url) as agentkit:
        assert agentkit.register(registration) == "a-1"
    (request,) = asked
    assert (request.method, str(request.url)) == (
        "POST",
        "http://agentkit:8000/v1/agents/register",
    )
    assert request.headers["content-type"] == "application/json"
    assert json.loads(request.content) == {
        "agentName": "summariser",
        "version": "1.0",
        "capabilities": ["summarise"],
        "contactEndpoint": "http://127.0.0.1:9000/task",
    }


def test_metadata_is_sent_where_there_is_some(registration: Registration) -> None:
    sent: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        return httpx.Response(201, json=REGISTERED)

    with client(answer) as agentkit:
        agentkit.register(registration.model_copy(update={"metadata": {"description": "d"}}))
    assert sent[0]["metadata"] == {"description": "d"}


def test_an_agent_without_an_endpoint_is_refused_before_anything_is_sent() -> None:
    def unasked(_request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing should be sent")

    with client(unasked) as agentkit, pytest.raises(ConfigurationError) as refused:
        agentkit.register(Registration(agent_name="summariser", instance_id="i"))
    assert "OPSCORE_CONTACT_ENDPOINT" in refused.value.message


def test_a_name_that_is_taken_has_an_error_of_its_own(registration: Registration) -> None:
    taken = httpx.Response(409, json={"detail": "Agent with name 'summariser' already registered."})
    with client(taken) as agentkit, pytest.raises(AgentNameTaken) as refused:
        agentkit.register(registration)
    assert refused.value.remote_status == 409
    assert "'summariser' already registered" in refused.value.message


def test_the_agents_of_a_newer_agentkit_are_listed() -> None:
    listing = httpx.Response(
        200, json={"status": "success", "data": [details(), {"agentId": "b", "new": 1}]}
    )
    with client(listing) as agentkit:
        agents = agentkit.agents()
    assert agents is not None
    assert [agent.agent_id for agent in agents] == [details()["agentId"], "b"]


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(404, json={"detail": "Not Found"}), httpx.Response(405), httpx.Response(404)],
)
def test_an_agentkit_that_does_not_list_says_none(answer: httpx.Response) -> None:
    with client(answer) as agentkit:
        assert agentkit.agents() is None


def test_entries_of_a_list_that_are_no_agents_hide_no_other() -> None:
    odd = [
        {"agentId": 7, "agentName": "n"},
        {"agentId": "b", "capabilities": [None]},
        {"agentId": "c", "registration_time": "yesterday"},
        None,
    ]
    answer = httpx.Response(200, json={"status": "success", "data": [*odd, {"agentId": "a"}]})
    with client(answer) as agentkit:
        agents = agentkit.agents()
    assert agents is not None
    assert [agent.agent_id for agent in agents] == ["a"]
    with (
        client(httpx.Response(200, json={"data": odd})) as agentkit,
        pytest.raises(RemoteError, match="not AgentKit's"),
    ):
        agentkit.agents()


def test_a_message_is_handed_over_with_the_names_that_survive() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        data = {"agentId": "a/1", "dispatch_status": "scheduled"}
        body = {"status": "success", "message": "m", "data": data, "error_code": None}
        return httpx.Response(202, json=body)

    message = Message(
        payload={"p": None},
        session_context={"sessionId": "s"},
        task_name="t",
        opscore_session_id="os-1",
        opscore_task_id="ot-1.1",
    )
    with client(answer) as agentkit:
        accepted = agentkit.run("a/1", message)
    assert accepted.data["dispatch_status"] == "scheduled"
    assert asked[0].url.raw_path == b"/v1/agents/a%2F1/run"
    assert json.loads(asked[0].content) == {
        "senderId": "opscore_system_id",
        "messageType": "workflow_task",
        "payload": {"p": None},
        "sessionContext": {"sessionId": "s"},
        "task_name": "t",
        "opscore_session_id": "os-1",
        "opscore_task_id": "ot-1.1",
    }


def test_an_unknown_agent_has_an_error_of_its_own() -> None:
    unknown = httpx.Response(404, json={"detail": "Agent with ID 'a' not found."})
    with client(unknown) as agentkit, pytest.raises(AgentUnknownToAgentKit, match="'a' not found"):
        agentkit.run("a", Message())


@pytest.mark.parametrize("status", [200, 202, 400, 500])
def test_an_error_in_the_body_is_an_error_whatever_the_status(status: int) -> None:
    body = {"status": "error", "message": "it broke", "data": None, "error_code": "TOOL_FAILED"}
    refusing = httpx.Response(status, json=body)
    with client(refusing) as agentkit, pytest.raises(MessageRefused, match="it broke") as refused:
        agentkit.run("a", Message(message_type="tool_invocation"))
    assert refused.value.remote_code == "TOOL_FAILED"
    assert refused.value.remote_status == status


def test_a_missing_tool_is_not_taken_for_a_missing_agent() -> None:
    missing = httpx.Response(404, json={"detail": "Tool 'x' not found"})
    with client(missing) as agentkit, pytest.raises(MessageRefused, match="Tool 'x' not found"):
        agentkit.run("a", Message(message_type="tool_invocation", payload={"tool_name": "x"}))


def test_the_root_is_asked_whether_agentkit_answers() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(200, text="anything")

    with client(answer, "http://agentkit:8000/v1") as agentkit:
        agentkit.ping()
    assert asked == ["/"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(201, text="<html>"),
        httpx.Response(201, json={"status": "success", "data": None}),
        httpx.Response(200, json=[]),
        httpx.Response(201, content=b"[" * 100_000),
        httpx.Response(500, text="Internal Server Error"),
        httpx.Response(502, content=b"[" * 100_000),
        httpx.Response(422, json={"detail": [{"loc": ["body"], "msg": "Field required"}]}),
    ],
)
def test_an_answer_that_is_not_agentkits_is_a_plain_error(
    answer: httpx.Response, registration: Registration
) -> None:
    with client(answer) as agentkit, pytest.raises(RemoteError) as refused:
        agentkit.register(registration)
    assert type(refused.value) is RemoteError
    assert refused.value.remote_status == answer.status_code
    assert "/v1/agents/register" in refused.value.message


def test_a_redirect_is_not_followed() -> None:
    asked: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(307, headers={"Location": "http://elsewhere/"})

    with client(answer) as agentkit, pytest.raises(RemoteError, match="not followed"):
        agentkit.ping()
    assert len(asked) == 1


def test_silence_names_the_address_and_the_setting() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("", request=request)

    with client(silent) as agentkit, pytest.raises(RemoteUnavailable) as refused:
        agentkit.ping()
    assert "http://agentkit:8000 did not answer GET /" in refused.value.message
    assert "AGENTKIT_API_URL" in refused.value.message


@pytest.mark.parametrize(
    "url",
    [
        "agentkit:8000",
        "ftp://agentkit",
        "http://user:pw@agentkit",
        "http://[::1",
        "http://agent kit",
        "http://agent\nkit",
        "http://agentkit:99999",
        "",
    ],
)
def test_an_address_that_cannot_be_is_refused_at_once(url: str) -> None:
    for kind in (AgentKit, AsyncAgentKit):
        with pytest.raises(ConfigurationError, match="AGENTKIT_API_URL") as refused:
            kind(url)
        assert "pw" not in refused.value.message


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_async_client_does_the_same_on_both_loops(registration: Registration) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/":
            raise httpx.ConnectError("", request=request)
        if request.method == "GET":
            return httpx.Response(404)
        if request.url.path.endswith("/run"):
            return httpx.Response(202, json={"status": "success", "data": {}})
        return httpx.Response(201, json=REGISTERED)

    transport = httpx.MockTransport(answer)
    async with AsyncAgentKit("http://agentkit/v1", transport=transport) as agentkit:
        assert await agentkit.register(registration) == "a-1"
        assert await agentkit.agents() is None
        assert (await agentkit.run("a-1", Message())).data == {}
        with pytest.raises(RemoteUnavailable):
            await agentkit.ping()


LONG = 40 * 1024 * 1024
"""More than any AgentKit says, in bytes."""


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that says how much of it was read."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.read < LONG:
            self.read += 65536
            yield b" " * 65536

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


@pytest.mark.asyncio
@pytest.mark.parametrize("is_async", [False, True])
async def test_of_an_answer_without_an_end_no_more_is_read_than_fits(is_async: bool) -> None:
    body = Endless()
    with pytest.raises(RemoteError, match="more than 16 MiB"):
        await asked(httpx.Response(200, stream=body), is_async=is_async)
    assert body.read < LONG // 2


@pytest.mark.asyncio
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_answer_that_was_packed_unasked_is_not_unpacked(is_async: bool) -> None:
    body = Endless()
    answer = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=body)
    with pytest.raises(RemoteError, match="packed as 'gzip', which nobody asked for"):
        await asked(answer, is_async=is_async)
    assert body.read == 0


async def asked(answer: httpx.Response, *, is_async: bool) -> None:
    """Have an AgentKit answer a question; it is asked for nothing that is packed."""

    def answered(request: httpx.Request) -> httpx.Response:
        assert request.headers["accept-encoding"] == "identity"
        return answer

    transport = httpx.MockTransport(answered)
    if is_async:
        async with AsyncAgentKit("http://agentkit", transport=transport) as agentkit:
            await agentkit.agents()
    else:
        with AgentKit("http://agentkit", transport=transport) as blocking:
            blocking.agents()


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, inspect.Signature]:
        return {
            name: inspect.signature(member)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls(AgentKit) == calls(AsyncAgentKit)
