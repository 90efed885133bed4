"""The locks by which replicas take turns: each is held to the end of a transaction.

Two numbers name one, the first of which tells Ops-Core's from those of other programs.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CLAIMS", "CREATION", "EVENTS", "REGISTRATION", "SCHEMA", "WORKFLOW"]

_OURS: Final = 0x4F707343  # "OpsC"

EVENTS: Final = f"{_OURS}, 1"
"""Taken before an event gets its number, so that numbers appear in their order."""

SCHEMA: Final = f"{_OURS}, 2"
"""Taken to bring the schema up to date."""

REGISTRATION: Final = _OURS + 1
"""With a name's or an id's hash: taken to find out whether an agent is new."""

CLAIMS: Final = f"{_OURS}, 3"
"""Taken to give slots to tasks, or to change which slot a task has."""

CREATION: Final = _OURS + 2
"""With the hash of an `Idempotency-Key`: taken to find out whether it was used before."""

WORKFLOW: Final = _OURS + 3
"""With the hash of a definition's id: taken to number its next version."""
