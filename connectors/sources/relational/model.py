"""Tables, columns and keys, as the sources of relational databases see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

__all__ = ["Column", "Key", "Row", "Statement", "Table", "TableName"]

#: One row of a result, in the order of its columns.
Row: TypeAlias = Sequence[Any]


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A table: `space` is what MySQL calls a database, and PostgreSQL a schema."""

    space: str
    name: str

    def __str__(self) -> str:
        return f"{self.space}.{self.name}"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table, or of the result of a query.

    Attributes:
        name: as the server has it.
        type: the server's word for its type, for messages.
        nullable: whether NULL may stand in it; True where that is not known.
        growth: what its values are good for in an incremental sync: `number` (it grows), `instant` (a moment, the same
            in every time zone), `local` (a date or time of a zone that nobody knows); None for nothing.
        pageable: whether `ORDER BY` and `>` agree about its values, and a value that was read can be sent back
            exactly. That is not so of floats and of MySQL's ENUM.
        expression: what to select in place of the column, in SQL (such as spatial values as text).
        convert: makes what JSON can hold of a value that is not NULL; None leaves the driver's value.
        lasting: whether `convert` is also right for a column of this name in the result of a query on the table,
            since it leaves alone what is of another kind. For types that a driver cannot tell apart in results.
    """

    name: str
    type: str = ""
    nullable: bool = True
    growth: Literal["number", "instant", "local"] | None = None
    pageable: bool = False
    expression: str | None = None
    convert: Callable[[Any], Any] | None = None
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """Columns whose values make the `_id` of a document.

    Attributes:
        indexed: whether the server has an index in this order, so that a page after a value costs little.
        unique: whether the server guarantees that no two rows have the same values.
    """

    columns: tuple[str, ...]
    indexed: bool = True
    unique: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """What the server's catalogue says of one table.

    Attributes:
        keys: the primary key, then unique indexes all of whose columns are NOT NULL, the best one first.
        is_view: whether it is a view; those are read only when somebody names them.
    """

    name: TableName
    columns: tuple[Column, ...]
    keys: tuple[Key, ...] = ()
    is_view: bool = False

    def column(self, name: str) -> Column | None:
        """Returns the column of this name; where there is none, the one that differs in case only."""
        exact = next((column for column in self.columns if column.name == name), None)
        return exact or next((column for column in self.columns if column.name.lower() == name.lower()), None)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with the values of its parameters, which the dialect numbers or marks.

    The driver formats it even where there are no parameters, so identifiers come from the dialect's `quote` and what
    people wrote goes through its `verbatim`.
    """

    sql: str
    parameters: tuple[Any, ...] = field(default=(), repr=False)  # values of rows do not belong into messages
