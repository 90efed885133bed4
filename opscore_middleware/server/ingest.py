"""The report routes, which carry the load: plain ASGI, one pass over the bytes, a fixed answer.

They stand before FastAPI: its layers cost more than the work that is done here.
"""

from __future__ import annotations

import logging
import re
from typing import Final, NamedTuple

from pydantic import TypeAdapter
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from opscore_middleware.core.models import Batch, StateAccepted, StateReport
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.server.body import parse, read
from opscore_middleware.server.logs import get_logger

__all__ = ["Ingest", "Target", "target"]

log = get_logger(__name__)

_TARGET: Final = re.compile(r"/v1/opscore/agent/([^/]+)/(state|states)")
_REPORT: Final = TypeAdapter(StateReport)
_BATCH: Final = TypeAdapter(Batch)
_ACCEPTED: Final = to_json(StateAccepted())


class Target(NamedTuple):
    """The agent that a request reports for, and whether it brings a batch."""

    agent_id: str
    is_batch: bool


def target(method: str, path: str) -> Target | None:
    """Return what a request reports for; None when it is not a report."""
    if method != "POST":
        return None
    match = _TARGET.fullmatch(path)
    if match is None:
        return None
    agent_id, noun = match.groups()
    return Target(agent_id, noun == "states")


class Ingest:
    """Takes reports over HTTP.

    Args:
        opscore: the use cases.
        max_body_bytes: bounds the body of a single report.
        max_batch_bytes: bounds the body of a batch.
    """

    def __init__(self, opscore: OpsCore, *, max_body_bytes: int, max_batch_bytes: int) -> None:
        self._opscore = opscore
        self._max_body_bytes = max_body_bytes
        self._max_batch_bytes = max_batch_bytes

    async def single(self, agent_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one report and answer 202 once it is on disk."""
        body = await read(scope["headers"], receive, self._max_body_bytes)
        report = parse(_REPORT, body)
        await self._opscore.report(agent_id, report)
        if log.isEnabledFor(logging.DEBUG):
            log.debug("report_accepted", agent_id=agent_id, state=report.state)
        await _send_accepted(_ACCEPTED, send)

    async def batch(self, agent_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Take several reports, all or none, and answer 202 once they are on disk."""
        body = await read(scope["headers"], receive, self._max_batch_bytes)
        batch = parse(_BATCH, body)
        outcome = await self._opscore.report_batch(agent_id, batch.reports)
        log.debug("reports_accepted", agent_id=agent_id, accepted=outcome.accepted)
        await _send_accepted(to_json(outcome), send)


async def _send_accepted(body: bytes, send: Send) -> None:
    # Fresh for every answer: whoever wraps `send` may add to the headers in place.
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": body})
