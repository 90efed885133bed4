"""Definitions in files, looked at without a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from opscore_middleware.cli.app import app
from opscore_middleware.errors import ConfigurationError

RIGHT = """\
id: digest
name: Digest
tasks:
  - {taskId: read, name: Read, agentCapability: read, nextTaskId: write}
  - {taskId: write, name: Write, parameters: {text: "{{ tasks.read.result.text }}"}}
"""
WRONG = """\
id: digest
name: Digest
tasks:
  - taskId: read
    name: Read
    nextTaskId: wirte
  - taskId: write
    parameters:
      text: "{{ tasks.read.reslt }}"
    dependsOn:
      - read
      - nobody
"""


def opscore(*arguments: str) -> Result:
    """Run `opscore workflow …`."""
    return CliRunner(env={"TERM": "dumb"}).invoke(app, ["workflow", *arguments])


@pytest.mark.parametrize(
    "text",
    [
        RIGHT,
        json.dumps(
            {
                "id": "digest",
                "name": "Digest",
                "tasks": [{"taskId": "a", "name": "A"}, {"taskId": "b", "name": "B"}],
            }
        ),
    ],
)
def test_a_definition_that_is_right_is_called_so(tmp_path: Path, text: str) -> None:
    file = tmp_path / "digest"
    file.write_text(text)
    done = opscore("validate", str(file))
    assert (done.exit_code, done.stdout) == (
        0,
        f"{file} is right: workflow 'digest' with 2 tasks.\n",
    )
    done = opscore("validate", str(file), "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"valid": True, "faults": []})


def test_every_fault_has_its_line_and_its_place(tmp_path: Path) -> None:
    file = tmp_path / "digest.yaml"
    file.write_text(WRONG)
    done = opscore("validate", str(file))
    assert done.exit_code == 1
    known = "the tasks are read, write"
    wrong = "'tasks.read.reslt': a task has result and state, and no 'reslt'"
    assert done.stdout.splitlines() == [
        f"{file}:6: tasks[0].nextTaskId: there is no task 'wirte' (did you mean 'write'?); {known}",
        f"{file}:7: tasks[1].name: is required",
        f"{file}:12: tasks[1].dependsOn[1]: there is no task 'nobody'; {known}",
        f"{file}:9: tasks[1].parameters.text: {wrong}",
    ]


def test_programs_get_the_faults_of_json_without_lines(tmp_path: Path) -> None:
    file = tmp_path / "digest.json"
    file.write_text('{"id": "digest", "name": "Digest", "tasks": []}')
    done = opscore("validate", str(file), "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "valid": False,
        "faults": [{"path": "tasks", "message": "must not be empty", "line": None}],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\na: 2\n", ":2: The document is not YAML: 'a' stands twice"),
        ('{"id":\n 1,}', ":2: The document is not JSON"),
        ("- just\n- a list\n", ":1: must be an object with id, name and tasks"),
        ("", ": must be an object with id, name and tasks"),
    ],
)
def test_what_is_no_definition_at_all_is_a_fault_too(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "digest.yaml"
    file.write_text(text)
    done = opscore("validate", str(file))
    assert done.exit_code == 1
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{file}{words}")


def test_a_definition_is_read_from_standard_input() -> None:
    done = CliRunner().invoke(app, ["workflow", "validate", "-"], input=RIGHT)
    assert (done.exit_code, done.stdout[:11]) == (0, "- is right:")


@pytest.mark.parametrize("command", [("validate",), ("put",), ("run", "--agent", "a")])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = opscore(*command, str(tmp_path / "none.yaml"))
    assert isinstance(done.exception, ConfigurationError)
    assert "none.yaml cannot be read: No such file" in done.exception.message


@pytest.mark.parametrize("command", [("put",), ("run", "--agent", "a")])
def test_what_is_wrong_is_not_sent_and_said_line_by_line(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    file = tmp_path / "digest.yaml"
    for text in (WRONG, "a: *b"):
        file.write_text(text)
        done = opscore(*command, str(file))
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == opscore("validate", str(file)).stdout


def test_a_run_is_drawn_or_printed_as_json_not_both() -> None:
    done = opscore("run", "digest", "--agent", "a", "--watch", "--json")
    assert isinstance(done.exception, ConfigurationError)
    assert "leave out --json" in done.exception.message
