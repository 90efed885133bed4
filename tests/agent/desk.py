"""A courier at work, without a thread: the test is the reporter, and time is the test's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from opscore_middleware.agent.bell import Bell
from opscore_middleware.agent.courier import Courier
from opscore_middleware.agent.delivery import Budget
from opscore_middleware.agent.identity import Named
from opscore_middleware.agent.kit import Kit
from opscore_middleware.agent.link import Link
from opscore_middleware.agent.notices import Notices
from opscore_middleware.agent.outbox import Outbox
from opscore_middleware.agent.progress import ProgressBoard
from opscore_middleware.agent.registrar import Registrar
from opscore_middleware.agent.settings import Settings
from opscore_middleware.agent.tracker import Tracker
from tests.agent.support import KEY, URL, Clock, Received, ScriptedOpsCore

__all__ = ["AGENTKIT_URL", "UNKNOWN_AGENT", "Desk", "Open", "ours", "refusing"]

AGENTKIT_URL = "http://agentkit.test"
UNKNOWN_AGENT = {"detail": "nobody by that id", "code": "agent_not_found"}


class Desk:
    """A courier and all that it works with; the test's thread is the reporter's.

    `agentkit` carries what goes to an AgentKit; None where none is configured.
    """

    def __init__(
        self,
        ops_core: ScriptedOpsCore,
        *,
        agentkit: Callable[[], httpx.BaseTransport] | None = None,
        **settings: Any,
    ) -> None:
        self.ops_core = ops_core
        self.clock = Clock()
        self.outbox = Outbox()
        self.progress = ProgressBoard(lambda: None)
        self.tracker = Tracker(self.outbox, Bell(lambda: None))
        given = Settings.resolve(api_url=URL, api_key=KEY, agent_name="tested", **settings)
        link, notices = Link(URL, KEY, ops_core.transport), Notices()
        kit = None if agentkit is None else Kit(given, Link(AGENTKIT_URL, None, agentkit), link)
        registrar = Registrar(
            given, link, kit, lambda: Named("tested", "set"), notices, monotonic=self.clock
        )
        self.courier = Courier(
            self.outbox,
            lambda: self.tracker,
            link,
            registrar,
            notices,
            progress=self.progress,
            monotonic=self.clock,
            budget=Budget(share=1e6),
        )
        self.tracker.lifespan_begins()
        self.tracker.ready()

    def work(self, units: int = 1) -> None:
        for _ in range(units):
            self.tracker.end(self.tracker.begin())

    def deliver(self, *, steps: int = 50) -> float | None:
        """Deliver until there is nothing left or something to wait for."""
        wait: float | None = 0.0
        while wait == 0.0 and steps:
            steps -= 1
            wait = self.courier.deliver(urgent=False)
        assert wait != 0.0, f"hammering Ops-Core: {self.ops_core.paths}"
        return wait

    def pass_time(self, seconds: float) -> None:
        """Let time go by, trying whenever a try is due."""
        until = self.clock.now + seconds
        while (wait := self.deliver()) is not None and self.clock.now + wait <= until:
            self.clock.advance(wait)
        self.clock.now = until
        self.deliver()


def ours(log: pytest.LogCaptureFixture, least: int = logging.WARNING) -> list[str]:
    """Return what we have logged at `least` that level."""
    return [
        record.getMessage()
        for record in log.records
        if record.name == "opscore_middleware" and record.levelno >= least
    ]


def refusing(status: int, body: Any = None, **headers: str) -> Callable[[Received], httpx.Response]:
    return lambda _call: httpx.Response(status, json=body, headers=headers)


Open = Callable[..., Desk]
