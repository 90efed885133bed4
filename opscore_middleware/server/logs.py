"""Logs: one event for each decision, as JSON lines or for a person's eyes.

Events go through the standard library's loggers, so that a program that embeds the server keeps
its own way of logging; `configure` is for the process that is the server.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from typing import Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from opscore_middleware.server.settings import LogFormat

__all__ = ["configure", "get_logger"]

_NOTHING: Final[Mapping[str, object]] = {}


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose events carry their values as fields: `log.info("stopped", n=3)`."""
    lazy = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    # Bound once: a lazy one looks its configuration up with every event.
    logger: structlog.stdlib.BoundLogger = lazy.bind()
    return logger


def configure(
    level: str,
    log_format: LogFormat,
    stream: TextIO | None = None,
    *,
    fields: Mapping[str, object] = _NOTHING,
) -> None:
    """Send every record of this process, the web server's too, through one renderer.

    `auto` means for a person where `stream` (standard error unless given) is a terminal, and JSON
    anywhere else. `fields` go with every record.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    human = log_format == "console" or (log_format == "auto" and stream.isatty())
    handler.setFormatter(_formatter(human=human, fields=fields))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # The libraries tell every step of theirs; ours are told by the events of this package.
    chatter = logging.DEBUG if level == "DEBUG" else logging.WARNING
    for name in ("uvicorn", "httpx"):
        logging.getLogger(name).setLevel(chatter)


def _formatter(*, human: bool, fields: Mapping[str, object]) -> logging.Formatter:
    def add_fields(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        return {**fields, **event}

    common: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        add_fields,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    last: list[Processor] = (
        [structlog.dev.ConsoleRenderer()]
        if human
        # Tracebacks as plain text: the structured ones show local variables, and so secrets.
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=common,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )
