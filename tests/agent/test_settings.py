"""Settings: arguments, then the environment; a bad one says which, what and why."""

from __future__ import annotations

from typing import Any

import pytest

from opscore_middleware import ConfigurationError, OpsCoreMiddleware
from opscore_middleware.agent.identity import registration
from opscore_middleware.agent.link import Link
from opscore_middleware.agent.settings import Settings
from opscore_middleware.core.models import Registration
from tests.agent.support import KEY, URL


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Do nothing."""


def test_an_argument_wins_over_the_environment() -> None:
    environ = {"OPSCORE_API_URL": "http://env", "OPSCORE_AGENT_NAME": "env"}
    settings = Settings.resolve(api_url="http://argument/v1/", environ=environ)
    assert settings.api_url == "http://argument"
    assert settings.agent_name == "env"


def test_every_setting_can_come_from_the_environment() -> None:
    settings = Settings.resolve(
        environ={
            "OPSCORE_API_URL": "https://ops.example/v1",
            "OPSCORE_API_KEY": f" {KEY} ",
            "OPSCORE_AGENT_ID": "a1",
            "OPSCORE_AGENT_NAME": "summariser",
            "OPSCORE_AGENT_VERSION": "2.1",
            "OPSCORE_AGENT_CAPABILITIES": "sum, translate,",
            "OPSCORE_CONTACT_ENDPOINT": "http://10.0.0.5:8000/task",
            "OPSCORE_READ_GRACE": "0.5",
            "OPSCORE_ERROR_HOLD": "7",
            "OPSCORE_HEARTBEAT_INTERVAL": "30",
            "AGENTKIT_API_URL": "http://agentkit",
            "OPSCORE_REPORT_RESULTS": "Off",
        }
    )
    assert settings == Settings(
        api_url="https://ops.example",
        api_key=KEY,
        agent_id="a1",
        agent_name="summariser",
        agent_version="2.1",
        capabilities=("sum", "translate"),
        contact_endpoint="http://10.0.0.5:8000/task",
        read_grace=0.5,
        error_hold=7.0,
        heartbeat_interval=30.0,
        agentkit_url="http://agentkit",
        report_results=False,
    )


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.resolve(environ={"OPSCORE_API_URL": " ", "OPSCORE_AGENT_ID": ""}) == Settings()


BAD = [
    ({"api_url": "localhost:8000"}, "api_url", "http://127.0.0.1:8000"),
    ({"api_url": "ftp://ops"}, "api_url", "http"),
    ({"api_url": "http://ops:99999"}, "api_url", "http"),
    ({"api_url": "http://[::1"}, "api_url", "http"),
    ({"api_url": "http://ops?key=1"}, "api_url", "query"),
    ({"api_url": ""}, "api_url", "http"),
    ({"api_url": 8000}, "api_url", "8000"),
    ({"agent_id": "a/b"}, "agent_id", "'a/b'"),
    ({"agent_id": ".."}, "agent_id", "'..'"),
    ({"agent_id": ""}, "agent_id", "1 to 200"),
    ({"agent_id": "x" * 201}, "agent_id", "1 to 200"),
    ({"agent_id": 7}, "agent_id", "7"),
    ({"agent_name": "two\nlines"}, "agent_name", "control characters"),
    ({"agent_name": "caf\udce9"}, "agent_name", "caf"),
    ({"agent_version": "1" * 101}, "agent_version", "100"),
    ({"agent_version": 1.0}, "agent_version", "1.0"),
    ({"agent_version": "1\x00"}, "agent_version", "control"),
    ({"agent_version": "caf\udce9"}, "agent_version", "caf"),
    ({"capabilities": ["ok", ""]}, "capabilities", "at most 200 names"),
    ({"capabilities": 5}, "capabilities", "5"),
    ({"capabilities": [f"c{n}" for n in range(201)]}, "capabilities", "200"),
    ({"contact_endpoint": "10.0.0.5/task"}, "contact_endpoint", "10.0.0.5/task"),
    ({"contact_endpoint": "http://"}, "contact_endpoint", "http"),
    ({"contact_endpoint": "http://a\tb"}, "contact_endpoint", "http"),
    ({"contact_endpoint": "http://a/" + "b" * 2000}, "contact_endpoint", "2000"),
    ({"contact_endpoint": 5}, "contact_endpoint", "5"),
    ({"methods": "POST"}, "methods", "['POST', 'PUT']"),
    ({"methods": ["PO ST"]}, "methods", "'PO ST'"),
    ({"methods": [""]}, "methods", "''"),
    ({"methods": ["head"]}, "methods", "HEAD"),
    ({"methods": 5}, "methods", "5"),
    ({"methods": [5]}, "methods", "5"),
    ({"include": "/chat"}, "include", "['/chat', '/runs/*']"),
    ({"include": ["chat"]}, "include", "'chat'"),
    ({"include": 5}, "include", "5"),
    ({"exclude": [5]}, "exclude", "5"),
    ({"read_grace": -1}, "read_grace", "-1"),
    ({"read_grace": "soon"}, "read_grace", "'soon'"),
    ({"error_hold": float("nan")}, "error_hold", "nan"),
    ({"error_hold": 10**400}, "error_hold", "3600"),
    ({"error_hold": [1]}, "error_hold", "[1]"),
    ({"heartbeat_interval": 0}, "heartbeat_interval", "0.1"),
    ({"agentkit_url": "agentkit"}, "agentkit_url", "http"),
]


@pytest.mark.parametrize(
    ("settings", "names", "says"), BAD, ids=[f"{next(iter(b[0]))}-{i}" for i, b in enumerate(BAD)]
)
def test_a_bad_value_is_refused_at_construction(
    settings: dict[str, Any], names: str, says: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        OpsCoreMiddleware(app, **settings)
    assert names in refused.value.message
    assert says in refused.value.message
    assert refused.value.context["setting"] == names


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OPSCORE_API_URL", "ops-core"),
        ("OPSCORE_AGENT_ID", "a/b"),
        ("OPSCORE_AGENT_NAME", "x" * 201),
        ("OPSCORE_AGENT_VERSION", "1" * 101),
        ("OPSCORE_CONTACT_ENDPOINT", "nowhere"),
        ("OPSCORE_READ_GRACE", "long"),
        ("OPSCORE_ERROR_HOLD", "1h"),
        ("OPSCORE_HEARTBEAT_INTERVAL", "-3"),
        ("AGENTKIT_API_URL", "kit"),
        ("OPSCORE_REPORT_RESULTS", "maybe"),
    ],
)
def test_a_bad_variable_is_named_as_it_is_spelled(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refused:
        OpsCoreMiddleware(app)
    assert variable in refused.value.message
    assert value in refused.value.message


def test_what_is_accepted_can_always_register() -> None:
    """What registration would refuse must be refused at the start, not in a background thread."""
    settings = Settings.resolve(
        agent_version="v" * 100,
        capabilities=[f"c{n}" for n in range(200)],
        contact_endpoint="http://a/" + "b" * 1991,
        environ={},
    )
    told = Registration.model_validate(registration(settings, "n" * 200, None, "i"))
    assert told.agent_name == "n" * 200
    assert told.capabilities == [f"c{n}" for n in range(200)]
    assert told.instance_id == "i"


@pytest.mark.parametrize("key", [f"{KEY}\n{KEY}", f"{KEY}é", "  ", f"{KEY}\x00", 5])
def test_a_bad_key_is_named_and_never_shown(key: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        OpsCoreMiddleware(app, api_key=key)
    assert "api_key" in refused.value.message
    assert KEY not in str(refused.value)
    assert KEY not in repr(refused.value.context)


def test_the_key_shows_in_no_repr() -> None:
    middleware = OpsCoreMiddleware(app, api_url=URL, api_key=KEY)
    assert KEY not in repr(middleware)
    assert KEY not in repr(Settings.resolve(api_url=URL, api_key=KEY))
    assert KEY not in repr(Link(URL, KEY))


@pytest.mark.parametrize("setting", ["api_url", "contact_endpoint", "agentkit_url"])
@pytest.mark.parametrize("url", [f"ftp://user:{KEY}@ops", f"http://user:{KEY}@o ps"])
def test_secrets_in_addresses_are_not_repeated(setting: str, url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        OpsCoreMiddleware(app, **{setting: url})
    assert KEY not in str(refused.value)
    assert KEY not in repr(refused.value.context)


class Wsgi:
    """What Flask looks like."""

    def __call__(self, environ: Any, start_response: Any) -> None:
        """Serve WSGI."""


class Aiohttp:
    """What aiohttp's application looks like: callable, for another reason."""

    def __call__(self) -> Aiohttp:
        """Return itself."""
        return self


@pytest.mark.parametrize("wrong", [Wsgi(), Aiohttp(), Wsgi, None, "module:app", 5])
def test_what_is_not_asgi_is_refused_with_what_to_do(wrong: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        OpsCoreMiddleware(wrong)
    assert type(wrong).__qualname__ in refused.value.message
    assert "app(scope, receive, send)" in refused.value.message
