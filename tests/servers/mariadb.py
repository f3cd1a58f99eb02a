"""A MariaDB server for tests: one that an address names, one in a container, or one started here.

`CONNECTORS_TEST_MYSQL_URL` (`mysql://user:password@host:port`) names a server to use, MySQL or MariaDB; it must be one
for tests, and the user may do everything. Else an engine for containers starts one; else one is started from the
machine's own software, which Debian's package brings where we may install it.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

import asyncmy
import pytest
from asyncmy.cursors import Cursor
from asyncmy.errors import MySQLError

from tests.servers.docker import container_name, engine_answers
from tests.servers.java import MissingError
from tests.servers.process import Keep, Kept
from tests.servers.search import ServerError

__all__ = ["MariaDBServer", "mariadb_obstacle", "mariadb_or_skip"]

_ADDRESS: Final = "CONNECTORS_TEST_MYSQL_URL"
_IMAGE: Final = "mariadb:11"
_PATIENCE: Final = 120.0  # seconds; pulling an image is part of it
_PASSWORD: Final = "correct-horse-battery"
_SETTINGS: Final = {
    "log-bin": "binlog",
    "server-id": "7",
    "innodb-flush-log-at-trx-commit": "2",  # a test's data may die with the machine, but not with the server
    "innodb-buffer-pool-size": "64M",
    "character-set-server": "utf8mb4",
}


def mariadb_obstacle() -> str | None:
    """Says why no server can run here, as a sentence for people; None when one can."""
    if os.environ.get(_ADDRESS) or engine_answers() or _program() is not None or _may_install():
        return None
    return f"MariaDB is not here: install it (Debian: mariadb-server), or name a server in {_ADDRESS}."


def mariadb_or_skip(**settings: str) -> MariaDBServer:
    """Returns a started server; skips the test where none can run, and fails it there in continuous integration."""
    try:
        return MariaDBServer(settings=settings).start()
    except MissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    except ServerError as problem:
        pytest.fail(str(problem), pytrace=False)


class MariaDBServer:
    """One server: `with MariaDBServer() as server:`, or `start()` and `stop()`.

    It listens on 127.0.0.1 only, and is gone with its data after `stop()` or when this process dies. Its binary log is
    on. A server that the environment names is used as it is, and left as it is.

    Args:
        settings: more settings of the server, by the names of its options (`_` counts as `-`).
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        more = {name.replace("_", "-"): value for name, value in (settings or {}).items()}
        self._settings = {**_SETTINGS, **more}
        self._kept: list[Kept] = []
        self._folder: Path | None = None
        self.host = "127.0.0.1"
        self.port = 0
        self.user = "tester"
        self.password = _PASSWORD

    def start(self) -> Self:
        """Returns when the server takes connections; raises ServerError, MissingError."""
        address = os.environ.get(_ADDRESS)
        if address and self._settings == _SETTINGS:
            parts = urlsplit(address)
            self.host, self.port = parts.hostname or self.host, parts.port or 3306
            self.user, self.password = unquote(parts.username or self.user), unquote(parts.password or "")
            self.execute("SELECT 1")
            return self
        self.port = _free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="connectors-mariadb-"))
        try:
            if engine_answers():
                self.user = "root"
                self._run(self._container(self._folder))
            else:
                self._run(self._native(self._folder))
        except BaseException:  # an interrupted start, too, must leave nothing behind
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends the server and deletes its data; may be called twice."""
        while self._kept:
            self._kept.pop().stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def is_ours(self) -> bool:
        """True for a native server that was started here, which a test may kill."""
        return self._folder is not None and (self._folder / "pid").exists()

    def kill(self) -> None:
        """Kills the server's process, as a power cut would; its data stay."""
        assert self._folder is not None
        os.kill(int((self._folder / "pid").read_text()), signal.SIGKILL)
        while not self._kept[-1].ended:
            time.sleep(0.02)

    def start_again(self) -> None:
        """Starts a server that was killed, on the same port and data."""
        assert self._folder is not None
        self._run(self._command(self._folder, _user()))

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

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, keep: Keep) -> None:
        kept = Kept(keep)
        self._kept.append(kept)
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                self.execute("SELECT 1")
            except (MySQLError, OSError, RuntimeError):
                if kept.ended or time.monotonic() > until:
                    raise ServerError(f"MariaDB did not start. It printed:\n{kept.log()}") from None
                time.sleep(0.1)
            else:
                return

    def _options(self) -> list[str]:
        return [f"--{name}={value}" for name, value in self._settings.items()]

    def _container(self, folder: Path) -> Keep:
        name = container_name()
        return Keep(
            command=[
                *("docker", "run", "--rm", "--name", name, "--publish", f"127.0.0.1:{self.port}:3306"),
                *("--env", f"MARIADB_ROOT_PASSWORD={self.password}", _IMAGE, *self._options()),
            ],
            folder=str(folder),
            log=str(folder / "server.log"),
            last=["docker", "rm", "--force", "--volumes", name],
        )

    def _native(self, folder: Path) -> Keep:
        if _program() is None:
            _install()
        user = _user()
        (folder / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS '{self.user}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL ON *.* TO '{self.user}'@'%' WITH GRANT OPTION;\n"
        )
        if user is not None:
            for path in (folder, *folder.iterdir()):
                os.chown(path, user, user)
        setup = ["mariadb-install-db", "--no-defaults", f"--datadir={folder / 'db'}", "--skip-test-db"]
        setup.append("--auth-root-authentication-method=normal")
        if user is not None:
            setup.append(f"--user={pwd.getpwuid(user).pw_name}")
        done = subprocess.run(setup, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            raise ServerError(f"mariadb-install-db failed. It printed:\n{done.stdout}{done.stderr}")
        return self._command(folder, user)

    def _command(self, folder: Path, user: int | None) -> Keep:
        program = _program()
        assert program is not None
        command: Sequence[str] = [
            *(program, "--no-defaults", f"--datadir={folder / 'db'}", f"--port={self.port}"),
            *(f"--bind-address={self.host}", f"--socket={folder / 'socket'}", f"--pid-file={folder / 'pid'}"),
            *(f"--init-file={folder / 'init.sql'}", "--skip-name-resolve", *self._options()),
        ]
        return Keep(command=command, folder=str(folder), log=str(folder / "server.log"), user=user)


def _in_a_loop_of_its_own(work: Coroutine[Any, Any, list[Any]]) -> list[Any]:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _user() -> int | None:
    """Returns whom the server runs as, which refuses to be root; None for whoever runs the tests."""
    return pwd.getpwnam("mysql").pw_uid if os.geteuid() == 0 else None


def _program() -> str | None:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])  # not everybody's path has it
    return shutil.which("mariadbd", path=path) if shutil.which("mariadb-install-db", path=path) else None


def _may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _install() -> None:
    """Installs Debian's package, without starting its service."""
    if not _may_install():
        raise MissingError(mariadb_obstacle() or "MariaDB is not here.")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", "mariadb-server"]):
        done = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MissingError(f"apt-get {command[0]} failed, so MariaDB is not here:\n{done.stderr[-2000:]}")
    if _program() is None:
        raise MissingError("Debian's package mariadb-server was installed, and brought no mariadbd.")
