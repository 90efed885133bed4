"""The fixture `opscore`: a real Ops-Core that an unchanged agent reports to."""

from __future__ import annotations

import threading

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from opscore_middleware import OpsCoreMiddleware
from opscore_middleware.errors import RemoteError
from opscore_middleware.testing import RunningOpsCore, run_opscore


def make_agent() -> FastAPI:
    app = FastAPI(title="Echo")
    app.add_middleware(OpsCoreMiddleware)

    @app.post("/echo")
    def echo(text: str) -> str:
        if text == "boom":
            raise ValueError(text)
        return text

    return app


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_agent_with_one_line_reports_its_whole_life(opscore: RunningOpsCore, backend: str) -> None:
    with TestClient(make_agent(), backend=backend, raise_server_exceptions=False) as client:
        opscore.wait_for("Echo", "idle")
        client.post("/echo?text=hi")
        client.post("/echo?text=boom")
        failed = opscore.wait_for("Echo", "error")
    assert failed.details is not None
    error = failed.details["error"]
    assert (error["type"], error["message"], error["where"]) == ("ValueError", "boom", "POST /echo")
    opscore.wait_for_states(
        "Echo", "initializing", "idle", "active", "idle", "active", "error", "draining", "finished"
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_agent_without_a_lifespan_reports_its_work(opscore: RunningOpsCore, backend: str) -> None:
    client = TestClient(make_agent(), backend=backend)
    client.post("/echo?text=hi")
    opscore.wait_for_states("Echo", "active", "idle")


def test_waiting_for_what_does_not_happen_says_what_did(opscore: RunningOpsCore) -> None:
    with TestClient(make_agent()):
        opscore.wait_for("Echo", "idle")
        with pytest.raises(TimeoutError, match=r"'Echo' did not be 'active'.*'initializing'"):
            opscore.wait_for("Echo", "active", timeout=0)


def test_asking_for_an_agent_that_nobody_knows_is_an_error(opscore: RunningOpsCore) -> None:
    with pytest.raises(RemoteError, match="nobody"):
        opscore.transitions("nobody")


def test_each_ops_core_is_fresh_and_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    with run_opscore() as first, run_opscore() as second:
        assert first.url != second.url
        assert first.client.list_agents().items == second.client.list_agents().items == []
    assert set(threading.enumerate()) - before == set()


def test_the_environment_of_others_does_not_reach_into_a_test(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    nobody = "http://127.0.0.1:1"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "AGENTKIT_API_URL"):
        monkeypatch.setenv(name, nobody)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPSCORE_API_KEYS_FILE", "/nowhere/keys.toml")
    opscore: RunningOpsCore = request.getfixturevalue("opscore")
    with TestClient(make_agent()):
        opscore.wait_for("Echo", "idle")
