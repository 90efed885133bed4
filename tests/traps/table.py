"""What breaks middleware and telemetry in the wild: one table, from each trap to its tests.

`python -m tests.traps.table` writes it into docs/traps.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.traps.expected import DIFFERENT, EXPECTED
from tests.traps.rows.delivery import DELIVERY
from tests.traps.rows.lifespan import LIFESPAN
from tests.traps.rows.requests import REQUESTS
from tests.traps.rows.trap import Trap
from tests.traps.servers import SERVERS

__all__ = ["PAGE", "ROWS", "render"]

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "traps.md"

ROWS: Final[dict[str, Trap]] = LIFESPAN | REQUESTS | DELIVERY
"""Every trap by its number."""

INTRODUCTION: Final = """\
# Traps

What breaks ASGI middleware and background telemetry in the wild, what holds here in spite of it,
and the tests that show it. The table is kept in `tests/traps/table.py`, which writes this page; the
suite sees to it that each of its tests exists.
"""
DIFFERENCES: Final = """\
## Where servers differ

Every server is run as a process of its own and held to one table of what Ops-Core is told of a life
under it, `tests/traps/expected.py`, and so is Starlette's test client. These are the lines where a
server differs, and why that cannot be helped. In parentheses is what else is seen meanwhile.

| under | what happens | others | here | because |
|---|---|---|---|---|
"""
_SECTIONS: Final = {
    "Lifespan and process": LIFESPAN,
    "Requests": REQUESTS,
    "Delivery": DELIVERY,
}


def render() -> str:
    """Return the table as the page that people read."""
    parts = [INTRODUCTION]
    for title, rows in _SECTIONS.items():
        lines = [f"## {title}", "", "| | the trap | what holds | shown by |", "|---|---|---|---|"]
        for number, row in rows.items():
            shown = "<br>".join(f"`{name}`" for _, name in row.tests)
            lines.append(f"| {number} | {row.trap} | {row.holds} | {shown} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join([*parts, DIFFERENCES + "\n".join(_differences()) + "\n"])


def _differences() -> Iterator[str]:
    for (runner, scenario), (trace, why) in DIFFERENT.items():
        if runner in SERVERS and trace is not None:
            others, here = _told(EXPECTED[scenario]), _told(trace)
            yield f"| {runner} | {scenario} | {others} | {here} | {why} |"


def _told(trace: list[str]) -> str:
    return ", ".join(trace) or "nothing"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
