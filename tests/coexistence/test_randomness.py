"""The host's randomness is the host's."""

from __future__ import annotations

import random

from tests.agent.desk import Desk, refusing
from tests.agent.support import ScriptedOpsCore


def test_an_agent_leaves_the_hosts_random_numbers_alone() -> None:
    """A seeded experiment goes the same way with us as without us."""
    before = random.getstate()
    ops_core = ScriptedOpsCore(refusing(503))
    desk = Desk(ops_core, agent_id="a")
    desk.pass_time(60)
    ops_core.script = lambda call: None
    desk.pass_time(60)
    for _ in range(10):
        desk.courier.beat()
        desk.clock.advance(10)
    assert len(ops_core.calls) > 20
    assert random.getstate() == before


def test_a_fleet_that_is_seeded_alike_does_not_come_as_one() -> None:
    times = set()
    for _ in range(20):
        random.seed(0)
        desk = Desk(ScriptedOpsCore(), agent_id="a")
        desk.pass_time(0)
        desk.courier.beat()
        times.add(desk.courier.beat())
    assert len(times) > 10
