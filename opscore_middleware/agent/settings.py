"""What an agent can be told: arguments first, then the environment, then sane defaults."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, NamedTuple, get_args

from opscore_middleware.core.names import (
    are_capabilities,
    is_agent_id,
    is_endpoint,
    is_name,
    is_version,
)
from opscore_middleware.errors import ConfigurationError
from opscore_middleware.protocol.address import base_url
from opscore_middleware.protocol.credentials import checked_key

__all__ = ["Settings", "WebSockets"]

WebSockets = Literal["message", "connection", "never"]
"""What of a websocket is work: each message, the whole connection, or nothing."""

WORK_METHODS: Final = ("POST", "PUT", "PATCH", "DELETE")
NEVER_WORK: Final = frozenset({"HEAD", "OPTIONS"})
_FLAGS: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_TOKEN: Final = frozenset(
    "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)


class Settings(NamedTuple):
    """Everything the agent half is configured with, checked.

    `resolve` makes one from arguments and the environment. The key shows in no repr.
    """

    api_url: str | None = None
    api_key: str | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    agent_version: str = ""
    capabilities: tuple[str, ...] = ()
    contact_endpoint: str | None = None
    methods: frozenset[str] = frozenset(WORK_METHODS)
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    read_grace: float = 0.25
    error_hold: float = 5.0
    heartbeat_interval: float = 10.0
    agentkit_url: str | None = None
    websockets: WebSockets = "message"
    handle_signals: bool = True
    report_results: bool = True
    integrations: tuple[object, ...] = ()
    spans: bool = False

    @classmethod
    def resolve(
        cls,
        *,
        api_url: str | None = None,
        api_key: str | None = None,
        agent_id: str | None = None,
        agent_name: str | None = None,
        agent_version: str | None = None,
        capabilities: Iterable[str] | None = None,
        contact_endpoint: str | None = None,
        methods: Iterable[str] | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        read_grace: float | None = None,
        error_hold: float | None = None,
        heartbeat_interval: float | None = None,
        agentkit_url: str | None = None,
        websockets: WebSockets = "message",
        handle_signals: bool = True,
        report_results: bool | None = None,
        integrations: Iterable[object] | None = None,
        spans: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Take each setting from its argument, else from the environment, else its default.

        An environment variable that is empty counts as not set. Raises `ConfigurationError` for
        the first value that cannot be, naming the setting, the value and the rule.
        """
        env = _Environment(os.environ if environ is None else environ)
        beat = env.pick("heartbeat_interval", heartbeat_interval, "OPSCORE_HEARTBEAT_INTERVAL")
        settings = cls(
            api_url=_address(env.pick("api_url", api_url, "OPSCORE_API_URL")),
            api_key=_key(env.pick("api_key", api_key, "OPSCORE_API_KEY")),
            agent_id=_checked(is_agent_id, env.pick("agent_id", agent_id, "OPSCORE_AGENT_ID")),
            agent_name=_checked(is_name, env.pick("agent_name", agent_name, "OPSCORE_AGENT_NAME")),
            agent_version=_text(env.pick("agent_version", agent_version, "OPSCORE_AGENT_VERSION")),
            capabilities=_names(
                env.pick("capabilities", capabilities, "OPSCORE_AGENT_CAPABILITIES")
            ),
            contact_endpoint=_endpoint(
                env.pick("contact_endpoint", contact_endpoint, "OPSCORE_CONTACT_ENDPOINT")
            ),
            methods=_methods(WORK_METHODS if methods is None else methods),
            include=_globs("include", include),
            exclude=_globs("exclude", exclude),
            read_grace=_seconds(env.pick("read_grace", read_grace, "OPSCORE_READ_GRACE"), 0.25),
            error_hold=_seconds(env.pick("error_hold", error_hold, "OPSCORE_ERROR_HOLD"), 5.0),
            heartbeat_interval=_seconds(beat, 10.0, least=0.1),
            agentkit_url=_address(env.pick("agentkit_url", agentkit_url, "AGENTKIT_API_URL")),
            websockets=_websockets(websockets),
            handle_signals=handle_signals,
            report_results=_flag(
                env.pick("report_results", report_results, "OPSCORE_REPORT_RESULTS"), default=True
            ),
            integrations=_integrations(
                env.pick("integrations", integrations, "OPSCORE_INTEGRATIONS")
            ),
            spans=spans,
        )
        settings._check_agentkit()
        return settings

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in self._asdict().items() if name != "api_key")
        return f"Settings({', '.join(shown)})"

    def _check_agentkit(self) -> None:
        registers = self.agentkit_url is not None and self.agent_id is None
        if registers and self.contact_endpoint is None:
            raise ConfigurationError(
                "AGENTKIT_API_URL is set, and AgentKit registers no agent without an address to "
                "send it messages: set OPSCORE_CONTACT_ENDPOINT to where this agent takes tasks, "
                "such as http://10.0.0.5:8000/task.",
                setting="OPSCORE_CONTACT_ENDPOINT",
            )


