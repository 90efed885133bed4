"""Both clients against a real Ops-Core."""

from __future__ import annotations

import inspect
import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from opscore_middleware.client import AsyncOpsCoreClient, OpsCoreClient
from opscore_middleware.core.models import (
    AgentQuery,
    HistoryQuery,
    Order,
    Registration,
    StateReport,
)
from opscore_middleware.core.runs.views import WorkflowStart
from opscore_middleware.errors import (
    ConfigurationError,
    InvalidInput,
    RemoteError,
    RemoteUnavailable,
)
from tests.support.processes import OpsCoreProcess

NOBODY = "http://127.0.0.1:1"  # a port that nothing listens on


def report(agent_id: str, state: str, sequence: int) -> StateReport:
    """Return one report of an agent's only instance."""
    return StateReport(
        agent_id=agent_id,
        timestamp=datetime.now(UTC),
        state=state,
        instance_id="i-1",
        sequence=sequence,
    )


def registration(capability: str) -> Registration:
    """Return an agent with a name of its own."""
    return Registration(agent_name=f"agent-{uuid4()}", capabilities=[capability])


def test_an_agents_life_through_the_client(opscore: OpsCoreProcess) -> None:
    with OpsCoreClient(opscore.url, opscore.api_key) as client:
        assert client.health()["status"] == "ok"
        agent = client.register_agent(registration("write"))
        assert client.get_agent_state(agent.agent_id).state == "UNKNOWN"
        assert client.report_state(report(agent.agent_id, "active", 1)).status == "success"
        both = [report(agent.agent_id, "active", 1), report(agent.agent_id, "idle", 2)]
        answer = client.report_states(agent.agent_id, both)
        assert (answer.accepted, answer.duplicates) == (1, 1)
        assert client.get_agent(agent.agent_id).state == "idle"
        page = client.history(agent.agent_id, HistoryQuery(order=Order.ASC))
        assert [t.state for t in page.items] == ["active", "idle"]
        assert client.list_agents(AgentQuery(name=agent.agent_name)).items[0].state == "idle"


@pytest.mark.anyio
async def test_an_agents_life_through_the_async_client(opscore: OpsCoreProcess) -> None:
    async with AsyncOpsCoreClient(opscore.url, opscore.api_key) as client:
        assert (await client.health())["status"] == "ok"
        agent = await client.register_agent(registration("write"))
        assert (await client.get_agent_state(agent.agent_id)).state == "UNKNOWN"
        assert (await client.report_state(report(agent.agent_id, "active", 1))).status == "success"
        both = [report(agent.agent_id, "active", 1), report(agent.agent_id, "idle", 2)]
        answer = await client.report_states(agent.agent_id, both)
        assert (answer.accepted, answer.duplicates) == (1, 1)
        assert (await client.get_agent(agent.agent_id)).state == "idle"
        page = await client.history(agent.agent_id, HistoryQuery(order=Order.ASC))
        assert [t.state for t in page.items] == ["active", "idle"]
        named = await client.list_agents(AgentQuery(name=agent.agent_name))
        assert named.items[0].state == "idle"


def test_iterators_go_through_all_pages(opscore: OpsCoreProcess) -> None:
    capability = f"paging-{uuid4()}"
    with OpsCoreClient(opscore.url, opscore.api_key) as client:
        ids = {client.register_agent(registration(capability)).agent_id for _ in range(5)}
        query = AgentQuery(capability=capability, limit=2)
        found = [agent.agent_id for agent in client.iter_agents(query)]
        assert (len(found), set(found)) == (5, ids)
        for sequence in range(1, 6):
            client.report_state(report(found[0], "idle", sequence))
        seen = client.iter_history(found[0], HistoryQuery(limit=2))
        assert [t.sequence for t in seen] == [5, 4, 3, 2, 1]


