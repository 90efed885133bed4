"""Apps within apps: counted once, and Ops-Core itself never as the agent's work."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from opscore_middleware import OpsCoreMiddleware
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.models import Registration
from opscore_middleware.server import Settings, create_app
from tests.agent.support import URL, ScriptedOpsCore
from tests.support.waiting import wait_until

KEY = "m0unted-k3y"


def sub_agent(ops_core: ScriptedOpsCore) -> FastAPI:
    app = FastAPI()

    @app.post("/job")
    async def work() -> str:
        return "done"

    app.add_middleware(
        OpsCoreMiddleware, api_url=URL, agent_name="nested", transport=ops_core.transport
    )
    return app


@pytest.mark.trap("9")
def test_a_sub_app_with_the_middleware_is_counted_once_with_its_root_and_works_alone() -> None:
    inner, outer = ScriptedOpsCore(), ScriptedOpsCore()
    root = sub_agent(outer)
    root.mount("/sub", sub_agent(inner))
    with TestClient(root) as client:
        assert client.post("/sub/job").status_code == 200
        outer.wait_for("initializing", "idle", "active", "idle")
    assert inner.calls == []

    plain = FastAPI()
    plain.mount("/sub", sub_agent(inner))
    with TestClient(plain) as client:  # whose lifespan the sub-app never sees
        assert client.post("/sub/job").status_code == 200
        inner.wait_for("active", "idle")


@pytest.mark.trap("10")
def test_the_middleware_added_twice_reports_once() -> None:
    first, second = ScriptedOpsCore(), ScriptedOpsCore()
    app = sub_agent(first)
    app.add_middleware(
        OpsCoreMiddleware, api_url=URL, agent_name="nested", transport=second.transport
    )
    with TestClient(app) as client:
        assert client.post("/job").status_code == 200
    assert first.calls == []
    second.wait_for("initializing", "idle", "active", "idle", "draining", "finished")


def both_in_one(url: str, prefix: str, states: list[str]) -> FastAPI:
    """Return an agent whose process serves Ops-Core as well, and reports there."""
    opscore = create_app(Settings.resolve(database_url="sqlite:///:memory:", api_key=KEY))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with opscore.router.lifespan_context(opscore):
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/job")
    async def work() -> str:
        return "done"

    app.mount(prefix, opscore)
    app.add_middleware(
        OpsCoreMiddleware,
        api_url=url + prefix,
        api_key=KEY,
        agent_name="its own",
        on_transition=lambda change: states.append(change.state.value),
    )
    return app


@contextmanager
def serving(make: Callable[[str], FastAPI]) -> Iterator[str]:
    """Serve an app that knows its own address, which is yielded."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(make(url), log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],))
        started = time.monotonic()
        thread.start()
        wait_until(lambda: server.started, message="the server to start")
        assert time.monotonic() - started < 1
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.trap("11")
@pytest.mark.parametrize("prefix", ["", "/ops-core"])
def test_ops_core_in_the_agents_process_boots_within_a_second_and_is_never_its_work(
    prefix: str,
) -> None:
    states: list[str] = []
    with serving(lambda url: both_in_one(url, prefix, states)) as url:
        with closing(OpsCoreClient(url + prefix, KEY)) as client:
            # The reports themselves, and all this asking, are requests to the agent's own process.
            wait_until(lambda: [a.state for a in client.list_agents().items] == ["idle"])
            client.register_agent(Registration(agent_name="another"))
        assert httpx.post(f"{url}/job").status_code == 200
        wait_until(lambda: len(states) == 4)
    assert states == ["initializing", "idle", "active", "idle", "draining", "finished"]
