"""MariaDB and MySQL for tests.

`CONNECTORS_TEST_MARIADB_URL` and `CONNECTORS_TEST_MYSQL_URL` (`mysql://user:password@host:port`) name servers to use;
the user may do everything. Without them, and without an engine for containers, both come from Debian's packages:
MariaDB is installed where we may do that, and MySQL, which no stable Debian has, is unpacked from `unstable` into the
cache.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import SplitResult, unquote

import asyncmy
from asyncmy.cursors import Cursor
from asyncmy.errors import MySQLError

from tests.servers.database import PASSWORD, DatabaseServer, contained
from tests.servers.debian import install, may_install, may_unpack, program, unpacked
from tests.servers.java import MissingError
from tests.servers.process import Keep
from tests.servers.search import ServerError

__all__ = ["MariaDBServer", "MySQLServer"]

_SETTINGS: Final = {
    "log-bin": "binlog",
    "server-id": "7",
    "innodb-flush-log-at-trx-commit": "2",  # a test's data may die with the machine, but not with the server
    "innodb-buffer-pool-size": "64M",
    "character-set-server": "utf8mb4",
}


class MariaDBServer(DatabaseServer):
    """MariaDB, with its binary log on; see `DatabaseServer`. In the names of settings, `_` counts as `-`.

    Attributes:
        watching: the privileges by which a user sees the position of the binary log.
    """

    title = "MariaDB"
    address = "CONNECTORS_TEST_MARIADB_URL"
    image = "mariadb:11.4"
    container_port = 3306
    locks = ("socket.lock",)
    watching: ClassVar[str] = "BINLOG MONITOR, SLAVE MONITOR"
    _root_password: ClassVar[str] = "MARIADB_ROOT_PASSWORD"

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(settings={name.replace("_", "-"): value for name, value in (settings or {}).items()})
        self.user = "tester"
        self.password = PASSWORD

    @classmethod
    def native_obstacle(cls) -> str | None:
        """Says why none can be started here."""
        if _mariadbd() is not None or may_install():
            return None
        return f"MariaDB is not here: install it (Debian: mariadb-server), or name a server in {cls.address}."

    def execute(self, *statements: str, database: str | None = None, user: str = "", password: str = "") -> list[Any]:
        """Runs statements one by one; returns the rows of the last one. Works where a loop runs, too: in a thread."""
        return _in_a_loop_of_its_own(self.aexecute(*statements, database=database, user=user, password=password))

    async def aexecute(
        self, *statements: str, database: str | None = None, user: str = "", password: str = ""
    ) -> list[Any]:
        """`execute`, for coroutines."""
        connection = await asyncmy.connect(
            host=self.host,
            port=self.port,
            user=user or self.user,
            password=password or self.password,
            database=database,
            autocommit=True,
            charset="utf8mb4",
        )
        try:
            cursor = connection.cursor(Cursor)
            for statement in statements:
                await cursor.execute(statement)
            return list(await cursor.fetchall()) if cursor.description else []
        finally:
            await connection.ensure_closed()

    async def connections(self, user: str | None = None) -> int:
        """Returns how many connections a user has, this one not counted."""
        name = user or self.user
        (row,) = await self.aexecute(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST "  # noqa: S608 - a test's own name
            f"WHERE USER = '{name}' AND ID <> CONNECTION_ID()"
        )
        return int(row[0])

    async def cut(self, user: str | None = None) -> None:
        """Ends all connections of a user."""
        name = user or self.user
        rows = await self.aexecute(
            "SELECT ID FROM information_schema.PROCESSLIST "  # noqa: S608 - a test's own name
            f"WHERE USER = '{name}' AND ID <> CONNECTION_ID()"
        )
        for (number,) in rows:
            try:
                await self.aexecute(f"KILL CONNECTION {number}")
            except MySQLError as error:
                if error.args[0] != 1094:  # it ended by itself meanwhile
                    raise

    def _use(self, address: SplitResult) -> None:
        self.host, self.port = address.hostname or self.host, address.port or 3306
        self.user, self.password = unquote(address.username or self.user), unquote(address.password or "")

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except (MySQLError, OSError, RuntimeError):
            return False
        return True

    def _options(self) -> list[str]:
        return [f"--{name}={value}" for name, value in {**_SETTINGS, **self._settings}.items()]

    def _container(self, folder: Path, run: list[str]) -> Keep:
        self.user = "root"
        environment = ["--env", f"{self._root_password}={self.password}"]
        return contained(folder, [*run, *environment, self.image, *self._options()])

    def _native(self, folder: Path) -> Keep:
        if _mariadbd() is None:
            install("mariadb-server")
        server = _mariadbd()
        if server is None:
            raise MissingError("Debian's package mariadb-server was installed, and brought no mariadbd.")
        user = pwd.getpwnam("mysql") if os.geteuid() == 0 else None  # it refuses to be root
        self._write_users(folder)
        if user is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user.pw_uid, user.pw_gid)
        setup = ["mariadb-install-db", "--no-defaults", f"--datadir={folder / 'db'}", "--skip-test-db"]
        setup.append("--auth-root-authentication-method=normal")
        if user is not None:
            setup.append(f"--user={user.pw_name}")
        _run(setup, folder)
        return self._server([server, "--no-defaults"], folder, None if user is None else user.pw_uid)

    def _write_users(self, folder: Path) -> None:
        (folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{self.user}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{self.user}'@'%' WITH GRANT OPTION;\n"
        )

    def _server(self, server: list[str], folder: Path, user: int | None) -> Keep:
        command = [
            *(*server, f"--datadir={folder / 'db'}", f"--port={self.port}"),
            *(f"--bind-address={self.host}", f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"),
            *(f"--init-file={folder / 'init.sql'}", "--skip-name-resolve", *self._options()),
        ]
        return Keep(command=command, folder=str(folder), log=str(folder / "server.log"), user=user)


class MySQLServer(MariaDBServer):
    """MySQL."""

    title = "MySQL"
    address = "CONNECTORS_TEST_MYSQL_URL"
    image = "mysql:8.4"
    must_run = False  # what Debian has not released cannot always be had
    watching = "REPLICATION CLIENT"
    _root_password = "MYSQL_ROOT_PASSWORD"

    @classmethod
    def native_obstacle(cls) -> str | None:
        """Says why none can be started here."""
        if may_unpack():
            return None
        return f"MySQL is not here, nor Debian to take it from: name a server in {cls.address}."

    def _native(self, folder: Path) -> Keep:
        home = unpacked("mysql-server-core", "unstable")
        server = [*program(home, "usr/sbin/mysqld"), "--no-defaults", f"--basedir={home / 'usr'}"]
        if os.geteuid() == 0:
            server.append("--user=root")
        self._write_users(folder)
        _run([*server, "--initialize-insecure", f"--datadir={folder / 'db'}"], folder)
        return self._server([*server, "--secure-file-priv=", "--mysqlx=OFF"], folder, None)


def _in_a_loop_of_its_own(work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _mariadbd() -> str | None:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])  # not everybody's path has it
    return shutil.which("mariadbd", path=path) if shutil.which("mariadb-install-db", path=path) else None


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise ServerError(f"{Path(command[0]).name} failed. It printed:\n{done.stdout}{done.stderr}")