class _Given(NamedTuple):
    """A value and the name under which it was given, for the error that may follow."""

    value: Any
    source: str

    def refuse(self, rule: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.source}={self.value!r} {rule}", setting=self.source, value=self.value
        )


class _Environment:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def pick(self, argument: str, value: Any, variable: str) -> _Given | None:
        if value is not None:
            return _Given(value, argument)
        text = self._environ.get(variable, "").strip()
        return _Given(text, variable) if text else None


def _address(given: _Given | None) -> str | None:
    if given is None:
        return None
    if not isinstance(given.value, str):
        raise given.refuse("must be a text.")
    return base_url(given.value, setting=given.source)


def _key(given: _Given | None) -> str | None:
    return None if given is None else checked_key(given.value, setting=given.source)


def _checked(fits: Callable[[object], bool], given: _Given | None) -> str | None:
    if given is None:
        return None
    if not fits(given.value):
        raise given.refuse(
            "must be a text of 1 to 200 characters without control characters "
            "(where it is an id, nor slashes, and not dots alone)."
        )
    return str(given.value)


def _text(given: _Given | None) -> str:
    if given is None:
        return ""
    if not is_version(given.value):
        raise given.refuse("must be a text of at most 100 characters, none a control one.")
    return str(given.value)


def _names(given: _Given | None) -> tuple[str, ...]:
    if given is None:
        return ()
    names = given.value
    if isinstance(names, str):
        names = [part.strip() for part in names.split(",") if part.strip()]
    names = _listed(given, names)
    if not are_capabilities(names):
        raise given.refuse(
            "must be a list of at most 200 names (in the environment: separated by commas)."
        )
    return tuple(names)


def _endpoint(given: _Given | None) -> str | None:
    if given is None:
        return None
    url = given.value
    if not is_endpoint(url):
        shown = _Given(url.rpartition("@")[2], given.source) if isinstance(url, str) else given
        raise shown.refuse(
            "must be the http or https address that this agent takes tasks at, 2000 characters "
            "long at most."
        )
    return str(url)


def _listed(given: _Given, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError:
        raise given.refuse("must be a list.") from None


def _methods(methods: Iterable[str]) -> frozenset[str]:
    given = _Given(methods, "methods")
    if isinstance(methods, str):
        raise given.refuse("must be a list of HTTP methods, such as ['POST', 'PUT'].")
    names = _listed(given, methods)
    for name in names:
        if not isinstance(name, str) or not _TOKEN.issuperset(name or " "):
            raise given.refuse(f"holds {name!r}, which is no HTTP method.")
        if name.upper() in NEVER_WORK:
            raise given.refuse(
                f"holds {name.upper()}, which asks about a resource and is never work."
            )
    return frozenset(name.upper() for name in names)


def _globs(setting: str, patterns: Iterable[str]) -> tuple[str, ...]:
    given = _Given(patterns, setting)
    if isinstance(patterns, str):
        raise given.refuse("must be a list of path patterns, such as ['/chat', '/runs/*'].")
    globs = tuple(_listed(given, patterns))
    for glob in globs:
        if not isinstance(glob, str) or not glob.startswith(("/", "*")):
            raise given.refuse(f"holds {glob!r}; a path pattern starts with / or *.")
    return globs


def _websockets(rule: WebSockets) -> WebSockets:
    if rule not in get_args(WebSockets):
        raise _Given(rule, "websockets").refuse(
            f"must be one of {', '.join(get_args(WebSockets))}."
        )
    return rule


def _integrations(given: _Given | None) -> tuple[object, ...]:
    if given is None:
        return ()
    if not isinstance(given.value, str):
        return tuple(_listed(given, given.value))
    if given.source == "integrations":
        raise given.refuse("must be a list, such as ['-mcp'].")
    return tuple(part.strip() for part in given.value.split(",") if part.strip())


def _flag(given: _Given | None, *, default: bool) -> bool:
    if given is None:
        return default
    if isinstance(given.value, bool):
        return given.value
    flag = _FLAGS.get(given.value.lower()) if isinstance(given.value, str) else None
    if flag is None:
        raise given.refuse(f"must be one of {', '.join(_FLAGS)}.")
    return flag


def _seconds(given: _Given | None, default: float, *, least: float = 0.0) -> float:
    if given is None:
        return default
    try:
        seconds = float(given.value)
    except (TypeError, ValueError, OverflowError):
        raise given.refuse("must be a number of seconds, at most 3600.") from None
    if not math.isfinite(seconds) or not least <= seconds <= 3600:
        raise given.refuse(f"must be between {least:g} and 3600 seconds.")
    return seconds