@pytest.mark.anyio
async def test_async_iterators_go_through_all_pages(opscore: OpsCoreProcess) -> None:
    capability = f"paging-{uuid4()}"
    async with AsyncOpsCoreClient(opscore.url, opscore.api_key) as client:
        ids = {(await client.register_agent(registration(capability))).agent_id for _ in range(5)}
        query = AgentQuery(capability=capability, limit=2)
        found = [agent.agent_id async for agent in client.iter_agents(query)]
        assert (len(found), set(found)) == (5, ids)
        for sequence in range(1, 6):
            await client.report_state(report(found[0], "idle", sequence))
        seen = client.iter_history(found[0], HistoryQuery(limit=2))
        assert [t.sequence async for t in seen] == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_either_spelling_of_the_address_works(
    opscore: OpsCoreProcess, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv("OPSCORE_API_URL", opscore.url + suffix)
    monkeypatch.setenv("OPSCORE_API_KEY", str(opscore.api_key))
    with OpsCoreClient() as client:
        client.list_agents()


def test_an_id_with_characters_that_mean_something_in_an_address_arrives_whole(
    opscore: OpsCoreProcess,
) -> None:
    odd = f"a b?c#d%e:{uuid4()}ü"
    with OpsCoreClient(opscore.url, opscore.api_key) as client:
        client.register_agent(Registration(agent_id=odd, agent_name=odd))
        assert client.get_agent(odd).agent_id == odd
        client.report_state(report(odd, "idle", 1))
        assert client.get_agent_state(odd).state == "idle"


def test_a_refusal_carries_the_servers_status_code_and_words(opscore: OpsCoreProcess) -> None:
    with (
        OpsCoreClient(opscore.url, opscore.api_key) as client,
        pytest.raises(RemoteError) as caught,
    ):
        client.get_agent("nobody")
    assert (caught.value.remote_status, caught.value.remote_code) == (404, "agent_not_found")
    assert "'nobody'" in caught.value.message


def test_a_wrong_key_is_refused_and_shown_nowhere(
    opscore: OpsCoreProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    with OpsCoreClient(opscore.url, "not-the-key") as client:
        assert "not-the-key" not in repr(client)
        with pytest.raises(RemoteError) as caught:
            client.list_agents()
    assert caught.value.remote_status == 401
    assert "not-the-key" not in repr(caught.value)
    assert "not-the-key" not in caplog.text


def test_nobody_there_is_said_with_the_address_and_the_remedy() -> None:
    with OpsCoreClient(NOBODY, "secret-key") as client, pytest.raises(RemoteUnavailable) as caught:
        client.health()
    assert NOBODY in caught.value.message
    assert "opscore serve" in caught.value.message
    assert "secret-key" not in repr(caught.value)


@pytest.mark.anyio
async def test_nobody_there_is_said_to_async_callers_too() -> None:
    async with AsyncOpsCoreClient(NOBODY) as client:
        with pytest.raises(RemoteUnavailable, match=re.escape(NOBODY)):
            await client.health()


def test_a_server_that_is_too_slow_is_unavailable() -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    with (
        OpsCoreClient(NOBODY, transport=httpx.MockTransport(never)) as client,
        pytest.raises(RemoteUnavailable, match="ReadTimeout"),
    ):
        client.health()


def test_a_page_of_somebody_elses_is_not_taken_for_an_answer() -> None:
    page = httpx.MockTransport(lambda request: httpx.Response(200, text="<html>"))
    with OpsCoreClient(NOBODY, transport=page) as client, pytest.raises(RemoteError) as caught:
        client.list_agents()
    assert "check the address" in caught.value.message


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "nul\0"])
def test_a_key_that_cannot_travel_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OpsCoreClient(NOBODY, key)
    assert "api_key" in caught.value.message
    assert key not in repr(caught.value)


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(ConfigurationError, match="api_url='nowhere'"):
        AsyncOpsCoreClient("nowhere")


