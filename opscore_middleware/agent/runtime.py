"""One agent in this process: tracker, outbox and reporter, wired together."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import httpx

from opscore_middleware.agent.cancellation import Cancellations
from opscore_middleware.agent.courier import Courier
from opscore_middleware.agent.ended import EndedTasks
from opscore_middleware.agent.hooks import Hooks
from opscore_middleware.agent.identity import Named, find_name
from opscore_middleware.agent.lag import LoopLag
from opscore_middleware.agent.link import Link
from opscore_middleware.agent.notices import Notices
from opscore_middleware.agent.outbox import Entry, Outbox
from opscore_middleware.agent.progress import ProgressBoard
from opscore_middleware.agent.registrar import AgentKit, Registrar
from opscore_middleware.agent.reporter import GLANCE, Reporter
from opscore_middleware.agent.results import Results
from opscore_middleware.agent.settings import Settings
from opscore_middleware.agent.signals import SignalWatch
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.core.states import AgentState

__all__ = ["EXIT_PATIENCE", "AgentRuntime", "only_runtime"]

logger = logging.getLogger("opscore_middleware")

EXIT_PATIENCE: Final = 0.4
"""Seconds that the end of the process waits for Ops-Core, all together.

With what the interpreter needs to go, its end comes half a second later at most.
"""

HEARD: Final = 4096
"""Transitions that may wait for `on_transition`; beyond it the earliest go."""

_running: weakref.WeakSet[AgentRuntime] = weakref.WeakSet()


class AgentRuntime:
    """Everything of one agent that outlives a request.

    Args:
        settings: what the agent is configured with.
        hooks: the integrator's own functions.
        transport: makes the HTTP transport to Ops-Core; httpx's own unless given.
    """

    def __init__(
        self,
        settings: Settings,
        hooks: Hooks | None = None,
        transport: Callable[[], httpx.BaseTransport] | None = None,
    ) -> None:
        self.settings = settings
        self.hooks = hooks or Hooks()
        self.cancellations = Cancellations(self.hooks.on_cancel)
        self.lag = LoopLag()
        self._signals = SignalWatch(self._asked_to_end) if settings.handle_signals else None
        self._ending = False
        self._start_failed = False
        self._said_last = False
        self._named: Named | None = None
        self.ended_tasks = EndedTasks()
        self.integrations: frozenset[str] = frozenset()
        """The names of those that may open units for this agent."""
        self.reports_results = settings.report_results and settings.api_url is not None
        self.progress = ProgressBoard(lambda: self.reporter.bell.wake())
        self.outbox = outbox = Outbox()
        if self.hooks.on_transition is not None:
            outbox.heard = deque(maxlen=HEARD)
        self._registrar: Registrar | None = None
        self._courier: Courier | None = None
        if settings.api_url is not None:
            notices = Notices()
            link = Link(settings.api_url, settings.api_key, transport)
            kit = _agentkit(settings, link, transport)
            self._registrar = Registrar(settings, link, kit, lambda: self.name, notices)
            self._courier = Courier(
                outbox,
                lambda: self.tracker,
                link,
                self._registrar,
                notices,
                interval=settings.heartbeat_interval,
                lag=self.lag.measure,
                cancel=self.cancellations.cancel,
                results=Results(self.hooks.result),
                progress=self.progress,
            )
        self.reporter = Reporter(
            self._courier or _Local(outbox),
            self._tick,
            over=lambda: self.over,
            working=lambda: self.tracker.in_flight > 0,
        )
        self.tracker = Tracker(
            outbox,
            self.reporter.bell,
            error_hold=settings.error_hold,
            read_grace=settings.read_grace,
            clock=self.hooks.clock,
        )
        _running.add(self)

    @property
    def over(self) -> bool:
        """Whether nothing can follow any more."""
        return self.tracker.state is AgentState.FINISHED

    @property
    def has_spoken(self) -> bool:
        """Whether its last word was waited for already, so that the exit need not wait again."""
        failed = self._start_failed and self.tracker.state is AgentState.ERROR
        return self.over or self._said_last or failed

    @property
    def introduced(self) -> bool:
        """Whether it has seen its app; an inner one of two around an app never does."""
        return self._named is not None

    @property
    def name(self) -> Named:
        """The agent's name and where it comes from."""
        return self._named or find_name(self.settings, None)

    @property
    def agent_id(self) -> str | None:
        """The id that Ops-Core knows this agent by; None until that is known."""
        return None if self._registrar is None else self._registrar.agent_id

    def introduce(self, app: Any) -> None:
        """See the outermost app once, for the name; the app itself is not kept."""
        self._named = find_name(self.settings, app)
        if self.settings.api_url is None:
            logger.warning(
                "OPSCORE_API_URL is not set: agent %r is tracked in this process only. Set it to "
                "Ops-Core's address, such as http://127.0.0.1:8000, to report.",
                self._named.name,
            )

    def lifespan_begins(self) -> None:
        """A lifespan starts, in the loop that runs."""
        self._start_failed = False
        self.tracker.lifespan_begins()
        self.lag.attach()
        if self._signals is not None:
            self._signals.install()

    def lifespan_ends(self) -> None:
        """A lifespan is over."""
        self.tracker.lifespan_ends()
        if self._signals is not None and self.over:
            self._signals.uninstall()

    def startup_failed(self, details: dict[str, Any]) -> None:
        """A lifespan has failed to start, and ends with that."""
        self._start_failed = True
        self.tracker.startup_failed(details)
        if self._signals is not None:
            self._signals.uninstall()

    def process_ends(self) -> None:
        """The process ends, whatever lifespans there are."""
        self._said_last = True
        self.tracker.process_ends()

    def flush(self, timeout: float) -> None:
        """Tell everything now, waiting for it `timeout` seconds at most."""
        self.reporter.flush(timeout)

    def after_fork(self) -> None:
        """Start over in a forked child, as an instance of its own."""
        self._said_last = False
        self.reporter.after_fork()
        if self._courier is not None:
            self._courier.after_fork()
        self.outbox.reset()
        if self.outbox.heard is not None:
            self.outbox.heard.clear()
        self.cancellations.reset()
        self.progress.reset()
        self.lag.reset()
        self.tracker.reset()

    def _asked_to_end(self) -> None:
        """Hear of a signal: called in its handler, so this takes no lock."""
        self._ending = True
        self.reporter.hurry()

    def _tick(self) -> float | None:
        if self._ending:
            self._ending = False
            self.tracker.drain()
        due = self.tracker.tick()
        heard = self.outbox.heard
        while heard:
            self.hooks.tell(Entry._make(heard.popleft()))
        return due


