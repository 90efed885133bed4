"""What a definition is made of, and how it is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from opscore_middleware.core.clock import SECOND
from opscore_middleware.core.workflows.definition import (
    Retry,
    TaskDefinition,
    WorkflowDefinition,
    spelled,
)
from opscore_middleware.core.workflows.graph import from_edges, graph
from opscore_middleware.core.workflows.schema import json_schema

SCHEMA = Path(__file__).parents[2] / "docs" / "workflow.schema.json"

FIXED = {
    "id": "digest",
    "name": "Digest",
    "tasks": [
        {"taskId": "read", "name": "Read", "agentCapability": "read", "nextTaskId": "write"},
        {"taskId": "write", "name": "Write", "parameters": {"n": [1, None]}, "nextTaskId": None},
    ],
}


def test_a_definition_as_clients_in_the_field_write_it_is_taken_with_all_defaults() -> None:
    definition = WorkflowDefinition.model_validate(FIXED)
    read, write = definition.tasks
    assert (definition.version, definition.missed, definition.schedule) == ("1.0", "skip", None)
    assert (read.next_task_id, write.next_task_id, write.parameters) == (
        *("write", None, {"n": [1, None]}),
    )
    assert (read.on_failure, read.priority, read.depends_on) == ("fail", 0, ())
    assert (read.timeouts.start_to_close, read.retry.maximum_interval) == (
        *(600 * SECOND, 60 * SECOND),
    )


def test_a_definition_that_was_kept_is_read_as_the_same() -> None:
    task = TaskDefinition(
        task_id="a",
        name="A",
        retry=Retry(initial_interval="1500ms", non_retryable=("ValueError",)),
        delay="36h",
        run_at="2026-01-31T12:00:00+02:00",
    )
    definition = WorkflowDefinition(id="w", name="W", tasks=(task,), missed="catchUp")
    kept = definition.model_dump_json(by_alias=True)
    assert WorkflowDefinition.model_validate_json(kept) == definition
    (written,) = json.loads(kept)["tasks"]
    assert (written["delay"], written["retry"]["initialInterval"]) == ("36h", "1500ms")
    assert written["runAt"] == "2026-01-31T10:00:00Z"


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (1, "0.001ms"),
        (1500, "1.5ms"),
        (SECOND // 2, "500ms"),
        (90 * SECOND, "90s"),
        (60 * SECOND, "1m"),
        (36 * 3600 * SECOND, "36h"),
        (48 * 3600 * SECOND, "2d"),
    ],
)
def test_a_span_is_spelled_without_a_fraction_where_it_can_be(micros: int, text: str) -> None:
    assert spelled(micros) == text


def test_the_schema_for_editors_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "opscore_middleware.core.workflows.schema"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert SCHEMA.read_text() == done.stdout, (
        f"write it anew: {Path(sys.executable).name} -m opscore_middleware.core.workflows.schema "
        f"> docs/{SCHEMA.name}"
    )


def test_an_editor_sees_what_is_right_and_what_is_not() -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    defaults = WorkflowDefinition.model_validate(FIXED).model_dump(mode="json", by_alias=True)
    for right in (FIXED, defaults):
        assert not list(validator.iter_errors(right))
    wrong = {**FIXED, "tasks": [{"taskId": "a", "name": "A", "delay": 5, "nextTask": "b"}]}
    assert [list(error.path) for error in validator.iter_errors(wrong)] == [
        ["tasks", 0],
        ["tasks", 0, "delay"],
    ]


def test_the_two_ways_to_say_an_order_are_one_set_of_edges() -> None:
    tasks = (
        {"taskId": "a", "name": "A", "nextTaskId": "c"},
        {"taskId": "b", "name": "B", "fallbackTaskId": "f"},
        {"taskId": "c", "name": "C", "dependsOn": ["b", "a"]},
        {"taskId": "d", "name": "D", "dependsOn": ["c"]},
        {"taskId": "f", "name": "F"},
    )
    order = graph(WorkflowDefinition.model_validate({"id": "w", "name": "W", "tasks": tasks}))
    assert order.predecessors == {"a": (), "b": (), "c": ("a", "b"), "d": ("c",), "f": ()}
    assert order.successors == {"a": ("c",), "b": ("c",), "c": ("d",), "d": (), "f": ()}
    assert (order.fallbacks, order.stands_in_for) == ({"b": "f"}, {"f": ("b",)})
    assert order.ancestors("d") == {"a", "b", "c", "f"}
    assert order.ancestors("f") == {"b"}
    assert order.ancestors("a") == frozenset()


def test_a_thousand_tasks_that_all_wait_for_all_before_are_put_in_order() -> None:
    ids = [f"t{place}" for place in range(1000)]
    edges = [(before, after) for place, after in enumerate(ids) for before in ids[:place]]
    order = from_edges(ids, edges, {})
    assert order.ancestors("t999") == set(ids[:-1])
