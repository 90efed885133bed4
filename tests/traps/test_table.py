"""The table of traps and the tests know each other, in both directions."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.traps.table import PAGE, ROWS, render

TESTS = Path(__file__).resolve().parents[1]
NUMBERS = [*map(str, range(1, 36)), "35a", "35b", "35c", "35d", *map(str, range(36, 49))]


@cache
def rows_by_test(file: str) -> dict[str, set[str]]:
    """Return the tests of a file below `tests/`, each with the rows that it is marked with."""
    path = TESTS / file
    if not path.exists():
        return {}
    return {
        node.name: _rows(node)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not _left_out(node)
    }


def _marks(node: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, ast.expr]:
    return {
        ast.unparse(mark.func if isinstance(mark, ast.Call) else mark): mark
        for mark in node.decorator_list
    }


def _rows(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    mark = _marks(node).get("pytest.mark.trap")
    return {ast.literal_eval(row) for row in mark.args} if isinstance(mark, ast.Call) else set()


def _left_out(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Tell whether a test is not part of every run; a condition on the system is fine."""
    return not {"pytest.mark.soak", "pytest.mark.skip"}.isdisjoint(_marks(node))


def test_the_table_has_every_row_once_and_in_order() -> None:
    assert list(ROWS) == NUMBERS


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_shown_by_tests_that_exist(row: str) -> None:
    assert ROWS[row].tests
    for file, name in ROWS[row].tests:
        assert name in rows_by_test(file), f"{file}::{name} shows row {row}, and does not exist"


def test_each_test_that_is_marked_with_a_row_is_in_the_table() -> None:
    files = [path.relative_to(TESTS).as_posix() for path in TESTS.rglob("test_*.py")]
    marked = {
        (row, file, name)
        for file in files
        for name, rows in rows_by_test(file).items()
        for row in rows
    }
    listed = {(row, *test) for row, trap in ROWS.items() for test in trap.tests}
    assert marked - listed == set()
    # And in the rooms that were made for it, each test of the table is marked.
    ours = {entry for entry in listed if entry[1].startswith(("traps/", "coexistence/"))}
    assert ours - marked == set()


def test_the_page_is_written_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "run: python -m tests.traps.table"
