"""The files that the address of a PostgreSQL database names, or that the environment does."""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from opscore_middleware.errors import ConfigurationError
from opscore_middleware.stores.postgres_address import Address

__all__ = ["refuse_missing_service", "unreadable_file"]

_FILES: Final = {
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
}


def unreadable_file(address: Address) -> ConfigurationError | None:
    """Name a file of certificates or keys that cannot be read; the driver does not say which."""
    options = _options(address)
    for option, variable in _FILES.items():
        path = options.get(option) or os.environ.get(variable)
        if not path:
            continue
        try:
            Path(path).open("rb").close()
        except OSError as error:
            setting = option if options.get(option) else variable
            return ConfigurationError(
                f"The database {address.shown} cannot be opened: {setting}={path!r} cannot be read "
                f"({error.strerror}); name a file that the server's user can read, or leave "
                f"{setting} out.",
                database=address.shown,
            )
    return None


def refuse_missing_service(address: Address) -> None:
    """Raise `ConfigurationError` for a service that no file describes.

    The driver would do without, and go to whatever database is on this machine.
    """
    service = _options(address).get("service")
    if not service:
        return
    named = os.environ.get("PGSERVICEFILE")
    file = Path(named) if named else Path("~/.pg_service.conf").expanduser()
    found = configparser.ConfigParser()
    try:
        found.read_string(file.read_text(encoding="utf-8"))
        reason = f"holds no [{service}]"
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
    except (UnicodeDecodeError, configparser.Error):
        reason = "is no such file"
    if service not in found.sections():
        raise ConfigurationError(
            f"The database {address.shown} cannot be opened: service={service!r} is not known, "
            f"since {str(file)!r} {reason}; describe it there, or name another file in "
            "PGSERVICEFILE.",
            database=address.shown,
        )


def _options(address: Address) -> Mapping[str, str]:
    return dict(parse_qsl(urlsplit(address.dsn).query))
