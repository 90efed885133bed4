"""Carries transitions to Ops-Core, in order, until they are there or refused for good."""

from __future__ import annotations

import json
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from opscore_middleware.agent.delivery import (
    Answer,
    Budget,
    Verdict,
    backoff,
    judge,
    retry_after,
)
from opscore_middleware.agent.identity import Named, registration
from opscore_middleware.agent.link import Link, Unreachable
from opscore_middleware.agent.outbox import Entry, Outbox
from opscore_middleware.agent.settings import Settings
from opscore_middleware.core.models import StateReport
from opscore_middleware.errors import RemoteError
from opscore_middleware.protocol import calls

__all__ = ["Courier"]

logger = logging.getLogger("opscore_middleware")

REGISTER_AFTER: Final = 5.0
"""Seconds for which a given id may be unknown before the agent registers it itself."""
WARN_AFTER: Final = 60.0
"""Seconds for which an id may be unknown before somebody is told."""
SINGLES_FOR: Final = 600.0
"""Seconds for which a server without a batch route is sent single reports."""
LOCKED_OUT: Final = 60.0
"""Seconds between attempts with a key that the server does not accept."""


class Courier:
    """Delivers what the outbox holds; used by one thread.

    Args:
        settings: who this agent is.
        outbox: where the transitions are.
        link: the way to Ops-Core.
        name: returns the agent's name, for registration.
    """

    def __init__(
        self,
        settings: Settings,
        outbox: Outbox,
        link: Link,
        name: Callable[[], Named],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        budget: Budget | None = None,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._link = link
        self._name = name
        self._monotonic = monotonic
        self._budget = budget or Budget()
        self._hand: deque[Entry] = deque()
        self._agent_id = settings.agent_id
        self._not_before = 0.0
        self._failures = 0
        self._most = 1000
        self._singles_until = 0.0
        self._unknown_since: float | None = None
        self._asked_to_register = False
        self._gone = False
        self._told: set[str] = set()

    @property
    def agent_id(self) -> str | None:
        """The id that this agent reports under, once it is known."""
        return self._agent_id

    def after_fork(self) -> None:
        """Leave to the parent what is the parent's: its connection and what it is sending."""
        self._link.forget()
        self._hand.clear()

    def close(self) -> None:
        """Drop the connection."""
        self._link.close()

    def deliver(self, *, urgent: bool) -> float | None:
        """Try to tell what there is to tell.

        Returns the seconds until the next try is due, or None when nothing is left. `urgent`
        tries now, whatever was waited for.
        """
        self._hand.extend(self._outbox.take() if not self._hand else ())
        if self._gone:
            self._hand.clear()
        if not self._hand:
            return None
        now = self._monotonic()
        if now < self._not_before and not urgent:
            return self._not_before - now
        spent = time.thread_time()
        try:
            pause = self._register() if self._agent_id is None else self._report(self._agent_id)
        except Unreachable as failure:
            pause = self._later(str(failure), None)
        pace = self._budget.spend(time.thread_time() - spent, now=now)
        wait = pause if urgent else max(pause, pace)
        self._not_before = self._monotonic() + wait
        return wait if self._hand or len(self._outbox) else None

    # --- reports ---------------------------------------------------------------------------------

    def _report(self, agent_id: str) -> float:
        """Send the next reports; return the seconds to wait before the ones after."""
        single = self._monotonic() < self._singles_until or self._most == 1
        sending = [self._hand[i] for i in range(1 if single else min(self._most, len(self._hand)))]
        reports = [_as_report(agent_id, entry) for entry in sending]
        answer = self._link.send(
            calls.report_state(reports[0]) if single else calls.report_states(agent_id, reports)
        )
        match judge(answer, batch=not single):
            case Verdict.DELIVERED:
                return self._delivered(sending)
            case Verdict.NO_BATCHES:
                self._singles_until = self._monotonic() + SINGLES_FOR
                return 0.0
            case Verdict.UNKNOWN_AGENT:
                return self._unknown(agent_id)
            case Verdict.UNAUTHORIZED:
                return self._locked_out(answer)
            case Verdict.REFUSED:
                return self._refused(sending, answer)
            case Verdict.GONE:
                return self._farewell(agent_id)
            case Verdict.LATER:
                return self._later(f"status {answer.status}", answer)

    def _delivered(self, sent: Sequence[Entry]) -> float:
        for _ in sent:
            self._hand.popleft()
        self._most = 1000
        self._unknown_since = None
        self._recovered(sent)
        return 0.0

    def _refused(self, sent: Sequence[Entry], answer: Answer) -> float:
        if len(sent) > 1:
            self._most = len(sent) // 2
            return 0.0
        bad = self._hand.popleft()
        self._most = 1000
        self._once(
            "refused",
            logging.WARNING,
            "Ops-Core refused a report (%s, sequence %d) with %d and it was dropped: %s",
            bad.state,
            bad.sequence,
            answer.status,
            _reason(answer),
        )
        return 0.0

    def _unknown(self, agent_id: str) -> float:
        now = self._monotonic()
        if self._unknown_since is None:
            self._unknown_since = now
        waited = now - self._unknown_since
        if self._settings.agent_id is None:
            self._agent_id = None  # a fresh database: the name gets an id again
        elif waited >= REGISTER_AFTER and not self._asked_to_register:
            self._asked_to_register = True
            self._register()
        if waited >= WARN_AFTER:
            self._once(
                "unknown",
                logging.WARNING,
                "Ops-Core at %s still does not know agent %r; `opscore agents list` shows the "
                "agents that it knows. Reports wait, and the newest state is kept.",
                self._link.api_url,
                agent_id,
            )
        self._failures += 1
        return backoff(self._failures, longest=2.0)

    def _farewell(self, agent_id: str) -> float:
        self._gone = True
        self._hand.clear()
        self._once(
            "gone",
            logging.WARNING,
            "Agent %r was deregistered from Ops-Core on purpose; reporting ends until restart.",
            agent_id,
        )
        return 0.0

    # --- registration ----------------------------------------------------------------------------

    def _register(self) -> float:
        name, source = self._name()
        call = calls.register_agent(
            registration(self._settings, name, self._hand[0].instance.instance_id)
        )
        answer = self._link.send(call)
        if answer.status in {401, 403}:
            return self._locked_out(answer)
        if answer.status in {408, 429} or answer.status >= 500:
            return self._later(f"status {answer.status}", answer)
        try:
            self._agent_id = call.result(answer.status, answer.body).agent_id
        except RemoteError as refusal:
            self._once(
                "registration",
                logging.ERROR,
                "Ops-Core did not register this agent as %r (%s): %s. Set OPSCORE_AGENT_ID to an "
                "id that it knows, or mend what it names; trying again every minute.",
                name,
                source,
                refusal.message,
            )
            return LOCKED_OUT
        self._once(
            "registered",
            logging.INFO,
            "Reporting to Ops-Core at %s as agent %r, id %s; the name is from: %s. Agents of one "
            "name count as instances of one agent.",
            self._link.api_url,
            name,
            self._agent_id,
            source,
        )
        return 0.0

    # --- trouble, told once ----------------------------------------------------------------------

    def _later(self, why: str, answer: Answer | None) -> float:
        self._failures += 1
        self._once(
            "outage",
            logging.WARNING,
            "Ops-Core at %s does not take reports (%s); the agent goes on, the newest state is "
            "kept and told when Ops-Core is back.",
            self._link.api_url,
            why,
        )
        asked = None if answer is None else retry_after(answer, now=time.time())
        pause = backoff(self._failures)
        # On top of what was asked for, so that a fleet told the same time does not come as one.
        return pause if asked is None else asked + pause

    def _locked_out(self, answer: Answer) -> float:
        self._once(
            "locked out",
            logging.ERROR,
            "Ops-Core at %s refused the key (%d: %s); set OPSCORE_API_KEY to one that it knows. "
            "Trying again every minute.",
            self._link.api_url,
            answer.status,
            _reason(answer),
        )
        return LOCKED_OUT * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, no secret

    def _recovered(self, sent: Sequence[Entry]) -> None:
        self._failures = 0
        self._told -= {"unknown", "locked out", "registration"}
        if "outage" in self._told:
            self._told.discard("outage")
            logger.warning(
                "Ops-Core at %s takes reports again; transitions folded meanwhile: %d.",
                self._link.api_url,
                sum(entry.coalesced for entry in sent) + self._outbox.dropped,
            )

    def _once(self, topic: str, level: int, message: str, *args: object) -> None:
        if topic not in self._told:
            self._told.add(topic)
            logger.log(level, message, *args)


def _as_report(agent_id: str, entry: Entry) -> StateReport:
    # Built by us from checked parts: validating it again would cost the host processor time.
    return StateReport.model_construct(
        agent_id=agent_id,
        timestamp=datetime.fromtimestamp(entry.at, UTC),
        state=entry.state.value,
        details=entry.details or {},
        instance_id=entry.instance.instance_id,
        started_at=datetime.fromtimestamp(entry.instance.started_at, UTC),
        sequence=entry.sequence,
        coalesced=entry.coalesced,
        errors=entry.errors,
    )


def _reason(answer: Answer) -> str:
    try:
        body = json.loads(answer.body)
        detail = body.get("detail") if isinstance(body, dict) else None
    except ValueError:
        detail = None
    return str(detail or "no reason given")[:300]
