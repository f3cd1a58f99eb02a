"""The statements that read a table: page by page in the order of a key, or what is newer than a value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.sources.relational.dialect import Dialect
from connectors.sources.relational.model import Column, Statement, Table, TableName

__all__ = ["newer", "newest", "page", "qualified", "whole"]


def qualified(dialect: Dialect, name: TableName) -> str:
    """Returns the table's name as SQL, with its space."""
    return f"{dialect.quote(name.space)}.{dialect.quote(name.name)}"


def whole(dialect: Dialect, table: Table) -> Statement:
    """Returns the statement that reads all rows, in no order."""
    return Statement(_select(dialect, table))


def page(
    dialect: Dialect,
    table: Table,
    key: Sequence[str],
    after: Sequence[Any] | None,
    *,
    strict: bool,
    limit: int | None,
    until: Sequence[Any] | None = None,
    offset: int = 0,
) -> Statement:
    """Returns the statement that reads the rows behind a key, in the order of the key.

    Args:
        key: the columns; of those none holds NULL.
        after: their values in the last row that was read; None reads from the beginning.
        strict: False reads rows with these very values again: for keys that several rows may share.
        limit: how many rows; None for all.
        until: their values in the last row to be read; None reads to the end.
        offset: how many rows to leave out first.
    """
    sql = _select(dialect, table)
    columns = [dialect.quote(name) for name in key]
    conditions: list[str] = []
    parameters: tuple[Any, ...] = ()
    if after is not None:
        condition, parameters = _beside(dialect, columns, after, beyond=">", last=">" if strict else ">=", number=0)
        conditions.append(condition)
    if until is not None:
        condition, more = _beside(dialect, columns, until, beyond="<", last="<=", number=len(parameters))
        conditions.append(condition)
        parameters += more
    if conditions:
        sql += f" WHERE {' AND '.join(conditions)}"
    sql += f" ORDER BY {', '.join(columns)}"
    if limit is not None:
        sql += f" LIMIT {limit:d}"
    if offset:
        sql += f" OFFSET {offset:d}"
    return Statement(sql, parameters)


def newer(dialect: Dialect, table: Table, column: Column, value: Any) -> Statement:
    """Returns the statement that reads the rows whose `column` is `value` or more."""
    sql = _select(dialect, table)
    return Statement(f"{sql} WHERE {dialect.quote(column.name)} >= {dialect.parameter(1)}", (value,))


def newest(dialect: Dialect, table: Table, column: Column) -> Statement:
    """Returns the statement that finds the largest value of a column that can honestly be there."""
    name = dialect.quote(column.name)
    sql = f"SELECT MAX({name}) FROM {qualified(dialect, table.name)}"  # noqa: S608 - identifiers are quoted
    horizon = dialect.horizon(column)
    return Statement(sql if horizon is None else f"{sql} WHERE {name} <= {horizon}")


def _select(dialect: Dialect, table: Table) -> str:
    columns = [
        dialect.quote(column.name)
        if column.expression is None
        else f"{column.expression} AS {dialect.quote(column.name)}"
        for column in table.columns
    ]
    return f"SELECT {', '.join(columns)} FROM {qualified(dialect, table.name)}"  # noqa: S608 - identifiers are quoted


def _beside(
    dialect: Dialect, columns: Sequence[str], values: Sequence[Any], *, beyond: str, last: str, number: int
) -> tuple[str, tuple[Any, ...]]:
    """Returns the condition that a row stands on one side of `values` in the order of `columns`, and its parameters.

    Args:
        beyond: `>` or `<`; `last` is the same or lets in the values themselves.
        number: of the last parameter before these.
    """
    if dialect.compares_rows or len(columns) == 1:
        marks = [dialect.parameter(number + place) for place in range(1, len(columns) + 1)]
        if len(columns) == 1:
            return f"{columns[0]} {last} {marks[0]}", tuple(values)
        return f"({', '.join(columns)}) {last} ({', '.join(marks)})", tuple(values)
    # a >= 1 AND (a > 1 OR (b > 2)), with b's part of the same form: the first comparison is what the index serves.
    condition = ""
    parameters: list[Any] = []
    for depth, (column, value) in enumerate(zip(columns, values, strict=True)):
        first = dialect.parameter(number + len(parameters) + 1)
        parameters.append(value)
        if depth == len(columns) - 1:
            condition += f"{column} {last} {first}"
        else:
            second = dialect.parameter(number + len(parameters) + 1)
            parameters.append(value)
            condition += f"{column} {beyond}= {first} AND ({column} {beyond} {second} OR ("
    return condition + "))" * (len(columns) - 1), tuple(parameters)
