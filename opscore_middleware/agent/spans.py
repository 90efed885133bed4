"""Units of work from OpenTelemetry's GenAI spans."""

from __future__ import annotations

import sys
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import NonRecordingSpan, StatusCode, use_span

from opscore_middleware.agent.failure import Failure
from opscore_middleware.agent.outcome import is_failure
from opscore_middleware.agent.unit import Unit, find_origin

__all__ = ["OPERATIONS", "UnitsFromSpans"]

OPERATIONS: Final = frozenset({"invoke_agent", "invoke_workflow"})
"""What of `gen_ai.operation.name` is an agent's work; the rest are steps of it."""

_OPERATION: Final = "gen_ai.operation.name"


class UnitsFromSpans(SpanProcessor):
    """Opens a unit with each span of an agent's work, and closes it with the span.

    Of nested ones the outermost is the unit: an agent may well recover from what another one that
    it called has failed at. Agents without `spans=True` are left alone.
    """

    def __init__(self) -> None:
        self._units: dict[int, Unit] = {}
        self._within: set[int] = set()  # open spans that are a unit, or descend from one

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Open a unit, where the span is one."""
        context = span.context
        if context is None:
            return
        if span.parent is not None and span.parent.span_id in self._within:
            self._within.add(context.span_id)
        elif (span.attributes or {}).get(_OPERATION) in OPERATIONS:
            origin = find_origin()
            if origin is not None and origin.runtime.settings.spans:
                self._within.add(context.span_id)
                self._units[context.span_id] = Unit(origin, span.name)

    def on_end(self, span: ReadableSpan) -> None:
        """Close the unit of the span, if it has one."""
        if not self._within or span.context is None:
            return
        self._within.discard(span.context.span_id)
        unit = self._units.pop(span.context.span_id, None)
        if unit is not None:
            failure = _failure(span)
            # Spans do not tell of cancellation, but it is on its way through when they end.
            passing = sys.exc_info()[1]
            cut_off = failure is None and passing is not None and not is_failure(passing)
            with use_span(NonRecordingSpan(span.context)):  # a failure tells of its trace
                unit.end(passing if cut_off else None, failure)


def _failure(span: ReadableSpan) -> Failure | None:
    if span.status.status_code is not StatusCode.ERROR:
        return None
    exceptions = [event.attributes or {} for event in span.events if event.name == "exception"]
    raised = exceptions[-1] if exceptions else {}
    kind = raised.get("exception.type") or (span.attributes or {}).get("error.type")
    message = raised.get("exception.message") or span.status.description
    return Failure(str(kind or "SpanError").rpartition(".")[2], str(message or "no message given"))
