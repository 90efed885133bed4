"""Reports of one commit, merged into changes, against the same reports taken one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from opscore_middleware.core.records import StoredReport
from opscore_middleware.stores.postgres_changes import Change, Reporting, rounds
from tests.stores.support import said
from tests.stores.test_model import Current, Model, reports

KEYS = {"a": 1, "b": 2}


def changes(*told: StoredReport) -> list[list[Change]]:
    return rounds(Reporting(KEYS[report.agent_id], report) for report in told)


def states(*told: StoredReport) -> list[list[str]]:
    return [[change.state for change in changed] for changed in changes(*told)]


def test_nothing_told_changes_nothing() -> None:
    assert changes() == []


def test_a_burst_of_one_instance_is_one_change() -> None:
    burst = [said(f"s{n}", sequence=n, at=n) for n in (1, 4, 2, 3)]
    ((change,),) = changes(*burst)
    assert (change.agent_key, change.instance_id) == (1, "i")
    assert (change.state, change.sequence) == ("s4", 4)
    assert change.last_seen_at == max(report.received_at for report in burst)


def test_instances_are_changed_beside_each_other() -> None:
    assert states(said("x"), said("y", instance_id="j"), said("z", agent_id="b")) == [
        ["x", "y", "z"]
    ]


def test_what_may_end_an_instance_is_not_merged_with_what_follows() -> None:
    assert states(said("finished", sequence=5), said("idle", sequence=6)) == [
        ["finished"],
        ["idle"],
    ]
    assert states(said("finished", instance_id=None), said("idle", instance_id=None)) == [["idle"]]


def test_reports_with_and_without_a_sequence_are_not_merged() -> None:
    assert states(said("x", sequence=1), said("y"), said("z", sequence=2)) == [["x"], ["y"], ["z"]]


class Table:
    """What the rows of `instances` hold, changed as the statement does."""

    def __init__(self) -> None:
        self.model = Model()

    def write(self, told: list[StoredReport]) -> None:
        for changed in changes(*told):
            assert len({(c.agent_key, c.instance_id) for c in changed}) == len(changed)
            for change in changed:
                self._take(change)

    def _take(self, change: Change) -> None:
        agent_id = next(agent for agent, key in KEYS.items() if key == change.agent_key)
        self.model.call(
            False,
            [
                said(
                    change.state,
                    agent_id=agent_id,
                    instance_id=change.instance_id or None,
                    sequence=change.sequence,
                    details=change.details,
                    timestamp=change.timestamp,
                    effective_at=change.effective_at,
                    received_at=change.last_seen_at,
                    started_at=change.started_at,
                )
            ],
        )

    @property
    def rows(self) -> dict[tuple[str, str | None], Current]:
        return self.model.current


@given(st.lists(st.lists(reports("a", "b"), max_size=12), max_size=4))
def test_merged_reports_leave_what_they_leave_one_by_one(
    commits: list[list[StoredReport]],
) -> None:
    one_by_one, merged = Model(), Table()
    for told in commits:
        one_by_one.call(False, told)
        merged.write(told)
        assert merged.rows == one_by_one.current
