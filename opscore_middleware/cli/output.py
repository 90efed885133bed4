"""What commands print: tables for a person, JSON for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opscore_middleware.cli.printable import visible
from opscore_middleware.core.runs.tasks import TaskState
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.core.states import AgentState

__all__ = [
    "ago",
    "console",
    "details",
    "moment",
    "print_changed",
    "print_json",
    "print_list",
    "print_pairs",
    "print_table",
    "state_text",
    "table_of",
]

M = TypeVar("M", bound=BaseModel)

_COLOURS: Final[Mapping[str, str]] = {
    AgentState.UNKNOWN: "dim",
    AgentState.INITIALIZING: "cyan",
    AgentState.IDLE: "green",
    AgentState.ACTIVE: "bold blue",
    AgentState.ERROR: "bold red",
    AgentState.DRAINING: "yellow",
    AgentState.FINISHED: "dim",
    TaskState.WAITING: "dim",
    TaskState.READY: "cyan",
    TaskState.DISPATCHED: "cyan",
    TaskState.RUNNING: "bold blue",
    TaskState.COMPLETED: "green",
    TaskState.FAILED: "bold red",
    TaskState.SKIPPED: "dim",
    TaskState.CANCELLED: "dim",
    SessionState.STARTED: "cyan",
    SessionState.PAUSED: "yellow",
}
# Rich cuts cells to 80 columns where it sees no terminal, and ids would be lost in a pipe.
_PIPE_WIDTH: Final = 1000
# Columns that name something else than their row is about: cut short where there is no room.
_CUT: Final = frozenset({"AGENT", "BY", "SESSION"})
_SHORT: Final = 12
_STEPS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def state_text(state: str, *, lost: bool = False) -> Text:
    """Return a state in its colour; `lost` marks an agent that vanished without a word."""
    return Text(f"{state} (lost)" if lost else state, style=_COLOURS.get(state, "magenta"))


def ago(moment: datetime, now: datetime) -> str:
    """Return how long ago something was, in its largest unit: `3 min ago`."""
    seconds = (now - moment) // timedelta(seconds=1)
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return "now"


def moment(at: datetime | None) -> str:
    """Return a time to the second, and nothing for none."""
    return "" if at is None else at.isoformat(timespec="seconds")


def details(value: Any) -> str:
    """Return JSON on one line, and nothing for none."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def print_json(value: BaseModel | Iterable[BaseModel]) -> None:
    """Print a model, or several as a list, as the server words them."""
    if isinstance(value, BaseModel):
        typer.echo(value.model_dump_json(by_alias=True, indent=2))
    else:
        items = [item.model_dump(mode="json", by_alias=True) for item in value]
        typer.echo(json.dumps(items, indent=2, ensure_ascii=False))


def print_list(
    found: Sequence[M],
    columns: Iterable[str],
    row: Callable[[M, datetime], Iterable[str | Text]],
    *,
    none: str,
    as_json: bool,
) -> None:
    """Print what was listed: a row for each as `row` words it now, or JSON; for nothing, `none`."""
    if as_json:
        print_json(found)
    elif found:
        now = datetime.now(UTC)
        print_table(columns, (row(one, now) for one in found))
    else:
        typer.echo(none, err=True)


def print_changed(name: str, changed: M, state: str, *, as_json: bool) -> None:
    """Print what became of something that was changed."""
    if as_json:
        print_json(changed)
    else:
        typer.echo(f"{name} is {state}.")


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> None:
    """Print rows under their headings; text stays text, whatever brackets it holds."""
    console().print(table_of(columns, rows))


def table_of(columns: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> Table:
    """Return rows under their headings, one line each as far as the terminal's width allows."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = tuple(columns)
    cells = [[_plain(cell) for cell in row] for row in rows]
    for number, name in enumerate(names):
        # An id that is broken over two lines cannot be copied, and a state cannot be read.
        short = max((row[number].cell_len for row in cells), default=0) <= _SHORT
        whole = short or name == "ID" or (number == 0 and name in _CUT)
        heading = Text(name, no_wrap=True, overflow="ellipsis")
        table.add_column(heading, overflow="fold", no_wrap=whole)
    for row in cells:
        for name, cell in zip(names[1:], row[1:], strict=True):
            if name in _CUT:
                cell.no_wrap, cell.overflow = True, "ellipsis"
        table.add_row(*row)
    return table


def print_pairs(pairs: Iterable[tuple[str, str | Text]]) -> None:
    """Print names and values, one pair a line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, _plain(value))
    console().print(table)


def _plain(cell: str | Text) -> Text:
    return cell if isinstance(cell, Text) else Text(visible(cell))


def console() -> Console:
    """Return what prints as wide as the terminal, and in a pipe without breaking lines."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH)
