"""Where a client connects to and with which key; the only module here that knows httpx's errors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx

from opscore_middleware.errors import ConfigurationError, RemoteUnavailable
from opscore_middleware.protocol.address import base_url
from opscore_middleware.protocol.call import Call
from opscore_middleware.protocol.credentials import authorization, checked_key
from opscore_middleware.protocol.surroundings import made

__all__ = ["DEFAULT_URL", "TIMEOUT", "Connection", "checked_timeout"]

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:8000"
"""Where `opscore serve` listens unless told otherwise."""
TIMEOUT: Final = 10.0
"""How long a call may take, in seconds."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An address and a key, checked. The key shows in no repr."""

    url: str
    key: str | None = field(repr=False)

    @classmethod
    def resolve(
        cls, api_url: str | None, api_key: str | None, environ: Mapping[str, str] | None = None
    ) -> Connection:
        """Take each from its argument, else from the environment.

        Raises `ConfigurationError` naming the one that cannot be used.
        """
        env = os.environ if environ is None else environ
        url, url_setting = _pick(api_url, "api_url", env, "OPSCORE_API_URL")
        key, key_setting = _pick(api_key, "api_key", env, "OPSCORE_API_KEY")
        return cls(
            url=base_url(url or DEFAULT_URL, setting=url_setting),
            key=None if key is None else checked_key(key, setting=key_setting),
        )

    def client(self, make: Callable[..., T], timeout: float, transport: object) -> T:
        """Return an httpx client of either kind; its calls go over `transport`, if there is one.

        Raises `ConfigurationError` where the environment's proxies cannot be used.
        """
        headers = {} if self.key is None else {b"Authorization": authorization(self.key)}
        return made(
            make,
            self.url,
            base_url=self.url,
            headers=headers,
            timeout=timeout,
            transport=transport,
        )

    def unavailable(
        self, call: Call[Any], error: httpx.RequestError | TimeoutError
    ) -> RemoteUnavailable:
        """Return the error that says that nobody answered, and what to do."""
        reason = str(error) or type(error).__name__
        return RemoteUnavailable(
            f"{call.method} {call.path}: no answer from Ops-Core at {self.url} ({reason}); "
            "start it with `opscore serve`, or set OPSCORE_API_URL to where it runs.",
            url=self.url,
        )


def checked_timeout(timeout: object) -> float:
    """Return how long a call may take. Raises `ConfigurationError`."""
    if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
        raise ConfigurationError(
            f"timeout={timeout!r} cannot be: it must be a finite number of seconds above 0.",
            setting="timeout",
        )
    return timeout


def _pick(
    given: str | None, argument: str, environ: Mapping[str, str], variable: str
) -> tuple[str | None, str]:
    if given is not None:
        return given, argument
    return environ.get(variable, "").strip() or None, variable
