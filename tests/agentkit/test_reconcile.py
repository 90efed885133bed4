"""Agents that AgentKit lists and Ops-Core does not know."""

from __future__ import annotations

from opscore_middleware.agentkit import AgentDetails, missing
from tests.agentkit.support import details


def listed(*ids: str) -> list[AgentDetails]:
    return [AgentDetails.model_validate(details(agentId=each)) for each in ids]


def test_only_agents_that_are_not_known_are_missing_in_the_order_of_the_list() -> None:
    found = missing(listed("c", "a", "b"), {"a"})
    assert [registration.agent_id for registration in found] == ["c", "b"]
    assert found[0].agent_name == "agent-none"


def test_nothing_is_missing_where_all_are_known_or_none_is_listed() -> None:
    assert missing(listed("a"), {"a", "b"}) == []
    assert missing([], {"a"}) == []


def test_an_agent_that_is_listed_twice_is_missing_once() -> None:
    assert len(missing(listed("a", "a"), set())) == 1


def test_one_odd_agent_hides_no_other() -> None:
    found = missing(listed("not/an/id", "a"), set())
    assert [registration.agent_id for registration in found] == ["a"]
