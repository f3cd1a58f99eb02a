"""One connection, on libpq itself: statements, streams by COPY, and the log of changes.

Everything is text. `COPY … TO STDOUT` streams a result without a cursor; the server waits whenever its socket is full,
so that memory holds a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple, TypeAlias

import psycopg
from psycopg import pq
from psycopg.errors import error_from_result

from connectors.sources.postgresql.dial import dial, wait_for
from connectors.sources.postgresql.dialect import MARK

__all__ = ["Described", "Link", "Texts"]

#: One row of a small result; None is NULL.
Texts: TypeAlias = "tuple[str | None, ...]"

_ENCODING: Final = "utf-8"
#: Settings under which a value is the same text in every session; see `values.py`.
_SETTINGS: Final[Mapping[str, str]] = {
    "client_encoding": "UTF8",
    "datestyle": "ISO",
    "timezone": "UTC",
    "intervalstyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "standard_conforming_strings": "on",
}
_READ_ONLY: Final[Mapping[str, str]] = {"default_transaction_read_only": "on"}
_STREAMS: Final = (pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)
_CANCEL_SECONDS: Final = 5.0
#: A batch is full with this, however few rows that are.
_BATCH_BYTES: Final = 4 << 20


class Described(NamedTuple):
    """One column of a statement's result: its name and the number of its type."""

    name: str
    type_oid: int


