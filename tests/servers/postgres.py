"""A PostgreSQL server for tests, with logical decoding on.

`CONNECTORS_TEST_POSTGRES_URL` (`postgresql://user:password@host:port/database`) names one to use, with
`wal_level=logical`, and the user a superuser. Else a container, or Debian's package, which is installed where we may.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote

import psycopg

from tests.servers.database import PASSWORD, DatabaseServer, contained
from tests.servers.debian import install, may_install
from tests.servers.java import MissingError
from tests.servers.process import Keep
from tests.servers.search import ServerError

__all__ = ["PostgresServer"]

_NOBODY: Final = 65534  # the server refuses to run as root
_SETTINGS: Final = {
    "wal_level": "logical",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "max_connections": "60",
    "fsync": "off",  # a test's data may die with the machine
    "full_page_writes": "off",
    "autovacuum": "off",  # nothing is written but what a test writes
}


class PostgresServer(DatabaseServer):
    """PostgreSQL; see `DatabaseServer`."""

    title = "PostgreSQL"
    address = "CONNECTORS_TEST_POSTGRES_URL"
    image = "postgres:17"
    container_port = 5432
    locks = ("db/postmaster.pid",)

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(settings=settings)
        self.user = "postgres"
        self.password = PASSWORD
        self.database = "postgres"

    @classmethod
    def native_obstacle(cls) -> str | None:
        """Says why none can be started here."""
        if _binaries() is not None or may_install():
            return None
        return f"PostgreSQL is not here: install it (Debian: postgresql), or name a server in {cls.address}."

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

    def _use(self, address: SplitResult) -> None:
        self.host, self.port = address.hostname or self.host, address.port or 5432
        self.user, self.password = unquote(address.username or self.user), unquote(address.password or "")
        self.database = address.path.strip("/") or self.database

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _end(self, folder: Path) -> None:
        """Has it let go of its shared memory."""
        pid = folder / "db" / "postmaster.pid"
        with suppress(OSError, ValueError, IndexError):
            os.kill(int(pid.read_text().split()[0]), signal.SIGQUIT)
            until = time.monotonic() + 5
            while pid.exists() and time.monotonic() < until:
                time.sleep(0.05)

    def _options(self, **more: str) -> list[str]:
        given = {**_SETTINGS, **self._settings, **more}
        return [part for name, value in given.items() for part in ("-c", f"{name}={value}")]

    def _container(self, folder: Path, run: list[str]) -> Keep:
        return contained(folder, [*run, "--env", f"POSTGRES_PASSWORD={self.password}", self.image, *self._options()])

    def _native(self, folder: Path) -> Keep:
        if (binaries := _binaries()) is None:
            install("postgresql")
            if (binaries := _binaries()) is None:
                raise MissingError("Debian's package postgresql was installed, and brought no initdb.")
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
        options = self._options(listen_addresses=self.host, port=str(self.port), unix_socket_directories="")
        command = [str(binaries / "postgres"), "-D", str(folder / "db"), *options]
        return Keep(command=command, folder=str(folder), log=str(folder / "server.log"), user=user)


def _binaries() -> Path | None:
    """Returns the folder of the newest server that is installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None
