"""The table of states, and how instances add up to an agent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.core.states import (
    FOLD_ORDER,
    TRANSITIONS,
    AgentState,
    Cause,
    InstanceView,
    fold,
    mermaid,
    step,
)

S, C = AgentState, Cause
START = datetime(2026, 1, 1, tzinfo=UTC)

# Written out once more on purpose, from the agent's point of view: by cause, where it is felt.
FELT = {
    C.STARTING: {S.UNKNOWN: S.INITIALIZING},
    C.READY: {S.UNKNOWN: S.IDLE, S.INITIALIZING: S.IDLE, S.ERROR: S.IDLE},
    C.STARTUP_FAILED: dict.fromkeys(
        (S.UNKNOWN, S.INITIALIZING, S.IDLE, S.ACTIVE, S.ERROR), S.ERROR
    ),
    C.BEGAN: dict.fromkeys((S.UNKNOWN, S.INITIALIZING, S.IDLE, S.ERROR), S.ACTIVE),
    C.ENDED: {S.ACTIVE: S.IDLE},
    C.FAILED: dict.fromkeys((S.UNKNOWN, S.INITIALIZING, S.IDLE, S.ACTIVE, S.ERROR), S.ERROR),
    C.RESUMED: {S.ERROR: S.ACTIVE},
    C.HELD: {S.ERROR: S.IDLE},
    C.DRAIN: dict.fromkeys((S.UNKNOWN, S.INITIALIZING, S.IDLE, S.ACTIVE, S.ERROR), S.DRAINING),
    C.FINISH: dict.fromkeys(set(AgentState) - {S.FINISHED}, S.FINISHED),
}


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("state", AgentState)
def test_every_cause_in_every_state_leads_where_it_should(state: AgentState, cause: Cause) -> None:
    assert step(state, cause) == FELT[cause].get(state)


def test_the_table_knows_every_state() -> None:
    assert set(TRANSITIONS) == set(AgentState)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[S.IDLE] = {}  # type: ignore[index]


@given(st.lists(st.sampled_from(Cause)))
def test_whatever_happens_draining_ends_in_finished_and_finished_stays(
    causes: list[Cause],
) -> None:
    state = S.UNKNOWN
    for cause in causes:
        after = step(state, cause) or state
        if state is S.FINISHED:
            assert after is S.FINISHED
        if state is S.DRAINING:
            assert after in {S.DRAINING, S.FINISHED}
        assert after is not S.UNKNOWN or state is S.UNKNOWN
        state = after


def test_the_diagram_in_the_docs_is_the_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "states.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("```mermaid\n")
    diagram, fence, _ = rest.partition("\n```")
    assert fence
    assert diagram == mermaid()


def test_the_diagram_has_one_arrow_for_each_entry() -> None:
    arrows = [line for line in mermaid().splitlines() if "-->" in line and "[*]" not in line]
    assert len(arrows) == sum(len(row) for row in TRANSITIONS.values())
    assert "    idle --> active: first unit of work begins" in arrows


# --- the fold ------------------------------------------------------------------------------------


def seen(
    state: str, *, after: int = 0, instance: str | None = "i", lost: bool = False
) -> InstanceView:
    return InstanceView(instance, state, START + timedelta(seconds=after), lost)


def test_four_workers_are_active_while_one_of_them_is() -> None:
    workers = [seen(state, instance=state) for state in ("idle", "idle", "active", "idle")]
    assert fold(workers) == ("active", 2, False)


def test_a_rolling_restart_leaves_the_agent_idle() -> None:
    old, new = seen("finished", after=9, instance="old"), seen("idle", after=5, instance="new")
    assert fold([old, new]) == ("idle", 1, False)
    assert fold([new, old]) == ("idle", 0, False)


def test_an_agent_without_reports_is_unknown() -> None:
    assert fold([]) == ("UNKNOWN", None, False)
    assert fold([seen("UNKNOWN")]) == ("UNKNOWN", None, False)


def test_an_instance_that_is_only_registered_hides_nothing() -> None:
    assert fold([seen("UNKNOWN", after=9), seen("idle", instance="j")]) == ("idle", 1, False)
    assert fold([seen("UNKNOWN", after=9), seen("idle", instance=None)]) == ("idle", 1, False)


def test_real_instances_supersede_the_reports_that_name_none() -> None:
    assert fold([seen("active", after=9, instance=None), seen("idle")]) == ("idle", 1, False)


def test_of_two_in_the_same_state_the_one_heard_from_last_decides() -> None:
    failed = [seen("error", after=after, instance=str(after)) for after in (1, 3, 2)]
    assert fold(failed) == ("error", 1, False)


def test_an_extra_state_shows_when_nothing_works_fails_or_is_free() -> None:
    paused = seen("paused", instance="p")
    assert fold([paused, seen("idle")]).state == "idle"
    assert fold([paused, seen("initializing")]).state == "paused"


def test_a_lost_instance_counts_only_when_no_other_is_there() -> None:
    lost = seen("active", after=9, instance="lost", lost=True)
    assert fold([lost, seen("idle")]) == ("idle", 1, False)
    assert fold([lost]) == ("active", 0, True)
    assert fold([lost, seen("finished", after=10)]) == ("finished", 1, False)
    assert fold([lost, seen("finished", after=8)]) == ("active", 0, True)


VIEWS = st.lists(
    st.builds(
        InstanceView,
        instance_id=st.sampled_from([None, "a", "b", "c"]),
        state=st.sampled_from([*map(str, AgentState), "paused"]),
        last_seen_at=st.integers(0, 60).map(lambda s: START + timedelta(seconds=s)),
        lost=st.booleans(),
    ),
    max_size=6,
    unique_by=lambda view: view.last_seen_at,
)


@given(VIEWS, st.data())
def test_the_fold_does_not_depend_on_the_order(
    views: list[InstanceView], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(views))
    assert fold(views).state == fold(shuffled).state


@given(VIEWS)
def test_no_live_instance_outranks_the_state_of_the_agent(views: list[InstanceView]) -> None:
    folded = fold(views)
    if folded.position is None:
        assert all(view.state == "UNKNOWN" for view in views)
        return
    decisive = views[folded.position]
    assert folded.state == decisive.state != "UNKNOWN"
    assert not folded.lost or decisive.lost
    real = [v for v in views if v.instance_id is not None and v.state != "UNKNOWN"]
    assert not real or decisive.instance_id is not None
    live = {v.state for v in real or views if not v.lost and v.state not in {"finished", "UNKNOWN"}}
    if live and decisive.state in FOLD_ORDER:
        earlier = FOLD_ORDER[: FOLD_ORDER.index(AgentState(decisive.state))]
        assert not live & set(earlier)
