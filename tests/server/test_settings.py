"""What the server can be told, and what it says to a bad value."""

from __future__ import annotations

from pathlib import Path

import pytest

from opscore_middleware.errors import ConfigurationError
from opscore_middleware.server import Settings, create_app


def test_a_flag_beats_the_environment_and_the_environment_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPSCORE_PORT", "9001")
    monkeypatch.setenv("OPSCORE_HOST", "127.0.0.2")
    monkeypatch.setenv("OPSCORE_DATABASE_URL", "")
    settings = Settings.resolve(port=9002, host=None)
    assert (settings.port, settings.host) == (9002, "127.0.0.2")
    assert settings.database_url == "sqlite:///opscore.db"


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "OPSCORE_API_KEY": " open-sesame\n",
        "OPSCORE_EXTRA_STATES": "Paused, throttled,",
        "OPSCORE_MAX_BODY_BYTES": "2048",
        "OPSCORE_MAX_BATCH_BYTES": "4096",
        "OPSCORE_MAX_PENDING": "7",
        "OPSCORE_API_KEYS_FILE": "keys.toml",
        "OPSCORE_METRICS_PUBLIC": "1",
        "OPSCORE_HISTORY_DAYS": "1.5",
        "LOG_LEVEL": "warning",
        "LOG_FORMAT": "JSON",
    }.items():
        monkeypatch.setenv(name, value)
    settings = Settings.resolve()
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "open-sesame"
    assert settings.extra_states == {"paused", "throttled"}
    assert (settings.max_body_bytes, settings.max_batch_bytes) == (2048, 4096)
    assert (settings.max_pending, settings.metrics_public) == (7, True)
    assert (settings.api_keys_file, settings.history_days) == (Path("keys.toml"), 1.5)
    assert (settings.log_level, settings.log_format) == ("WARNING", "json")
    assert "open-sesame" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPSCORE_PORT", "abc"),
        ("OPSCORE_PORT", "65536"),
        ("OPSCORE_MAX_BODY_BYTES", "-1"),
        ("OPSCORE_MAX_BODY_BYTES", "1 MB"),
        ("OPSCORE_MAX_PENDING", "0"),
        ("OPSCORE_METRICS_PUBLIC", "perhaps"),
        ("OPSCORE_HISTORY_DAYS", "0"),
        ("OPSCORE_HISTORY_DAYS", "inf"),
        ("OPSCORE_EXTRA_STATES", "not a word"),
        ("OPSCORE_EXTRA_STATES", "idle"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_bad_value_is_named_with_its_setting(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.resolve()
    assert variable in caught.value.message
    assert value in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines"])
def test_a_bad_key_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPSCORE_API_KEY", key)
    with pytest.raises(ConfigurationError) as caught:
        Settings.resolve()
    assert "OPSCORE_API_KEY" in caught.value.message
    assert key not in caught.value.message


def test_a_database_that_does_not_exist_is_refused_with_its_setting() -> None:
    with pytest.raises(ConfigurationError, match="OPSCORE_DATABASE_URL"):
        create_app(Settings.resolve(database_url="mysql://somewhere"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_this_machine_alone_needs_no_key(host: str) -> None:
    Settings.resolve(host=host).require_safe_address()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "127.0.0.1.nip"])
def test_others_are_let_in_with_a_key_only(host: str) -> None:
    with pytest.raises(ConfigurationError, match="set OPSCORE_API_KEY"):
        Settings.resolve(host=host).require_safe_address()
    Settings.resolve(host=host, api_key="open-sesame").require_safe_address()


@pytest.mark.parametrize(("value", "is_on"), [("on", True), ("off", False), ("0", False)])
def test_dispatch_and_inference_are_turned_on_and_off(
    monkeypatch: pytest.MonkeyPatch, value: str, is_on: bool
) -> None:
    assert (Settings.resolve().dispatch, Settings.resolve().infer) == (True, True)
    monkeypatch.setenv("OPSCORE_DISPATCH", value)
    monkeypatch.setenv("OPSCORE_INFER", value)
    assert (Settings.resolve().dispatch, Settings.resolve().infer) == (is_on, is_on)


def test_where_tasks_may_be_sent_is_read_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.resolve().allowed_endpoints.permits("anybody", "192.168.0.1")
    monkeypatch.setenv("OPSCORE_ALLOWED_ENDPOINTS", "*.agents.svc, 10.0.0.0/8")
    allowed = Settings.resolve().allowed_endpoints
    assert allowed.permits("a.agents.svc", "192.168.0.1")
    assert not allowed.permits("anybody", "192.168.0.1")
    monkeypatch.setenv("OPSCORE_ALLOWED_ENDPOINTS", "https://a.agents.svc")
    with pytest.raises(ConfigurationError) as caught:
        Settings.resolve()
    assert "OPSCORE_ALLOWED_ENDPOINTS: 'https://a.agents.svc' is no host" in caught.value.message
