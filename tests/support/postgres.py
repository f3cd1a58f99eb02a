"""A PostgreSQL database of its own for each test, and the source that reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.byoc import Filter
from connectors.source import Checkpoint, DataSourceConfiguration, Skipped
from connectors.sources.postgresql import PostgreSQLDataSource
from tests.servers.postgres import PostgresServer

__all__ = ["READER", "SECRET", "Shop", "documents", "everything", "following", "server"]

READER = "reader"
SECRET = "battery-staple-horse"
NAME = "shop"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Gives a server."""
    with PostgresServer.or_skip() as server:
        yield server


class Shop:
    """A database `shop`, made anew, that the user `reader` may read; he may replicate, too."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        server.create_database(NAME)
        roles = server.execute("SELECT rolname FROM pg_roles")
        if (READER,) not in roles:
            server.execute(f"CREATE ROLE {READER} LOGIN REPLICATION PASSWORD '{SECRET}'")
        self.run(
            f"GRANT CREATE ON DATABASE {NAME} TO {READER}",
            f"GRANT ALL ON SCHEMA public TO {READER}",
            f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER}",
        )

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements as the superuser."""
        return self.server.execute(*statements, database=NAME)

    def give(self, *tables: str) -> None:
        """Makes the reader the owner of tables, who may publish them."""
        self.run(*(f"ALTER TABLE {table} OWNER TO {READER}" for table in tables))

    def settings(self, **more: Any) -> dict[str, Any]:
        """Returns what an operator writes."""
        server = self.server
        account = {"host": server.host, "port": server.port, "user": READER, "password": SECRET, "database": NAME}
        return {**account, **more}

    @asynccontextmanager
    async def source(self, **more: Any) -> AsyncIterator[PostgreSQLDataSource]:
        """Gives a source, and sees that it leaves no connection behind."""
        defaults = PostgreSQLDataSource.get_default_configuration()
        source = PostgreSQLDataSource(DataSourceConfiguration.merge(defaults, self.settings(**more)))
        await source.validate_config()
        try:
            yield source
        finally:
            await source.close()
            for _ in range(100):  # the server takes a moment to notice
                if await asyncio.to_thread(self.connections) == 0:
                    break
                await asyncio.sleep(0.02)
            assert await asyncio.to_thread(self.connections) == 0

    def connections(self) -> int:
        """Returns how many connections the reader has."""
        return int(self.run("SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader'")[0][0])

    def cut(self) -> None:
        """Ends all of them, as a restart or a network would."""
        self.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'")

    def slot(self) -> tuple[Any, ...] | None:
        """Returns name and position of the database's slot."""
        sql = "SELECT slot_name, confirmed_flush_lsn::text FROM pg_replication_slots WHERE database = 'shop'"
        return next(iter(self.run(sql)), None)

    def drop(self) -> None:
        """Removes the database."""
        self.server.drop_database(NAME)


async def everything(
    source: PostgreSQLDataSource, advanced: Any = None, checkpoint: Any = None
) -> tuple[dict[str, Any], list[str]]:
    """Returns a full sync's documents by id, and the reasons of what was skipped."""
    items = [item async for item in source.get_docs(Filter.of(advanced=advanced), checkpoint=checkpoint)]
    return documents(items), [item.reason for item in items if isinstance(item, Skipped)]


def documents(items: list[Any]) -> dict[str, Any]:
    """Returns the documents among the items, by id."""
    return {item[0]["_id"]: item[0] for item in items if isinstance(item, tuple)}


async def following(source: PostgreSQLDataSource, cursor: Any) -> tuple[dict[str, Any], Any]:
    """Returns what an incremental sync yields, by id: the document, None for a deletion; and the new cursor."""
    found: dict[str, Any] = {}
    async for item in source.get_docs_incrementally(cursor):
        if isinstance(item, Checkpoint):
            cursor = item.state
        elif not isinstance(item, Skipped):
            document, _, operation = item
            found[document["_id"]] = document if operation == "index" else None
    return found, cursor
