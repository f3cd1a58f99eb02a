"""A PostgreSQL server for tests: one that an address names, one in a container, or one started here.

`CONNECTORS_TEST_POSTGRES_URL` (`postgresql://user:password@host:port/database`) names a server to use; it must be
one for tests, with `wal_level=logical`, and the user a superuser. Else an engine for containers starts one; else one
is started from the machine's own software, which Debian's package brings where we may install it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import psycopg
import pytest

from tests.servers.docker import container_name, engine_answers
from tests.servers.java import MissingError
from tests.servers.process import Keep, Kept
from tests.servers.search import ServerError

__all__ = ["PostgresServer", "postgres_obstacle", "postgres_or_skip"]

_ADDRESS: Final = "CONNECTORS_TEST_POSTGRES_URL"
_IMAGE: Final = "postgres:17"
_NOBODY: Final = 65534  # the server refuses to run as root
_PATIENCE: Final = 120.0  # seconds; pulling an image is part of it
_PASSWORD: Final = "correct-horse-battery"
_SETTINGS: Final = {
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "60",
    "fsync": "off",  # a test's data may die with the machine
    "full_page_writes": "off",
    "autovacuum": "off",  # nothing is written but what a test writes
}


def postgres_obstacle() -> str | None:
    """Says why no server can run here, as a sentence for people; None when one can."""
    if os.environ.get(_ADDRESS) or engine_answers() or _binaries() is not None or _may_install():
        return None
    return f"PostgreSQL is not here: install it (Debian: postgresql), or name a server in {_ADDRESS}."


def postgres_or_skip(**settings: str) -> PostgresServer:
    """Returns a started server; skips the test where none can run, and fails it there in continuous integration."""
    try:
        return PostgresServer(settings=settings).start()
    except MissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    except ServerError as problem:
        pytest.fail(str(problem), pytrace=False)


class PostgresServer:
    """One server: `with PostgresServer() as server:`, or `start()` and `stop()`.

    It listens on 127.0.0.1 only, and is gone with its data after `stop()` or when this process dies. Logical decoding
    is on. A server that the environment names is used as it is, and left as it is.

    Args:
        settings: more settings of the server, by name.
    """

    def __init__(self, *, settings: dict[str, str] | None = None) -> None:
        self._settings = {**_SETTINGS, **(settings or {})}
        self._kept: Kept | None = None
        self._folder: Path | None = None
        self.host = "127.0.0.1"
        self.port = 0
        self.user = "postgres"
        self.password = _PASSWORD
        self.database = "postgres"

    def start(self) -> Self:
        """Returns when the server takes connections; raises ServerError, MissingError."""
        if self.port:
            return self  # it runs already
        address = os.environ.get(_ADDRESS)
        if address and self._settings == _SETTINGS:
            parts = urlsplit(address)
            self.host, self.port = parts.hostname or self.host, parts.port or 5432
            self.user, self.password = unquote(parts.username or self.user), unquote(parts.password or "")
            self.database = parts.path.strip("/") or self.database
            self.execute("SELECT 1")
            return self
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="connectors-postgres-"))
        try:
            self._kept = Kept(self._container(self._folder) if engine_answers() else self._native(self._folder))
            self._await_ready(self._kept)
        except BaseException:  # an interrupted start, too, must leave nothing behind
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends the server and deletes its data; may be called twice."""
        if self._kept is not None and self._folder is not None:
            with suppress(OSError, ValueError, IndexError):  # it lets go of its shared memory, if it runs natively
                os.kill(int((self._folder / "db" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
                until = time.monotonic() + 5
                while (self._folder / "db" / "postmaster.pid").exists() and time.monotonic() < until:
                    time.sleep(0.05)
            self._kept.stop()
            self._kept = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def is_ours(self) -> bool:
        """True for a native server that was started here, whose processes a test may kill."""
        return self._folder is not None and (self._folder / "db" / "postmaster.pid").exists()

    def connect(self, database: str | None = None, **given: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """Returns a connection in autocommit mode, as the superuser unless `user` and `password` are given."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            dbname=database or self.database,
            autocommit=True,
            connect_timeout=10,
            **{"user": self.user, "password": self.password, **given},
        )

    def execute(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Runs statements one by one; returns the rows of the last one, if it has any."""
        with self.connect(database) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement.encode())  # bytes: the text is the test's own, not typed as a literal
            return cursor.fetchall() if cursor.description else []

    def wait(self) -> None:
        """Returns when a server that was shaken takes connections again."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return

    def create_database(self, name: str) -> None:
        """Makes a database, in place of one that has the name; its replication slots go with it."""
        self.drop_database(name)
        self.execute(f'CREATE DATABASE "{name}"')

    def drop_database(self, name: str) -> None:
        """Removes a database with its slots and connections, if it is there."""
        for slot, active, database in self.execute("SELECT slot_name, active_pid, database FROM pg_replication_slots"):
            if database != name:
                continue
            if active is not None:
                self.execute(f"SELECT pg_terminate_backend({active}, 5000)")
            self.execute(f"SELECT pg_drop_replication_slot('{slot}')")
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _container(self, folder: Path) -> Keep:
        name = container_name()
        options = [part for key, value in self._settings.items() for part in ("-c", f"{key}={value}")]
        return Keep(
            command=[
                *("docker", "run", "--rm", "--name", name, "--publish", f"127.0.0.1:{self.port}:5432"),
                *("--env", f"POSTGRES_PASSWORD={self.password}", _IMAGE, *options),
            ],
            folder=str(folder),
            log=str(folder / "server.log"),
            last=["docker", "rm", "--force", "--volumes", name],
        )

    def _native(self, folder: Path) -> Keep:
        binaries = _binaries() or _installed()
        user = _NOBODY if os.geteuid() == 0 else None
        (folder / "password").write_text(self.password)
        if user is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user, user)
        identity: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        initdb = [
            *(str(binaries / "initdb"), "--pgdata", str(folder / "db"), "--username", self.user, "--no-sync"),
            *("--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "--encoding", "UTF8"),
            *("--locale", "C.UTF-8"),
        ]
        done = subprocess.run(initdb, capture_output=True, text=True, check=False, cwd=folder, **identity)
        if done.returncode:
            raise ServerError(f"PostgreSQL's initdb failed. It printed:\n{done.stdout}{done.stderr}")
        given = {
            **self._settings,
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
        }
        options = [part for key, value in given.items() for part in ("-c", f"{key}={value}")]
        return Keep(
            command=[str(binaries / "postgres"), "-D", str(folder / "db"), *options],
            folder=str(folder),
            log=str(folder / "server.log"),
            user=user,
        )

    def _await_ready(self, kept: Kept) -> None:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if kept.ended or time.monotonic() > until:
                    raise ServerError(f"PostgreSQL did not start. It printed:\n{kept.log()}") from None
                time.sleep(0.1)
            else:
                return


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _binaries() -> Path | None:
    """Returns the folder of the newest server that is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def _may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _installed() -> Path:
    """Installs Debian's package, without starting its service; returns the folder of the programs."""
    if not _may_install():
        raise MissingError(postgres_obstacle() or "PostgreSQL is not here.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "postgresql"]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingError(f"apt-get {command[0]} failed, so PostgreSQL is not here:\n{done.stderr[-2000:]}")
    found = _binaries()
    if found is None:
        raise MissingError("Debian's package postgresql was installed, and brought no initdb.")
    return found
