"""What a sync reads: the tables that the configuration selects, or the queries of the rules, each with its key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from connectors.errors import ConfigurationError
from connectors.sources.relational.model import Key, Table, TableName
from connectors.sources.relational.rules import QueryRule
from connectors.utils import nearest

__all__ = ["Unread", "Work", "find_table", "rule_work", "table_work"]


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to read from its first row to its last.

    Attributes:
        label: names it in checkpoints; the same as long as the configuration is.
        title: names it in messages.
        prefix: what the ids of its documents begin with.
        fixed: fields that each of its documents has.
        key: the columns that make the id.
        table: None for a query.
        converters: for the columns of a query's result, by name, what the tables' columns say.
        paged: whether the reading can go on behind a key; `strict` and `indexed` say how.
    """

    label: str
    title: str
    prefix: str
    fixed: Mapping[str, Any]
    key: tuple[str, ...]
    space: str
    table: Table | None = None
    query: str = ""
    converters: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    paged: bool = False
    strict: bool = True
    indexed: bool = True


@dataclass(frozen=True, slots=True)
class Unread:
    """A table that is to be synced and cannot be."""

    label: str
    reason: str


def table_work(
    catalogue: Sequence[Table],
    *,
    patterns: Sequence[str],
    exclude: Sequence[str],
    declared: Mapping[str, tuple[str, ...]],
    space_word: str,
) -> list[Work | Unread]:
    """Returns the selected tables, in the order of their names.

    Raises:
        ConfigurationError: a table or column that the configuration names is not there.
    """
    for pattern in [*patterns, *declared]:
        if not _is_pattern(pattern) and not any(_matches(table.name, pattern) for table in catalogue):
            raise ConfigurationError(
                missing_table(pattern, catalogue), field="id_columns" if pattern in declared else "tables"
            )
    literal = [pattern for pattern in [*patterns, *declared] if not _is_pattern(pattern)]
    found: list[Work | Unread] = []
    for table in sorted(catalogue, key=lambda table: table.name):
        if not _any(table.name, patterns) or _any(table.name, exclude):
            continue
        if table.is_view and not _any(table.name, literal):
            continue
        key = _key_of(table, declared)
        if key is None:
            found.append(Unread(str(table.name), no_key(table)))
        else:
            found.append(_work(table, key, space_word))
    return found


def no_key(table: Table) -> str:
    """Says what to do about a table that has no key."""
    what = (
        "is a view, which has no key" if table.is_view else "has neither a primary key nor a unique key without NULLs"
    )
    return (
        f"the table {table.name} {what}: name the columns that identify a row in id_columns, as in "
        f"{table.name.name}(a, b), or leave it out with exclude_tables"
    )


def rule_work(rule: QueryRule, catalogue: Sequence[Table], space_word: str) -> Work:
    """Returns the work that a rule means. Raises ConfigurationError for an unknown table or one without a key."""
    columns = list(rule.id_columns)
    converters: dict[str, Callable[[Any], Any]] = {}
    for name in rule.tables:
        table = find_table(name, catalogue)
        if table is None:
            raise ConfigurationError(f"{rule.title}: {missing_table(str(name), catalogue)}")
        for column in table.columns:
            if column.lasting and column.convert is not None:
                converters[column.name] = column.convert
        if not rule.id_columns:
            if not table.keys:
                raise ConfigurationError(
                    f"{rule.title}: the table {name} has no key: write the columns of the result that identify a row "
                    "into id_columns"
                )
            columns += table.keys[0].columns
    names = [name.name for name in rule.tables]
    return Work(
        label=f"rule:{rule.number}",
        title=rule.title,
        prefix="+".join(map(str, rule.tables)),
        fixed={space_word: rule.tables[0].space, "table": names[0] if len(names) == 1 else names},
        key=tuple(dict.fromkeys(columns)),
        space=rule.tables[0].space,
        query=rule.query,
        converters=converters,
    )


def find_table(name: TableName, catalogue: Iterable[Table]) -> Table | None:
    """Returns the table of this name, if it is there."""
    return next((table for table in catalogue if table.name == name), None)


def missing_table(name: str, catalogue: Sequence[Table]) -> str:
    """Says that there is no such table, and which one may be meant."""
    known = [str(table.name) if "." in name else table.name.name for table in catalogue]
    near = nearest(name, known)
    hint = f'; did you mean "{near}"?' if near else ""
    return f'there is no table "{name}", or this user may not read it{hint}'


def _work(table: Table, key: Key, space_word: str) -> Work:
    columns = [table.column(name) for name in key.columns]
    name = table.name
    return Work(
        label=str(name),
        title=f"the table {name}",
        prefix=str(name),
        fixed={space_word: name.space, "table": name.name},
        key=key.columns,
        space=name.space,
        table=table,
        paged=all(column is not None and column.pageable and not column.nullable for column in columns),
        strict=key.unique,
        indexed=key.indexed,
    )


def _key_of(table: Table, declared: Mapping[str, tuple[str, ...]]) -> Key | None:
    wanted = declared.get(str(table.name)) or declared.get(table.name.name)
    if wanted is None:
        return table.keys[0] if table.keys else None
    names = []
    for given in wanted:
        column = table.column(given)
        if column is None:
            near = nearest(given, [column.name for column in table.columns])
            hint = f'; did you mean "{near}"?' if near else ""
            raise ConfigurationError(f'id_columns: {table.name} has no column "{given}"{hint}', field="id_columns")
        names.append(column.name)
    same = next((key for key in table.keys if key.columns == tuple(names)), None)
    return same or Key(tuple(names), indexed=False, unique=False)


def _is_pattern(text: str) -> bool:
    return any(mark in text for mark in "*?[")


def _matches(name: TableName, pattern: str) -> bool:
    return fnmatchcase(str(name), pattern) or fnmatchcase(name.name, pattern)


def _any(name: TableName, patterns: Iterable[str]) -> bool:
    return any(_matches(name, pattern) for pattern in patterns)
