"""How often a session that is watched is looked at, and for how long."""

from __future__ import annotations

import time
from itertools import accumulate, islice, pairwise

import httpx
import pytest

from opscore_middleware.cli.progress import follow_session, pauses
from opscore_middleware.client import OpsCoreClient
from opscore_middleware.core.sessions import SessionState
from opscore_middleware.errors import RemoteError


def test_what_has_just_begun_is_looked_at_again_and_again() -> None:
    looks = list(accumulate(islice(pauses(), 10)))
    assert sum(look <= 1.3 for look in looks) >= 5


def test_what_lasts_is_looked_at_less_and_less_but_each_second() -> None:
    waits = list(islice(pauses(), 100))
    assert all(earlier <= later for earlier, later in pairwise(waits))
    assert waits[-1] == 1.0


def session(state: str) -> httpx.Response:
    """Return what Ops-Core answers of a session without a workflow."""
    now = "2026-01-31T12:00:00Z"
    return httpx.Response(
        200,
        json={
            "sessionId": "s",
            "agentId": "a",
            "workflowId": None,
            "state": state,
            "createdAt": now,
            "updatedAt": now,
            "endedAt": None,
        },
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_a_session_is_followed_over_a_restart_of_ops_core(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    away = httpx.Response(503, json={"detail": "away", "code": "store_unavailable"})
    answers = iter([session("running"), None, away, session("completed")])

    def answer(_: httpx.Request) -> httpx.Response:
        found = next(answers)
        if found is None:
            raise httpx.ConnectError("refused")
        return found

    monkeypatch.setattr(time, "sleep", lambda _: None)
    with OpsCoreClient("http://ops-core", transport=httpx.MockTransport(answer)) as client:
        assert follow_session(client, "s", as_json=as_json) is SessionState.COMPLETED
    told = capsys.readouterr()
    assert told.err.count("no answer from Ops-Core") == 1
    assert told.err.count("\n") == 1


def test_a_session_that_is_refused_is_followed_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([session("running"), httpx.Response(401, json={"detail": "no", "code": "x"})])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    transport = httpx.MockTransport(lambda _: next(answers))
    with (
        OpsCoreClient("http://ops-core", transport=transport) as client,
        pytest.raises(RemoteError, match="401"),
    ):
        follow_session(client, "s")
