"""Whoever asks for an agent that is not there is told who is."""

from __future__ import annotations

import pytest

from opscore_middleware.core.models import Registration
from opscore_middleware.core.opscore import OpsCore
from opscore_middleware.errors import AgentNotFound
from opscore_middleware.stores import open_store

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("question", ["agent", "agent_state", "history"])
@pytest.mark.parametrize(
    ("asked", "best"), [("summariser", "id-1"), ("Sumarizer", "id-1"), ("id-22", "id-2")]
)
async def test_a_stale_id_is_answered_with_the_nearest_agents_and_how_to_list_them(
    question: str, asked: str, best: str
) -> None:
    store = open_store("sqlite:///:memory:")
    await store.open()
    opscore = OpsCore(store)
    names = {"id-1": "summariser", "id-2": "translator", "id-3": "writer", "id-4": "editor"}
    for agent_id, name in names.items():
        await opscore.register(Registration(agent_id=agent_id, agent_name=name))
    with pytest.raises(AgentNotFound) as raised:
        await getattr(opscore, question)(asked)
    await store.close()
    near = raised.value.context["nearest"]
    assert len(near) == 3
    assert near[0] == {"agentId": best, "agentName": names[best]}
    assert f"{asked!r}" in raised.value.message
    assert f"{names[best]!r} ({best})" in raised.value.message
    assert "`opscore agents list`" in raised.value.message
