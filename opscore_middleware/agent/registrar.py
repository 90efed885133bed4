"""Finds the id that this agent reports under, and makes it known where it is not."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from opscore_middleware.agent.delivery import LONGEST, Answer, Verdict, backoff, judge
from opscore_middleware.agent.identity import Named, registration
from opscore_middleware.agent.link import Link
from opscore_middleware.agent.notices import Notices
from opscore_middleware.agent.settings import Settings
from opscore_middleware.core.jitter import between
from opscore_middleware.errors import AgentNameTaken, RemoteError
from opscore_middleware.protocol.reporting import register_agent

__all__ = ["AgentKit", "Registrar", "locked_out"]

REGISTER_AFTER: Final = 5.0
"""Seconds for which an id may be unknown before the agent makes it known itself."""
WARN_AFTER: Final = 60.0
"""Seconds for which an id may be unknown before somebody is told."""
REFUSED_FOR: Final = 60.0
"""Seconds between attempts that only a person can make succeed."""

_NOBODYS: Final = frozenset({404, 405})
"""What AgentKit never answers a registration with, and who stands before it may."""


class AgentKit(Protocol):
    """A registry to make the agent known to; see `kit.Kit`."""

    @property
    def url(self) -> str:
        """Where it is."""
        ...

    def register(self, name: str) -> str:
        """Return a new id. Raises `AgentNameTaken` and `RemoteError`."""
        ...

    def find(self, name: str) -> str | None:
        """Return the id that the name has already, where anybody says."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...

    def forget(self) -> None:
        """Leave the connection to the parent process, after a fork."""
        ...


