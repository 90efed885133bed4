"""What people write, in JSON or YAML, and what is refused of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from opscore_middleware.errors import InvalidInput
from opscore_middleware.notations.cron import next_run
from opscore_middleware.notations.documents import MAX_BYTES, read_document

YAML = """\
# what it is for
id: digest
version: "1.0"
tasks:
  - taskId: read     # first
    runAt: 2026-01-31T12:00:00Z
    parameters: {answer: no, n: 12, x: 1.5e3, none: ~, deep: [yes, true, 0x1f, 1_000, 12:30]}
  - taskId: write
    parameters:
      text: |
        two
        lines
      "a b": '7'
"""


def test_yaml_is_read_as_json_would_have_it_with_the_line_of_each_place() -> None:
    read = read_document(YAML.encode())
    assert read.value == {
        "id": "digest",
        "version": "1.0",
        "tasks": [
            {
                "taskId": "read",
                "runAt": "2026-01-31T12:00:00Z",
                "parameters": {
                    "answer": "no",
                    "n": 12,
                    "x": 1500.0,
                    "none": None,
                    "deep": ["yes", True, "0x1f", "1_000", "12:30"],
                },
            },
            {"taskId": "write", "parameters": {"text": "two\nlines\n", "a b": "7"}},
        ],
    }
    assert read.lines["tasks[0].parameters.deep[2]"] == 7
    assert read.lines['tasks[1].parameters["a b"]'] == 13
    assert (read.lines["tasks[1]"], read.lines[""]) == (8, 2)


@pytest.mark.parametrize("text", ['{"a": [1, null]}', '\ufeff  {"a": [1, null]}\n', "a: [1, null]"])
def test_json_and_yaml_are_told_apart_by_how_they_begin(text: str) -> None:
    assert read_document(text).value == {"a": [1, None]}
    assert read_document(text.encode()).value == {"a": [1, None]}


def test_nothing_is_nothing() -> None:
    assert read_document("# a comment").value is None


BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n"
    for before, name in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "*a is an alias; write out what it stands for (line 2, column 8)"),
        ("a: &a [*a]", "*a is an alias"),
        ("a: 1\nb: {c: 1, c: 2}", "'c' stands twice in one object (line 2, column 11)"),
        ('{"a": [{"c": 1, "c": 2}]}', "'c' stands twice in one object (a[0].c)"),
        ("a: !!python/object/apply:os.system [ls]", "means nothing here (line 1"),
        ("a: !!str 5", "means nothing here"),
        ("a: !secret x", "the tag !secret means nothing here"),
        ("? [a]\n: b", "a name is a text"),
        ("a: b: c", "not YAML"),
        ("'" * 3, "not YAML"),
        ("a: \x07", "not YAML"),
        ("--- a\n--- b", "another document"),
        ('{"a": 1', "not JSON"),
        ('{"a": NaN}', "JSON has no NaN"),
        ("[" * 100_000, "nested too deeply"),
        ("- " * 100_000 + "x", "nested too deeply"),
        ("- " * 500 + "x", "nested too deeply"),
        (b"a: \xff", "not UTF-8"),
        ("#" * (MAX_BYTES + 1), "more than 262,144 bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(text: str | bytes, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_document(text)
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_a_schedule_is_in_utc_whatever_the_clock_is_set_to() -> None:
    here = timezone(timedelta(hours=2))
    assert next_run("0 7 * * MON-FRI", datetime(2026, 1, 30, 9, 0, tzinfo=here)) == datetime(
        *(2026, 2, 2, 7), tzinfo=UTC
    )
    assert next_run("*/15 * * * *", datetime(2026, 1, 30, 9, 15, 1, tzinfo=UTC)) == datetime(
        *(2026, 1, 30, 9, 30), tzinfo=UTC
    )
