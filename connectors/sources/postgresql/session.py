"""A session as the shared reader wants it, on one link."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from connectors.sources.postgresql.catalogue import Types
from connectors.sources.postgresql.copying import row_splitter
from connectors.sources.postgresql.faults import translated
from connectors.sources.postgresql.link import Link
from connectors.sources.relational import Column, Row, Statement

__all__ = ["PostgreSQLSession"]


class PostgreSQLSession:
    """One connection that reads. See `relational.Session`; all errors are the project's.

    Values of streams are text as the server writes it, which each column's `convert` makes values of; those of `fetch`
    are converted.
    """

    def __init__(self, link: Link, types: Types) -> None:
        self.link = link
        self._types = types
        self._space: str | None = None

    @property
    def usable(self) -> bool:
        """Whether another statement can be run."""
        return self.link.usable

    async def fetch(self, statement: Statement, *, space: str | None = None) -> list[Row]:
        """Runs a statement that has a small result and returns all of it."""
        with translated("PostgreSQL"):
            await self._look_in(space)
            columns = await self.link.describe(statement.sql)
            await self._types.load(self.link, [column.type_oid for column in columns])
            rows = await self.link.fetch(statement.sql, statement.parameters)
        converters = [self._types.get(column.type_oid).convert for column in columns]
        return [
            [
                convert(value) if convert is not None and value is not None else value
                for convert, value in zip(converters, row, strict=False)  # EXPLAIN is described otherwise than answered
            ]
            for row in rows
        ]

    @asynccontextmanager
    async def stream(self, statement: Statement, *, batch: int, space: str | None = None) -> AsyncIterator[CopiedRows]:
        """Runs a statement by COPY, in a read-only transaction of its own."""
        with translated("PostgreSQL"):
            await self._look_in(space)
            described = await self.link.describe(statement.sql)
            await self._types.load(self.link, [column.type_oid for column in described])
            await self.link.start_stream(f"COPY ({self.link.bind(statement.sql, statement.parameters)}\n) TO STDOUT")
        columns = []
        for column in described:
            info = self._types.get(column.type_oid)
            columns.append(Column(column.name, info.name, True, info.growth, info.pageable, convert=info.convert))
        yield CopiedRows(self.link, tuple(columns), batch)

    async def close(self) -> None:
        """Ends the connection; may be called twice."""
        await self.link.close()

    async def _look_in(self, space: str | None) -> None:
        if space != self._space:
            path = "DEFAULT" if space is None else '"' + space.replace('"', '""') + '", public'
            await self.link.command(f"SET search_path TO {path}")
            self._space = space


class CopiedRows:
    """The rows of a running COPY. See `relational.Rows`."""

    def __init__(self, link: Link, columns: tuple[Column, ...], batch: int) -> None:
        self._link = link
        self._columns = columns
        self._batch = batch
        self._split: Callable[[list[bytes]], list[list[str | None]]] = row_splitter(len(columns))

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the result consists of."""
        return self._columns

    async def fetch(self) -> list[Row]:
        """Returns the next rows; an empty list at the end."""
        with translated("PostgreSQL"):
            lines = await self._link.read(self._batch)
        return list(self._split(lines))
