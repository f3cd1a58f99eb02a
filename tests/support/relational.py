"""A relational source on SQLite in memory: the shared parts without a server."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from connectors.errors import ConfigurationError, RetryableError
from connectors.source import DataSourceConfiguration
from connectors.sources.relational import (
    Column,
    Key,
    RelationalDataSource,
    Row,
    Session,
    Statement,
    Table,
    TableDeniedError,
    TableGoneError,
    TableName,
)
from connectors.sources.relational.settings import common_fields

__all__ = ["SqliteDataSource", "SqliteDialect", "SqliteSession", "make_source", "table"]


class SqliteDialect:
    """SQLite knows both ways of comparing keys, so that both can be held against it."""

    product = "SQLite"
    space_word = "database"
    backslash_escapes = False

    def __init__(self, *, compares_rows: bool = False) -> None:
        self.compares_rows = compares_rows

    def quote(self, identifier: str) -> str:
        return '"' + identifier.replace('"', '""') + '"'

    def parameter(self, number: int) -> str:
        return f"?{number}"

    def verbatim(self, sql: str) -> str:
        return sql

    def horizon(self, column: Column) -> str | None:
        return None if column.growth == "number" else "datetime('now')"


class SqliteSession:
    """A session on a database in memory. `faults` are raised by fetches to come, one each; None is no fault."""

    def __init__(self, database: sqlite3.Connection, faults: list[Exception | None], log: list[str]) -> None:
        self._database = database
        self._faults = faults
        self._log = log
        self.usable = True
        self.closed = 0

    async def fetch(self, statement: Statement) -> list[Row]:
        self._log.append(statement.sql)
        return list(self._execute(statement).fetchall())

    @asynccontextmanager
    async def stream(self, statement: Statement, *, batch: int, space: str | None = None) -> AsyncIterator[Any]:
        self._log.append(statement.sql)
        self.usable = False
        yield _Rows(self, self._execute(statement), batch)

    async def close(self) -> None:
        self.closed += 1

    def _execute(self, statement: Statement) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement.sql, statement.parameters)
        except sqlite3.OperationalError as error:
            self.usable = True
            if "no such table" in str(error):
                raise TableGoneError(str(error)) from error
            raise ConfigurationError(f"the server does not take the query: {error}") from error


class _Rows:
    def __init__(self, session: SqliteSession, cursor: sqlite3.Cursor, batch: int) -> None:
        self._session = session
        self._cursor = cursor
        self._batch = batch
        self.columns = tuple(Column(entry[0]) for entry in cursor.description)

    async def fetch(self) -> list[Row]:
        await asyncio.sleep(0)
        if self._session._faults and (fault := self._session._faults.pop(0)) is not None:
            raise fault
        rows = self._cursor.fetchmany(self._batch)
        self._session.usable = len(rows) < self._batch
        return rows


class SqliteDataSource(RelationalDataSource):
    """Tables of a database in memory, in the space `main`."""

    name = "SQLite"
    service_type = "sqlite"
    dialect = SqliteDialect()
    chunk_rows = 4

    database: sqlite3.Connection
    catalogue: list[Table]
    faults: list[Exception | None]
    log: list[str]
    position: Any = None
    denied: frozenset[str] = frozenset()

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        return {"database": {"label": "Databases", "type": "list", "value": ["main"]}, **common_fields(2)}

    def spaces(self) -> list[str]:
        return [name for name in self.configuration["database"] if name.strip()]

    async def open_session(self) -> Session:
        return SqliteSession(self.database, self.faults, self.log)

    async def read_catalogue(self, session: Session) -> list[Table]:
        if not session.usable:
            raise RetryableError("this session is used already")
        return [entry for entry in self.catalogue if str(entry.name) not in self.denied]

    async def log_position(self, session: Session) -> Any:
        return self.position

    async def _why_gone(self, label: str) -> str:
        if label in self.denied:
            raise TableDeniedError(f"{label} is not ours to read")
        return await super()._why_gone(label)


def table(name: str, columns: str, *keys: str, growth: str = "", view: bool = False) -> Table:
    """Builds what a catalogue says: `table("orders", "id name?", "id")`; a question mark means nullable."""
    found = tuple(
        Column(
            column.rstrip("?"),
            nullable=column.endswith("?"),
            pageable=True,
            growth="number" if column.rstrip("?") == growth else None,
        )
        for column in columns.split()
    )
    return Table(TableName("main", name), found, tuple(Key(tuple(key.split())) for key in keys), is_view=view)


def make_source(
    connection: sqlite3.Connection,
    catalogue: Sequence[Table],
    *,
    faults: Sequence[Exception | None] = (),
    **settings: Any,
) -> SqliteDataSource:
    """Returns a source on the database."""
    declared: Callable[[], dict[str, Any]] = SqliteDataSource.get_default_configuration
    source = SqliteDataSource(DataSourceConfiguration.merge(declared(), {"pool_size": 1, **settings}))
    source.database, source.catalogue, source.faults, source.log = connection, list(catalogue), list(faults), []
    return source
