"""What Starlette's own order of things means for whoever adds the middleware."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from opscore_middleware import OpsCoreMiddleware
from tests.agent.support import URL, ScriptedOpsCore
from tests.docs.pages import ROOT


async def work(_request: Request) -> Response:
    raise ValueError("no ink")


async def smooth(_request: Request, exception: Exception) -> Response:
    return JSONResponse({"sorry": str(exception)})


def handled(ops_core: ScriptedOpsCore, kind: Any) -> Starlette:
    settings: dict[str, Any] = {
        "api_url": URL,
        "agent_name": "handled",
        "transport": ops_core.transport,
    }
    return Starlette(
        routes=[Route("/", work, methods=["POST"])],
        middleware=[Middleware(OpsCoreMiddleware, **settings)],
        exception_handlers={kind: smooth},
    )


def page() -> str:
    return " ".join((ROOT / "docs" / "middleware.md").read_text().split())


@pytest.mark.trap("20")
@pytest.mark.parametrize(
    ("kind", "states"), [(Exception, ["active", "error"]), (ValueError, ["active", "idle"])]
)
def test_the_app_chooses_by_its_handlers_class_whether_a_handled_exception_is_a_failure(
    kind: Any, states: list[str]
) -> None:
    ops_core = ScriptedOpsCore()
    client = TestClient(handled(ops_core, kind), raise_server_exceptions=False)
    answer = client.post("/")
    assert (answer.status_code, answer.json()) == (200, {"sorry": "no ink"})
    ops_core.wait_for(*states)
    assert "@app.exception_handler(Exception)" in page()
    assert "Where it is not, handle a narrower class" in page()


@pytest.mark.trap("17")
def test_adding_it_after_the_start_fails_with_what_the_page_says() -> None:
    app = Starlette()
    with TestClient(app) as client:
        client.get("/")
        with pytest.raises(RuntimeError) as refused:
            app.add_middleware(OpsCoreMiddleware)
    assert f"`RuntimeError: {refused.value}`" in page()
    assert "Add it before the app starts" in page()
