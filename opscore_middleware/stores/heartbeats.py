"""The heartbeats that share a statement, whatever the database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from opscore_middleware.core.records import HeartbeatOutcome, ReportOutcome, StoredHeartbeat
from opscore_middleware.core.states import AgentState

__all__ = ["answers", "folded"]


def folded(beats: Sequence[StoredHeartbeat], keys: Mapping[str, int]) -> list[tuple[object, ...]]:
    """Return one row for each instance whose agent has a key, since a statement changes a row once.

    A row is the agent's key and then what its heartbeats say, in the order of `StoredHeartbeat`.
    """
    latest: dict[tuple[int, str], StoredHeartbeat] = {}
    for beat in beats:
        agent_key = keys.get(beat.agent_id)
        if agent_key is not None:
            instance = agent_key, beat.instance_id
            latest[instance] = _after(latest.get(instance), beat)
    return [(agent_key, *beat[1:]) for (agent_key, _), beat in latest.items()]


def answers(
    beats: Sequence[StoredHeartbeat],
    keys: Mapping[str, int],
    refused: Mapping[str, ReportOutcome],
    rows: Iterable[Any],
) -> list[HeartbeatOutcome]:
    """Answer each heartbeat: what is known of its instance, or why its agent is `refused`.

    `rows` are agent's key, instance's id, state and last sequence of all that were written.
    """
    known = {
        (agent_key, instance_id): HeartbeatOutcome(ReportOutcome.ACCEPTED, state, last_sequence)
        for agent_key, instance_id, state, last_sequence in rows
    }
    return [
        known[keys[beat.agent_id], beat.instance_id]
        if beat.agent_id in keys
        else HeartbeatOutcome(refused[beat.agent_id], AgentState.UNKNOWN.value, 0)
        for beat in beats
    ]


def _after(before: StoredHeartbeat | None, beat: StoredHeartbeat) -> StoredHeartbeat:
    """Return what two heartbeats of one instance say together."""
    if before is None:
        return beat
    return beat._replace(
        received_at=max(before.received_at, beat.received_at),
        started_at=beat.started_at if before.started_at is None else before.started_at,
    )
