"""The example agent, driven through HTTP in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from examples.fastapi_agent.sample import SAMPLE
from examples.fastapi_agent.summarise import split
from opscore_middleware.testing import RunningOpsCore


@pytest.fixture
def agent(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def test_the_card_tells_who_the_agent_is(agent: TestClient) -> None:
    card = agent.get("/").json()
    assert card["name"] == "summariser"
    assert card["capabilities"] == ["summarise"]


def test_a_summary_holds_sentences_of_the_text_in_its_order(agent: TestClient) -> None:
    summary = agent.post("/summarise", json={"text": SAMPLE, "sentences": 4}).json()
    positions = [sentence["position"] for sentence in summary["sentences"]]
    assert positions == sorted(positions)
    assert (summary["kept"], summary["of"]) == (4, 18)
    in_text = {sentence.text for sentence in split(SAMPLE)}
    assert {sentence["text"] for sentence in summary["sentences"]} <= in_text


def test_without_a_text_the_sample_is_summarised(agent: TestClient) -> None:
    assert agent.post("/summarise", json={}).json()["of"] == 18


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/summarise", {"text": " \n 1859. "}, "text"),
        ("/summarise", {"text": ""}, "text"),
        ("/summarise", {"sentences": 0}, "sentences"),
        ("/summarise/slow", {"seconds": -1}, "seconds"),
        ("/summarise/slow", {"seconds": 301}, "seconds"),
        ("/summarise/stream", {"sentences": 51}, "sentences"),
        ("/fail", {"message": ""}, "message"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    agent: TestClient, path: str, body: dict[str, object], named: str
) -> None:
    answer = agent.post(path, json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", named]


def test_a_digest_reports_progress_and_ends_with_the_summary(agent: TestClient) -> None:
    answer = agent.post("/summarise/slow", json={"seconds": 0, "sentences": 2})
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    *progress, summary = [json.loads(line) for line in answer.text.splitlines()]
    assert progress == [{"paragraphs": n, "of": 4} for n in (1, 2, 3, 4)]
    assert summary["kept"] == 2


def test_a_stream_sends_the_sentences_as_they_are_chosen(agent: TestClient) -> None:
    answer = agent.post("/summarise/stream", json={"sentences": 3})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *sentences, done = answer.text.strip().split("\n\n")
    assert done == "event: done\ndata: {}"
    streamed = [json.loads(event.removeprefix("event: sentence\ndata: ")) for event in sentences]
    at_once = agent.post("/summarise", json={"sentences": 3}).json()["sentences"]
    assert sorted(streamed, key=lambda sentence: sentence["position"]) == at_once


def test_it_fails_on_demand(agent: TestClient) -> None:
    assert agent.post("/fail", json={"message": "no ink"}).status_code == 500


def test_the_api_describes_what_each_route_answers(agent: TestClient) -> None:
    paths = agent.get("/openapi.json").json()["paths"]

    def answers(path: str, status: str) -> set[str]:
        return set(paths[path]["post"]["responses"][status].get("content", {}))

    assert answers("/summarise", "200") == {"application/json"}
    assert answers("/summarise/slow", "200") == {"application/x-ndjson"}
    assert answers("/summarise/stream", "200") == {"text/event-stream"}
    assert set(paths["/fail"]["post"]["responses"]) == {"500", "422"}


def test_ops_core_learns_what_the_agent_does(opscore: RunningOpsCore, app: FastAPI) -> None:
    with TestClient(app, raise_server_exceptions=False) as agent:
        agent.get("/")
        agent.post("/summarise/slow", json={"seconds": 0})
        agent.post("/fail", json={"message": "no ink"})
        agent.post("/summarise/stream", json={})
    transitions = opscore.wait_for_states(
        "summariser",
        *("initializing", "idle"),
        *("active", "idle"),
        *("active", "error"),
        *("active", "idle"),
        *("draining", "finished"),
    )
    assert transitions[5].details == {
        "error": {"type": "RuntimeError", "message": "no ink", "where": "POST /fail"}
    }


def test_without_ops_core_the_agent_says_so_in_one_line(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    with TestClient(app) as agent:
        assert agent.post("/summarise", json={}).status_code == 200
    (said,) = [r for r in caplog.records if r.name.startswith("opscore_middleware")]
    assert "OPSCORE_API_URL is not set" in said.getMessage()
    assert "summariser" in said.getMessage()
