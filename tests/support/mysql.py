# ruff: noqa: S608 - tables and values of the tests' own
"""The MySQL source on a database `shop`, which a user `reader` may read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from connectors.byoc import Filter
from connectors.source import DataSourceConfiguration
from connectors.sources.mysql import MySQLDataSource
from tests.servers.mariadb import MariaDBServer, MySQLServer

__all__ = [
    "READER", "SECRET", "SmallChunks", "documents_of", "empty_shop", "fill", "in_pieces", "increment", "no_connection",
    "opened", "read_all", "server", "settings", "shop",
]  # fmt: skip

READER: Final = "reader"
SECRET: Final = "battery-staple-horse"


@pytest.fixture(scope="module", params=[MariaDBServer, MySQLServer], ids=lambda kind: kind.title)
def server(request: pytest.FixtureRequest) -> Iterator[MariaDBServer]:
    """Gives a server of each kind."""
    with request.param.or_skip() as server:
        yield server


def settings(server: MariaDBServer, **more: Any) -> dict[str, Any]:
    return {
        "host": server.host,
        "port": server.port,
        "user": READER,
        "password": SECRET,
        "database": ["shop"],
        **more,
    }


@asynccontextmanager
async def opened(server: MariaDBServer, **more: Any) -> AsyncIterator[MySQLDataSource]:
    defaults = MySQLDataSource.get_default_configuration()
    source = MySQLDataSource(DataSourceConfiguration.merge(defaults, settings(server, **more)))
    await source.validate_config()
    try:
        yield source
    finally:
        await source.close()
        assert await no_connection(server)


async def no_connection(server: MariaDBServer) -> bool:
    for _ in range(100):  # the server takes a moment to notice
        if await server.connections(READER) == 0:
            return True
        await asyncio.sleep(0.02)
    return False


async def read_all(source: MySQLDataSource, filtering: Filter | None = None, checkpoint: Any = None) -> list[Any]:
    return [item async for item in source.get_docs(filtering, checkpoint=checkpoint)]


def documents_of(items: list[Any]) -> dict[str, Any]:
    return {item[0]["_id"]: item[0] for item in items if isinstance(item, tuple)}


async def increment(source: MySQLDataSource, cursor: Any) -> dict[str, Any]:
    return {item[0]["_id"]: item[0] async for item in source.get_docs_incrementally(cursor) if isinstance(item, tuple)}


async def fill(server: MariaDBServer, rows: int, table: str = "shop.orders") -> None:
    numbers = range(1, rows + 1)
    await server.aexecute(
        f"CREATE TABLE {table} (id INT PRIMARY KEY, name VARCHAR(60), updated TIMESTAMP(6) NOT NULL DEFAULT NOW(6))",
        *(
            f"INSERT INTO {table} (id, name) VALUES "
            + ", ".join(f"({number}, 'order {number}')" for number in numbers[at : at + 1000])
            for at in range(0, rows, 1000)
        ),
    )


class SmallChunks(MySQLDataSource):
    """Reads in so small pieces that a table takes many statements."""

    chunk_rows = 7


@asynccontextmanager
async def in_pieces(server: MariaDBServer, **more: Any) -> AsyncIterator[MySQLDataSource]:
    defaults = MySQLDataSource.get_default_configuration()
    given = settings(server, batch_size=5, **more)
    source = SmallChunks(DataSourceConfiguration.merge(defaults, given))
    try:
        yield source
    finally:
        await source.close()


def empty_shop(server: MariaDBServer) -> MariaDBServer:
    """Makes the database and the user anew."""
    server.execute(
        "DROP DATABASE IF EXISTS shop",
        "CREATE DATABASE shop",
        f"DROP USER IF EXISTS '{READER}'@'%'",
        f"CREATE USER '{READER}'@'%' IDENTIFIED BY '{SECRET}'",
        f"GRANT SELECT ON shop.* TO '{READER}'@'%'",
    )
    return server


@pytest.fixture
def shop(server: MariaDBServer) -> MariaDBServer:
    """An empty database `shop`, which the reader may read."""
    return empty_shop(server)
