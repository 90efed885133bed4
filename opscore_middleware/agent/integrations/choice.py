"""Which integrations an agent has on, and how they come to be attached."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from opscore_middleware.agent.integrations.a2a import A2A
from opscore_middleware.agent.integrations.acp import ACP
from opscore_middleware.agent.integrations.agno import Agno
from opscore_middleware.agent.integrations.chainlit import Chainlit
from opscore_middleware.agent.integrations.fasta2a import FastA2A
from opscore_middleware.agent.integrations.fastmcp import FastMCP
from opscore_middleware.agent.integrations.fastmcp_tasks import FastMCPTasks
from opscore_middleware.agent.integrations.gradio import Gradio
from opscore_middleware.agent.integrations.langgraph import LangGraph
from opscore_middleware.agent.integrations.mcp import MCP
from opscore_middleware.agent.integrations.protocol import Integration, WorkUnit
from opscore_middleware.errors import ConfigurationError

__all__ = ["BUNDLED", "GROUP", "Choice"]

logger = logging.getLogger("opscore_middleware")

BUNDLED: Final[tuple[Integration, ...]] = (
    A2A(),
    ACP(),
    Agno(),
    Chainlit(),
    FastA2A(),
    FastMCP(),
    FastMCPTasks(),
    Gradio(),
    LangGraph(),
    MCP(),
)

GROUP: Final = "opscore_middleware.integrations"
"""The entry points by which other packages bring theirs."""

# Read with this module: that takes a look at whatever is installed, which must not hold up a loop.
_POINTS: Final = importlib.metadata.entry_points(group=GROUP)

ALL: Final = "*"

# What has been done to the frameworks of this process is done for good, whichever agent came first:
# the one thing here that cannot belong to an agent. True where it could be done.
_attached: Final[dict[str, bool]] = {}


class Choice:
    """The integrations that an agent has on: all that are known, but for those switched off.

    Args:
        given: names to switch on, names behind a `-` to switch off (`-*` all of them), read from
            left to right, and integrations of one's own. One of those, or of another package, goes
            before a bundled one of its name.

    Raises:
        ConfigurationError: something else is given, or a name that no integration has.
    """

    def __init__(self, given: Iterable[object] = ()) -> None:
        self._given = tuple(given)
        own: list[Integration] = []
        for item in self._given:
            if isinstance(item, Integration) and not isinstance(item, type):
                own.append(item)
            elif not isinstance(item, str):
                raise ConfigurationError(
                    f"integrations={self._given!r} holds {item!r}; it takes names, names behind a "
                    "'-' to switch off, and objects with `name`, `module` and `attach`.",
                    setting="integrations",
                )
        self._own: Sequence[Integration] = own
        named = {item.removeprefix("-") for item in self._given if isinstance(item, str)}
        unknown = named - {ALL, *(known.name for known in (*BUNDLED, *own))}
        if unknown:
            unknown -= set(_POINTS.names)
        if unknown:
            known = {i.name for i in (*BUNDLED, *own)} | set(_POINTS.names)
            raise ConfigurationError(
                f"integrations={self._given!r} names {min(unknown)!r}, which is none; there are: "
                f"{', '.join(sorted(known))}.",
                setting="integrations",
            )

    def attach(self) -> frozenset[str]:
        """Attach those whose frameworks are in use; return the names of those that are."""
        known: dict[str, Any] = {integration.name: integration for integration in BUNDLED}
        known |= {point.name: point for point in _POINTS}
        known |= {integration.name: integration for integration in self._own}
        return frozenset(name for name in self._on(known) if _attach(name, known[name]))

    def _on(self, known: Iterable[str]) -> list[str]:
        names = dict.fromkeys(known, True)
        for item in self._given:
            name = item if isinstance(item, str) else item.name  # type: ignore[attr-defined]
            switched = not name.startswith("-")
            name = name.removeprefix("-")
            names.update(dict.fromkeys(names if name == ALL else (name,), switched))
        return [name for name, on in names.items() if on]


def _attach(name: str, known: Integration | importlib.metadata.EntryPoint) -> bool:
    """Attach one, once per process; it can do the app no harm."""
    if name in _attached:
        return _attached[name]
    try:
        integration: Any = known
        if isinstance(known, importlib.metadata.EntryPoint):
            loaded = known.load()
            integration = loaded() if isinstance(loaded, type) else loaded
        if integration.module not in sys.modules:
            return False  # it may be by the time that another app starts
        integration.attach(lambda unit: WorkUnit(name, unit))
        _attached[name] = True
    except Exception as reason:
        _attached[name] = False
        logger.warning(
            "Integration %r is not attached, and what it is for counts by its requests: %s",
            name,
            reason,
        )
    return _attached[name]
