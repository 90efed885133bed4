"""Answers that are none of Ops-Core's: a proxy's while it starts, or another server's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.agent.desk import Open, ours, refusing
from tests.agent.support import URL, ScriptedOpsCore


@pytest.mark.parametrize(
    ("status", "body"), [(404, {"detail": "Not Found"}), (404, None), (302, None), (200, {})]
)
def test_another_s_answer_to_a_registration_is_an_outage_that_says_what_to_set(
    status: int, body: Any, desk: Open, ops_core: ScriptedOpsCore, log: pytest.LogCaptureFixture
) -> None:
    """As a proxy's is while Ops-Core starts behind it."""
    ops_core.script = refusing(status, body)
    courier = desk()
    courier.pass_time(300)
    [line] = ours(log)
    assert URL in line
    assert "OPSCORE_API_URL" in line
    assert 10 < len(ops_core.calls) < 200
    ops_core.script = lambda call: None
    courier.pass_time(11)
    assert ops_core.states == ["initializing", "idle"]
    assert len(ours(log)) == 1
