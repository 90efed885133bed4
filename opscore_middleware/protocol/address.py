"""Where Ops-Core is: one address from the several spellings that clients are configured with."""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit, urlunsplit

from opscore_middleware.errors import ConfigurationError

__all__ = ["base_url", "is_loopback"]


def base_url(url: str, *, setting: str) -> str:
    """Return the address that `/v1/opscore/…` is added to.

    Clients are configured with `http://host:8000` and with `http://host:8000/v1`; both mean the
    same server, and `/v1/v1` is never built. Raises `ConfigurationError` naming `setting` when
    this is no http or https address, or carries a user, a password, a query or a fragment.
    """
    parts = _split(url.strip())
    if parts is None:
        raise ConfigurationError(
            f"{setting}={_without_secrets(url)!r} is not an http or https address; "
            "write for example http://127.0.0.1:8000.",
            setting=setting,
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(
            f"{setting} must be a plain address without user, password, query or fragment; "
            "keys have a setting of their own (OPSCORE_API_KEY).",
            setting=setting,
        )
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`: 127.0.0.0/8, ::1 or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    # A socket that takes both kinds shows IPv4 peers as ::ffff:127.0.0.1.
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _split(url: str) -> SplitResult | None:
    """Take an http or https address apart; None for anything else."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
        (parts.hostname or "").encode("idna")  # as it will be when the name is looked up
    except ValueError:
        return None
    # urlsplit drops line breaks and keeps spaces; neither belongs in an address.
    plain = not any(char.isspace() for char in url)
    http = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return parts if plain and http and port_ok else None


def _without_secrets(url: str) -> str:
    return url.rpartition("@")[2] if "@" in url else url