def surface(cls: type) -> dict[str, Any]:
    """Return the parameters of everything public of a client."""
    renamed = {"aclose": "close", "__aenter__": "__enter__", "__aexit__": "__exit__"}
    return {
        renamed.get(name, name): [
            (p.name, p.kind, p.default, str(p.annotation).replace("AsyncBase", "Base"))
            for p in inspect.signature(method).parameters.values()
        ]
        for name, method in vars(cls).items()
        if callable(method)
    }


def results(cls: type) -> dict[str, str]:
    """Return what everything public of a client results in."""
    return {
        name: str(inspect.signature(method).return_annotation).replace("AsyncIter", "Iter")
        for name, method in vars(cls).items()
        if callable(method) and not name.startswith("_")
    }


def test_the_two_clients_have_the_same_surface() -> None:
    assert surface(AsyncOpsCoreClient) == surface(OpsCoreClient)
    expected = results(OpsCoreClient)
    expected["aclose"] = expected.pop("close")
    assert results(AsyncOpsCoreClient) == expected


@pytest.mark.parametrize("bad", [None, 7, b"a", "", "x" * 70_000], ids=lambda bad: str(bad)[:9])
def test_an_id_that_is_none_is_named_with_the_rule_before_anything_is_sent(bad: Any) -> None:
    with OpsCoreClient(NOBODY) as client, pytest.raises(InvalidInput) as caught:
        client.get_agent(bad)
    assert caught.value.message.startswith("agent_id=")
    assert "1 to 200 characters" in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("bad", ["ä", "", "two words", "two\nlines", "x" * 256, 7])
def test_a_key_that_cannot_be_sent_is_named_with_the_rule(bad: Any) -> None:
    start = WorkflowStart(workflow_definition_id="digest")
    with OpsCoreClient(NOBODY) as client, pytest.raises(InvalidInput) as caught:
        client.start_workflow("a", start, idempotency_key=bad)
    assert caught.value.message.startswith("idempotency_key=")
    assert "printable ASCII" in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.anyio
async def test_a_bad_argument_is_told_to_async_callers_too() -> None:
    async with AsyncOpsCoreClient(NOBODY) as client:
        with pytest.raises(InvalidInput, match="task_id="):
            await client.get_task("x" * 70_000)
        with pytest.raises(InvalidInput, match="name='xxx"):
            await client.list_agents(AgentQuery(name="x" * 70_000))


@pytest.mark.parametrize("bad", [0, "1&limit=2", 1.5])
def test_a_version_that_is_none_is_named(bad: Any) -> None:
    with OpsCoreClient(NOBODY) as client, pytest.raises(InvalidInput, match="version="):
        client.get_workflow("digest", version=bad)


@pytest.mark.parametrize("bad", [object(), "\ud800"])
def test_what_is_not_json_is_told(bad: Any) -> None:
    start = WorkflowStart(workflow_definition_id="digest", initial_payload={"a": bad})
    with OpsCoreClient(NOBODY) as client:
        with pytest.raises(InvalidInput, match="WorkflowStart cannot be written as JSON"):
            client.start_workflow("a", start)
        with pytest.raises(InvalidInput, match="definition cannot be written as JSON"):
            client.put_workflow({"a": b"bytes"})


def test_faults_of_what_was_sent_are_told_with_their_places(opscore: OpsCoreProcess) -> None:
    with (
        OpsCoreClient(opscore.url, opscore.api_key) as client,
        pytest.raises(RemoteError) as caught,
    ):
        client.list_agents(AgentQuery.model_construct(limit=0))
    assert caught.value.message.endswith(
        "answered 422: query.limit: Input should be greater than or equal to 1"
    )


@pytest.mark.parametrize("bad", [None, 0, -1, float("nan"), float("inf"), "10"])
@pytest.mark.parametrize("client", [OpsCoreClient, AsyncOpsCoreClient])
def test_a_timeout_that_cannot_be_is_named(client: Any, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout="):
        client(NOBODY, timeout=bad)
