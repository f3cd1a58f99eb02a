"""What one database product and its driver have to provide; all that differs between them is behind these protocols.

A driver's session raises only errors that say what to do, never its own:

- `RetryableError`: the connection was lost or refused, the server is shutting down, a lock was not had in time;
- `ConfigurationError`: wrong credentials, an unknown database, an invalid certificate, an invalid query;
- `TableDeniedError`: this user may not read the table;
- `TableGoneError`: the table, or a column of it, is not there any more.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from connectors.errors import ConfigurationError, RetryableError, SyncError
from connectors.sources.relational.model import Column, Row, Statement

__all__ = ["Dialect", "Rows", "Session", "SlowQueryError", "TableDeniedError", "TableGoneError"]


class TableGoneError(SyncError):
    """A table or a column that was there when the sync began is there no longer."""


class TableDeniedError(ConfigurationError):
    """The user may not read the table."""


class SlowQueryError(RetryableError):
    """A statement gave no row for as long as the configuration allows."""


class Dialect(Protocol):
    """The SQL of one product."""

    @property
    def product(self) -> str:
        """Its name, for messages: `MySQL`."""

    @property
    def space_word(self) -> str:
        """What it calls a space of tables, which is also the document's field for it: `database` or `schema`."""

    @property
    def compares_rows(self) -> bool:
        """Whether an index serves `(a, b) > (1, 2)`. Where it does not, the comparison is written out."""

    @property
    def backslash_escapes(self) -> bool:
        """Whether a backslash in a text literal takes the meaning from the quotation mark behind it."""

    def quote(self, identifier: str) -> str:
        """Returns an identifier as SQL, fit for the driver's formatting."""

    def parameter(self, number: int) -> str:
        """Returns the mark of the parameter of this number, counted from 1: `%s` or `$1`."""

    def verbatim(self, sql: str) -> str:
        """Returns SQL that people wrote, fit for the driver's formatting: with `%` as `%%` for some drivers."""

    def horizon(self, column: Column) -> str | None:
        """Returns SQL for the latest moment that a value of the column can honestly have, None for numbers.

        One row that is dated 2099 by mistake must not put the position of the incremental sync there. For times whose
        zone nobody knows it is fourteen hours ahead of UTC, where the day begins first.
        """


class Rows(Protocol):
    """The rows of a running statement."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the result consists of; types and converters as far as the driver knows them."""

    async def fetch(self) -> list[Row]:
        """Returns some hundreds of the next rows; an empty list at the end."""


class Session(Protocol):
    """One connection: reads only, UTC as its time zone. Used by one task at a time."""

    @property
    def usable(self) -> bool:
        """Whether another statement can be run: not after a fault, nor after a stream that was not read to its end."""

    async def fetch(self, statement: Statement) -> list[Row]:
        """Runs a statement that has a small result and returns all of it."""

    def stream(
        self, statement: Statement, *, batch: int, space: str | None = None
    ) -> AbstractAsyncContextManager[Rows]:
        """Runs a statement in a read-only transaction of its own and gives its rows in batches of at most that size.

        Memory holds a batch, not the result. A session whose stream was left early is not usable any more.

        Args:
            space: the database or schema in which names without one are looked up; None leaves that as it is.
        """

    async def close(self) -> None:
        """Ends the connection, and what it still runs on the server; may be called twice, and after a fault."""
