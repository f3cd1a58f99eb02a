# ruff: noqa: S608 - tables and values of the tests' own
"""Databases that something befalls in the middle of a sync: two tables, `a` and `b`, of thirty rows each."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, ClassVar, Final, Self

import asyncmy
from asyncmy.cursors import Cursor

from connectors.errors import SyncError
from connectors.source import BaseDataSource, DataSourceConfiguration
from connectors.sources.mongodb import MongoDBDataSource
from connectors.sources.postgresql import PostgreSQLDataSource
from tests.servers.database import DatabaseServer
from tests.servers.mariadb import MariaDBServer, MySQLServer
from tests.servers.mongo import Cable, MongoServer
from tests.servers.postgres import PostgresServer
from tests.support import mysql, postgres

__all__ = ["ROWS", "SUBJECTS", "Subject"]

ROWS: Final = 30
_NUMBERS: Final = count()


class Subject(ABC):
    """One database, in small pieces; what its methods break is mended by `heal`.

    Attributes:
        kind: of the server.
        dropped: the error that a table raises which is dropped while it is read; None where the others are read on.
    """

    kind: ClassVar[type[DatabaseServer]]
    dropped: ClassVar[type[Exception] | None] = None

    def __init__(self, server: Any) -> None:
        self.server = server
        self.mends = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.heal()

    async def heal(self) -> None:
        """Mends what was broken."""
        await self.mends.aclose()

    @abstractmethod
    def source(self) -> BaseDataSource:
        """Makes a source of both tables."""

    @abstractmethod
    async def shrink(self) -> None:
        """Deletes the rows with the numbers up to 4, so that a complete sync has something to delete."""

    @abstractmethod
    def ids(self, table: str, *numbers: int) -> set[str]:
        """Returns the ids of rows."""

    @abstractmethod
    async def kill(self) -> None:
        """Kills the server, or what leads to it."""

    @abstractmethod
    async def drop(self) -> None:
        """Drops the table `a`."""

    @abstractmethod
    async def revoke(self) -> None:
        """Takes the right to read from the source's user."""

    @abstractmethod
    async def stall(self) -> None:
        """Makes every query for `b` take too long."""


class MariaDBSubject(Subject):
    """MariaDB."""

    kind = MariaDBServer
    server: MariaDBServer

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(mysql.empty_shop, self.server)
        for table in ("a", "b"):
            await mysql.fill(self.server, ROWS, f"shop.{table}")
        return self

    def source(self) -> BaseDataSource:
        given = mysql.settings(self.server, batch_size=5, query_timeout=1)
        return mysql.SmallChunks(DataSourceConfiguration.merge(mysql.SmallChunks.get_default_configuration(), given))

    async def shrink(self) -> None:
        await self.server.aexecute("DELETE FROM shop.a WHERE id < 5", "DELETE FROM shop.b WHERE id < 5")

    def ids(self, table: str, *numbers: int) -> set[str]:
        return {f"shop.{table}/{number}" for number in numbers}

    async def kill(self) -> None:
        await asyncio.to_thread(self.server.kill)
        self.mends.push_async_callback(asyncio.to_thread, self.server.start_again)

    async def drop(self) -> None:
        await self.server.aexecute("DROP TABLE shop.a")

    async def revoke(self) -> None:
        await self.server.aexecute(f"REVOKE SELECT ON shop.* FROM {mysql.READER}")
        self.mends.push_async_callback(self.server.aexecute, f"GRANT SELECT ON shop.* TO {mysql.READER}")

    async def stall(self) -> None:
        server = self.server
        other = await asyncmy.connect(host=server.host, port=server.port, user=server.user, password=server.password)
        await other.cursor(Cursor).execute("LOCK TABLES shop.b WRITE")
        self.mends.push_async_callback(other.ensure_closed)


class MySQLSubject(MariaDBSubject):
    """MySQL."""

    kind = MySQLServer


class PostgresSubject(Subject):
    """PostgreSQL."""

    kind = PostgresServer
    shop: postgres.Shop

    class Pieces(PostgreSQLDataSource):
        """Takes many statements for a table."""

        chunk_rows = 7

    async def __aenter__(self) -> Self:
        self.shop = postgres.Shop(self.server)
        for table in ("a", "b"):
            self.shop.run(
                f"CREATE TABLE {table} (id int PRIMARY KEY, text text)",
                f"INSERT INTO {table} SELECT n, 'row ' || n FROM generate_series(1, {ROWS}) n",
            )
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        self.shop.drop()

    def source(self) -> BaseDataSource:
        given = self.shop.settings(batch_size=5, query_timeout=1)
        return self.Pieces(DataSourceConfiguration.merge(self.Pieces.get_default_configuration(), given))

    async def shrink(self) -> None:
        self.shop.run("DELETE FROM a WHERE id < 5", "DELETE FROM b WHERE id < 5")

    def ids(self, table: str, *numbers: int) -> set[str]:
        return {f"public.{table}/{number}" for number in numbers}

    async def kill(self) -> None:
        await asyncio.to_thread(self.server.kill)
        self.mends.push_async_callback(asyncio.to_thread, self.server.start_again)

    async def drop(self) -> None:
        await asyncio.to_thread(self.shop.run, "DROP TABLE a")

    async def revoke(self) -> None:
        self.shop.run(f"REVOKE ALL ON a, b FROM {postgres.READER}")
        self.mends.callback(self.shop.run, f"GRANT SELECT ON a, b TO {postgres.READER}")

    async def stall(self) -> None:
        other = self.server.connect(postgres.NAME)
        other.execute("BEGIN")
        other.execute("LOCK TABLE b IN ACCESS EXCLUSIVE MODE")
        self.mends.callback(other.close)


class MongoSubject(Subject):
    """MongoDB. Its test server may hold the data in memory, so it is the way there that breaks."""

    kind = MongoServer
    server: MongoServer
    dropped = SyncError

    def __init__(self, server: MongoServer) -> None:
        super().__init__(server)
        self.name = f"connectors_faults_{next(_NUMBERS)}"
        self.cable = Cable(server.url)

    async def __aenter__(self) -> Self:
        await self.cable.__aenter__()
        self.server.client.drop_database(self.name)
        for table in ("a", "b"):
            self.server.client[self.name][table].insert_many([{"_id": number} for number in range(1, ROWS + 1)])
        return self

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        await self.cable.__aexit__(*error)
        self.server.client.drop_database(self.name)

    def source(self) -> BaseDataSource:
        host = f"{self.cable.url}&serverSelectionTimeoutMS=500"
        given = {"host": host, "database": self.name, "batch_size": 5}
        return MongoDBDataSource(DataSourceConfiguration.merge(MongoDBDataSource.get_default_configuration(), given))

    async def shrink(self) -> None:
        for table in ("a", "b"):
            self.server.client[self.name][table].delete_many({"_id": {"$lt": 5}})

    def ids(self, table: str, *numbers: int) -> set[str]:
        return {f"{table}/{number}" for number in numbers}

    async def kill(self) -> None:
        self.cable.refuses = True
        self.cable.cut()
        self.mends.callback(setattr, self.cable, "refuses", False)

    async def drop(self) -> None:
        self.server.client[self.name].drop_collection("a")

    async def revoke(self) -> None:
        self.mends.enter_context(self.server.failing("find", "getMore", errorCode=13))

    async def stall(self) -> None:
        self.mends.enter_context(self.server.failing("find", "getMore", errorCode=50))


SUBJECTS: Final = (MariaDBSubject, MySQLSubject, PostgresSubject, MongoSubject)