def _agentkit(
    settings: Settings, opscore: Link, transport: Callable[[], httpx.BaseTransport] | None
) -> AgentKit | None:
    if settings.agentkit_url is None:
        return None
    # Only here: it loads models, which are more than all else that an agent needs of us.
    from opscore_middleware.agent.kit import Kit

    # AgentKit takes no key of Ops-Core's.
    return Kit(settings, Link(settings.agentkit_url, None, transport), opscore)


class _Local:
    """Brings transitions nowhere: an agent without an Ops-Core is tracked all the same."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def deliver(self, *, urgent: bool) -> float | None:
        if not len(self._outbox):
            return None
        self._outbox.clear()
        return GLANCE  # so that a busy agent does not wake the thread with each transition

    def beat(self) -> float | None:
        return None

    def close(self) -> None:
        pass


def only_runtime() -> AgentRuntime | None:
    """Return the agent of this process where there is exactly one."""
    running = [runtime for runtime in _running if runtime.introduced]
    return running[0] if len(running) == 1 else None


def _after_fork() -> None:
    for runtime in list(_running):
        runtime.after_fork()
    # multiprocessing forgets the finalizers that it has before it calls what is to follow a fork.
    processes = sys.modules.get("multiprocessing.util")
    if processes is not None:
        processes.register_after_fork(_at_exit, _at_exit_of_child)


def _at_exit_of_child(at_exit: Callable[[], None]) -> None:
    """Have multiprocessing call it, which ends the children that it forks without `atexit`."""
    sys.modules["multiprocessing.util"].Finalize(None, at_exit, exitpriority=-100)


def _is_child_of_multiprocessing() -> bool:
    processes = sys.modules.get("multiprocessing.process")
    return processes is not None and processes.parent_process() is not None


def _at_exit() -> None:
    """Say the last word where no lifespan has said it; all agents share one patience."""
    until = time.monotonic() + EXIT_PATIENCE
    # Who has said its last word has had its patience at the end of its lifespan.
    speaking = [r for r in _running if r.reporter.alive and not r.has_spoken]
    for runtime in speaking:
        runtime.process_ends()
    for runtime in speaking:
        runtime.flush(max(0.0, until - time.monotonic()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
if _is_child_of_multiprocessing():
    _at_exit_of_child(_at_exit)  # forked before this was loaded, as granian's workers are
