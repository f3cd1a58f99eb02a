"""Measures ways to read a PostgreSQL table into documents: rows per second, and CPU µs per row.

Run: `python -m bench.postgresql_drivers [rows]`. Starts a server of its own (tests/servers/postgres.py) and reads one
table of nine columns (numbers, text, a timestamp, jsonb, an array, a uuid) in every way, in turn, three rounds; the
figures are medians. Each way ends with the same work: a dict per row whose values JSON can hold.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any

import psycopg

from connectors.sources.postgresql.copying import row_splitter
from connectors.sources.postgresql.link import Link
from connectors.sources.postgresql.values import BUILT_IN, array_of
from tests.servers.postgres import PostgresServer

ROUNDS = 3
BATCH = 1_000
PAGE = 5_000
TABLE = """
CREATE TABLE notes (
  id bigint PRIMARY KEY, title text NOT NULL, body text, score double precision, price numeric(12,2),
  changed timestamptz NOT NULL, tags text[], details jsonb, code uuid
)
"""
FILL = """
INSERT INTO notes SELECT n, 'Note number ' || n, repeat('words of the note ', 8), n * 0.37, n * 1.01,
  '2026-01-01'::timestamptz + n * interval '1 second', ARRAY['red', 'tag ' || n % 10],
  jsonb_build_object('n', n, 'kind', 'note'), md5(n::text)::uuid FROM generate_series(1, {rows}) n
"""
NAMES = ("id", "title", "body", "score", "price", "changed", "tags", "details", "code")
TYPES = (20, 25, 25, 701, 1700, 1184, None, 3802, 2950)
CONVERTERS = [array_of(None) if oid is None else BUILT_IN[oid].convert for oid in TYPES]
CONVERTING = [(name, convert) for name, convert in zip(NAMES, CONVERTERS, strict=True) if convert]
SELECT = "SELECT id, title, body, score, price, changed, tags, details, code FROM notes"


def documents(rows: list[Any]) -> list[dict[str, Any]]:
    """Makes documents of rows of text."""
    found = []
    for row in rows:
        document = dict(zip(NAMES, row, strict=True))
        for name, convert in CONVERTING:
            if document[name] is not None:
                document[name] = convert(document[name])
        found.append(document)
    return found


async def link(server: PostgresServer) -> Link:
    """Returns a connection as the source opens it."""
    return await Link.open(
        {"host": server.host, "port": str(server.port), "user": server.user, "password": server.password}
    )


async def copy_stream(server: PostgresServer) -> int:
    """COPY of the whole table, text split and converted by us: what the source does with a table without a key."""
    connection, split, count = await link(server), row_splitter(len(NAMES)), 0
    await connection.start_stream(f"COPY ({SELECT}) TO STDOUT")
    while rows := await connection.read(BATCH):
        count += len(documents(split(rows)))
    await connection.close()
    return count


async def copy_pages(server: PostgresServer) -> int:
    """The same in pages by key."""
    connection, split, count, last = await link(server), row_splitter(len(NAMES)), 0, 0
    while True:
        await connection.start_stream(f"COPY ({SELECT} WHERE id > {last} ORDER BY id LIMIT {PAGE}) TO STDOUT")
        met = 0
        while rows := await connection.read(BATCH):
            split_rows = split(rows)
            met += len(documents(split_rows))
            last = int(split_rows[-1][0] or 0)
        if not met:
            break
        count += met
    await connection.close()
    return count


async def psycopg_cursor(server: PostgresServer) -> int:
    """psycopg, server-side cursor, binary, dicts."""
    from psycopg.rows import dict_row

    count = 0
    connection = await psycopg.AsyncConnection.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, row_factory=dict_row
    )
    async with connection, connection.cursor("notes", binary=True) as cursor:
        await cursor.execute(SELECT)
        while rows := await cursor.fetchmany(BATCH):
            count += len(rows)
    return count


async def asyncpg_cursor(server: PostgresServer) -> int:
    """asyncpg, cursor, records made dicts, jsonb parsed."""
    asyncpg = import_module("asyncpg")
    import orjson

    connection = await asyncpg.connect(
        host=server.host, port=server.port, user=server.user, password=server.password, database=server.database
    )
    await connection.set_type_codec("jsonb", encoder=orjson.dumps, decoder=orjson.loads, schema="pg_catalog")
    count = 0
    async with connection.transaction():
        cursor = await connection.cursor(SELECT)
        while rows := await cursor.fetch(BATCH):
            count += len([dict(row) for row in rows])
    await connection.close()
    return count


WAYS: dict[str, Callable[[PostgresServer], Coroutine[Any, Any, int]]] = {
    "psycopg, COPY as text": copy_stream,
    f"psycopg, COPY in pages of {PAGE:,}": copy_pages,
    "psycopg, server-side cursor": psycopg_cursor,
    "asyncpg, cursor": asyncpg_cursor,
}


def main() -> None:
    """Prints one line for each way."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with PostgresServer() as server:
        server.execute(TABLE, FILL.format(rows=rows), "VACUUM ANALYZE notes")
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, way in WAYS.items():
                wall, cpu = time.perf_counter(), time.process_time()
                count = asyncio.run(way(server))
                assert count == rows, f"{name} read {count} rows"
                rounds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    for name, times in rounds.items():
        wall = statistics.median(time for time, _ in times)
        cpu = statistics.median(time for _, time in times)
        print(f"{name:34} {rows / wall:9,.0f} rows/s   {cpu / rows * 1e6:5.2f} CPU µs/row")


if __name__ == "__main__":
    main()
