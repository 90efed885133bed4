"""The attempts that are being sent, and those whose agents are listened to while they work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from opscore_middleware.core.clock import SECOND, Clock
from opscore_middleware.core.runs.engine import Engine
from opscore_middleware.core.runs.records import Claim
from opscore_middleware.core.runs.tasks import Route, Task, attempt_id
from opscore_middleware.errors import OpsCoreError
from opscore_middleware.server.dispatch.refusals import Refused
from opscore_middleware.server.dispatch.sending import Sender
from opscore_middleware.server.dispatch.tally import Tally
from opscore_middleware.server.logs import get_logger

__all__ = ["Sendings"]

log = get_logger(__name__)

_GOODBYE: Final = 1.0
"""How long attempts that nobody has yet may take to be taken when the server stops, in seconds."""


class _Sending:
    """One attempt on its way; `in_hand` until somebody has it, or nobody will."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.in_hand = True
        self.is_over = False
        self.runner: asyncio.Task[None] | None = None


class Sendings:
    """Sends attempts side by side, as many at once as may be, and tells the engine of each.

    An agent may do the work before it answers. Such an attempt is taken and counts no longer, but
    its connection stays open until the attempt is over.

    Args:
        engine: hears what became of each.
        sender: sends them.
        most: how many may be on their way to being taken.
        tally: counts them.
        clock: returns now, in microseconds since the Unix epoch.
        on_free: called when one more may be sent.
    """

    def __init__(
        self,
        engine: Engine,
        sender: Sender,
        *,
        most: int,
        tally: Tally,
        clock: Clock,
        on_free: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._sender = sender
        self._most = most
        self._tally = tally
        self._clock = clock
        self._on_free = on_free
        self._under_way: set[_Sending] = set()
        self._in_hand = 0
        self._none_in_hand = asyncio.Event()
        self._none_in_hand.set()

    @property
    def free(self) -> int:
        """How many more may be sent right now."""
        return max(self._most - self._in_hand, 0)

    def start(self, claim: Claim, routes: Sequence[Route]) -> None:
        """Send an attempt in the background."""
        sending = _Sending(claim.task)
        self._in_hand += 1
        self._none_in_hand.clear()
        self._under_way.add(sending)
        sending.runner = asyncio.create_task(
            self._send(sending, claim, routes), name=f"sending {attempt_id(claim.task)}"
        )

    async def look(self) -> None:
        """Hang up on agents whose attempt is over: to be called each second.

        Only on the second look, so that an agent that has just said so can still answer.
        """
        listening = [sending for sending in self._under_way if not sending.in_hand]
        if not listening:
            return
        agents = {sending.task.agent_id for sending in listening if sending.task.agent_id}
        known = {attempt_id(task) for task in await self._engine.store.open_tasks(sorted(agents))}
        for sending in listening:
            if attempt_id(sending.task) in known:
                continue
            if sending.is_over and sending.runner is not None:
                sending.runner.cancel()
            sending.is_over = True

    async def close(self) -> None:
        """Wait a moment for what nobody has yet, then hang up on everybody."""
        try:
            async with asyncio.timeout(_GOODBYE):
                await self._none_in_hand.wait()
        except TimeoutError:
            pass  # the attempts are given out, and are sent again when their time to start is up
        runners = [sending.runner for sending in self._under_way if sending.runner is not None]
        for runner in runners:
            runner.cancel()
        await asyncio.gather(*runners, return_exceptions=True)

    async def _send(self, sending: _Sending, claim: Claim, routes: Sequence[Route]) -> None:
        task = claim.task
        try:
            refusal = await self._sender.send(
                task,
                claim.endpoint,
                routes,
                taken=partial(self._taken, sending),
                traceparent=claim.traceparent,
            )
            if refusal is not None:
                await self._refused(task, refusal)
        except OpsCoreError as error:
            # The engine looks at the attempt again when its time to start is up.
            log.warning("sending_failed", attempt=attempt_id(task), detail=error.message)
        except Exception:
            log.exception("sending_failed", attempt=attempt_id(task))
        finally:
            self._let_go(sending)
            self._under_way.discard(sending)

    async def _taken(self, sending: _Sending, route: Route) -> None:
        self._let_go(sending)
        task = sending.task
        ready_at = task.created_at if task.ready_at is None else task.ready_at
        self._tally.taken(route, (self._clock() - ready_at) / SECOND)
        try:
            await self._engine.sent(task, route)
        except OpsCoreError as error:
            # The agent has it all the same, and may be at work on it: nobody hangs up on it.
            log.warning("route_not_noted", attempt=attempt_id(task), detail=error.message)

    async def _refused(self, task: Task, refusal: Refused) -> None:
        outcome = "final" if refusal.final else "later" if refusal.later else "failed"
        self._tally.refused(str(refusal.error.get("route", "none")), outcome)
        log.info(
            "attempt_not_taken",
            attempt=attempt_id(task),
            agent_id=task.agent_id,
            outcome=outcome,
            detail=refusal.error["message"],
        )
        await self._engine.not_sent(
            task,
            final=refusal.final,
            error=refusal.error,
            retry_after=refusal.retry_after,
            later=refusal.later,
        )

    def _let_go(self, sending: _Sending) -> None:
        if not sending.in_hand:
            return
        sending.in_hand = False
        was_full = not self.free
        self._in_hand -= 1
        if not self._in_hand:
            self._none_in_hand.set()
        if was_full:
            self._on_free()
