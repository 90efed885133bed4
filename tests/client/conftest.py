"""One real Ops-Core for all tests of the clients; they run on trio too, and the server does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import OpsCoreProcess, running_opscore


@pytest.fixture(scope="module")
def opscore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpsCoreProcess]:
    """Return a running Ops-Core that wants a key."""
    with running_opscore(tmp_path_factory.mktemp("opscore"), key="open-sesame") as process:
        yield process


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPSCORE_API_URL", raising=False)
    monkeypatch.delenv("OPSCORE_API_KEY", raising=False)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run each async test on both event loops."""
    return str(request.param)