class Link:
    """One connection to the server; used by one task at a time. Its methods raise psycopg.Error.

    Attributes:
        usable: False after a fault, and after a stream that was not read to its end.
    """

    def __init__(
        self, connection: psycopg.AsyncConnection[tuple[object, ...]], *, replication: bool, patience: float | None
    ) -> None:
        self._connection = connection
        self._replication = replication
        self._pgconn = connection.pgconn
        self._patience = patience
        self._streaming = False
        self.usable = True

    @classmethod
    async def open(
        cls,
        parameters: Mapping[str, str],
        *,
        read_only: bool = True,
        replication: bool = False,
        settings: Mapping[str, str] | None = None,
        patience: float | None = None,
    ) -> Link:
        """Connects.

        Args:
            parameters: of libpq: host, port, user, …
            read_only: refuse every statement that writes.
            replication: a connection that can follow the log of changes.
            settings: more of the session's settings.
            patience: seconds to wait for the server's next word; None is for ever.
        """
        extra = {"replication": "database"} if replication else {}
        pgconn = await dial({**parameters, **extra})
        link = cls(psycopg.AsyncConnection(pgconn), replication=replication, patience=patience)
        try:
            given = {**_SETTINGS, **(_READ_ONLY if read_only else {}), **(settings or {})}
            await link.command("; ".join(f"SET {name} = '{value}'" for name, value in given.items()))
        except BaseException:
            await link.close()
            raise
        return link

    @property
    def server_version(self) -> int:
        """The server's version, such as 150018."""
        return self._pgconn.server_version

    async def close(self) -> None:
        """Ends the connection, and what the server still does for it; may be called twice."""
        self.usable = False
        pgconn = self._pgconn
        busy = pgconn.status == pq.ConnStatus.OK and pgconn.transaction_status == pq.TransactionStatus.ACTIVE
        if busy and not self._replication:  # the log's sender listens while it sends
            with suppress(psycopg.Error, OSError):  # it notices by itself, if later
                await self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
        await self._connection.close()

    # Statements

    async def command(self, sql: str) -> None:
        """Runs one statement or several without parameters, by the simple protocol."""
        async with self._guarded():
            self._pgconn.send_query(sql.encode(_ENCODING))
            await self._result()

    async def fetch(self, sql: str, parameters: Sequence[object] = ()) -> list[Texts]:
        """Runs one statement that has a small result; values are text for whose type the server decides."""
        async with self._guarded():
            self._pgconn.send_query_params(_numbered(sql).encode(_ENCODING), [_text(value) for value in parameters])
            return _rows(await self._result())

    async def describe(self, sql: str) -> tuple[Described, ...]:
        """Returns the columns that one statement would have, without running it."""
        async with self._guarded():
            self._pgconn.send_prepare(b"", _numbered(sql).encode(_ENCODING))
            await self._result()
            self._pgconn.send_describe_prepared(b"")
            found = await self._result()
        return tuple(
            Described((found.fname(at) or b"").decode(_ENCODING), found.ftype(at)) for at in range(found.nfields)
        )

    def bind(self, sql: str, parameters: Sequence[object]) -> str:
        """Returns the statement with literals in place of the marks, for COPY, which takes no parameters."""
        escape = pq.Escaping(self._pgconn).escape_literal
        literals = [_NULL if (text := _text(value)) is None else bytes(escape(text)) for value in parameters]
        return MARK.sub(lambda found: literals[int(found[1]) - 1].decode(_ENCODING), sql)

    # Streams

    async def start_stream(self, sql: str) -> None:
        """Starts `COPY … TO STDOUT` or `START_REPLICATION`; `read` gives what it says."""
        async with self._guarded():
            self._pgconn.send_query(sql.encode(_ENCODING))
            result = await self._next_result()
            if result is None or result.status not in _STREAMS:
                while await self._next_result() is not None:
                    pass
                raise _error(result)
        self.usable = False  # until it was read to its end
        self._streaming = True

    async def read(self, limit: int, *, wait_for_all: bool = True) -> list[bytes]:
        """Returns the next messages of the stream, at most `limit`, fewer of long ones; an empty list at the end.

        Args:
            limit: how many.
            wait_for_all: wait until there are so many; else return what there is, at least one.
        """
        if not self._streaming:
            return []
        pgconn, rows, taken_in, space = self._pgconn, list[bytes](), False, _BATCH_BYTES
        get = pgconn.get_copy_data
        while len(rows) < limit and space > 0:
            size, data = get(1)
            if size > 0:
                rows.append(bytes(data))
                space -= size
                taken_in = False
            elif size < 0:
                await self._end_stream()
                break
            elif rows and taken_in and not wait_for_all:
                break
            else:
                if taken_in:  # and there was nothing: a try costs less than a turn of the event loop
                    await self._wait()
                pgconn.consume_input()
                taken_in = True
        return rows

    async def write(self, data: bytes) -> None:
        """Sends a message within the stream, as the log's reader does to say how far it is."""
        self._pgconn.put_copy_data(data)
        await self._flush()

    async def _end_stream(self) -> None:
        self._streaming = False
        result = await self._next_result()
        while await self._next_result() is not None:
            pass
        if result is None or result.status != pq.ExecStatus.COMMAND_OK:
            raise _error(result)
        self.usable = True

    # Waiting

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """An error of the server leaves the connection usable; being cut off or cancelled does not."""
        try:
            yield
        except psycopg.Error:
            self.usable = self._pgconn.status == pq.ConnStatus.OK
            raise
        except BaseException:
            self.usable = False
            raise

    async def _result(self) -> pq.abc.PGresult:
        """Returns the last result of what was sent; raises the first error among them."""
        last: pq.abc.PGresult | None = None
        failure: pq.abc.PGresult | None = None
        while (result := await self._next_result()) is not None:
            last = result
            if failure is None and result.status not in {pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK}:
                failure = result
        if last is None or failure is not None:
            raise _error(failure)
        return last

    async def _next_result(self) -> pq.abc.PGresult | None:
        await self._flush()
        while self._pgconn.is_busy():
            await self._more()
        return self._pgconn.get_result()

    async def _flush(self) -> None:
        while self._pgconn.flush():
            await self._wait(writing=True)

    async def _more(self) -> None:
        """Takes in what the server has sent since; waits when that is nothing."""
        await self._wait()
        self._pgconn.consume_input()

    async def _wait(self, *, writing: bool = False) -> None:
        try:
            async with asyncio.timeout(self._patience):
                await wait_for(self._pgconn.socket, writing=writing)
        except TimeoutError:
            self.usable = False
            raise psycopg.errors.QueryCanceled(f"no answer within {self._patience:g} s") from None


_NULL: Final = b"NULL"


def _numbered(sql: str) -> str:
    """Returns the statement with `$1` for the marks."""
    return MARK.sub(r"$\1", sql)


def _text(value: object) -> bytes | None:
    return None if value is None else str(value).encode(_ENCODING)


def _rows(result: pq.abc.PGresult) -> list[Texts]:
    columns = range(result.nfields)
    return [_row(result.get_value(row, at) for at in columns) for row in range(result.ntuples)]


def _row(values: Iterable[bytes | None]) -> Texts:
    return tuple(None if value is None else value.decode(_ENCODING) for value in values)


def _error(result: pq.abc.PGresult | None) -> psycopg.Error:
    if result is None:
        return psycopg.OperationalError("the server closed the connection")
    return error_from_result(result, encoding=_ENCODING)
