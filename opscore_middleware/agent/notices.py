"""Trouble told once: a flood of log lines helps nobody, and may feed on itself."""

from __future__ import annotations

import logging

__all__ = ["Notices"]

logger = logging.getLogger("opscore_middleware")


class Notices:
    """Logs each topic once until it is settled."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def once(self, topic: str, level: int, message: str, *args: object) -> None:
        """Log a line, unless one on the topic was logged before."""
        if topic not in self._told:
            self._told.add(topic)
            logger.log(level, message, *args)

    def settle(self, *topics: str) -> bool:
        """Let these topics be told again; True when one of them had been told."""
        told = not self._told.isdisjoint(topics)
        self._told.difference_update(topics)
        return told
