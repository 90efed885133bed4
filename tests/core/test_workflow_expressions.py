"""What a run has brought so far, as conditions, lists and parameters see it."""

from __future__ import annotations

from typing import Any

import pytest

from opscore_middleware.core.workflows.expressions import Reckoning
from opscore_middleware.errors import ExpressionFailed
from opscore_middleware.notations.expressions import JmesPath
from tests.core.play import Play, one

CONTEXT: dict[str, Any] = {
    "initialPayload": {"topic": "rain", "zero": 0, "empty": [], "none": None, "tags": ["a", "b"]},
    "tasks": {
        "step_1": {"result": {"summary": "wet", "pages": [1, 2, 3]}, "state": "completed"},
        "step-2": {"result": None, "state": "skipped"},
    },
}


def reckoning() -> Reckoning:
    """Return what answers expressions."""
    return Reckoning(CONTEXT, expressions=JmesPath())


def rendered(value: Any, **given: Any) -> Any:
    """Return a parameter as a task gets it."""
    return reckoning().render({"x": value}, **given)["x"]


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ tasks.step_1.result.summary }}", "wet"),
        ("{{tasks.step_1.result.pages}}", [1, 2, 3]),
        ("{{ initialPayload.zero }}", 0),
        ("{{ length(initialPayload.tags) > `1` }}", True),
        ('{{ tasks."step-2".state }}', "skipped"),
        (
            "About {{ initialPayload.topic }}: {{ tasks.step_1.result.summary }}.",
            "About rain: wet.",
        ),
        ("{{ tasks.step_1.result.pages }} pages", "[1,2,3] pages"),
        ("it is {{ initialPayload.zero == `0` }}", "it is true"),
        ("{{ initialPayload.lang || 'en' }}", "en"),
        ("{{ initialPayload.none || `null` }}", None),
        ("<{{ initialPayload.lang || '' }}>", "<>"),
        (
            "{{ {topic: initialPayload.topic, n: {m: 'x}}y'}} }}",
            {"topic": "rain", "n": {"m": "x}}y"}},
        ),
        ("{{ '{{' }} stays", "{{ stays"),
        ("no template } }} here", "no template } }} here"),
        (["{{ initialPayload.topic }}", {"n": "{{ initialPayload.zero }}"}], ["rain", {"n": 0}]),
        (True, True),
        (None, None),
    ],
)
def test_a_template_keeps_the_type_of_what_it_finds_and_a_text_takes_it_in(
    template: Any, value: Any
) -> None:
    assert rendered(template) == value
    assert type(rendered(template)) is type(value)


def test_each_item_has_its_own_parameters() -> None:
    template = {"page": "{{ item.text }}", "title": "{{ index }} of {{ initialPayload.topic }}"}
    given = [{"text": "one"}, {"text": "two"}]
    assert [rendered(template, item=item, index=index) for index, item in enumerate(given)] == [
        {"page": "one", "title": "0 of rain"},
        {"page": "two", "title": "1 of rain"},
    ]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ initialPayload.lang }}", "'{{ initialPayload.lang }}' finds nothing, or null"),
        ("{{ initialPayload.none }}", "finds nothing, or null"),
        ("Hello {{ initialPayload.lang }}", "'{{ initialPayload.lang }}' finds nothing, or null"),
        ("Hello {{ initialPayload.lang || `null` }}", "stands in a text"),
        ('{{ tasks."step-2".result.x }}', "finds nothing, or null"),
        ("{{ item }}", "'{{ item }}' finds nothing, or null"),
        ("{{ length(initialPayload.zero) }}", "length(initialPayload.zero)"),
        ("{{ nowhere(", "has no end"),
    ],
)
def test_a_template_that_finds_nothing_fails_and_is_named(template: str, words: str) -> None:
    with pytest.raises(ExpressionFailed) as caught:
        rendered({"deep": [template]})
    assert words in caught.value.message
    assert (caught.value.status, caught.value.code) == (422, "expression_failed")


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("tasks.step_1.state == 'completed'", True),
        ("tasks.step_1.result.pages[?@ > `2`]", True),
        ("initialPayload.zero", True),
        ("initialPayload.lang", False),
        ("initialPayload.none", False),
        ("initialPayload.empty", False),
        ("!initialPayload.topic", False),
        ("''", False),
        ("initialPayload.missing.deeper == 'x'", False),
    ],
)
def test_a_condition_holds_unless_it_is_false_null_or_empty(when: str, holds: bool) -> None:
    assert reckoning().condition(when) is holds


def test_a_condition_that_cannot_be_reckoned_fails_and_is_named() -> None:
    with pytest.raises(ExpressionFailed, match=r"Expression 'abs\(initialPayload.topic\)' failed"):
        reckoning().condition("abs(initialPayload.topic)")


def test_a_list_is_gone_through_in_its_order() -> None:
    assert reckoning().items("tasks.step_1.result.pages") == [1, 2, 3]
    assert reckoning().items("initialPayload.empty") == []


