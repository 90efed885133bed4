"""The simulated AgentKit: its answers, its webhook, what it forwards, and how it is closed."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from opscore_middleware.agentkit import AsyncAgentKit, Message
from opscore_middleware.core.models import Registration
from opscore_middleware.errors import (
    MessageRefused,
)
from opscore_middleware.protocol.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.agentkit.support import AGENT, NOTIFY, REGISTER, SECRET, Receiver, registered

pytestmark = pytest.mark.anyio


async def test_a_registration_is_answered_byte_for_byte(http: httpx.AsyncClient) -> None:
    answer = await http.post(REGISTER, json=AGENT)
    agent_id = answer.json()["data"]["agentId"]
    assert uuid.UUID(agent_id).version == 4
    assert answer.status_code == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == (
        b'{"status":"success","message":"Agent \'agent-none\' registered successfully.",'
        b'"data":{"agentId":"' + agent_id.encode() + b'"},"error_code":null}'
    )


async def test_the_same_name_again_is_a_conflict(http: httpx.AsyncClient) -> None:
    await registered(http)
    again = await http.post(REGISTER, json={**AGENT, "version": "2.0"})
    assert again.status_code == 409
    assert again.content == b'{"detail":"Agent with name \'agent-none\' already registered."}'


@pytest.mark.parametrize(
    ("body", "kind", "where"),
    [
        (json.dumps({**AGENT, "contactEndpoint": "nowhere"}), "url_parsing", "contactEndpoint"),
        (json.dumps({**AGENT, "version": None}), "string_type", "version"),
        (json.dumps({"agentName": "a"}), "missing", "version"),
        ("{", "json_invalid", 1),
        ("[]", "model_attributes_type", "body"),
        ("", "missing", "body"),
    ],
)
async def test_a_bad_registration_lists_its_faults(
    http: httpx.AsyncClient, body: str, kind: str, where: str | int
) -> None:
    answer = await http.post(REGISTER, content=body)
    assert answer.status_code == 422
    fault = answer.json()["detail"][0]
    assert (fault["type"], fault["loc"][-1]) == (kind, where)


@pytest.mark.parametrize("path", ["/v1/agents", "/health", "/v1/agents/x", "/v2"])
async def test_the_versions_in_the_field_neither_list_nor_tell_their_health(
    http: httpx.AsyncClient, path: str
) -> None:
    answer = await http.get(path)
    assert (answer.status_code, answer.content) == (404, b'{"detail":"Not Found"}')
    assert (await http.get("/")).status_code == 200
    assert (await http.get(REGISTER)).json() == {"detail": "Method Not Allowed"}


async def test_a_newer_version_lists_its_agents_and_tells_its_health(
    kit: SimulatedAgentKit, http: httpx.AsyncClient
) -> None:
    kit.quirks = Quirks(lists_agents=True)
    agent_id = await registered(http)
    listed = (await http.get("/v1/agents")).json()
    assert listed["status"] == "success"
    assert [agent["agentId"] for agent in listed["data"]] == [agent_id]
    assert (await http.get("/health")).status_code == 200


async def test_the_webhook_is_sent_once_byte_for_byte(
    kit: SimulatedAgentKit, http: httpx.AsyncClient, receiver: Receiver
) -> None:
    agent_id = await registered(http)
    (sent,) = await kit.webhooks_sent()
    assert sent.body == (
        b'{"event_type":"REGISTER","agent_details":{"agentId":"' + agent_id.encode() + b'",'
        b'"agentName":"agent-none","capabilities":["echo"],"version":"1.0",'
        b'"contactEndpoint":"http://127.0.0.1:44551/task","metadata":null,'
        b'"registration_time":"2026-11-22T14:44:16.123456Z"}}'
    )
    (arrival,) = receiver.arrivals
    assert arrival.path == NOTIFY
    assert arrival.body == sent.body
    assert arrival.headers["content-type"] == "application/json"
    assert arrival.headers[TIMESTAMP_HEADER.lower()] == "1795358656"
    expected = sign(sent.body, "1795358656", SECRET)
    assert arrival.headers[SIGNATURE_HEADER.lower()] == expected
    assert sent.status == 200


async def test_a_webhook_that_is_refused_is_not_repeated(
    kit: SimulatedAgentKit, http: httpx.AsyncClient, receiver: Receiver
) -> None:
    receiver.status = 503
    await registered(http)
    await registered(http, agentName="second")
    sent = await kit.webhooks_sent(2)
    assert [webhook.status for webhook in sent] == [503, 503]
    assert len({webhook.json()["agent_details"]["agentName"] for webhook in sent}) == 2


async def test_an_endpoint_without_a_path_comes_back_with_a_slash(
    kit: SimulatedAgentKit, http: httpx.AsyncClient
) -> None:
    await registered(http, contactEndpoint="http://agent:9000")
    (sent,) = await kit.webhooks_sent()
    assert sent.json()["agent_details"]["contactEndpoint"] == "http://agent:9000/"


async def test_metadata_comes_back_with_what_agentkit_knows_of_it(
    kit: SimulatedAgentKit, http: httpx.AsyncClient
) -> None:
    await registered(http, metadata={"description": "d", "team": "lost"})
    (sent,) = await kit.webhooks_sent()
    assert sent.json()["agent_details"]["metadata"] == {"description": "d", "config": None}


async def test_a_message_is_rebuilt_before_it_is_forwarded(
    kit: SimulatedAgentKit, http: httpx.AsyncClient, receiver: Receiver
) -> None:
    agent_id = await registered(http)
    message = {
        "opscore_task_id": "ot-1",
        "senderId": "opscore_system_id",
        "messageType": "workflow_task",
        "payload": {"p": 1},
        "sessionContext": {"sessionId": "sess-1", "taskId": "lost", "workflowId": "lost"},
        "task_name": "tn",
        "opscore_session_id": "os-1",
        "priority": 9,
    }
    answer = await http.post(f"/v1/agents/{agent_id}/run", json=message)
    assert answer.status_code == 202
    assert answer.json() == {
        "status": "success",
        "message": f"Task accepted for agent {agent_id}. Dispatch scheduled.",
        "data": {"agentId": agent_id, "dispatch_status": "scheduled"},
        "error_code": None,
    }
    (sent,) = await kit.forwards_made()
    assert (sent.url, sent.status) == (AGENT["contactEndpoint"], 200)
    assert sent.body == (
        b'{"senderId":"opscore_system_id","timestamp":"2026-11-22T14:44:16.123456Z",'
        b'"messageType":"workflow_task","payload":{"p":1},'
        b'"sessionContext":{"sessionId":"sess-1","priorMessages":[]},"task_name":"tn",'
        b'"opscore_session_id":"os-1","opscore_task_id":"ot-1"}'
    )
    assert receiver.at("/task")[0].body == sent.body
    assert kit.messages[0].agent_id == agent_id
    assert kit.messages[0].body == sent.json()


async def test_nobody_is_told_that_a_forward_failed(
    kit: SimulatedAgentKit, agentkit: AsyncAgentKit, registration: Registration, receiver: Receiver
) -> None:
    receiver.status = 500
    agent_id = await agentkit.register(registration)
    await agentkit.run(agent_id, Message())
    await agentkit.run(agent_id, Message())
    sent = await kit.forwards_made(2)
    assert [forward.status for forward in sent] == [500, 500]


async def test_an_agent_that_cannot_be_reached_is_tried_once() -> None:
    tries: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        raise httpx.ConnectError("refused", request=request)

    async with SimulatedAgentKit(transport=httpx.MockTransport(refuse)) as kit:
        async with httpx.AsyncClient(transport=kit.transport(), base_url="http://a") as http:
            agent_id = await registered(http)
            body = Message().body()
            assert (await http.post(f"/v1/agents/{agent_id}/run", content=body)).is_success
        (sent,) = await kit.forwards_made()
    assert (sent.status, sent.error) == (None, "ConnectError: refused")
    assert tries[0].extensions["timeout"]["read"] == 15
    assert len(tries) == 1


async def test_webhooks_are_given_ten_seconds(http: httpx.AsyncClient) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200)

    async with SimulatedAgentKit(
        webhook_url="http://opscore", secret=SECRET, transport=httpx.MockTransport(answer)
    ) as kit:
        async with httpx.AsyncClient(transport=kit.transport(), base_url="http://a") as http:
            await registered(http)
        await kit.webhooks_sent()
    assert asked[0].extensions["timeout"]["read"] == 10


async def test_bad_messages_and_strangers_are_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/agents/nobody/run", content=Message().body())
    assert (answer.status_code, answer.json()) == (
        404,
        {"detail": "Agent with ID 'nobody' not found."},
    )
    agent_id = await registered(http)
    answer = await http.post(f"/v1/agents/{agent_id}/run", json={"messageType": "x"})
    assert answer.status_code == 422
    assert [fault["loc"] for fault in answer.json()["detail"]] == [
        ["body", "senderId"],
        ["body", "payload"],
    ]


async def test_tools_are_run_at_once_and_fail_inside_a_202(
    kit: SimulatedAgentKit, agentkit: AsyncAgentKit, registration: Registration
) -> None:
    agent_id = await agentkit.register(registration)

    def invoke(**payload: Any) -> Message:
        return Message(message_type="tool_invocation", payload=payload)

    assert (await agentkit.run(agent_id, invoke(tool_name="adds"))).data == {"sum": 3}
    with pytest.raises(MessageRefused, match="no numbers") as refused:
        await agentkit.run(agent_id, invoke(tool_name="breaks"))
    assert refused.value.remote_status == 202
    assert refused.value.remote_code == "LOCAL_TOOL_EXECUTION_FAILED"
    for payload, status in (({"tool_name": "unheard"}, 404), ({}, 400)):
        with pytest.raises(MessageRefused) as refused:
            await agentkit.run(agent_id, invoke(**payload))
        assert refused.value.remote_status == status
    assert kit.messages == []
