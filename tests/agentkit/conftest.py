"""What the tests of AgentKit share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from opscore_middleware.agentkit import AsyncAgentKit
from opscore_middleware.core.models import Registration
from opscore_middleware.protocol.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from opscore_middleware.testing import SimulatedAgentKit
from tests.agentkit.support import NOTIFY, NOW, SECRET, SIGNED_AT, Receiver

Headers = dict[str, str]


@pytest.fixture
def anyio_backend() -> str:
    """The simulated AgentKit runs on asyncio; tests of the client choose both loops themselves."""
    return "asyncio"


@pytest.fixture
def registration() -> Registration:
    return Registration(
        agent_name="summariser",
        version="1.0",
        capabilities=["summarise"],
        contact_endpoint="http://127.0.0.1:9000/task",
    )


@pytest.fixture
def signed() -> Callable[..., Headers]:
    def make(body: bytes, *, timestamp: str = SIGNED_AT, secret: str = SECRET) -> dict[str, Any]:
        return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: sign(body, timestamp, secret)}

    return make


@pytest.fixture
def receiver() -> Receiver:
    """Stand for the agent and for Ops-Core, whatever the address."""
    return Receiver()


@pytest.fixture
async def kit(receiver: Receiver) -> AsyncIterator[SimulatedAgentKit]:
    async with SimulatedAgentKit(
        webhook_url=f"http://opscore{NOTIFY}",
        secret=SECRET,
        transport=httpx.ASGITransport(receiver),
        clock=lambda: NOW + 123_456,
        tools={"adds": {"sum": 3}, "breaks": {"status": "error", "error_message": "no numbers"}},
    ) as running:
        yield running


@pytest.fixture
async def http(kit: SimulatedAgentKit) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=kit.transport(), base_url="http://agentkit") as client:
        yield client


@pytest.fixture
async def agentkit(kit: SimulatedAgentKit) -> AsyncIterator[AsyncAgentKit]:
    async with AsyncAgentKit("http://agentkit", transport=kit.transport(), timeout=0.2) as client:
        yield client