@pytest.mark.parametrize(
    ("for_each", "kind"),
    [
        ("initialPayload.lang", "nothing"),
        ("initialPayload.topic", "a text"),
        ("initialPayload.zero", "a number"),
        ("initialPayload.zero == `0`", "true or false"),
        ("initialPayload", "an object"),
    ],
)
def test_what_is_no_list_is_not_gone_through(for_each: str, kind: str) -> None:
    with pytest.raises(ExpressionFailed) as caught:
        reckoning().items(for_each)
    assert f"forEach {for_each!r} gives {kind}; it must give a list." == caught.value.message


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("tasks.a.result.b[0].c || d", [("tasks", "a", "result", "b"), ("d",)]),
        ("@.tasks.x", [("tasks", "x")]),
        ("tasks.a.result[0].b.c", [("tasks", "a", "result")]),
        ("tasks.a.result[].b", [("tasks", "a", "result")]),
        ("tasks.a.[result, state]", [("tasks", "a")]),
        ("tasks.*.x", [("tasks",)]),
        ("[0]", [()]),
        ("{a: b.c, d: e}", [("b", "c"), ("e",)]),
        ("sort_by(tasks.a.result, &x.y)[?z].q | [0]", [("tasks", "a", "result")]),
        ("a[].b && !c == `1`", [("a",), ("c",)]),
        ("length('text')", []),
    ],
)
def test_an_expression_tells_which_names_it_begins_with(
    text: str, paths: list[tuple[str, ...]]
) -> None:
    assert JmesPath().compile(text).paths == paths


DOUBLED = " | [@, @]" * 30
"""What comes to a thousand million copies, in a list that takes no room until it is written."""


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (f"initialPayload.topic{DOUBLED}", "characters"),
        (f"initialPayload.topic{DOUBLED} | to_string(@)", "characters"),
        ("initialPayload.topic" + " | to_string([@, @])" * 40, "characters"),
        ("initialPayload.topic" + " | join(@, [@, @, @])" * 30, "characters"),
        ("initialPayload.tags" + " | [@, @][]" * 30, "steps"),
        ("initialPayload.tags" + " | map(&[@, @], @)[]" * 30, "steps"),
        ("initialPayload.tags" + " | [*].[@, @][]" * 30, "steps"),
    ],
)
def test_what_would_come_to_more_than_there_is_room_for_is_refused_while_it_grows(
    expression: str, told: str
) -> None:
    with pytest.raises(ExpressionFailed, match=told):
        rendered(f"{{{{ {expression} }}}}")


@pytest.mark.parametrize("value", [["{{ initialPayload }}"] * 20, "{{ initialPayload }}" * 20])
def test_parameters_that_come_to_too_much_together_are_refused(value: Any) -> None:
    large = Reckoning({"initialPayload": "x" * 2_000_000}, expressions=JmesPath())
    assert large.render({"a": value[: len(value) // 2]})
    with pytest.raises(ExpressionFailed, match="the parameters come to more than 33,554,432 char"):
        large.render({"a": value})


class _Counted(dict[str, Any]):
    """An object that counts how often it is asked for something."""

    asked = 0

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a name."""
        type(self).asked += 1
        return super().get(key, default)


@pytest.mark.parametrize(
    ("template", "last"),
    [
        ("{{ tasks.find.result[?ok] | [0].id }}", 0),
        ("{{ tasks.find.result[?ok] | [0].id }} of {{ index }}", "0 of 299"),
        ("{{ [item, tasks.find.result[?ok] | [0].id] }}", [299, 0]),
        ("{{ contains(tasks.find.result[?ok].id, item) }}", True),
    ],
)
def test_what_asks_nothing_of_an_item_is_found_once_for_all_items(template: str, last: Any) -> None:
    _Counted.asked = 0
    listed = [_Counted(ok=True, id=number) for number in range(300)]
    asked = Reckoning({"tasks": {"find": {"result": listed}}}, expressions=JmesPath())
    for number in range(300):
        found = asked.render({"x": template}, item=number, index=number)
    assert found == {"x": last}
    assert _Counted.asked <= 2 * len(listed) + len(listed)


def test_what_asks_each_item_for_all_others_is_refused_before_it_holds_everything_up() -> None:
    play = Play(
        one(
            "each",
            forEach="initialPayload.list",
            parameters={"x": "{{ [index, initialPayload.list] | [1][?@ > `5`] | [0] }}"},
        ),
        initial_payload={"list": list(range(3000))},
    )
    assert play.state("each") == "failed"
    assert "steps, those for all of its items together" in play.error("each")["message"]


def test_tasks_that_begin_together_share_what_they_may_take() -> None:
    slow = "length(initialPayload.list[?@ > `0`] | [?@ > `0`] | [?@ > `0`]) > `0`"
    play = Play(
        *(one(f"slow_{number}", when=slow, onFailure="continue") for number in range(12)),
        initial_payload={"list": list(range(40_000))},
    )
    states = [play.state(f"slow_{number}") for number in range(12)]
    assert states[0] == "ready"
    assert states[-1] == "failed"
    assert "all tasks that begin at one time" in play.error("slow_11")["message"]


def test_parameters_of_tasks_that_begin_together_have_a_bound_too() -> None:
    large = {"x": ["{{ initialPayload.text }}"] * 15}
    play = Play(
        *(one(f"large_{number}", parameters=large, onFailure="continue") for number in range(3)),
        initial_payload={"text": "x" * 2_000_000},
    )
    assert [play.state(f"large_{number}") for number in range(3)] == ["ready", "ready", "failed"]
    assert "those of all tasks that begin together" in play.error("large_2")["message"]
