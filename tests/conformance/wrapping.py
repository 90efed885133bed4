"""A pytest plugin for somebody else's suite: wraps each app that it makes, notes each outcome.

`CONFORMANCE_WRAP` says where our middleware goes: `around` what the test client is given, `inside`
Starlette's own stack, as `add_middleware` puts it, or `nowhere`. The outcomes go into the JSON file
that `CONFORMANCE_OUTCOMES` names, with the number of apps that were wrapped.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from opscore_middleware import OpsCoreMiddleware

_outcomes: dict[str, str] = {}
_apps = itertools.count()


def _settings() -> dict[str, Any]:
    next(_apps)
    return {
        "api_url": "http://ops-core.test",
        "agent_id": "conformance",
        "agent_name": "conformance",
        "transport": lambda: httpx.MockTransport(_accept),
    }


def _accept(request: httpx.Request) -> httpx.Response:
    return httpx.Response(202, json={"accepted": request.content.count(b"sequence")})


def _wrap_around(patch: pytest.MonkeyPatch) -> None:
    make = TestClient.__init__

    def wrapped(self: TestClient, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        transport: Any = self._transport
        self.app = transport.app = OpsCoreMiddleware(self.app, **_settings())

    patch.setattr(TestClient, "__init__", wrapped)


def _wrap_inside(patch: pytest.MonkeyPatch) -> None:
    build = Starlette.build_middleware_stack

    def wrapped(self: Starlette) -> Any:
        theirs = self.user_middleware
        self.user_middleware = [Middleware(OpsCoreMiddleware, **_settings()), *theirs]
        try:
            return build(self)
        finally:
            self.user_middleware = theirs

    patch.setattr(Starlette, "build_middleware_stack", wrapped)


_WRAPS = {"nowhere": lambda _patch: None, "around": _wrap_around, "inside": _wrap_inside}


def pytest_configure(config: pytest.Config) -> None:
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    _WRAPS[os.environ["CONFORMANCE_WRAP"]](patch)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # A test's last word: a teardown that fails takes back what its call said.
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish() -> None:
    Path(os.environ["CONFORMANCE_OUTCOMES"]).write_text(
        json.dumps({"apps": next(_apps), "outcomes": _outcomes})
    )