class Registrar:
    """Resolves the agent's id: given, else from AgentKit where that is configured, else Ops-Core's.

    Runs in the reporter's thread, so nothing of it delays a start. Its calls raise `Unreachable`
    and `Busy`; everything else ends in a pause, returned in seconds, after which to try again.

    Args:
        settings: who this agent is.
        opscore: the way to Ops-Core.
        agentkit: the registry to register with; None where none is configured.
        name: returns the agent's name.
        notices: where trouble is told.
    """

    def __init__(
        self,
        settings: Settings,
        opscore: Link,
        agentkit: AgentKit | None,
        name: Callable[[], Named],
        notices: Notices,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._opscore = opscore
        self._agentkit = agentkit
        self._name = name
        self._notices = notices
        self._monotonic = monotonic
        self.agent_id = settings.agent_id
        self._ours = False  # the id is one that Ops-Core made and makes again for the same name
        self._unknown_since: float | None = None
        self._attempts = 0
        self._offer_at = math.inf  # when to make an unknown id known

    def after_fork(self) -> None:
        """Leave the connections to the parent process."""
        if self._agentkit is not None:
            self._agentkit.forget()

    def close(self) -> None:
        """Drop the connection to AgentKit."""
        if self._agentkit is not None:
            self._agentkit.close()

    def resolve(self, instance_id: str) -> float:
        """Find the id; returns 0.0 once `agent_id` is set."""
        return (
            self._register_with_opscore(None, instance_id)
            if self._agentkit is None
            else self._register_with_agentkit(self._agentkit)
        )

    def unknown(self, instance_id: str) -> float:
        """Ops-Core does not know the id (yet): wait, then make it known; never lose the order.

        AgentKit tells Ops-Core of a new agent in the background, so an id may be unknown for a
        moment, and for ever when that message is lost.
        """
        if self._ours:
            self.agent_id, self._ours = None, False  # a fresh database: register anew
            self._attempts += 1
            # A server that registers and forgets each time is not to be hammered.
            return 0.0 if self._attempts == 1 else backoff(self._attempts)
        now = self._monotonic()
        if self._unknown_since is None:
            self._unknown_since, self._offer_at = now, now + REGISTER_AFTER
        if now >= self._offer_at:
            pause = self._register_with_opscore(self.agent_id, instance_id)
            if pause == 0.0:
                return 0.0
        if now - self._unknown_since >= WARN_AFTER:
            self._notices.once(
                "unknown",
                logging.WARNING,
                "Ops-Core at %s still does not know agent %r; `opscore agents list` shows the "
                "agents that it knows. Reports wait, and the newest state is kept.",
                self._opscore.api_url,
                self.agent_id,
            )
        self._attempts += 1
        return backoff(self._attempts, longest=2.0)

    def known(self) -> None:
        """Ops-Core takes reports under the id."""
        self._unknown_since = None
        self._attempts = 0
        self._notices.settle("unknown", "registration", "key")

    # --- Ops-Core --------------------------------------------------------------------------------

    def _register_with_opscore(self, agent_id: str | None, instance_id: str) -> float:
        name = self._name().name
        call = register_agent(registration(self._settings, name, agent_id, instance_id))
        answer = self._opscore.ask(call)
        self._offer_at = math.inf  # what Ops-Core has answered once it would answer again
        if answer.status in {401, 403}:
            return locked_out(self._opscore, answer, self._notices)
        try:
            self.agent_id = call.result(answer.status, answer.body)
        except RemoteError as refusal:
            if answer.code is None and judge(answer, batch=False) is not Verdict.REFUSED:
                return self._answered_by_another("Ops-Core", self._opscore.api_url, answer.status)
            return self._refused("Ops-Core", refusal)
        self._ours = agent_id is None
        self._registered("Ops-Core")
        return 0.0

    # --- AgentKit --------------------------------------------------------------------------------

    def _register_with_agentkit(self, agentkit: AgentKit) -> float:
        name = self._name().name
        try:
            self.agent_id = agentkit.register(name)
        except AgentNameTaken:
            return self._find_by_name(agentkit, name)
        except RemoteError as refusal:
            if refusal.remote_status in _NOBODYS:
                return self._answered_by_another("AgentKit", agentkit.url, refusal.remote_status)
            return self._refused("AgentKit", refusal)
        self._registered("AgentKit")
        return 0.0

    def _find_by_name(self, agentkit: AgentKit, name: str) -> float:
        found = agentkit.find(name)
        if found is not None:
            self.agent_id = found
            self._registered("an earlier start")
            return 0.0
        self._notices.once(
            "registration",
            logging.ERROR,
            "AgentKit at %s has an agent %r already, and neither it nor Ops-Core says under which "
            "id: set OPSCORE_AGENT_ID to its id, or OPSCORE_AGENT_NAME to a name of its own. "
            "Still looking.",
            agentkit.url,
            name,
        )
        self._attempts += 1
        return backoff(self._attempts)

    # --- both ------------------------------------------------------------------------------------

    def _registered(self, where: str) -> None:
        name, source = self._name()
        self._notices.settle("registration")
        self._notices.once(
            f"registered {self.agent_id}",
            logging.INFO,
            "Reporting to Ops-Core at %s as agent %r, id %s by %s; the name is from: %s. Agents "
            "of one name count as instances of one agent.",
            self._opscore.api_url,
            name,
            self.agent_id,
            where,
            source,
        )

    def _answered_by_another(self, whom: str, url: str, status: int) -> float:
        """Try again as after an outage: a proxy may answer until the server has started."""
        setting = "AGENTKIT_API_URL" if whom == "AgentKit" else "OPSCORE_API_URL"
        self._notices.once(
            "registration",
            logging.WARNING,
            "%s answered the registration of this agent with %d, not as %s does. Where it "
            "is not just starting: set %s to %s's address, or OPSCORE_AGENT_ID "
            "where it registers nobody. Trying again, every %d seconds at most.",
            url,
            status,
            whom,
            setting,
            whom,
            LONGEST,
        )
        self._attempts += 1
        self._offer_at = self._monotonic() + LONGEST
        return backoff(self._attempts)

    def _refused(self, where: str, refusal: RemoteError) -> float:
        name, source = self._name()
        self._notices.once(
            "registration",
            logging.ERROR,
            "%s did not register this agent as %r (name from: %s): %s. Mend what it names, or set "
            "OPSCORE_AGENT_ID to an id that Ops-Core knows; trying again every minute.",
            where,
            name,
            source,
            refusal.message,
        )
        return REFUSED_FOR


def locked_out(link: Link, answer: Answer, notices: Notices) -> float:
    """Say once that a key is not accepted; return a slow pause, spread over a fleet."""
    notices.once(
        "key",
        logging.ERROR,
        "Ops-Core at %s refused the key (%d: %s); set OPSCORE_API_KEY to one that it knows. "
        "Trying again every minute.",
        link.api_url,
        answer.status,
        answer.reason,
    )
    return REFUSED_FOR * between(0.75, 1.25)
