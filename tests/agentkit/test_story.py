"""The story of every AgentKit, on real sockets: the simulated one always, a real one if given.

For a real one set OPSCORE_TEST_AGENTKIT_URL, OPSCORE_TEST_AGENTKIT_SECRET (the secret that it
signs with) and OPSCORE_TEST_AGENTKIT_CALLBACK (host:port where this process may listen, and which
it reaches; its webhook goes to http://host:port/v1/opscore/internal/agent/notify).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from opscore_middleware.agentkit import AgentKit
from opscore_middleware.testing import Quirks, SimulatedAgentKit
from tests.agentkit.story import Story
from tests.agentkit.support import NOTIFY, SECRET, Receiver, served

SETTINGS = (
    "OPSCORE_TEST_AGENTKIT_URL",
    "OPSCORE_TEST_AGENTKIT_SECRET",
    "OPSCORE_TEST_AGENTKIT_CALLBACK",
)
ONES = ["simulated", "newer", "never forwards", "real"]


@pytest.fixture(scope="module", params=ONES)
def story(request: pytest.FixtureRequest) -> Iterator[Story]:
    receiver = Receiver()
    if request.param == "real":
        url, secret, callback = _real()
        host, _, port = callback.rpartition(":")
        with served(receiver, host=host, port=int(port)), AgentKit(url) as agentkit:
            yield Story(agentkit, receiver, f"http://{callback}", secret)
        return
    quirks = Quirks(
        lists_agents=request.param == "newer",
        accepts_and_never_forwards=request.param == "never forwards",
    )
    with served(receiver) as callback:
        kit = SimulatedAgentKit(webhook_url=callback + NOTIFY, secret=SECRET, quirks=quirks)
        with served(kit) as url, AgentKit(url) as agentkit:
            yield Story(agentkit, receiver, callback, SECRET)


def _real() -> list[str]:
    given = [os.environ.get(name, "") for name in SETTINGS]
    if not all(given):
        pytest.skip(f"no real AgentKit to tell it of: set {', '.join(SETTINGS)}")
    return given


def test_a_registered_agent_is_told_to_ops_core(story: Story) -> None:
    story.registered_agents_are_told()


def test_a_name_is_given_once(story: Story) -> None:
    story.a_name_is_given_once()


def test_a_message_to_a_stranger_is_refused(story: Story) -> None:
    story.strangers_are_unknown()


def test_agents_are_listed_where_that_is_known(story: Story) -> None:
    story.it_answers_and_lists_or_says_that_it_does_not()


def test_an_accepted_message_keeps_its_correlation_or_never_comes(
    story: Story, request: pytest.FixtureRequest
) -> None:
    which = request.node.callspec.params["story"]
    # That something never comes can only be seen by waiting a while.
    arrival = story.an_accepted_message_comes_or_never_does(
        timeout=0.3 if which == "never forwards" else 5
    )
    if arrival is not None:
        story.a_forwarded_message_keeps_what_correlates_it(arrival)
    elif which == "real":
        pytest.skip("this AgentKit accepted the message and forwarded nothing")
    assert (arrival is None) == (which == "never forwards") or which == "real"
