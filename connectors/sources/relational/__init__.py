"""What the sources of relational databases share; a source of one product is a dialect, a session and a catalogue.

A product's source derives from `RelationalDataSource`, says its `dialect` and implements three methods or four::

    class ExampleDataSource(RelationalDataSource):
        dialect = ExampleDialect()

        def spaces(self) -> list[str]: ...  # the configured databases or schemas
        async def open_session(self) -> Session: ...  # a new connection
        async def read_catalogue(self, session) -> list[Table]: ...  # every table that the configuration can mean
        async def log_position(self, session) -> Any: ...  # for `changed()`; None where the server cannot tell
"""

from __future__ import annotations

from connectors.sources.relational.dialect import (
    Dialect,
    Rows,
    Session,
    SlowQueryError,
    TableDeniedError,
    TableGoneError,
)
from connectors.sources.relational.model import Column, Key, Row, Statement, Table, TableName
from connectors.sources.relational.source import RelationalDataSource

__all__ = [
    "Column",
    "Dialect",
    "Key",
    "RelationalDataSource",
    "Row",
    "Rows",
    "Session",
    "SlowQueryError",
    "Statement",
    "Table",
    "TableDeniedError",
    "TableGoneError",
    "TableName",
]
