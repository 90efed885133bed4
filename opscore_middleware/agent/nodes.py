"""The table of states, laid out so that a step of it costs as little as can be."""

from __future__ import annotations

from typing import Final

from opscore_middleware.core.states import TRANSITIONS, AgentState, Cause

__all__ = ["NODES", "Node"]


class Node:
    """A state of the table with the nodes that follow it: a step is one attribute away."""

    __slots__ = ("after", "began", "ended", "state")

    def __init__(self, state: AgentState) -> None:
        self.state = state
        self.after: dict[Cause, Node] = {}
        # The two steps of every request, without a look-up.
        self.began: Node | None = None
        self.ended: Node | None = None


def _compile() -> dict[AgentState, Node]:
    nodes = {state: Node(state) for state in TRANSITIONS}
    for state, row in TRANSITIONS.items():
        node = nodes[state]
        node.after = {cause: nodes[after] for cause, after in row.items()}
        node.began = node.after.get(Cause.BEGAN)
        node.ended = node.after.get(Cause.ENDED)
    return nodes


NODES: Final = _compile()
"""Each state's node."""
