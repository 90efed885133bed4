"""Every fault of a definition is told at once, each with its place."""

from __future__ import annotations

from typing import Any

import pytest

from opscore_middleware.core.workflows.definition import WorkflowDefinition
from opscore_middleware.core.workflows.validation import check, parse
from opscore_middleware.errors import InvalidDefinition
from opscore_middleware.notations.cron import next_run
from opscore_middleware.notations.expressions import JmesPath


def task(task_id: str, **fields: Any) -> dict[str, Any]:
    """Return a task."""
    return {"taskId": task_id, "name": task_id.upper(), **fields}


def workflow(*tasks: Any, **fields: Any) -> dict[str, Any]:
    """Return a definition with these tasks."""
    return {"id": "w", "name": "W", "tasks": list(tasks), **fields}


def faults(document: Any) -> dict[str, str]:
    """Return the faults of a document by their paths."""
    found = check(document, expressions=JmesPath(), cron=next_run)
    assert len({fault.path for fault in found}) == len(found)
    return {fault.path: fault.message for fault in found}


WHOLE = workflow(
    task("fetch", agentCapability="fetch", parameters={"url": "{{ initialPayload.url }}"}),
    task(
        *("split",),
        dependsOn=["fetch"],
        when="tasks.fetch.result.pages > `0`",
        fallbackTaskId="plain",
    ),
    task(
        *("read",),
        dependsOn=["split"],
        forEach="tasks.split.result.pages || tasks.plain.result",
        parameters={
            "page": "{{ item.text || '' }}",
            "title": "{{ index }}: {{ tasks.fetch.result.title }}",
            "braces": "{{ '{{' }}",
            "deep": [{"x": "{{ {a: item, b: {c: index}} }}"}],
        },
        retry={"maximumAttempts": 5, "initialInterval": "500ms"},
    ),
    task("plain", parameters={"why": "{{ tasks.split.state }}"}, delay="1m"),
    schedule="0 7 * * MON-FRI",
    agentId="agent-1",
    missed="catchUp",
)


def test_a_definition_that_uses_everything_is_taken() -> None:
    definition = parse(WHOLE, expressions=JmesPath(), cron=next_run)
    assert isinstance(definition, WorkflowDefinition)
    assert definition.tasks[2].retry.initial_interval == 500_000
    again = definition.model_dump(mode="json", by_alias=True)
    assert parse(again, expressions=JmesPath(), cron=next_run) == definition


