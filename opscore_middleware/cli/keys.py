"""`opscore keys …`."""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from opscore_middleware.cli.options import AsJson
from opscore_middleware.cli.output import print_table
from opscore_middleware.core.clock import from_micros, system_clock
from opscore_middleware.core.durations import parse_duration
from opscore_middleware.core.keys import Key, Scope, digest, new_token, parse_keys, toml_entry
from opscore_middleware.errors import ConfigurationError

__all__ = ["app"]

app = typer.Typer(
    help="Make the keys that open a server, and list them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[
    Path | None,
    typer.Option(help="The file of keys; else OPSCORE_API_KEYS_FILE.", show_default=False),
]


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Whose key it is; shown in lists and refusals.")],
    scope: Annotated[
        str, typer.Option(help="admin, read, or agent:NAME, where NAME may have * and ?.")
    ],
    expires: Annotated[
        str | None, typer.Option(help="How long it opens anything: 12h, 90d.")
    ] = None,
    file: File = None,
) -> None:
    """Make a key and print it, this once: the file keeps its digest alone.

    A server that runs takes it within a second. To change a key, add the new one, hand it out,
    and take the old entry out of the file.

    Examples:

    \b
      opscore keys add dashboard --scope read --file keys.toml
      opscore keys add workers --scope 'agent:worker-*' --expires 90d --file keys.toml
    """
    path = _path(file)
    _read(path, missing_is_empty=True)
    token = new_token()
    entry = toml_entry(_key(name, token, scope, expires))
    parse_keys(entry)
    try:
        _append(path, entry)
    except (OSError, UnicodeEncodeError) as error:
        raise _unusable(path, error) from error
    typer.echo(f"Added {name!r} to {path}. The key is shown this once:", err=True)
    typer.echo(token)


@app.command("list")
def list_keys(file: File = None, as_json: AsJson = False) -> None:
    """List the keys of a file, not the keys themselves.

    Example:

    \b
      opscore keys list --file keys.toml
    """
    path = _path(file)
    keys = _read(path, missing_is_empty=False)
    if as_json:
        typer.echo(json.dumps([_shown(key) for key in keys], indent=2))
        return
    now = datetime.now(UTC)
    print_table(
        ("NAME", "SCOPE", "EXPIRES"),
        ((key.name, str(key.scope), _end(key, now)) for key in keys),
    )


def _key(name: str, token: str, scope: str, expires: str | None) -> Key:
    try:
        opens = Scope.parse(scope)
    except ValueError as error:
        raise ConfigurationError(f"--scope {error}.") from None
    try:
        end = None if expires is None else system_clock() + parse_duration(expires)
        # Whole seconds are enough, and easier to read.
        end = None if end is None else end // 1_000_000 * 1_000_000
    except ValueError as error:
        raise ConfigurationError(f"--expires {error}.") from None
    return Key(name, digest(token.encode()), opens, end)


def _path(given: Path | None) -> Path:
    if given is not None:
        return given
    named = os.environ.get("OPSCORE_API_KEYS_FILE", "").strip()
    if not named:
        raise ConfigurationError(
            "No file of keys is named; give --file, or set OPSCORE_API_KEYS_FILE.",
            setting="OPSCORE_API_KEYS_FILE",
        )
    return Path(named)


def _read(path: Path, *, missing_is_empty: bool) -> tuple[Key, ...]:
    try:
        return parse_keys(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if missing_is_empty:
            return ()
        raise _unusable(path, error) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, error) from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} cannot be used: {error.message}") from error


def _append(path: Path, entry: str) -> None:
    # At once, so that a server that looks right now sees the whole entry or nothing of it.
    whole = f"\n{entry}".encode()
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        before = os.fstat(opened).st_size
        if os.write(opened, whole) < len(whole):
            os.ftruncate(opened, before)  # half an entry would make the whole file unreadable
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(opened)


def _unusable(path: Path, error: Exception) -> ConfigurationError:
    return ConfigurationError(f"{path} cannot be used: {error}; name another with --file.")


def _end(key: Key, now: datetime) -> str:
    if key.expires is None:
        return "never"
    end = from_micros(key.expires)
    return f"{end.isoformat(timespec='seconds')}{' (expired)' if end <= now else ''}"


def _shown(key: Key) -> dict[str, str | None]:
    end = None if key.expires is None else from_micros(key.expires).isoformat()
    return {"name": key.name, "scope": str(key.scope), "expires": end}
