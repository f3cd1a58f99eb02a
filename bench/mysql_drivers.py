# ruff: noqa: S608 - a table of its own
"""Measures ways to read a table of MariaDB: rows a second, and memory while the reader is slow.

Run: `python -m bench.mysql_drivers`. 300,000 rows of some 250 bytes; the median of three rounds of each way, in one
process, with a server on the same machine. A driver that is not installed is left out.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import import_module

from connectors.source import Checkpoint, DataSourceConfiguration
from connectors.sources.mysql import MySQLDataSource
from tests.servers.mariadb import MariaDBServer

ROWS = 300_000
PAGE = 1_000
ROUNDS = 3
QUERY = "SELECT id, name, price, at, note FROM bench.big"


async def streamed(server: MariaDBServer, module: str) -> AsyncIterator[int]:
    """A server-side cursor of asyncmy or aiomysql, rows as dicts."""
    driver, cursors = import_module(module), import_module(f"{module}.cursors")
    name = "database" if module == "asyncmy" else "db"
    connection = await driver.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, **{name: "bench"}
    )
    cursor = connection.cursor(cursors.SSCursor)
    if module == "aiomysql":
        cursor = await cursor
    await cursor.execute(QUERY)
    names = [entry[0] for entry in cursor.description]
    while rows := await cursor.fetchmany(PAGE):
        yield len([dict(zip(names, row, strict=True)) for row in rows])
    connection.close()


async def paged(server: MariaDBServer) -> AsyncIterator[int]:
    """Pages behind a key, each a statement of its own, with asyncmy."""
    driver, cursors = import_module("asyncmy"), import_module("asyncmy.cursors")
    connection = await driver.connect(host=server.host, port=server.port, user=server.user, password=server.password)
    cursor, last = connection.cursor(cursors.Cursor), 0
    while True:
        await cursor.execute(f"{QUERY} WHERE id > {last} ORDER BY id LIMIT {PAGE}")
        names = [entry[0] for entry in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]
        if not rows:
            break
        last = rows[-1]["id"]
        yield len(rows)
    await connection.ensure_closed()


async def source(server: MariaDBServer) -> AsyncIterator[int]:
    """The source itself: documents with ids and checkpoints."""
    given = {
        "host": server.host, "port": server.port, "user": server.user, "password": server.password, "database": "bench",
    }  # fmt: skip
    reader = MySQLDataSource(DataSourceConfiguration.merge(MySQLDataSource.get_default_configuration(), given))
    number = 0
    async for item in reader.get_docs():
        if isinstance(item, Checkpoint):
            yield number
            number = 0
        else:
            number += 1
    await reader.close()


WAYS: dict[str, Callable[[MariaDBServer], AsyncIterator[int]]] = {
    "asyncmy, server-side cursor": lambda server: streamed(server, "asyncmy"),
    "asyncmy, pages behind a key": paged,
    "aiomysql, server-side cursor": lambda server: streamed(server, "aiomysql"),
    "the mysql source": source,
}


async def count(pages: AsyncIterator[int], pause: Callable[[], Awaitable[None]] | None = None) -> int:
    """Returns the number of rows."""
    total = 0
    async for number in pages:
        total += number
        if pause is not None:
            await pause()
    return total


async def measure(server: MariaDBServer) -> None:
    """Prints one line for each way."""
    for name, way in WAYS.items():
        seconds = []
        try:
            for _ in range(ROUNDS):
                began = time.perf_counter()
                assert await count(way(server)) == ROWS
                seconds.append(time.perf_counter() - began)
        except ModuleNotFoundError as error:
            print(f"{name:32} {error.name} is not installed")
            continue
        tracemalloc.start()
        await count(way(server), pause=lambda: asyncio.sleep(0.002))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        rate = ROWS / statistics.median(seconds)
        print(f"{name:32} {rate:>10,.0f} rows/s   {peak / 1e6:>6.1f} MB while the reader is slow")


def main() -> None:
    """Fills a table and measures."""
    if (reason := MariaDBServer.obstacle()) is not None:
        print(reason)
        return
    with MariaDBServer() as server:
        server.execute(
            "CREATE DATABASE bench",
            "CREATE TABLE bench.big (id INT PRIMARY KEY, name TEXT, price DECIMAL(10,2), at TIMESTAMP, note TEXT)",
        )
        for at in range(0, ROWS, 5_000):
            rows = ", ".join(f"({n}, 'name {n}', {n}.25, NOW(), REPEAT('x', 200))" for n in range(at + 1, at + 5_001))
            server.execute(f"INSERT INTO bench.big VALUES {rows}")
        asyncio.run(measure(server))


if __name__ == "__main__":
    main()
