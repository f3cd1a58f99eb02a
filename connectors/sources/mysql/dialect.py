"""The SQL of MySQL and MariaDB."""

from __future__ import annotations

from connectors.sources.relational import Column

__all__ = ["MySQLDialect"]


class MySQLDialect:
    """See `connectors.sources.relational.Dialect`."""

    product = "MySQL"
    space_word = "database"
    # Both servers take an index for `a > 1 OR (a = 1 AND b > 2)` and scan the table for `(a, b) > (1, 2)`.
    compares_rows = False
    backslash_escapes = True

    def quote(self, identifier: str) -> str:
        """Returns an identifier between backquotes; they mean the same in every SQL mode."""
        return "`" + identifier.replace("`", "``").replace("%", "%%") + "`"

    def parameter(self, number: int) -> str:  # noqa: ARG002 - the driver has marks without numbers
        """Returns the driver's mark."""
        return "%s"

    def verbatim(self, sql: str) -> str:
        """Returns SQL with its percent signs doubled."""
        return sql.replace("%", "%%")

    def horizon(self, column: Column) -> str | None:
        """Returns now, or fourteen hours later for values of an unknown time zone; the session's zone is UTC."""
        match column.growth:
            case "instant":
                return "UTC_TIMESTAMP(6)"
            case "local":
                return "UTC_TIMESTAMP(6) + INTERVAL 14 HOUR"
            case _:
                return None
