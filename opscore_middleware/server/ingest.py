"""The routes that carry the load, reports and heartbeats: plain ASGI, one pass over the bytes.

They stand before FastAPI: its layers cost more than the work that is done here.
"""

from __future__ import annotations

import logging
import re
from time import perf_counter
from typing import Final, NamedTuple

from pydantic import TypeAdapter
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from opscore_middleware.core.histogram import Histogram
from opscore_middleware.core.models import Batch, Heartbeat, StateAccepted, StateReport
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.server.body import parse, read
from opscore_middleware.server.dispatch.stopped import StoppedAttempts
from opscore_middleware.server.load import Waiting
from opscore_middleware.server.logs import get_logger

__all__ = ["Ingest", "Target", "target"]

log = get_logger(__name__)

_TARGET: Final = re.compile(r"/v1/opscore/agent/([^/]+)/(state|states|heartbeat)")
_REPORT: Final = TypeAdapter(StateReport)
_BATCH: Final = TypeAdapter(Batch)
_BEAT: Final = TypeAdapter(Heartbeat)
# What is on disk in a millisecond is fine, and what takes a second is about to be overloaded.
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ACCEPTED: Final = to_json(StateAccepted())


class Target(NamedTuple):
    """The agent that a request tells of, and what it brings: state, states or heartbeat."""

    agent_id: str
    noun: str


def target(method: str, path: str) -> Target | None:
    """Return what a request tells; None when that is neither a report nor a heartbeat."""
    if method != "POST":
        return None
    match = _TARGET.fullmatch(path)
    return None if match is None else Target(*match.groups())


class Ingest:
    """Takes reports and heartbeats over HTTP.

    Args:
        opscore: the use cases.
        stopped: what agents are told to stop.
        max_body_bytes: bounds the body of a single report, and of a heartbeat.
        max_batch_bytes: bounds the body of a batch.
        max_pending: bounds how many reports wait to be written, and how many heartbeats.
    """

    def __init__(
        self,
        opscore: OpsCore,
        *,
        stopped: StoppedAttempts,
        max_body_bytes: int,
        max_batch_bytes: int,
        max_pending: int,
    ) -> None:
        # Apart, so that no flood of reports makes agents look silent.
        self.reports = Waiting("reports", max_pending)
        self.heartbeats = Waiting("heartbeats", max_pending)
        self.durations = {noun: Histogram(_SECONDS) for noun in ("state", "states", "heartbeat")}
        self._opscore = opscore
        self._stopped = stopped
        self._max_body_bytes = max_body_bytes
        self._max_batch_bytes = max_batch_bytes
        self._takers = {
            "state": self._report,
            "states": self._batch,
            "heartbeat": self._heartbeat,
        }

    async def take(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        """Take what a request brings for its target."""
        began = perf_counter()
        try:
            await self._takers[target.noun](target.agent_id, scope, receive, send)
        finally:
            self.durations[target.noun].observe(perf_counter() - began)

    async def _report(self, agent_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one report and answer 202 once it is on disk."""
        self.reports.check()
        body = await read(scope["headers"], receive, self._max_body_bytes)
        report = parse(_REPORT, body)
        self.reports.add(1)
        try:
            await self._opscore.report(agent_id, report)
        finally:
            self.reports.remove(1)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("report_accepted", agent_id=agent_id, state=report.state)
        await _answer(202, _ACCEPTED, send)

    async def _batch(self, agent_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Take several reports, all or none, and answer 202 once they are on disk."""
        self.reports.check()
        body = await read(scope["headers"], receive, self._max_batch_bytes)
        reports = parse(_BATCH, body).reports
        self.reports.add(len(reports))
        try:
            outcome = await self._opscore.report_batch(agent_id, reports)
        finally:
            self.reports.remove(len(reports))
        log.debug("reports_accepted", agent_id=agent_id, accepted=outcome.accepted)
        await _answer(202, to_json(outcome), send)

    async def _heartbeat(self, agent_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Note that an instance lives, and tell it what is known of it."""
        self.heartbeats.check()
        body = await read(scope["headers"], receive, self._max_body_bytes)
        beat = parse(_BEAT, body)
        self.heartbeats.add(1)
        try:
            answer = await self._opscore.heartbeat(agent_id, beat)
        finally:
            self.heartbeats.remove(1)
        if cancel := self._stopped.of(agent_id, beat.instance_id):
            answer = answer.model_copy(update={"cancel": list(cancel)})
        await _answer(200, to_json(answer), send)


async def _answer(status: int, body: bytes, send: Send) -> None:
    # Fresh for every answer: whoever wraps `send` may add to the headers in place.
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
