"""The SQL of PostgreSQL."""

from __future__ import annotations

import re
from typing import Final

from connectors.sources.relational import Column

__all__ = ["MARK", "PostgreSQLDialect", "parameter", "quoted"]

#: Stands for a parameter until the link puts its number or its value there. No SQL can contain it.
MARK: Final = re.compile("\0([0-9]+)\0")
_NOW_ANYWHERE: Final = "(now() AT TIME ZONE 'UTC' + interval '14 hours')"


def parameter(number: int) -> str:
    """Returns the mark of the parameter of this number, counted from 1."""
    return f"\0{number}\0"


def quoted(identifier: str) -> str:
    """Returns an identifier as SQL."""
    return '"' + identifier.replace('"', '""') + '"'


class PostgreSQLDialect:
    """What differs between PostgreSQL's SQL and others'."""

    product = "PostgreSQL"
    space_word = "schema"
    compares_rows = True
    backslash_escapes = False

    def quote(self, identifier: str) -> str:
        """Returns an identifier as SQL."""
        return quoted(identifier)

    def parameter(self, number: int) -> str:
        """Returns a mark that no SQL contains; the link puts the value in its place."""
        return parameter(number)

    def verbatim(self, sql: str) -> str:
        """Returns the SQL as it is, since the marks cannot be confused with it."""
        return sql

    def horizon(self, column: Column) -> str | None:
        """Returns the present; for `numeric` a number below Infinity and NaN, which count as the largest."""
        if column.growth == "instant":
            return "now()"
        if column.growth == "local":
            return f"{_NOW_ANYWHERE}::date" if column.type == "date" else _NOW_ANYWHERE
        return "1e1000" if column.type == "numeric" else None

    def explain(self, query: str) -> str:
        """Returns the statement that plans the query."""
        return f"EXPLAIN {query}"
