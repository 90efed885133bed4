"""What the demo shows: what it does on the left, what Ops-Core learns on the right."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from opscore_middleware.cli.output import state_text
from opscore_middleware.core.models import Transition
from opscore_middleware.core.runs.views import TaskView

__all__ = ["Screen", "delay"]

_LEFT, _RIGHT, _END = 41, 16, 8  # columns; 9 for the clock stand before them
_WIDTH = 9 + _LEFT + _RIGHT + _END


class Screen:
    """Prints lines as things happen; on a terminal, the last line tells what is going on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()
        self._status = console.status("", spinner="dots")

    @contextmanager
    def live(self) -> Iterator[None]:
        """Print the heading of the two lanes, and keep the last line while the block lasts."""
        self._console.print("\n[bold]An agent's life, as it reaches Ops-Core[/bold]\n")
        self._line(Text("the demo", "dim"), Text("Ops-Core learns", "dim"), "delay")
        self._console.print("─" * _WIDTH, style="dim")
        self._start = time.monotonic()
        with self._status:
            yield

    @contextmanager
    def live_part(self, title: str, right: str) -> Iterator[None]:
        """Begin another part, with a heading and a last line of its own."""
        self._console.print(f"\n[bold]{escape(title)}[/bold]\n")
        self._line(Text("the demo", "dim"), Text(right, "dim"), "took")
        self._console.print("─" * _WIDTH, style="dim")
        with self._status:
            yield

    def does(self, what: str) -> None:
        """Say what the demo does now."""
        self._line(Text(what, "bold"), clock=self._clock())
        self.waits(what)

    def gets(self, what: str) -> None:
        """Say what came of it."""
        self._line(Text(f"  {what}", "dim"), clock=self._clock())

    def waits(self, what: str) -> None:
        """Say on the last line of a terminal what is going on."""
        self._status.update(f"[dim]{escape(what)}[/dim]")

    def learns(self, transition: Transition) -> None:
        """Print a transition that has reached Ops-Core."""
        told = f"{delay(transition):.0f} ms"
        self._line(Text(), _state(transition.state), told, clock=self._clock())

    def works(self, task: TaskView, agent: str) -> None:
        """Print a task that an agent has begun or ended."""
        which = task.node if task.item is None else f"{task.node}[{task.item}]"
        took = ""
        if task.started_at is not None and task.ended_at is not None:
            took = f"{(task.ended_at - task.started_at).total_seconds() * 1000:.0f} ms"
        self._line(
            Text.assemble(f"  {which} ", (f"{agent}", "dim")),
            _state(task.state),
            took,
            clock=self._clock(),
        )

    def history(self, transitions: Sequence[Transition]) -> None:
        """Print the whole history as a table, and what it adds up to."""
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_style="bold", title_justify="left")
        table.title = "\nThe history as Ops-Core keeps it"
        table.add_column("#", justify="right", min_width=2)
        table.add_column("state", no_wrap=True, min_width=14)
        table.add_column("happened (UTC)", no_wrap=True, min_width=14)
        table.add_column("delay", justify="right", no_wrap=True, min_width=8)
        table.add_column("details", overflow="ellipsis", no_wrap=True, max_width=30)
        for transition in transitions:
            table.add_row(
                str(transition.sequence),
                _state(transition.state),
                f"{transition.timestamp:%H:%M:%S.%f}"[:-3],
                f"{delay(transition):.1f} ms",
                Text(_details(transition)),
            )
        self._console.print(table)
        delays = [delay(transition) for transition in transitions]
        self._console.print(
            f"[green]✓[/green] {len(transitions)} transitions, every one as expected; "
            f"median delay {statistics.median(delays):.1f} ms, longest {max(delays):.1f} ms."
        )

    def tells(self, text: str) -> None:
        """Print lines as they are, never wrapped, so that they can be copied."""
        self._console.print(text, markup=False, soft_wrap=True)

    def fails(self, reason: str) -> None:
        """Say why the demo ends early."""
        self._console.print(f"\n[bold red]The demo failed:[/bold red] {escape(reason)}")

    def _line(self, left: Text, right: Text | str = "", end: str = "", clock: str = "") -> None:
        """Print one line of both lanes; a lane that is too long is cut."""
        line = Text(f"{clock:>7}  ", style="dim")
        for lane, width in ((left, _LEFT), (Text.assemble(right), _RIGHT)):
            lane.truncate(width, overflow="ellipsis", pad=True)
            line.append_text(lane)
        line.append(f"{end:>{_END}}")
        line.rstrip()
        self._console.print(line)

    def _clock(self) -> str:
        return f"{time.monotonic() - self._start:.2f} s"


def delay(transition: Transition) -> float:
    """Return how long after it happened Ops-Core had a transition, in milliseconds."""
    return (transition.received_at - transition.timestamp).total_seconds() * 1000


def _state(state: str) -> Text:
    told = state_text(state)
    return Text.assemble(("● ", told.style), told)


def _details(transition: Transition) -> str:
    error = (transition.details or {}).get("error")
    return f"{error['type']}: {error['message']}" if isinstance(error, dict) else ""
