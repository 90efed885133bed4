"""Which ways lead to an agent."""

from __future__ import annotations

import pytest

from opscore_middleware.core.runs.records import Endpoint
from opscore_middleware.core.runs.routes import other_route, routes_of
from opscore_middleware.core.runs.tasks import Route

KIT, STRAIGHT = Route.AGENTKIT, Route.DIRECT
URL = "http://127.0.0.1:9/task"


@pytest.mark.parametrize(
    ("url", "preferred", "agentkit", "routes"),
    [
        (URL, None, True, (STRAIGHT, KIT)),
        (URL, STRAIGHT, True, (STRAIGHT, KIT)),
        (URL, KIT, True, (KIT, STRAIGHT)),
        (URL, KIT, False, (STRAIGHT,)),
        (None, None, True, (KIT,)),
        (None, STRAIGHT, False, ()),
    ],
)
def test_the_way_that_worked_goes_first(
    url: str | None, preferred: Route | None, agentkit: bool, routes: tuple[Route, ...]
) -> None:
    endpoint = Endpoint("a", "", url, preferred)
    assert routes_of(endpoint, agentkit=agentkit) == routes


@pytest.mark.parametrize(("taken", "other"), [(None, STRAIGHT), (KIT, STRAIGHT), (STRAIGHT, KIT)])
def test_the_other_way_is_the_one_that_was_not_taken(taken: Route | None, other: Route) -> None:
    assert other_route(Endpoint("a", "", URL, KIT), taken, agentkit=True) is other


def test_who_has_one_way_has_no_other() -> None:
    assert other_route(Endpoint("a", "", URL, None), STRAIGHT, agentkit=False) is None
