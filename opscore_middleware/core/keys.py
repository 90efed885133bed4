"""Keys and what they open: read from TOML, held as digests.

    [[keys]]
    name = "dashboard"
    sha256 = "9f86d081..."              # of the key, in hex
    scope = "read"                      # or "admin", or "agent:<pattern of names>"
    expires = 2027-01-01T00:00:00Z      # may be left out

A plain SHA-256 is right here, where it would be wrong for passwords: a key is 256 random bits,
which nobody guesses however fast guesses are checked, and it is checked with every request.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import tomllib
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Final, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from opscore_middleware.core.clock import from_micros, to_micros
from opscore_middleware.core.models import Name, Utc
from opscore_middleware.errors import ConfigurationError

__all__ = ["ADMIN", "Key", "Kind", "Scope", "digest", "new_token", "parse_keys", "toml_entry"]

_PREFIX: Final = "opscore_"  # lets those who look for leaked secrets know one


class Kind(StrEnum):
    """What a key is for."""

    ADMIN = "admin"
    READ = "read"
    AGENT = "agent"


class Scope(NamedTuple):
    """What a key opens; `names` is the pattern of an agent key, None for the others."""

    kind: Kind
    names: str | None = None

    def __str__(self) -> str:
        return self.kind.value if self.names is None else f"{self.kind.value}:{self.names}"

    def sees(self, agent_name: str) -> bool:
        """Tell whether an agent with that name is within the scope."""
        # A bracket is one here: names have them, and shells' sets of characters nobody asked for.
        return self.names is None or fnmatchcase(agent_name, self.names.replace("[", "[[]"))

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read a scope. Raises `ValueError`, saying which there are."""
        kind, _, names = text.partition(":")
        if kind == Kind.AGENT and names:
            return cls(Kind.AGENT, names)
        if text in {Kind.ADMIN, Kind.READ}:
            return cls(Kind(text))
        raise ValueError(
            f"{text!r} is no scope; write admin, read, or agent:NAME, where NAME may have * and ?"
        )


ADMIN: Final = Scope(Kind.ADMIN)


class Key(NamedTuple):
    """One key that a server knows; `expires` is microseconds since the Unix epoch."""

    name: str
    digest: bytes
    scope: Scope
    expires: int | None = None

    def __repr__(self) -> str:
        return f"Key({self.name!r}, scope={str(self.scope)!r})"


def _scope(value: object) -> object:
    return Scope.parse(value) if isinstance(value, str) else value


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    name: Name
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    scope: Annotated[Scope, BeforeValidator(_scope)]
    expires: Utc | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    keys: list[_Entry] = Field(default_factory=list)


def parse_keys(text: str) -> tuple[Key, ...]:
    """Read a file of keys. Raises `ConfigurationError`, naming the entry and the rule.

    The values themselves are named nowhere: somebody may have written a key instead of its digest.
    """
    try:
        entries = _File.model_validate(tomllib.loads(text)).keys
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"It is not TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{where}: {first['msg']}.") from None
    return tuple(
        Key(
            entry.name,
            bytes.fromhex(entry.sha256),
            entry.scope,
            None if entry.expires is None else to_micros(entry.expires),
        )
        for entry in entries
    )


def new_token() -> str:
    """Return a new key: 256 random bits, in characters that travel anywhere."""
    return f"{_PREFIX}{secrets.token_urlsafe(32)}"


def digest(token: bytes) -> bytes:
    """Return what is kept of a key."""
    return hashlib.sha256(token).digest()


def toml_entry(key: Key) -> str:
    """Return a key as an entry of the file."""
    # JSON's strings are strings of TOML too, as long as they hold no lone surrogates.
    lines = [
        "[[keys]]",
        f"name = {json.dumps(key.name, ensure_ascii=False)}",
        f'sha256 = "{key.digest.hex()}"',
        f"scope = {json.dumps(str(key.scope), ensure_ascii=False)}",
    ]
    if key.expires is not None:
        lines.append(f"expires = {from_micros(key.expires).isoformat()}")
    return "\n".join(lines) + "\n"
