"""Any graph without cycles is taken, and one thing that is wrong with it is told with its place.

The graphs are made so that every edge leads from an earlier task to a later one; what is broken is
put in afterwards, and nothing else may be complained of.
"""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.core.workflows.graph import graph
from opscore_middleware.core.workflows.validation import check, parse
from opscore_middleware.notations.cron import next_run
from opscore_middleware.notations.expressions import JmesPath

Document = dict[str, Any]

DURATIONS = st.sampled_from(["500ms", "1s", "1.5m", "2h", "7d"])


@st.composite
def definitions(draw: st.DrawFn) -> Document:
    """Make a definition of up to eight tasks that is right in all."""
    count = draw(st.integers(1, 8))
    tasks: list[Document] = []
    for place in range(count):
        task: Document = {"taskId": f"t{place}", "name": f"Task {place}"}
        earlier = [f"t{one}" for one in range(place)]
        later = [f"t{one}" for one in range(place + 1, count)]
        task["dependsOn"] = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
        if later and draw(st.booleans()):
            task["nextTaskId"] = draw(st.sampled_from(later))
        if draw(st.booleans()):
            task["delay"] = draw(DURATIONS)
        if draw(st.booleans()):
            task["retry"] = {"maximumAttempts": draw(st.integers(1, 9))}
        task["parameters"] = {
            one: f"{{{{ tasks.{one}.result.x }}}}" for one in task["dependsOn"][:2]
        }
        tasks.append(task)
    if draw(st.booleans()):
        tasks[draw(st.integers(0, count - 1))]["fallbackTaskId"] = f"t{count}"
        tasks.append({"taskId": f"t{count}", "name": "Instead"})
    return {"id": "w", "name": "W", "tasks": tasks}


def paths(document: Document) -> list[str]:
    """Return where a document has faults."""
    return [fault.path for fault in check(document, expressions=JmesPath(), cron=next_run)]


@given(definitions())
def test_any_graph_without_cycles_is_taken_as_it_is(document: Document) -> None:
    definition = parse(document, expressions=JmesPath(), cron=next_run)
    order = graph(definition)
    for task in definition.tasks:
        assert set(task.depends_on) <= order.ancestors(task.task_id)
        assert task.task_id not in order.ancestors(task.task_id)
        if task.next_task_id is not None:
            assert task.task_id in order.ancestors(task.next_task_id)
    again = definition.model_dump(mode="json", by_alias=True)
    assert parse(again, expressions=JmesPath(), cron=next_run) == definition


@given(definitions(), st.data())
def test_one_thing_that_is_wrong_is_the_one_thing_that_is_told(
    document: Document, data: st.DataObject
) -> None:
    broken = copy.deepcopy(document)
    place = data.draw(st.integers(0, len(broken["tasks"]) - 1))
    breakage = data.draw(st.sampled_from(BREAKAGES))
    path = breakage(broken["tasks"][place])
    assert paths(broken) == [f"tasks[{place}].{path}"]


def _set(name: str, value: Any, *, at: str = "") -> Any:
    def breakage(task: Document) -> str:
        task[name] = value
        return at or name

    return breakage


def _waits_for_nobody(task: Document) -> str:
    task.setdefault("dependsOn", []).append("nobody")
    return f"dependsOn[{len(task['dependsOn']) - 1}]"


def _unnamed(task: Document) -> str:
    del task["name"]
    return "name"


BREAKAGES = [
    _set("nextTaskId", "nobody"),
    _set("fallbackTaskId", "nobody"),
    _set("delay", "soon"),
    _set("delay", 7),
    _set("priority", 1.5),
    _set("when", "tasks.."),
    _set("when", "tasks.nobody.result"),
    _set("forEach", "payload"),
    _set("runAt", "2026-01-31T12:00:00"),
    _set("onFailure", "shrug"),
    _set("typo", 1),
    _set("retry", {"maximumAttempts": 0}, at="retry.maximumAttempts"),
    _set("timeouts", {"startToClose": "x"}, at="timeouts.startToClose"),
    _set("parameters", {"x": ["{{ nobody }}"]}, at="parameters.x[0]"),
    _set("parameters", {"x": "{{ never"}, at="parameters.x"),
    _waits_for_nobody,
    _unnamed,
]


@given(definitions(), st.data())
def test_one_edge_that_leads_back_is_where_the_cycle_is_told(
    document: Document, data: st.DataObject
) -> None:
    order = graph(parse(document, expressions=JmesPath(), cron=next_run))
    ahead = [one for one in order.task_ids if order.ancestors(one)]
    if not ahead:
        return
    last = data.draw(st.sampled_from(ahead))
    first = data.draw(st.sampled_from(sorted(order.ancestors(last))))
    broken = copy.deepcopy(document)
    task = broken["tasks"][order.task_ids.index(first)]
    task["dependsOn"] = [*task.get("dependsOn", []), last]
    (path,) = paths(broken)
    if order.task_ids.index(first) < order.task_ids.index(last):
        assert (
            path == f"tasks[{order.task_ids.index(first)}].dependsOn[{len(task['dependsOn']) - 1}]"
        )


FIELDS = [
    *("taskId", "name", "nextTaskId", "dependsOn", "fallbackTaskId", "when", "forEach"),
    *("parameters", "retry", "timeouts", "delay", "runAt", "priority", "typo"),
]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.sampled_from(
        ["a", "b", "", "{{ a }}", "{{", "tasks.a.result", "@", "1s", "é\x00", "\ud800", "\x1b[1m"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=5,
)
IDS = st.sampled_from(["a", "b", "c"])
ODD = st.sampled_from(["\ud800", "\x1b[1m", "a" * 10_000, "{{ \x1b }}", "{{\ud800"])
TASKS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(FIELDS, ODD | ANYTHING),
        **dict.fromkeys(("taskId", "nextTaskId", "fallbackTaskId"), IDS | ODD | ANYTHING),
        "dependsOn": st.lists(IDS, max_size=3) | ANYTHING,
    },
)


@given(st.fixed_dictionaries({"tasks": st.lists(TASKS | ANYTHING, max_size=4)}) | ANYTHING)
def test_whatever_a_document_holds_its_faults_are_told(document: Any) -> None:
    found = check(document, expressions=JmesPath(), cron=next_run)
    assert found  # none has an id
    for fault in found:
        assert fault.message.isprintable()
        assert fault.path.isprintable()
        assert len(fault.message) < 2000


LINKED = st.fixed_dictionaries(
    {"taskId": IDS},
    optional={"nextTaskId": IDS, "fallbackTaskId": IDS, "dependsOn": st.lists(IDS, max_size=2)},
)


@given(st.lists(LINKED, min_size=3, max_size=3, unique_by=lambda task: task["taskId"]))
def test_what_is_taken_can_be_put_in_an_order_and_what_is_not_has_a_cycle(
    tasks: list[Document],
) -> None:
    document = {"id": "w", "name": "W", "tasks": [{"name": "T", **task} for task in tasks]}
    found = check(document, expressions=JmesPath(), cron=next_run)
    assert all("cycle" in fault.message or "stands in for" in fault.message for fault in found)
    if not found:
        order = graph(parse(document, expressions=JmesPath(), cron=next_run))
        assert all(one not in order.ancestors(one) for one in order.task_ids)
