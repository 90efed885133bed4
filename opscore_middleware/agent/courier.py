"""Carries transitions to Ops-Core, in order, until they are there or refused for good."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from opscore_middleware.agent.delivery import (
    LONGEST,
    Answer,
    Budget,
    Verdict,
    backoff,
    judge,
    load_of,
    retry_after,
)
from opscore_middleware.agent.herald import WITHOUT, Herald
from opscore_middleware.agent.link import Busy, Link, Unreachable
from opscore_middleware.agent.notices import Notices
from opscore_middleware.agent.outbox import Entry, Outbox
from opscore_middleware.agent.progress import ProgressBoard
from opscore_middleware.agent.registrar import Registrar, locked_out
from opscore_middleware.agent.reports import as_heartbeat, as_reports, barer_than
from opscore_middleware.agent.results import Results
from opscore_middleware.agent.suspicion import Suspicion, may_be_at_fault
from opscore_middleware.agent.tracker import Tracker
from opscore_middleware.agent.view import View
from opscore_middleware.core.jitter import between
from opscore_middleware.core.states import AgentState
from opscore_middleware.errors import RemoteError
from opscore_middleware.protocol import reporting
from opscore_middleware.protocol.call import Call

__all__ = ["Courier"]

logger = logging.getLogger("opscore_middleware")

_MOST: Final = 1000  # reports in a batch, by the contract


class Courier:
    """Delivers what the outbox holds, and heartbeats in between; used by one thread.

    Args:
        outbox: where the transitions are.
        tracker: what heartbeats tell of.
        link: the way to Ops-Core.
        registrar: finds the id to report under.
        notices: where trouble is told.
        interval: seconds between heartbeats, until Ops-Core asks for another.
        lag: returns how late the app's loop is, in seconds.
        cancel: stops the work on tasks that were cancelled at Ops-Core.
        results: reads the results of tasks.
        progress: where it stands how far tasks are.
    """

    def __init__(
        self,
        outbox: Outbox,
        tracker: Callable[[], Tracker],
        link: Link,
        registrar: Registrar,
        notices: Notices,
        *,
        interval: float = 10.0,
        lag: Callable[[], float | None] = lambda: None,
        cancel: Callable[[Sequence[str]], None] = lambda task_ids: None,
        results: Results | None = None,
        progress: ProgressBoard | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        budget: Budget | None = None,
    ) -> None:
        self._outbox = outbox
        self._tracker = tracker
        self._link = link
        self._registrar = registrar
        self._notices = notices
        self._interval = interval
        self._lag = lag
        self._cancel = cancel
        self._results = results or Results()
        self._progress = ProgressBoard(lambda: None) if progress is None else progress
        self._herald = Herald(self._progress, link, monotonic)
        self._monotonic = monotonic
        self._budget = budget or Budget()
        self._hand: deque[Entry] = deque()
        self._not_before = 0.0
        self._beat_at = 0.0
        self._beaten = False  # a heartbeat was answered, so that Ops-Core has a route for them
        self._failures = 0
        self._most = _MOST
        self._suspicion = Suspicion()
        self._singles_until = 0.0
        self._gone = False
        self._owed: Entry | None = None  # refused for good, and not counted yet
        self._given_up = 0  # transitions folded and dropped, as of the last delivery

    def after_fork(self) -> None:
        """Leave to the parent what is the parent's: its connections and what it is sending."""
        self._link.forget()
        self._registrar.after_fork()
        self._hand.clear()
        self._suspicion.clear()
        self._owed = None

    def close(self) -> None:
        """Drop the connections."""
        self._link.close()
        self._registrar.close()

    # --- reports ---------------------------------------------------------------------------------

    def deliver(self, *, urgent: bool) -> float | None:
        """Try to tell what there is to tell.

        Returns the seconds until the next try is due, or None when nothing is left. `urgent`
        tries now, whatever was waited for.
        """
        if not self._hand:
            self._hand.extend(map(self._read, self._outbox.take()))
        if self._gone:
            self._hand.clear()
            self._progress.clear()
        if not self._hand and not len(self._progress):
            return None
        if self._hand and self._owed is not None:
            self._count(self._owed, self._hand[0])
        now = self._monotonic()
        hand = self._hand
        due = self._not_before if hand else max(self._not_before, self._herald.not_before)
        if now < due and not urgent:
            return due - now
        load = load_of(len(hand), coalesced=bool(hand) and hand[-1].coalesced > 0)
        spent = time.thread_time()
        pause = self._attempt() if hand else self._tell_progress()
        pace = self._budget.spend(
            time.thread_time() - spent, now=now, used=time.process_time(), load=load
        )
        wait = pause if urgent else max(pause, pace)
        self._not_before = self._monotonic() + wait
        if self._hand or len(self._outbox):
            return wait
        return max(wait, self._herald.not_before - now) if len(self._progress) else None

    def _tell_progress(self) -> float:
        try:
            self._herald.tell()
        except Unreachable as failure:
            return self._later(failure.url, str(failure), None)
        return 0.0

    def _read(self, entry: Entry) -> Entry:
        if entry.details is None:
            return entry
        return entry._replace(details=self._results.told(entry.details))

    def _attempt(self) -> float:
        """Take the next step; return the seconds to wait before the one after."""
        try:
            agent_id = self._registrar.agent_id
            if agent_id is None:
                return self._registrar.resolve(self._hand[0].instance.instance_id)
            return self._report(agent_id)
        except Unreachable as failure:
            return self._later(failure.url, str(failure), None)
        except Busy as failure:
            return self._later(failure.url, str(failure), failure.answer)

    def _report(self, agent_id: str) -> float:
        single = self._monotonic() < self._singles_until or self._most == 1
        sending = [self._hand[i] for i in range(1 if single else min(self._most, len(self._hand)))]
        answer = self._tell(agent_id, sending, single=single)
        verdict = judge(answer, batch=not single)
        if answer.status in _OBJECTIONS and answer.is_page and self._is_heard(agent_id):
            verdict = Verdict.REFUSED  # on the way, for what they say
        match verdict:
            case Verdict.DELIVERED:
                return self._delivered(sending)
            case Verdict.NO_BATCHES:
                self._singles_until = self._monotonic() + WITHOUT
                return 0.0
            case Verdict.UNKNOWN_AGENT:
                return self._registrar.unknown(sending[0].instance.instance_id)
            case Verdict.UNAUTHORIZED:
                return locked_out(self._link, answer, self._notices)
            case Verdict.REFUSED:
                return self._refused(sending, answer)
            case Verdict.GONE:
                return self._farewell(agent_id)
            case Verdict.LATER:
                what = "a page with status" if answer.is_page else "status"
                pause = self._later(self._link.api_url, f"{what} {answer.status}", answer)
                if may_be_at_fault(answer) and self._suspicion.failed():
                    return self._look_into(agent_id, sending, answer, pause, single=single)
                return pause

    def _tell(self, agent_id: str, entries: Sequence[Entry], *, single: bool) -> Answer:
        reports = as_reports(agent_id, entries)
        return self._link.send(
            reporting.report_state(reports[0])
            if single
            else reporting.report_states(agent_id, reports)
        )

    def _look_into(
        self, agent_id: str, sent: Sequence[Entry], answer: Answer, pause: float, *, single: bool
    ) -> float:
        """Find the one report that a server fails at, if it is that; nothing is lost meanwhile."""
        if not single:
            self._most = max(1, len(sent) // 2)
        elif self._suspicion.is_proven(another_passes=self._does_another_pass(agent_id)):
            self._suspicion.clear()
            return self._refused(sent, answer)
        return pause

    def _does_another_pass(self, agent_id: str) -> bool:
        """Tell one of those behind the first, which is then told again in its turn."""
        if len(self._hand) == 1:
            self._hand.extend(map(self._read, self._outbox.take()))
        behind = len(self._hand) - 1
        if not behind:
            return False
        another = self._hand[1 + self._suspicion.doubts % behind]
        answer = self._tell(agent_id, [another], single=True)
        return judge(answer, batch=False) is Verdict.DELIVERED

    def _is_heard(self, agent_id: str) -> bool:
        """Ask whether Ops-Core can be reached by what says next to nothing."""
        call = self._heartbeat(agent_id, self._tracker().view())
        answer = self._link.send(call)
        try:
            call.result(answer.status, answer.body)
        except RemoteError:
            return False
        return True

    def _delivered(self, sent: Sequence[Entry]) -> float:
        for _ in sent:
            self._hand.popleft()
        narrowed, self._most = self._most < _MOST, _MOST
        self._registrar.known()
        if narrowed and self._hand:
            self._failures = 0  # what follows may fail again: nobody is told of a recovery yet
            self._suspicion.passed()
        else:
            self._recovered()
            self._suspicion.clear()
        return 0.0

    def _refused(self, sent: Sequence[Entry], answer: Answer) -> float:
        if len(sent) > 1:
            self._most = len(sent) // 2
            return 0.0
        bad = self._hand.popleft()
        self._most = _MOST
        # The state is worth more than what is said of it: Ops-Core would go on to show an old one.
        barer = barer_than(bad)
        if barer is not None:
            self._hand.appendleft(barer)
        else:
            self._owed = bad
        self._notices.once(
            "refused" if barer is None else "details",
            logging.WARNING,
            "Ops-Core refused a report (%s, sequence %d) with %d and it was %s: %s",
            bad.state,
            bad.sequence,
            answer.status,
            "dropped" if barer is None else "told again with less in its details",
            answer.reason,
        )
        return 0.0

    def _count(self, refused: Entry, following: Entry) -> None:
        """Count what was refused in the report that follows it, where that is of its instance."""
        self._owed = None
        if refused.instance is following.instance:
            self._hand[0] = self._outbox.fold(refused, following)
        else:
            self._outbox.drop(refused)

    def _farewell(self, agent_id: str) -> float:
        self._gone = True
        self._hand.clear()
        self._notices.once(
            "gone",
            logging.WARNING,
            "Agent %r was deregistered from Ops-Core on purpose; reporting ends until restart.",
            agent_id,
        )
        return 0.0

    # --- heartbeats ------------------------------------------------------------------------------

    def beat(self) -> float | None:
        """Say that this instance lives, if that is due and nothing else waits to be told.

        Returns the seconds until it is due again, or None when there is nobody to tell.
        """
        agent_id = self._registrar.agent_id
        tracker = self._tracker()
        if agent_id is None or self._gone or tracker.state in _SILENT:
            return None
        view = tracker.view()
        # Looked at after the view, so that a beat claims nothing that is still on its way. What
        # waits to be told comes first, proves life as well, and has a time of its own.
        if self._hand or len(self._outbox):
            return None
        now = self._monotonic()
        if now >= self._beat_at:
            # Spread, so that a fleet that was started at once does not beat as one.
            spread = between(0.8, 1.0)
            self._beat_at = now + self._interval * spread
            self._send_beat(agent_id, tracker, view)
        return max(0.0, self._beat_at - now)

    def _send_beat(self, agent_id: str, tracker: Tracker, view: View) -> None:
        call = self._heartbeat(agent_id, view)
        try:
            answer = self._link.send(call)
        except Unreachable as failure:
            self._outage(failure.url, str(failure))
            return
        if judge(answer, batch=False) is Verdict.GONE:
            self._farewell(agent_id)
        elif answer.status in {401, 403}:
            self._beat_at = self._monotonic() + locked_out(self._link, answer, self._notices)
        elif answer.status == 404 and answer.code is not None:
            tracker.restate()  # a fresh database: reporting makes the agent known again
        elif answer.status in {404, 405} and not self._beaten:
            self._beat_at = self._monotonic() + WITHOUT
        try:
            said = call.result(answer.status, answer.body)
        except RemoteError:
            return
        self._beaten = True
        self._recovered()
        if 0.1 <= said.interval_seconds <= 3600:
            self._interval = said.interval_seconds
        if said.drain:
            tracker.drain()
        self._cancel(said.cancel)
        if said.last_sequence < view.sequence:
            tracker.restate()

    def _heartbeat(self, agent_id: str, view: View) -> Call[reporting.BeatAnswer]:
        return reporting.heartbeat(agent_id, as_heartbeat(view, self._interval, self._lag()))

    # --- trouble, told once ----------------------------------------------------------------------

    def _later(self, url: str, why: str, answer: Answer | None) -> float:
        self._failures += 1
        self._outage(url, why)
        asked = None if answer is None else retry_after(answer, now=time.time())
        pause = backoff(self._failures, longest=min(LONGEST, self._interval))
        # On top of what was asked for, so that a fleet told the same time does not come as one.
        return pause if asked is None else asked + pause

    def _outage(self, url: str, why: str) -> None:
        self._notices.once(
            "outage",
            logging.WARNING,
            "%s does not take reports (%s); the agent goes on, the newest state is kept and told "
            "when Ops-Core is back.",
            url,
            why,
        )

    def _recovered(self) -> None:
        self._failures = 0
        given_up = self._outbox.folded + self._outbox.dropped
        folded, self._given_up = given_up - self._given_up, given_up
        if self._notices.settle("outage"):
            logger.warning(
                "Ops-Core at %s takes reports again; transitions folded meanwhile: %d.",
                self._link.api_url,
                folded,
            )


_OBJECTIONS: Final = frozenset({200, 403, 406})  # firewalls' words for what they let not pass
_SILENT: Final = frozenset({AgentState.UNKNOWN, AgentState.FINISHED})
