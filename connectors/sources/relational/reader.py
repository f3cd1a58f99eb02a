"""Reads rows: a stream at a time, in chunks where there is a key to go on behind, with a few quick tries."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from connectors.errors import ConfigurationError, RetryableError
from connectors.source import Document
from connectors.sources.relational import statements
from connectors.sources.relational.dialect import Dialect, Rows, SlowQueryError
from connectors.sources.relational.model import Column, Row, Statement
from connectors.sources.relational.pool import Pool
from connectors.sources.relational.selection import Work
from connectors.sources.relational.throttle import Throttle
from connectors.sources.relational.values import document_maker, id_maker

__all__ = ["CHUNK_ROWS", "Page", "Reader"]

T = TypeVar("T")

#: Rows of one statement, where a key says how to go on. A stream is fast, but as long as it runs the server keeps old
#: versions of rows for it and a connection is held; after a chunk both are let go.
CHUNK_ROWS: Final = 50_000
_TRIES: Final = 3
_PAUSE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Page:
    """Some documents; `after` is the key of the last one, where the reading can go on behind it."""

    documents: list[Document]
    after: Sequence[Any] | None


class Reader:
    """Reads the work of one source.

    Args:
        batch: rows of a page, at most.
        timeout: seconds without a row after which a statement is given up.
        chunk: rows of one statement.
    """

    def __init__(
        self,
        dialect: Dialect,
        pool: Pool,
        *,
        batch: int,
        timeout: float,
        chunk: int,
        throttle: Throttle,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._dialect = dialect
        self._pool = pool
        self._batch = batch
        self._timeout = timeout
        self._throttle = throttle
        self._chunk = chunk
        self._sleep = sleep

    async def pages(
        self, work: Work, after: Sequence[Any] | None = None, until: Sequence[Any] | None = None
    ) -> AsyncGenerator[Page, None]:
        """Yields all rows of the work, or those behind the key `after` and up to the key `until`.

        A connection that is lost is replaced and the reading goes on behind the last row, where it can; that is tried
        twice without a new row.

        Raises:
            RetryableError, ConfigurationError, TableDeniedError, TableGoneError: as the session does.
            SlowQueryError: there was no row for as long as is allowed.
        """
        limit = self._chunk if work.paged and work.indexed else None
        tries = 1
        while True:
            read = 0
            try:
                async with aclosing(self.read(work, self._statement(work, after, until, limit))) as pages:
                    async for page in pages:
                        read += len(page.documents)
                        after = page.after
                        tries = 1
                        yield page
            except SlowQueryError:
                raise  # the same query would be as slow again
            except RetryableError:
                if (read and not work.paged) or tries == _TRIES:
                    raise
                await self._sleep(_PAUSE * tries)
                tries += 1
                continue
            if limit is None or read < limit:
                return

    async def read(self, work: Work, statement: Statement) -> AsyncGenerator[Page, None]:
        """Yields the rows of one statement."""
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._pool.lease())
            stream = session.stream(statement, batch=self._batch, space=work.space)
            rows = await self._patiently(work, stack.enter_async_context(stream))
            columns = work.table.columns if work.table is not None else _converted(work, rows.columns)
            indexes = _key_indexes(work, columns)
            make = document_maker(columns, work.fixed, id_maker(work.prefix, indexes))
            while batch := await self._next(work, rows):
                after = [batch[-1][index] for index in indexes] if work.paged else None
                yield Page([make(row) for row in batch], after)
                await self._throttle.spent(len(batch))

    async def try_query(self, work: Work) -> None:
        """Has the server judge a query without running it; raises ConfigurationError for one that cannot be used."""
        query = self._dialect.verbatim(work.query)
        probe = Statement(f"SELECT * FROM (\n{query}\n) AS connectors_rule LIMIT 0")  # noqa: S608 - the operator's own
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(self._pool.lease())
            stream = session.stream(probe, batch=1, space=work.space)
            rows = await self._patiently(work, stack.enter_async_context(stream))
            _key_indexes(work, rows.columns)
            await self._next(work, rows)

    def _statement(
        self, work: Work, after: Sequence[Any] | None, until: Sequence[Any] | None, limit: int | None
    ) -> Statement:
        if work.table is None:
            return Statement(self._dialect.verbatim(work.query))
        if not work.paged:
            return statements.whole(self._dialect, work.table)
        return statements.page(self._dialect, work.table, work.key, after, strict=work.strict, limit=limit, until=until)

    async def _next(self, work: Work, rows: Rows) -> list[Row]:
        return await self._patiently(work, rows.fetch())

    async def _patiently(self, work: Work, doing: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await doing
        except TimeoutError:
            raise SlowQueryError(
                f"{work.title}: {self._dialect.product} sent no row for {self._timeout:g} s and the query was stopped; "
                "see whether it waits for a lock or lacks an index, or raise query_timeout"
            ) from None


def _converted(work: Work, columns: Sequence[Column]) -> Sequence[Column]:
    known = work.converters
    return [replace(column, convert=known.get(column.name, column.convert)) for column in columns]


def _key_indexes(work: Work, columns: Sequence[Column]) -> list[int]:
    names = [column.name for column in columns]
    if work.table is None:
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise ConfigurationError(
                f'{work.title}: two columns of the result are called "{twice[0]}": rename one by AS'
            )
    folded = [name.lower() for name in names]
    indexes = []
    for name in work.key:
        if name in names:
            indexes.append(names.index(name))
        elif folded.count(name.lower()) == 1:
            indexes.append(folded.index(name.lower()))
        else:
            raise ConfigurationError(
                f'{work.title}: the result has no column "{name}" to identify a row by: select it, or name others in '
                "id_columns"
            )
    return indexes
