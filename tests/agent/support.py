"""A clock that stands still, and an Ops-Core that answers as the test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx

from opscore_middleware import OpsCoreMiddleware
from tests.support.waiting import wait_until

__all__ = ["KEY", "URL", "Clock", "Received", "ScriptedOpsCore", "watched"]

URL = "http://ops-core.test"
_ENDS = "opscore_task_state"
KEY = "k3y-that-nobody-may-see"


class Clock:
    """Time that passes only when told to."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Received(NamedTuple):
    """One call that reached Ops-Core."""

    method: str
    path: str
    headers: httpx.Headers
    body: Any

    @property
    def reports(self) -> list[dict[str, Any]]:
        """The reports that it carries, if any."""
        if self.path.endswith("/states"):
            return list(self.body["reports"])
        return [self.body] if self.path.endswith("/state") else []


Script = Callable[[Received], httpx.Response | None]


class ScriptedOpsCore:
    """Answers like Ops-Core, or as `script` says where it returns something else than None.

    `calls` holds everything that came, `reports` what was accepted, in order. `transport` goes
    into the middleware's argument of that name.
    """

    def __init__(self, script: Script = lambda call: None) -> None:
        self.script = script
        self.calls: list[Received] = []
        self.reports: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def transport(self) -> httpx.BaseTransport:
        return httpx.MockTransport(self._handle)

    @property
    def states(self) -> list[str]:
        """The states that were accepted, in order."""
        return [report["state"] for report in list(self.reports)]

    @property
    def paths(self) -> list[str]:
        """The paths that were called, in order."""
        return [call.path for call in list(self.calls)]

    def wait_for(self, *states: str) -> list[dict[str, Any]]:
        """Wait until exactly these states were accepted; return their reports."""
        wait_until(
            lambda: self.states == list(states) or len(self.states) > len(states),
            message=f"{list(states)}",
        )
        assert self.states == list(states)
        return list(self.reports)

    def wait_for_end(self, task_id: str) -> dict[str, Any]:
        """Wait until the end of a task was accepted; return what was said with it, once."""

        def ends() -> list[dict[str, Any]]:
            told = [report["details"] for report in list(self.reports)]
            return [d for d in told if d.get("opscore_task_id") == task_id and _ENDS in d]

        wait_until(ends, message=f"the end of {task_id}")
        (end,) = ends()
        return end

    def _handle(self, request: httpx.Request) -> httpx.Response:
        call = Received(
            request.method,
            request.url.path,
            request.headers,
            json.loads(request.content) if request.content else None,
        )
        with self._lock:
            self.calls.append(call)
            answer = self.script(call)
            if answer is None:
                answer = self._answer(call)
            if answer.is_success:
                self.reports.extend(call.reports)
        return answer

    def _answer(self, call: Received) -> httpx.Response:
        if call.path == "/v1/opscore/agents":
            return httpx.Response(201, json=registered(call.body))
        if call.path.endswith("/states"):
            return httpx.Response(202, json={"accepted": len(call.reports), "duplicates": 0})
        return httpx.Response(202, json={"status": "success", "message": "State update accepted"})


def registered(body: dict[str, Any]) -> dict[str, Any]:
    """Return what Ops-Core answers to a registration."""
    return {
        "agentId": body.get("agentId") or f"id-of-{body['agentName']}",
        "agentName": body["agentName"],
        "version": body.get("version", ""),
        "capabilities": body.get("capabilities", []),
        "contactEndpoint": body.get("contactEndpoint"),
        "metadata": None,
        "registeredAt": "2026-11-22T14:00:00Z",
        "state": "UNKNOWN",
        "details": None,
        "timestamp": "2026-11-22T14:00:00Z",
        "lost": False,
        "instances": [],
    }


def watched(app: Any, ops_core: ScriptedOpsCore, **settings: Any) -> OpsCoreMiddleware:
    """Wrap an app so that it reports to the scripted Ops-Core."""
    settings = {"api_url": URL, "agent_name": "tested", **settings}
    return OpsCoreMiddleware(app, transport=ops_core.transport, **settings)