FAULTS: dict[str, tuple[Any, str, str]] = {
    "no object": ([], "", "must be an object"),
    "no tasks": (workflow(), "tasks", "must not be empty"),
    "tasks that are none": ({"id": "w", "name": "W", "tasks": "a"}, "tasks", "must be a list"),
    "no id": ({"name": "W", "tasks": [task("a")]}, "id", "is required"),
    "a slash in the id": (workflow(task("a")) | {"id": "a/b"}, "id", "'a/b'"),
    "a number for a text": (workflow(task("a"), version=1.0), "version", "put it in quotes"),
    "a task that is none": (workflow(task("a"), 7), "tasks[1]", "must be an object, not 7"),
    "two of one id": (
        *(workflow(task("a"), task("b"), task("a")), "tasks[2].taskId"),
        "'a' is the id of tasks[0] already",
    ),
    "a next one that is not there": (
        *(workflow(task("step_1", nextTaskId="step_9"), task("step_2")), "tasks[0].nextTaskId"),
        "there is no task 'step_9' (did you mean 'step_2'?); the tasks are step_1, step_2",
    ),
    "waiting for one that is not there": (
        *(workflow(task("a"), task("b", dependsOn=["a", "x"])), "tasks[1].dependsOn[1]"),
        "there is no task 'x'; the tasks are a, b",
    ),
    "a fallback that is not there": (
        *(workflow(task("a", fallbackTaskId="x")), "tasks[0].fallbackTaskId"),
        "there is no task 'x'",
    ),
    "waiting for itself": (
        *(workflow(task("a", dependsOn=["a"])), "tasks[0].dependsOn[0]"),
        "a -> a is a cycle",
    ),
    "its own fallback": (
        *(workflow(task("a", fallbackTaskId="a")), "tasks[0].fallbackTaskId"),
        "a -> a is a cycle",
    ),
    "a cycle of both kinds of edge": (
        workflow(task("a", nextTaskId="b"), task("b"), task("c", dependsOn=["b"], nextTaskId="a")),
        "tasks[2].nextTaskId",
        "is a cycle",
    ),
    "a cycle through a fallback": (
        workflow(task("a", fallbackTaskId="b"), task("b", nextTaskId="a")),
        "tasks[1].nextTaskId",
        "a -> b -> a is a cycle",
    ),
    "a fallback that waits for what waits for it": (
        workflow(
            task("a", fallbackTaskId="c"), task("b", dependsOn=["a"]), task("c", dependsOn=["b"])
        ),
        "tasks[0].fallbackTaskId",
        "is a cycle",
    ),
    "a fallback that waits for what it stands in for": (
        *(workflow(task("a", fallbackTaskId="b"), task("b", dependsOn=["a"])),),
        *("tasks[1].dependsOn[0]", "'b' stands in for 'a', and cannot wait for it as well"),
    ),
    "a fallback that comes next anyway": (
        *(workflow(task("a", nextTaskId="b", fallbackTaskId="b"), task("b")),),
        *("tasks[0].nextTaskId", "'b' stands in for 'a', and cannot wait for it as well"),
    ),
    "more fallbacks in a row than there may be": (
        workflow(*(task(f"t{n}", fallbackTaskId=f"t{n + 1}") for n in range(17)), task("t17")),
        *("tasks[16].fallbackTaskId", "'t17' is one more than the 16 fallbacks that 't0' may have"),
    ),
    "a condition that cannot be read": (
        *(workflow(task("a", when="initialPayload.")), "tasks[0].when"),
        "'initialPayload.' is no expression",
    ),
    "a list that cannot be read": (
        *(workflow(task("a", forEach="[")), "tasks[0].forEach", "'[' is no expression"),
    ),
    "an expression of many brackets": (
        *(workflow(task("a", when="(" * 3000)), "tasks[0].when", "nested too deeply"),
    ),
    "an empty condition": (workflow(task("a", when="")), "tasks[0].when", "must not be empty"),
    "a template that cannot be read": (
        *(workflow(task("a", parameters={"x": {"y z": ["{{ a..b }}"]}})),),
        'tasks[0].parameters.x["y z"][0]',
        "'a..b' is no expression",
    ),
    "a template without an end": (
        workflow(task("a", parameters={"x": "Hello {{ initialPayload.x }"})),
        *("tasks[0].parameters.x", "has no end"),
    ),
    "a template with nothing in it": (
        *(workflow(task("a", parameters={"x": "{{ }}"})), "tasks[0].parameters.x"),
        "holds no expression",
    ),
    "an id that has to be quoted": (
        workflow(task("s-1"), task("b", dependsOn=["s-1"], when="tasks.s-1.result")),
        *("tasks[1].when", 'tasks."step-1".result'),
    ),
    "a name that is not there": (
        *(workflow(task("a", when="payload.x")), "tasks[0].when", "there is no 'payload' here"),
    ),
    "an item without a list": (
        *(workflow(task("a", parameters={"x": "{{ item }}"})), "tasks[0].parameters.x"),
        "there is no 'item' here",
    ),
    "an item before there is one": (
        *(workflow(task("a", forEach="item")), "tasks[0].forEach", "there is no 'item' here"),
    ),
    "all tasks at once": (
        *(workflow(task("a"), task("b", when="tasks.*.result")), "tasks[1].when"),
        "names no task",
    ),
    "the whole context": (workflow(task("a", when="@")), "tasks[0].when", "names nothing"),
    "a result of nobody": (
        *(workflow(task("a", when="tasks.x.result")), "tasks[0].when", "there is no task 'x'"),
    ),
    "a result that is not there yet": (
        workflow(task("a", when="tasks.b.result"), task("b")),
        *("tasks[0].when", "task 'b' does not come before this one; name it in dependsOn"),
    ),
    "its own result": (
        *(workflow(task("a", when="tasks.a.result")), "tasks[0].when", "does not come before"),
    ),
    "something that no task has": (
        workflow(task("a", nextTaskId="b"), task("b", when="tasks.a.reslt.x")),
        *("tasks[1].when", "a task has result and state, and no 'reslt'"),
    ),
    "a span without a unit": (
        *(workflow(task("a", delay=30)), "tasks[0].delay", "30 has no unit; write"),
    ),
    "a span that is none": (
        workflow(task("a", timeouts={"startToClose": "soon"})),
        *("tasks[0].timeouts.startToClose", "'soon' is no span of time"),
    ),
    "a number out of bounds": (
        workflow(task("a", retry={"maximumAttempts": 0})),
        *("tasks[0].retry.maximumAttempts", "greater than or equal to 1"),
    ),
    "a number that is a text": (
        *(workflow(task("a", priority="5")), "tasks[0].priority", "valid integer"),
    ),
    "no number that JSON knows": (
        workflow(task("a", parameters={"x": float("inf")})),
        *("tasks[0].parameters.x", "no number that JSON knows"),
    ),
    "half a character": (
        *(workflow(task("a", parameters={"x": ["\ud83d"]})), "tasks[0].parameters.x[0]"),
        "half a character",
    ),
    "half a character in a name": (
        *(workflow(task("a", parameters={"\ud83d": 1})), "tasks[0].parameters"),
        "a name that is no text",
    ),
    "no type that JSON knows": (
        *(workflow(task("a", parameters={"x": {1}})), "tasks[0].parameters.x"),
        "set is no type that JSON knows",
    ),
    "a time without an offset": (
        workflow(task("a", runAt="2026-01-31T12:00:00")),
        *("tasks[0].runAt", "has no offset"),
    ),
    "a choice that is none": (
        *(workflow(task("a", onFailure="ignore")), "tasks[0].onFailure", "'fail' or 'continue'"),
    ),
    "an unknown field": (
        *(workflow(task("a"), shedule="x"), "shedule", "did you mean 'schedule'?"),
    ),
    "an unknown field of a task": (
        *(workflow(task("a", next_task_id="a")), "tasks[0].next_task_id"),
        "did you mean 'nextTaskId'?",
    ),
    "an unknown field of a part": (
        workflow(task("a", retry={"attempts": 3})),
        *("tasks[0].retry.attempts", "no such field"),
    ),
    "a schedule of nobody": (
        *(workflow(task("a"), schedule="0 7 * * *"), "agentId", "is required with a schedule"),
    ),
    "a schedule that is none": (
        workflow(task("a"), schedule="99 7 * * *", agentId="x"),
        *("schedule", "'99 7 * * *' is no cron expression: bad minute"),
    ),
    "a schedule with seconds": (
        *(workflow(task("a"), schedule="* * * * * *", agentId="x"), "schedule", "five fields"),
    ),
    "a template that is too long": (
        workflow(task("a", parameters={"x": f"{{{{ initialPayload.{'x' * 4000} }}}}"})),
        "tasks[0].parameters.x",
        "has 4,015 characters; an expression has at most 4,000",
    ),
    "an expression that multiplies what it is given": (
        workflow(task("a", parameters={"x": f"{{{{ initialPayload{' | [@, @]' * 30} }}}}"})),
        "tasks[0].parameters.x",
        "may copy what it is given 1,073,741,824 times",
    ),
    "an expression that multiplies each of many": (
        workflow(task("a", when="initialPayload" + " | [*].{a: @, b: map(&[@, @], @)}" * 12)),
        "tasks[0].when",
        "may copy what it is given",
    ),
    "an expression of too many parts within one another": (
        *(workflow(task("a", forEach="initialPayload" + " | [0]" * 400)), "tasks[0].forEach"),
        "has 402 parts within one another; at most 150 are taken",
    ),
    "a day that is none": (
        workflow(task("a"), schedule="0 0 32 2 *", agentId="x"),
        *("schedule", "'0 0 32 2 *' is no cron expression: bad day-of-month"),
    ),
    "a day that never comes": (
        workflow(task("a"), schedule="0 0 30 2 *", agentId="x"),
        *("schedule", "'0 0 30 2 *' never comes: none of its months has that day"),
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_wrong_is_told_with_its_place(case: str) -> None:
    document, path, words = FAULTS[case]
    ((found, message),) = faults(document).items()
    assert found == path
    assert words in message


def test_all_faults_are_told_at_once_in_the_order_of_the_document() -> None:
    document = workflow(
        task("a", when="nothing.here", delay="x"),
        task("b", dependsOn=["a", "z"]),
        task("b", parameters={"x": "{{ tasks.c.result }}"}, retry={"jitter": "yes"}),
        task("c", nextTaskId="d"),
        task("d", nextTaskId="c"),
        schedule="x",
    )
    with pytest.raises(InvalidDefinition) as caught:
        parse(document, expressions=JmesPath(), cron=next_run)
    paths = [fault["path"] for fault in caught.value.faults]
    assert sorted(paths[:2]) == ["agentId", "schedule"]
    assert sorted(paths[2:4]) == ["tasks[0].delay", "tasks[0].when"]
    assert paths[4] == "tasks[1].dependsOn[1]"
    # Where a cycle is, what comes before what is not to be told: c may well be meant to.
    assert sorted(paths[5:7]) == ["tasks[2].retry.jitter", "tasks[2].taskId"]
    assert paths[7:] == ["tasks[4].nextTaskId"]
    assert (caught.value.status, caught.value.code) == (422, "invalid_definition")
    assert caught.value.message.startswith("The definition has 8 faults: ")
    assert caught.value.context == {"faults": caught.value.faults}


def test_of_thousands_of_faults_a_hundred_of_each_kind_are_told() -> None:
    ids = [f"t{place}" for place in range(1000)]
    tasks = [task(one, dependsOn=[f"x{n}" for n in range(200)], delay="x") for one in ids]
    found = check(workflow(*tasks), expressions=JmesPath(), cron=next_run)
    assert len(found) == 200


def test_every_cycle_is_named() -> None:
    document = workflow(
        *(task("a", nextTaskId="b"), task("b", nextTaskId="a")),
        *(task("c", nextTaskId="d"), task("d", dependsOn=["e"]), task("e", dependsOn=["d"])),
    )
    assert list(faults(document)) == ["tasks[1].nextTaskId", "tasks[3].dependsOn[0]"]


def test_parameters_too_deep_to_look_through_are_refused() -> None:
    deep: Any = "x"
    for _ in range(500):
        deep = [deep]
    ((path, message),) = faults(workflow(task("a", parameters={"x": deep}))).items()
    assert path.startswith("tasks[0].parameters.x[0]")
    assert "100 deep" in message


def test_without_a_reader_of_schedules_they_are_taken_as_they_are() -> None:
    document = workflow(task("a"), schedule="whenever", agentId="x")
    assert parse(document, expressions=JmesPath()).schedule == "whenever"
