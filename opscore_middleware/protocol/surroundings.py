"""What the environment says of proxies and certificates, for the HTTP clients that heed it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from opscore_middleware.errors import ConfigurationError
from opscore_middleware.protocol.address import is_loopback

__all__ = ["made"]

T = TypeVar("T")

_PROXIES: Final = {"ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY"}
_CERTIFICATES: Final = {"SSL_CERT_FILE", "SSL_CERT_DIR"}


def made(make: Callable[..., T], url: str, **options: Any) -> T:
    """Return the client of httpx's that `make` makes for an address.

    No proxy is asked for what runs on this machine: from there it is another one. Raises
    `ConfigurationError`, which names the variables and no value, where they cannot be used.
    """
    try:
        return make(trust_env=not _is_here(url), **options)
    except ImportError:
        raise ConfigurationError(
            f"{_named(_PROXIES)} names a SOCKS proxy, which httpx needs a package for: "
            'pip install "httpx[socks]", or unset it.'
        ) from None
    except Exception as error:
        named = _named(_PROXIES | _CERTIFICATES)
        if not named:
            raise
        raise ConfigurationError(
            f"What the environment says of proxies and certificates ({named}) cannot be used "
            f"({type(error).__name__}); correct it, or unset it."
        ) from None


def _named(variables: set[str]) -> str:
    return ", ".join(sorted(name for name in os.environ if name.upper() in variables))


def _is_here(url: str) -> bool:
    at = urlsplit(url)
    # Over https the environment may name the certificates that it needs.
    return at.scheme == "http" and is_loopback(at.hostname or "")
