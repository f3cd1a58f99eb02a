"""One connection, with asyncmy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from ssl import SSLContext
from typing import Any, Final, Self

import asyncmy
from asyncmy.connection import Connection
from asyncmy.constants import FIELD_TYPE
from asyncmy.converters import conversions
from asyncmy.cursors import Cursor, SSCursor
from asyncmy.errors import MySQLError

from connectors.sources.mysql.dialect import MySQLDialect
from connectors.sources.mysql.faults import is_lost, translated
from connectors.sources.mysql.values import result_converter
from connectors.sources.relational import Column, Row, Statement
from connectors.sources.relational.throttle import BatchSize

__all__ = ["Address", "MySQLSession"]

_CONNECT_TIMEOUT: Final = 15
_KILL_TIMEOUT: Final = 5.0
#: Reads only; times in UTC; text literals with backslashes, as the driver writes them; and an hour of patience with a
#: destination that is slower than we are, since the server hangs up on a reader who pauses for longer than that.
_PREPARATION: Final = (
    "SET SESSION time_zone = '+00:00', net_write_timeout = 3600",
    "SET SESSION sql_mode = REPLACE(@@sql_mode, 'NO_BACKSLASH_ESCAPES', '')",
    "SET SESSION TRANSACTION READ ONLY",
)
_DIALECT: Final = MySQLDialect()


def _as_it_is(value: Any) -> Any:
    return value


#: TIME stays text such as -838:59:59, for it is a time of day as often as a duration.
_CONVERSIONS: Final[Mapping[Any, Any]] = {**conversions, FIELD_TYPE.TIME: _as_it_is}


@dataclass(frozen=True, slots=True)
class Address:
    """Where and how to connect.

    Attributes:
        host: a name or address, or the path of a socket, which begins with a slash.
        zone: the time zone of DATETIME values; None leaves them without one.
    """

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    tls: SSLContext | None = None
    zone: tzinfo | None = None

    def __str__(self) -> str:
        return self.host if self.host.startswith("/") else f"{self.host}:{self.port}"


class MySQLSession:
    """See `connectors.sources.relational.Session`."""

    def __init__(self, address: Address, connection: Connection) -> None:
        self._address = address
        self._connection = connection
        self._running = False
        self._lost = False

    @classmethod
    async def open(cls, address: Address) -> Self:
        """Connects; raises ConfigurationError or RetryableError."""
        try:
            connection = await _connect(address)
        except (MySQLError, OSError, EOFError, RuntimeError, TimeoutError) as error:
            raise translated(error, str(address)) from error
        session = cls(address, connection)
        try:
            for sql in _PREPARATION:
                await session.fetch(Statement(sql))
        except BaseException:
            await session.close()
            raise
        return session

    @property
    def usable(self) -> bool:
        """Whether another statement can be run."""
        return not self._running and not self._lost and bool(self._connection.connected)

    async def fetch(self, statement: Statement) -> list[Row]:
        """Runs a statement and returns all of its rows."""
        cursor = self._connection.cursor(Cursor)
        self._running = True
        try:
            await cursor.execute(statement.sql, statement.parameters)
            rows = list(await cursor.fetchall()) if cursor.description else []
        except (MySQLError, OSError, EOFError, RuntimeError) as error:
            raise self._failed(error) from error
        self._running = False
        return rows

    @asynccontextmanager
    async def stream(self, statement: Statement, *, batch: int, space: str | None = None) -> AsyncIterator[MySQLRows]:
        """Runs a statement and gives its rows as they arrive."""
        if space is not None:
            await self.fetch(Statement(f"USE {_DIALECT.quote(space)}"))
        cursor = self._connection.cursor(SSCursor)
        self._running = True
        try:
            await cursor.execute(statement.sql, statement.parameters)
        except (MySQLError, OSError, EOFError, RuntimeError) as error:
            raise self._failed(error) from error
        transport = self._connection._transport  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way
        transport.pause_reading()
        columns = tuple(_result_column(entry, self._address.zone) for entry in cursor.description or ())
        yield MySQLRows(columns, BatchSize(batch), partial(self._more, cursor, transport))

    async def _more(self, cursor: Cursor, transport: asyncio.Transport, limit: int) -> list[Row]:
        """Returns the next rows of a stream.

        asyncmy takes from the socket whatever has arrived, and would hold a whole result that we are slow to process.
        So the socket is read only while we wait for rows; the server waits meanwhile.
        """
        if not self._running:
            return []
        transport.resume_reading()
        try:
            rows: list[Row] = await cursor.fetchmany(limit)
        except (MySQLError, OSError, EOFError, RuntimeError) as error:
            self._lost = True  # the driver waits for the rest of a result that broke off
            raise self._failed(error) from error
        if len(rows) < limit:
            self._running = False
        else:
            transport.pause_reading()
        return rows

    async def close(self) -> None:
        """Ends the connection; a statement that runs is killed on the server by way of another connection."""
        connection, running = self._connection, self._running and not self._lost
        self._running = False
        try:
            if running:
                await self._kill()
            elif connection.connected and not self._lost:
                with suppress(MySQLError, OSError, RuntimeError, TimeoutError):  # it is gone already, then
                    async with asyncio.timeout(_KILL_TIMEOUT):
                        await connection.ensure_closed()
        finally:
            self._lost = True
            connection.close()
        await asyncio.sleep(0)  # the transport closes in the next round of the loop

    async def _kill(self) -> None:
        with suppress(MySQLError, OSError, RuntimeError, TimeoutError):  # the server ends it when it next sends
            async with asyncio.timeout(_KILL_TIMEOUT):
                other = await _connect(self._address)
                try:
                    await other.cursor(Cursor).execute(f"KILL CONNECTION {self._connection.thread_id():d}")
                finally:
                    await other.ensure_closed()

    def _failed(self, error: Exception) -> Exception:
        self._lost = self._lost or is_lost(error)
        self._running = False  # the server ended it
        return translated(error, str(self._address))


class MySQLRows:
    """The rows of a running statement."""

    def __init__(
        self, columns: tuple[Column, ...], size: BatchSize, more: Callable[[int], Awaitable[list[Row]]]
    ) -> None:
        self.columns = columns
        self._size = size
        self._more = more

    async def fetch(self) -> list[Row]:
        """Returns the next rows; an empty list at the end."""
        rows = await self._more(self._size.rows)
        self._size.saw(rows)
        return rows


async def _connect(address: Address) -> Connection:
    cancelled = _cancellations()
    async with asyncio.timeout(_CONNECT_TIMEOUT):
        connection = await asyncmy.connect(**_arguments(address))
        if _cancellations() > cancelled:  # the driver's asyncio.wait_for loses it, in Python 3.11
            connection.close()
            raise asyncio.CancelledError
    return connection


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _result_column(entry: Any, zone: tzinfo | None) -> Column:
    kind, convert = result_converter(entry[1], zone)
    return Column(str(entry[0]), kind, convert=convert)


def _arguments(address: Address) -> dict[str, Any]:
    where = (
        {"unix_socket": address.host} if address.host.startswith("/") else {"host": address.host, "port": address.port}
    )
    return {
        **where,
        "user": address.user,
        "password": address.password,
        "ssl": address.tls,
        "charset": "utf8mb4",
        "autocommit": True,
        "conv": _CONVERSIONS,
        "binary_prefix": True,
        "connect_timeout": _CONNECT_TIMEOUT,
        "program_name": "connectors",
    }
