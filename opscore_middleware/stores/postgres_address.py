"""Where a PostgreSQL database is: what may be shown of its address, and what may not."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode

__all__ = ["Address"]

# What of the options says where, too; any other may hold a secret.
_PLACES: Final = frozenset({"host", "port", "dbname", "database"})
_PORT: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(:\d{1,5})?")


@dataclass(frozen=True, slots=True)
class Address:
    """An address taken apart. Neither `repr` nor `shown` tells the password.

    `shown` is for people, `dsn` for the driver. `password` is None where the address holds none;
    then the driver looks for one in PGPASSWORD and in the user's password file.
    """

    shown: str
    dsn: str = field(repr=False)
    password: str | None = field(repr=False)

    @classmethod
    def of(cls, parts: SplitResult) -> Address:
        """Take a split address apart.

        Raises `ValueError`, which says what is wrong and repeats nothing of the address.
        """
        if parts.fragment or "@" in f"{parts.path}{parts.query}":
            # What stands before it is then part of a password, which nobody may be shown.
            raise ValueError(
                "holds a character that ends a part of it too early (write @ as %40, / as %2F, "
                "? as %3F and # as %23 in a password)"
            )
        user_info, _, hosts = parts.netloc.rpartition("@")
        if not all(_PORT.fullmatch(host) for host in hosts.split(",")):
            raise ValueError("names a port that is no number")
        user, has_password, password = user_info.partition(":")
        options = parse_qsl(parts.query, keep_blank_values=True)
        secrets = [value for name, value in options if name == "password"]
        if has_password:
            secrets.append(unquote(password))
        where = f"postgresql://{user}@{hosts}" if user else f"postgresql://{hosts}"
        where += quote(unquote(parts.path))
        return cls(
            shown=_with(where, [option for option in options if option[0] in _PLACES]),
            dsn=_with(where, [option for option in options if option[0] != "password"]),
            password=secrets[-1] if secrets else None,
        )


def _with(where: str, options: list[tuple[str, str]]) -> str:
    return f"{where}?{urlencode(options, safe='/')}" if options else where
