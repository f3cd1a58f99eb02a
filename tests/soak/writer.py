# ruff: noqa: S608 - tables and values of the soak's own
"""A seeded writer: it inserts, updates and deletes rows in MariaDB or MySQL, and keeps a journal of that."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import asyncmy

from tests.servers.mariadb import MariaDBServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["TABLES", "Writer", "rows_of"]

_WORDS: Final = ("harbour", "lantern", "meadow", "copper", "violet", "granite", "willow", "ember", "quartz", "saffron")
_TIME: Final = "TIMESTAMP(6) NOT NULL DEFAULT NOW(6) ON UPDATE NOW(6)"
#: Table → its columns, and its keys.
TABLES: Final = {
    "articles": (f"id INT PRIMARY KEY, title VARCHAR(80), body TEXT, views INT, updated {_TIME}", ("id",)),
    "entries": (
        f"number INT, product VARCHAR(20), pieces INT, updated {_TIME}, PRIMARY KEY (number, product)",
        ("number", "product"),
    ),
}
_COLUMNS: Final = {"articles": ("id", "title", "body", "views"), "entries": ("number", "product", "pieces")}
#: Ids that only late transactions touch, so that nobody waits for their locks.
_LATE: Final = 1_000_000
_LATE_ROWS: Final = 200
#: Seconds between two transactions, at most, and how long a late one stays open, at most.
_PAUSE: Final = 0.06
_OPEN: Final = 4.0


async def rows_of(server: MariaDBServer, table: str) -> dict[str, dict[str, Any]]:
    """Returns `_id` → what the document must be, as the server itself tells it."""
    columns, keys = (*_COLUMNS[table], "updated"), TABLES[table][1]
    pairs = ", ".join(f"'{column}', {column}" for column in _COLUMNS[table])
    time_text = "DATE_FORMAT(updated, '%Y-%m-%dT%H:%i:%s.%f+00:00')"
    truth = f"SELECT CONCAT_WS('/', {', '.join(keys)}), JSON_OBJECT({pairs}, 'updated', {time_text}) FROM {table}"
    found = {}
    for key, text in await server.aexecute("SET time_zone = '+00:00'", truth, database="shop"):
        values = json.loads(text)
        assert values.keys() == set(columns)
        values["updated"] = datetime.fromisoformat(values["updated"])
        found[f"shop.{table}/{key}"] = {**values, "database": "shop", "table": table}
    return found


class Writer:
    """`async with Writer(server, seed=1, rows=20_000, journal=path) as writer:` makes the tables, and writes.

    Attributes:
        done: how many rows were inserted, updated and deleted, and how many transactions were rolled back.
    """

    def __init__(self, server: MariaDBServer, *, seed: int, rows: int, journal: Path) -> None:
        self._server = server
        self._random = Random(seed)
        self._late_random = Random(seed + 1)
        self._rows = rows
        self._journal = journal
        self._live: dict[str, list[Sequence[Any]]] = {table: [] for table in TABLES}
        self._gone: list[int] = []
        self._next = rows + 1
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self.done: Counter[str] = Counter()

    async def prepare(self) -> None:
        """Makes the tables, with their first rows."""
        if await self._server.aexecute("SHOW DATABASES LIKE 'shop'"):
            await self._server.aexecute("DROP DATABASE shop")
        await self._server.aexecute("CREATE DATABASE shop")
        await self._server.aexecute(
            *(f"CREATE TABLE {name} ({columns})" for name, (columns, _) in TABLES.items()), database="shop"
        )
        articles = [(number, *self._article()) for number in range(1, self._rows + 1)]
        late = [(_LATE + number, "late", "", 0) for number in range(_LATE_ROWS)]
        entries = [(number, self._word(), number % 9) for number in range(self._rows // 4)]
        for table, rows in (("articles", articles + late), ("entries", entries)):
            await self._server.aexecute(*_inserts(table, rows), database="shop")
        self._live = {"articles": [row[:1] for row in articles], "entries": [row[:2] for row in entries]}

    async def __aenter__(self) -> Self:
        await self.prepare()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._write_late())]
        return self

    async def stop(self) -> None:
        """Commits what is open, and ends; raises what went wrong."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What is written

    async def _write(self) -> None:
        async with self._connection() as connection:
            with self._journal.open("a", encoding="utf-8") as journal:
                while not self._stop.is_set():
                    await self._transaction(connection, journal)
                    await asyncio.sleep(self._random.uniform(0, _PAUSE))

    async def _transaction(self, connection: Any, journal: Any) -> None:
        """One to eight changes, of which one transaction in twenty is taken back."""
        live = {table: list(rows) for table, rows in self._live.items()}
        gone, counted = list(self._gone), Counter[str]()
        changes = [self._change(live, gone, counted) for _ in range(self._random.randint(1, 8))]
        cursor = connection.cursor()
        for _, statement in changes:
            await cursor.execute(statement)
        if self._random.random() < 0.05:
            await connection.rollback()
            self.done["rolled back"] += 1
            return
        await connection.commit()
        self._live, self._gone = live, gone
        self.done += counted
        for key, statement in changes:
            journal.write(json.dumps([time.time(), key, statement]) + "\n")
        journal.flush()

    def _change(self, live: dict[str, list[Sequence[Any]]], gone: list[int], counted: Counter[str]) -> tuple[str, str]:
        """Draws one change; returns the key and the statement."""
        table = self._random.choice(("articles", "articles", "articles", "entries"))
        rows, kind = live[table], self._random.choices(("inserted", "updated", "deleted"), (3, 5, 3 if live else 2))[0]
        counted[kind] += 1
        if kind == "inserted":
            # A key that was there before comes back now and then.
            again = gone.pop(self._random.randrange(len(gone))) if gone and self._random.random() < 0.3 else None
            number = again if again is not None and table == "articles" else self._next
            self._next += number == self._next
            row = (number, *self._article()) if table == "articles" else (number, self._word(), number % 9)
            rows.append(row[: len(TABLES[table][1])])
            return f"{table}/{number}", next(_inserts(table, [row]))
        position = self._random.randrange(len(rows))
        key = rows[position]
        where = " AND ".join(f"{name} = '{value}'" for name, value in zip(TABLES[table][1], key, strict=True))
        if kind == "deleted":
            rows[position] = rows[-1]
            rows.pop()
            if table == "articles":
                gone.append(key[0])
            return f"{table}/{key[0]}", f"DELETE FROM {table} WHERE {where}"
        title = f"title = '{self._word()} {self._random.randrange(10**9)}', views = views + 1"
        changed = title if table == "articles" else f"pieces = {self._random.randrange(10**6)}"
        return f"{table}/{key[0]}", f"UPDATE {table} SET {changed} WHERE {where}"

    async def _write_late(self) -> None:
        """Transactions that stay open: their rows bear an earlier time than that of their commit."""
        async with self._connection() as connection:
            while not self._stop.is_set():
                cursor = connection.cursor()
                for _ in range(3):
                    row = _LATE + self._late_random.randrange(_LATE_ROWS)
                    await cursor.execute(f"UPDATE articles SET views = views + 1 WHERE id = {row}")
                await asyncio.sleep(self._late_random.uniform(0.2, _OPEN))
                await connection.commit()
                self.done["updated"] += 3

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        server = self._server
        connection = await asyncmy.connect(
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password,
            database="shop",
            charset="utf8mb4",
        )
        try:
            yield connection
        finally:
            await connection.ensure_closed()

    def _article(self) -> tuple[str, str, int]:
        words = " ".join(self._random.choices(_WORDS, k=30))
        return f"{self._word()} {self._random.randrange(10**9)} é🎉", words, 0

    def _word(self) -> str:
        return self._random.choice(_WORDS)


def _inserts(table: str, rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    columns = ", ".join(_COLUMNS[table])
    for at in range(0, len(rows), 1000):
        values = ", ".join("(" + ", ".join(f"'{value}'" for value in row) + ")" for row in rows[at : at + 1000])
        yield f"INSERT INTO {table} ({columns}) VALUES {values}"
