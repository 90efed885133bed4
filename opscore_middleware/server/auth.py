"""The keys that open the server."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hmac import compare_digest
from typing import Final

from opscore_middleware.core.clock import Clock, from_micros, system_clock
from opscore_middleware.core.keys import Key
from opscore_middleware.errors import Unauthorized
from opscore_middleware.protocol.credentials import authorization
from opscore_middleware.server.access import EVERYTHING, NOTHING, Access
from opscore_middleware.server.keys import KeyFile

__all__ = ["Guard"]

Headers = Sequence[tuple[bytes, bytes]]

# The webhook is signed, and has rules of its own.
_WEBHOOK: Final = "/v1/opscore/internal/agent/notify"
_OPEN: Final = frozenset({"/health", "/ready", "/docs", "/openapi.json", _WEBHOOK})
_OPEN_PREFIX: Final = "/docs/"  # what the page of the docs loads
_HOW: Final = "send the header 'Authorization: Bearer <OPSCORE_API_KEY>'."


class Guard:
    """Lets a request pass when it carries a key that opens what it asks for.

    Args:
        key: the server's own, which opens everything; without it and `keys` nobody needs one.
        keys: those of a file, each with its scope.
        open_paths: need no key, beside those that never do.
        clock: returns now, in microseconds since the Unix epoch.
    """

    def __init__(
        self,
        key: str | None,
        keys: KeyFile | None = None,
        *,
        open_paths: Collection[str] = (),
        clock: Clock = system_clock,
    ) -> None:
        self._key = None if key is None else key.encode()
        self._whole = None if key is None else authorization(key)
        self._keys = keys
        self._open_paths = _OPEN.union(open_paths)
        self._clock = clock

    def check(self, method: str, path: str, headers: Headers) -> Access:
        """Return what the key in `headers`, as ASGI hands them in, opens.

        Raises `Unauthorized` for none, a wrong one or one that is over, and `Forbidden` for one
        that does not open this.
        """
        given = _first(b"authorization", headers)
        if self._whole is not None and given is not None and compare_digest(given, self._whole):
            return EVERYTHING
        if self._whole is None and self._keys is None:
            return EVERYTHING
        if path in self._open_paths or path.startswith(_OPEN_PREFIX):
            return NOTHING
        access = None if given is None else self._opens(given)
        if access is None:
            raise Unauthorized(_reason(given, headers))
        access.require(method, path)
        return access

    def _opens(self, value: bytes) -> Access | None:
        scheme, _, token = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = token.strip()
        if self._key is not None and compare_digest(token, self._key):
            return EVERYTHING
        key = None if self._keys is None else self._keys.find(token)
        if key is None:
            return None
        self._refuse_expired(key)
        return Access(key.name, key.scope)

    def _refuse_expired(self, key: Key) -> None:
        if key.expires is not None and key.expires <= self._clock():
            moment = from_micros(key.expires).isoformat(timespec="seconds")
            raise Unauthorized(
                f"The key {key.name!r} expired at {moment}; ask for a new one, which "
                "`opscore keys add` makes."
            )


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
