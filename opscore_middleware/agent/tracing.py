"""Has OpenTelemetry, where the app uses it, show the spans that are work."""

from __future__ import annotations

import logging
import sys
import weakref
from typing import Any, Final

__all__ = ["watch_spans"]

logger = logging.getLogger("opscore_middleware")

# A provider takes processors and never gives them back; two would open each unit twice.
_watched: Final[weakref.WeakSet[Any]] = weakref.WeakSet()


def watch_spans() -> None:
    """See the spans of the global tracer provider from now on; once for each provider."""
    # Only an app that traces has imported it; we never do.
    trace = sys.modules.get("opentelemetry.trace")
    provider: Any = None if trace is None else trace.get_tracer_provider()
    if not hasattr(provider, "add_span_processor"):
        logger.warning(
            "spans=True finds no OpenTelemetry tracer provider that spans could be seen at; set "
            "one (opentelemetry.trace.set_tracer_provider) before the app starts."
        )
        return
    if provider not in _watched:
        _watched.add(provider)
        # The SDK is there, as its provider is; importing it otherwise would be ours to answer for.
        from opscore_middleware.agent.spans import UnitsFromSpans

        provider.add_span_processor(UnitsFromSpans())
