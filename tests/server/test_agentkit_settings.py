"""What the server is told of AgentKit: checked at the start, and never shown."""

from __future__ import annotations

import pytest

from opscore_middleware.errors import ConfigurationError
from opscore_middleware.server import Settings


def test_secrets_are_split_at_commas_and_show_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSCORE_WEBHOOK_SECRET", " new-secret, old-secret,")
    settings = Settings.resolve()
    assert settings.webhook_secrets == ["new-secret", "old-secret"]
    assert "secret," not in repr(settings)
    assert "new-secret" not in f"{settings!r} {settings} {settings.model_dump()}"


@pytest.mark.parametrize("value", [None, ""])
def test_no_secret_is_none(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    if value is not None:
        monkeypatch.setenv("OPSCORE_WEBHOOK_SECRET", value)
    assert Settings.resolve().webhook_secrets == []


@pytest.mark.parametrize("value", [" ", ",", " , ,"])
def test_a_secret_that_is_empty_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OPSCORE_WEBHOOK_SECRET", value)
    with pytest.raises(ConfigurationError, match="OPSCORE_WEBHOOK_SECRET holds no secret"):
        Settings.resolve()


def test_a_bad_switch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSCORE_WEBHOOK_INSECURE", "perhaps")
    with pytest.raises(ConfigurationError, match="OPSCORE_WEBHOOK_INSECURE='perhaps'"):
        Settings.resolve()


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("http://agentkit:8001", "http://agentkit:8001"),
        ("http://agentkit:8001/v1/", "http://agentkit:8001"),
        ("", None),
    ],
)
def test_agentkits_address_is_taken_in_either_spelling(
    monkeypatch: pytest.MonkeyPatch, value: str, url: str | None
) -> None:
    monkeypatch.setenv("AGENTKIT_API_URL", value)
    assert Settings.resolve().agentkit_api_url == url


@pytest.mark.parametrize("value", ["agentkit:8001", "ftp://agentkit", "http://u:hidden@agentkit"])
def test_an_address_that_cannot_be_agentkits_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AGENTKIT_API_URL", value)
    with pytest.raises(ConfigurationError, match="AGENTKIT_API_URL") as raised:
        Settings.resolve()
    assert "hidden" not in raised.value.message
