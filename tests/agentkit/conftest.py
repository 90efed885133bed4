"""What the tests of AgentKit share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from opscore_middleware.core.models import Registration
from opscore_middleware.protocol.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, sign
from tests.agentkit.support import SECRET, SIGNED_AT

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
