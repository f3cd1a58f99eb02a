# ruff: noqa: S608 - statements and values of the benchmark's own
"""Servers with rows to sync, and a way to change one of them: for the benchmarks of sources and of latency."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Self

from tests.servers.mariadb import MariaDBServer
from tests.servers.mongo import MongoServer
from tests.servers.postgres import PostgresServer

__all__ = ["SHOPS", "DirectoryShop", "Shop"]

_PIECE: Final = 5_000
_TEXT: Final = "words of a note that somebody wrote about the harbour and its lantern. " * 4


class Shop(ABC):
    """One set of rows or files: `with shop:` starts its server and ends it."""

    service_type: ClassVar[str]
    obstacle: Callable[[], str | None]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def fill(self, number: int) -> None:
        """Makes this many rows, numbered from 1 on."""

    @abstractmethod
    def configuration(self) -> Mapping[str, Any]:
        """Returns the connector's configuration."""

    @abstractmethod
    def change(self, number: int, word: str) -> None:
        """Puts the word into a row, which is committed on return."""

    def start(self) -> None:  # noqa: B027 - a folder has no server
        """Starts the server."""

    def stop(self) -> None:  # noqa: B027 - a folder has no server
        """Ends it."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class MySQLShop(Shop):
    """A table with a time of change."""

    service_type = "mysql"
    obstacle = staticmethod(MariaDBServer.obstacle)

    def start(self) -> None:
        """Starts MariaDB."""
        self.server = MariaDBServer().start()

    def stop(self) -> None:
        """Ends it."""
        self.server.stop()

    def fill(self, number: int) -> None:
        """Fills the table."""
        self.server.execute(
            "CREATE DATABASE bench",
            "CREATE TABLE bench.notes (id INT PRIMARY KEY, title VARCHAR(80), price DECIMAL(10,2), body TEXT, updated "
            "TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3), KEY (updated))",
        )
        for numbers in _pieces(number):
            rows = ", ".join(f"({n}, 'Note number {n}', {n}.25, '{_TEXT}')" for n in numbers)
            self.server.execute(f"INSERT INTO bench.notes (id, title, price, body) VALUES {rows}")
        self.server.execute("UPDATE bench.notes SET updated = NOW(3) - INTERVAL 1 DAY")

    def configuration(self) -> Mapping[str, Any]:
        """Returns the way to the server."""
        server = self.server
        return {
            "host": server.host, "port": server.port, "user": server.user, "password": server.password,
            "database": "bench", "updated_column": "updated",
        }  # fmt: skip

    def change(self, number: int, word: str) -> None:
        """Changes a row."""
        self.server.execute(f"UPDATE bench.notes SET title = '{word}' WHERE id = {number}")


class PostgreSQLShop(Shop):
    """A table whose changes are followed in the server's log."""

    service_type = "postgresql"
    obstacle = staticmethod(PostgresServer.obstacle)

    def start(self) -> None:
        """Starts PostgreSQL."""
        self.server = PostgresServer().start()

    def stop(self) -> None:
        """Ends it."""
        self.server.stop()

    def fill(self, number: int) -> None:
        """Fills the table."""
        self.server.create_database("bench")
        self._execute(
            "CREATE TABLE notes (id int PRIMARY KEY, title text, price numeric(10, 2), body text, updated timestamptz)",
            f"INSERT INTO notes SELECT n, 'Note number ' || n, n + 0.25, '{_TEXT}', now() "
            f"FROM generate_series(1, {number}) n",
        )

    def configuration(self) -> Mapping[str, Any]:
        """Returns the way to the server."""
        server = self.server
        return {
            "host": server.host, "port": server.port, "user": server.user, "password": server.password,
            "database": "bench", "change_data_capture": True,
        }  # fmt: skip

    def change(self, number: int, word: str) -> None:
        """Changes a row."""
        self._execute(f"UPDATE notes SET title = '{word}' WHERE id = {number}")

    def _execute(self, *statements: str) -> None:
        self.server.execute(*statements, database="bench")


class MongoDBShop(Shop):
    """A collection whose change stream is followed."""

    service_type = "mongodb"
    obstacle = staticmethod(MongoServer.obstacle)

    def start(self) -> None:
        """Starts MongoDB, or its stand-in."""
        self.server = MongoServer().start()

    def stop(self) -> None:
        """Ends it."""
        self.server.stop()

    def fill(self, number: int) -> None:
        """Fills the collection."""
        self.server.client.drop_database("bench")
        for numbers in _pieces(number):
            self.server.client["bench"]["notes"].insert_many(
                [{"_id": n, "title": f"Note number {n}", "price": n + 0.25, "body": _TEXT} for n in numbers]
            )

    def configuration(self) -> Mapping[str, Any]:
        """Returns the way to the server."""
        return {"host": self.server.url, "database": "bench"}

    def change(self, number: int, word: str) -> None:
        """Changes a document."""
        self.server.client["bench"]["notes"].update_one({"_id": number}, {"$set": {"title": word}})


class DirectoryShop(Shop):
    """A folder with texts of 1 KB, a thousand in each of its folders."""

    service_type = "directory"

    @staticmethod
    def obstacle() -> str | None:
        """There is always a disk."""
        return None

    def fill(self, number: int) -> None:
        """Writes the files."""
        for n in range(1, number + 1):
            path = self._path(n)
            if n % 1000 == 1:
                path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"# Note number {n}\n\n{_TEXT * 3}")

    def configuration(self) -> Mapping[str, Any]:
        """Returns where it is."""
        return {"directory": str(self.folder / "notes")}

    def change(self, number: int, word: str) -> None:
        """Writes a file anew."""
        self._path(number).write_text(f"# {word}\n\n{_TEXT}")

    def _path(self, number: int) -> Path:
        return self.folder / "notes" / str((number - 1) // 1000) / f"note-{number}.md"


def _pieces(number: int) -> list[range]:
    return [range(start, min(start + _PIECE, number + 1)) for start in range(1, number + 1, _PIECE)]


#: Those with an incremental sync; the directory has none.
SHOPS: Final[tuple[type[Shop], ...]] = (MySQLShop, PostgreSQLShop, MongoDBShop)
