"""A request that may come to count as work."""

from __future__ import annotations

from opscore_middleware.agent.outbox import Instance

__all__ = ["Read"]


class Read:
    """A request that counts as work only once it has lasted."""

    __slots__ = ("counted", "instance", "since")

    def __init__(self, instance: Instance, since: float) -> None:
        self.instance = instance
        self.since = since
        self.counted = False
