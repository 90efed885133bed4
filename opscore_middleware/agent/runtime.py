"""One agent in this process: tracker, outbox and reporter, wired together."""

from __future__ import annotations

import atexit
import logging
import os
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

import httpx

from opscore_middleware.agent.courier import Courier
from opscore_middleware.agent.identity import Named, find_name
from opscore_middleware.agent.link import Link
from opscore_middleware.agent.notices import Notices
from opscore_middleware.agent.outbox import Outbox
from opscore_middleware.agent.registrar import Registrar
from opscore_middleware.agent.reporter import Reporter
from opscore_middleware.agent.settings import Settings
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.core.states import AgentState

__all__ = ["AgentRuntime"]

logger = logging.getLogger("opscore_middleware")

EXIT_PATIENCE: Final = 0.5
"""Seconds that the end of the process may take longer because of us, all together."""

_running: weakref.WeakSet[AgentRuntime] = weakref.WeakSet()


class AgentRuntime:
    """Everything of one agent that outlives a request.

    Args:
        settings: what the agent is configured with.
        transport: makes the HTTP transport to Ops-Core; httpx's own unless given.
    """

    def __init__(
        self, settings: Settings, transport: Callable[[], httpx.BaseTransport] | None = None
    ) -> None:
        self.settings = settings
        self._named: Named | None = None
        self._outbox = outbox = Outbox()
        self._registrar: Registrar | None = None
        self._courier: Courier | None = None
        if settings.api_url is not None:
            notices = Notices()
            link = Link(settings.api_url, settings.api_key, transport)
            # AgentKit takes no key of Ops-Core's.
            kit = Link(settings.agentkit_url, None, transport) if settings.agentkit_url else None
            self._registrar = Registrar(settings, link, kit, lambda: self.name, notices)
            self._courier = Courier(
                outbox,
                lambda: self.tracker,
                link,
                self._registrar,
                notices,
                interval=settings.heartbeat_interval,
            )
        self.reporter = Reporter(self._courier or _Local(outbox), self._tick, lambda: self.over)
        self.tracker = Tracker(
            outbox,
            self.reporter.bell,
            error_hold=settings.error_hold,
            read_grace=settings.read_grace,
        )
        _running.add(self)

    @property
    def name(self) -> Named:
        """The agent's name and where it comes from."""
        return self._named or find_name(self.settings, None)

    @property
    def agent_id(self) -> str | None:
        """The id that Ops-Core knows this agent by; None until that is known."""
        return None if self._registrar is None else self._registrar.agent_id

    @property
    def over(self) -> bool:
        """Whether nothing can follow any more."""
        return self.tracker.state is AgentState.FINISHED

    def introduce(self, app: Any) -> None:
        """See the outermost app once, for the name; the app itself is not kept."""
        self._named = find_name(self.settings, app)
        if self.settings.api_url is None:
            logger.warning(
                "OPSCORE_API_URL is not set: agent %r is tracked in this process only. Set it to "
                "Ops-Core's address, such as http://127.0.0.1:8000, to report.",
                self._named.name,
            )

    def flush(self, timeout: float) -> None:
        """Tell everything now, waiting for it `timeout` seconds at most."""
        self.reporter.flush(timeout)

    def after_fork(self) -> None:
        """Start over in a forked child, as an instance of its own."""
        self.reporter.after_fork()
        if self._courier is not None:
            self._courier.after_fork()
        self._outbox.clear()
        self.tracker.reset()

    def _tick(self) -> float | None:
        return self.tracker.tick()


class _Local:
    """Brings transitions nowhere: an agent without an Ops-Core is tracked all the same."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def deliver(self, *, urgent: bool) -> float | None:
        self._outbox.clear()
        return None

    def beat(self) -> float | None:
        return None

    def close(self) -> None:
        pass


def _after_fork() -> None:
    for runtime in list(_running):
        runtime.after_fork()


def _at_exit() -> None:
    """Say the last word where no lifespan has said it; all agents share one patience."""
    until = time.monotonic() + EXIT_PATIENCE
    # Who has said its last word has had its patience at the end of its lifespan.
    speaking = [runtime for runtime in _running if runtime.reporter.alive and not runtime.over]
    for runtime in speaking:
        runtime.tracker.process_ends()
    for runtime in speaking:
        runtime.flush(max(0.0, until - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
