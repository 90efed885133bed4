"""Other middleware, around ours and inside it, does what it does without us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgi_correlation_id import CorrelationIdMiddleware, correlation_id
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.testclient import TestClient
from starlette_exporter import PrometheusMiddleware, handle_metrics

from opscore_middleware import OpsCoreMiddleware
from tests.agent.support import URL, ScriptedOpsCore

Adds = Callable[[FastAPI], None]


@pytest.fixture
def ops_core() -> ScriptedOpsCore:
    return ScriptedOpsCore()


def agent() -> FastAPI:
    app = FastAPI()

    @app.post("/job")
    async def work() -> str | None:
        return correlation_id.get()

    @app.post("/fail")
    async def fail() -> None:
        raise ValueError("no ink")

    return app


def ours(ops_core: ScriptedOpsCore) -> Adds:
    return lambda app: app.add_middleware(
        OpsCoreMiddleware, api_url=URL, agent_name="neighbour", transport=ops_core.transport
    )


def both(order: str, theirs: Adds, ops_core: ScriptedOpsCore) -> FastAPI:
    """Return an agent with their middleware and ours, which is around theirs or inside."""
    app = agent()
    steps = [theirs, ours(ops_core)]
    for add in steps if order == "around" else reversed(steps):
        add(app)
    return app


def use(app: FastAPI, **headers: str) -> Any:
    """Have a request served and one fail, and return the answer to the first."""
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.post("/job", headers=headers)
        assert answer.status_code == 200
        assert client.post("/fail").status_code == 500
    return answer


LIFE = ["initializing", "idle", "active", "idle", "active", "error", "draining", "finished"]
orders = pytest.mark.parametrize("order", ["around", "inside"])


@orders
def test_a_correlation_id_reaches_the_app_and_the_client(
    order: str, ops_core: ScriptedOpsCore
) -> None:
    app = both(order, lambda app: app.add_middleware(CorrelationIdMiddleware), ops_core)
    given = "1b4e28ba2fa111d28883b9a76100b5c4"
    answer = use(app, **{"X-Request-ID": given})
    assert answer.json() == given
    assert answer.headers["X-Request-ID"] == given
    ops_core.wait_for(*LIFE)


def counted(app: FastAPI, name: str) -> list[str]:
    """Return what starlette-exporter counts of an app's requests, without the app's name."""
    app.add_route("/metrics", handle_metrics)
    use(app)
    with TestClient(app) as client:
        lines = client.get("/metrics").text.replace(name, "").splitlines()
    return sorted(line for line in lines if line.startswith("_requests_total{"))


@orders
def test_starlette_exporter_counts_the_same(order: str, ops_core: ScriptedOpsCore) -> None:
    def theirs(name: str) -> Adds:
        # Its collectors are the process's; each app has counters under a name of its own.
        return lambda app: app.add_middleware(
            PrometheusMiddleware, app_name=name, prefix=name, skip_paths=["/metrics"]
        )

    alone, beside = f"alone_{order}", f"beside_{order}"
    bare = agent()
    theirs(alone)(bare)
    without = counted(bare, alone)
    assert len(without) == 2
    assert counted(both(order, theirs(beside), ops_core), beside) == without
    assert ops_core.states[:8] == LIFE


def instrumented(registry: CollectorRegistry) -> Adds:
    def add(app: FastAPI) -> None:
        Instrumentator(registry=registry).instrument(app)

    return add


def requests_total(registry: CollectorRegistry) -> list[str]:
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if line.startswith("http_requests_total{"))


@orders
def test_prometheus_instrumentator_counts_the_same(order: str, ops_core: ScriptedOpsCore) -> None:
    alone, beside = CollectorRegistry(), CollectorRegistry()
    bare = agent()
    instrumented(alone)(bare)
    use(bare)
    use(both(order, instrumented(beside), ops_core))
    assert len(requests_total(alone)) == 2
    assert requests_total(beside) == requests_total(alone)
    ops_core.wait_for(*LIFE)
