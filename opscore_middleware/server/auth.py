"""The key that opens the server."""

from __future__ import annotations

from collections.abc import Sequence
from hmac import compare_digest
from typing import Final

from opscore_middleware.errors import Unauthorized
from opscore_middleware.protocol.credentials import authorization

__all__ = ["Guard"]

Headers = Sequence[tuple[bytes, bytes]]

# The webhook is signed, and has rules of its own.
_WEBHOOK: Final = "/v1/opscore/internal/agent/notify"
_OPEN: Final = frozenset({"/health", "/ready", "/docs", "/openapi.json", _WEBHOOK})
_OPEN_PREFIX: Final = "/docs/"  # what the page of the docs loads
_HOW: Final = "send the header 'Authorization: Bearer <OPSCORE_API_KEY>'."


class Guard:
    """Lets a request pass when it carries the key, or when none is configured."""

    def __init__(self, key: str | None) -> None:
        self._key = None if key is None else key.encode()
        self._whole = None if key is None else authorization(key)

    def check(self, path: str, headers: Headers) -> None:
        """Raise `Unauthorized` unless `headers`, as ASGI hands them in, may reach `path`."""
        if self._whole is None:
            return
        given = _first(b"authorization", headers)
        if given is not None and (compare_digest(given, self._whole) or self._opens(given)):
            return
        if path not in _OPEN and not path.startswith(_OPEN_PREFIX):
            raise Unauthorized(_reason(given, headers))

    def _opens(self, value: bytes) -> bool:
        scheme, _, token = value.partition(b" ")
        return scheme.lower() == b"bearer" and compare_digest(token.strip(), self._key or b"")


def _first(wanted: bytes, headers: Headers) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None


def _reason(given: bytes | None, headers: Headers) -> str:
    if given is not None:
        if given.partition(b" ")[0].lower() == b"bearer":
            return f"The key in the Authorization header is not this server's; {_HOW}"
        return f"The Authorization header does not use the Bearer scheme; {_HOW}"
    if _first(b"x-api-key", headers) is not None:
        return f"X-API-Key is not accepted here; {_HOW}"
    return f"This server needs a key; {_HOW}"
