"""The pytest plugin: fixtures that come with the package, loaded only where they are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest

from opscore_middleware.testing.opscore import RunningOpsCore, run_opscore

__all__ = ["opscore"]


# What would make an agent of a test another one, or known to those that are in use.
_OF_OTHERS: Final = (
    "AGENTKIT_API_URL",
    "OPSCORE_AGENT_ID",
    "OPSCORE_AGENT_NAME",
    "OPSCORE_CONTACT_ENDPOINT",
)


@pytest.fixture
def opscore(monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningOpsCore]:
    """Run a fresh Ops-Core that agents of this test report to, with nothing to configure."""
    for name in _OF_OTHERS:
        monkeypatch.delenv(name, raising=False)
    with run_opscore() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running
