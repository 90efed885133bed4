"""The key that opens Ops-Core, as it travels: `Authorization: Bearer <key>`."""

from __future__ import annotations

from opscore_middleware.errors import ConfigurationError

__all__ = ["authorization", "checked_key"]


def checked_key(key: object, *, setting: str) -> str:
    """Return the key without surrounding whitespace.

    Raises `ConfigurationError` for what cannot travel in a header. The error names `setting` and
    never the value: an almost right key is a secret too.
    """
    stripped = key.strip() if isinstance(key, str) else ""
    if not stripped or not stripped.isascii() or not stripped.isprintable():
        raise ConfigurationError(
            f"{setting} must be printable ASCII, as it travels in a header; "
            "copy it again, without line breaks.",
            setting=setting,
        )
    return stripped


def authorization(key: str) -> bytes:
    """Return the value of the `Authorization` header for a checked key."""
    return b"Bearer " + key.encode("ascii")
