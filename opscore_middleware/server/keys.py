"""The file of keys, read again whenever it changes."""

from __future__ import annotations

import asyncio
from hmac import compare_digest
from pathlib import Path
from typing import Final, NamedTuple

from opscore_middleware.core.keys import Key, digest, parse_keys
from opscore_middleware.errors import ConfigurationError
from opscore_middleware.server.logs import get_logger
from opscore_middleware.server.loops import Loop

__all__ = ["KeyFile", "reloading"]

log = get_logger(__name__)

LOOK: Final = 1.0


class _Stamp(NamedTuple):
    changed: int
    size: int
    number: int


class KeyFile:
    """The keys that a file holds. Raises `ConfigurationError` when it cannot be read at first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: _Stamp | None = None
        self.keys: tuple[Key, ...] = ()
        self.refresh()

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r}, {len(self.keys)} keys)"

    def refresh(self) -> bool:
        """Read the file again if it has changed, and say whether it had.

        Raises `ConfigurationError` when it cannot be read; the keys that were known stay.
        """
        try:
            status = self._path.stat()
            stamp = _Stamp(status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp == self._stamp:
                return False
            self.keys = parse_keys(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise self._refusal(str(error)) from error
        except ConfigurationError as error:
            raise self._refusal(error.message) from error
        # Only now: a file that is broken is read again until it is not.
        self._stamp = stamp
        return True

    def find(self, token: bytes) -> Key | None:
        """Return the key that `token` is, looking at all of them for as long as at one."""
        given = digest(token)
        found = None
        for key in self.keys:
            if compare_digest(key.digest, given):
                found = key
        return found

    def _refusal(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"OPSCORE_API_KEYS_FILE={str(self._path)!r} cannot be used: {reason}",
            setting="OPSCORE_API_KEYS_FILE",
        )


def reloading(keys: KeyFile) -> Loop:
    """Look each second whether the file has changed. A broken one is told of once."""

    async def step() -> float:
        if await asyncio.to_thread(keys.refresh):
            log.info("keys_reloaded", keys=len(keys.keys))
        return LOOK

    return Loop(step, retry=LOOK)
