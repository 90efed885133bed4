"""Clients where the environment names proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from opscore_middleware.agentkit import AgentKit, AsyncAgentKit
from opscore_middleware.client import AsyncOpsCoreClient, OpsCoreClient
from opscore_middleware.errors import ConfigurationError
from tests.support.processes import OpsCoreProcess

KINDS = [OpsCoreClient, AsyncOpsCoreClient, AgentKit, AsyncAgentKit]
ELSEWHERE = "http://ops-core.internal:8000"


@pytest.fixture(autouse=True)
def _no_proxies_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://x", "http://127.0.0.1:1"])
def test_no_proxy_stands_between_this_machine_and_itself(
    opscore: OpsCoreProcess, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with OpsCoreClient(opscore.url, opscore.api_key) as client:
        assert client.health()["status"] == "ok"


@pytest.mark.parametrize("client", KINDS)
def test_a_socks_proxy_without_its_package_is_told_with_the_install_line(
    monkeypatch: pytest.MonkeyPatch, client: Callable[[str], Any]
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://somebody:secret@proxy.internal:1080")
    with pytest.raises(ConfigurationError) as caught:
        client(ELSEWHERE)
    assert caught.value.message.startswith("ALL_PROXY names a SOCKS proxy")
    assert 'pip install "httpx[socks]"' in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("client", KINDS)
def test_a_proxy_that_is_none_is_told_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, client: Callable[[str], Any]
) -> None:
    monkeypatch.setenv("https_proxy", "nonsense://somebody:secret@x")
    with pytest.raises(ConfigurationError, match="https_proxy") as caught:
        client(ELSEWHERE)
    assert "secret" not in caught.value.message
