"""What the reports of one commit make of their instances, decided before anything is written.

A statement can change a row once. Reports of one instance in one commit are therefore merged into
the one that can become current; where that depends on what the database holds, they make two
changes, which are written one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from opscore_middleware.core.records import StoredReport
from opscore_middleware.core.states import AgentState
from opscore_middleware.stores.rows import NO_INSTANCE

__all__ = ["Change", "Reporting", "rounds"]


class Reporting(NamedTuple):
    """A report and the key of its agent, which is known and not deregistered."""

    agent_key: int
    report: StoredReport


class Change(NamedTuple):
    """What a row of `instances` becomes, if its state is not newer; its columns, in their order."""

    agent_key: int
    instance_id: str
    state: str
    details: str | None
    timestamp: int
    effective_at: int
    sequence: int | None
    started_at: int | None
    last_seen_at: int


def rounds(reports: Iterable[Reporting]) -> list[list[Change]]:
    """Return the changes that reports make, in rounds that change each instance once.

    The first round has every instance. Written in order, they leave what the reports would leave,
    written one by one.
    """
    runs: dict[tuple[int, str], list[_Run]] = {}
    for agent_key, report in reports:
        instance = agent_key, report.instance_id or NO_INSTANCE
        of_instance = runs.setdefault(instance, [])
        if not of_instance or not of_instance[-1].takes(report):
            of_instance.append(_Run(report))
        else:
            of_instance[-1].add(report)
    deepest = max(map(len, runs.values()), default=0)
    return [
        [of_instance[depth].change(*instance) for instance, of_instance in runs.items()
         if depth < len(of_instance)]
        for depth in range(deepest)
    ]  # fmt: skip


class _Run:
    """Reports of one instance, one after the other, of which only `newest` can become current.

    That holds as long as all of them have a sequence, or none has, and none that can become
    current says `finished`, after which nothing does.
    """

    __slots__ = ("_last_seen_at", "_newest", "_started_at")

    def __init__(self, first: StoredReport) -> None:
        self._newest = first
        self._started_at = first.started_at
        self._last_seen_at = first.received_at

    def takes(self, report: StoredReport) -> bool:
        newest = self._newest
        if newest.instance_id is not None and newest.state == AgentState.FINISHED:
            return False
        return (newest.sequence is None) == (report.sequence is None)

    def add(self, report: StoredReport) -> None:
        if _is_newer(report, self._newest):
            self._newest = report
        if self._started_at is None:
            self._started_at = report.started_at
        self._last_seen_at = max(self._last_seen_at, report.received_at)

    def change(self, agent_key: int, instance_id: str) -> Change:
        newest = self._newest
        return Change(
            agent_key,
            instance_id,
            newest.state,
            newest.details,
            newest.timestamp,
            newest.effective_at,
            newest.sequence,
            self._started_at,
            self._last_seen_at,
        )


def _is_newer(report: StoredReport, than: StoredReport) -> bool:
    if report.sequence is not None and than.sequence is not None:
        return report.sequence > than.sequence
    return report.effective_at >= than.effective_at
