"""What a person sees of a table in a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from opscore_middleware.cli.output import details, table_of
from opscore_middleware.cli.printable import visible

AGENT = "84e2c203-8316-480c-b178-96c6e8eaf776"
SESSION = "7f2b8f6b-87be-4c61-827b-f9776f33873b"
TASK = "660e47934e69d9c73d23b20d1-1"


def printed(columns: tuple[str, ...], row: tuple[str, ...], width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table_of(columns, [row]))
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_a_task_is_one_line_of_eighty_columns_with_its_id_whole() -> None:
    columns = ("TASK", "STATE", "CREATED", "BY", "ATTEMPT", "SESSION", "ID")
    lines = printed(columns, ("a", "completed", "12 min ago", AGENT, "1", SESSION, TASK), 80)
    (_, line) = lines
    assert line.startswith("a     completed  12 min ago  84e2")
    assert line.endswith(f" {TASK}")


def test_a_session_is_one_line_of_eighty_columns_with_its_id_whole() -> None:
    columns = ("SESSION", "STATE", "STARTED", "WORKFLOW", "AGENT")
    (_, line) = printed(columns, (SESSION, "completed", "29 s ago", "digest", AGENT), 80)
    assert line.startswith(f"{SESSION}  completed  29 s ago  digest    84e2")
    assert line.endswith("…")


def test_nothing_is_cut_where_there_is_room() -> None:
    (_, line) = printed(("STATE", "BY", "ID"), ("completed", AGENT, TASK), 200)
    assert line == f"completed  {AGENT}  {TASK}"


def test_what_is_not_ascii_is_printed_as_it_was_written() -> None:
    assert details({"title": "概要, é"}) == '{"title": "概要, é"}'


def test_what_would_steer_the_terminal_is_spelled_out() -> None:
    steering = "red\x1b[31m, title\x1b]0;x\x07, \x9b2J\r\x7f"
    (_, line) = printed(("SAYS",), (steering,), 200)
    assert line == r"red\x1b[31m, title\x1b]0;x\x07, \x9b2J\r\x7f"
    assert visible("two\n\tlines, é") == "two\n\tlines, é"
