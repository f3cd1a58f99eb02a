"""What tables there are: read from `information_schema`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from connectors.errors import ConfigurationError
from connectors.sources.mysql.dialect import MySQLDialect
from connectors.sources.mysql.values import column_of
from connectors.sources.relational import Column, Key, Session, Statement, Table, TableName
from connectors.utils import nearest

__all__ = ["log_position", "read_tables"]

_SPACES: Final = "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA"
_TABLES: Final = (
    "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES"
    " WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED', 'VIEW') AND TABLE_SCHEMA IN ({marks})"
)
_COLUMNS: Final = (
    "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, IS_NULLABLE"
    " FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN ({marks})"
    " ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
)
_KEYS: Final = (
    "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, COLUMN_NAME, NULLABLE, SUB_PART"
    " FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 AND TABLE_SCHEMA IN ({marks})"
    " ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"
)
#: MariaDB's type JSON is text with this check.
_JSON_CHECKS: Final = (
    "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS"
    " WHERE CHECK_CLAUSE LIKE 'json_valid(%%)' AND CONSTRAINT_SCHEMA IN ({marks})"
)
_DIALECT: Final = MySQLDialect()


async def read_tables(session: Session, spaces: Sequence[str], zone: tzinfo | None) -> list[Table]:
    """Returns the tables and views of these databases, in the order of their names.

    Raises ConfigurationError for a database that is not there, or that the user may not see.
    """
    await _check_spaces(session, spaces)
    marks = ", ".join(["%s"] * len(spaces))

    async def ask(sql: str) -> list[tuple[str, ...]]:
        return [tuple(row) for row in await session.fetch(Statement(sql.format(marks=marks), tuple(spaces)))]

    (version,) = (await session.fetch(Statement("SELECT VERSION()")))[0]
    checks = await ask(_JSON_CHECKS) if "mariadb" in version.lower() else []
    json_columns = {(space, table, clause[len("json_valid(") : -1]) for space, table, clause in checks}
    columns: dict[TableName, list[Column]] = defaultdict(list)
    for space, table, name, data_type, column_type, nullable in await ask(_COLUMNS):
        quoted = _DIALECT.quote(name)
        is_json = (space, table, "`" + name.replace("`", "``") + "`") in json_columns
        columns[TableName(space, table)].append(
            column_of(
                name, data_type, column_type, nullable=nullable == "YES", is_json=is_json, zone=zone, quoted=quoted
            )
        )
    keys = _keys(await ask(_KEYS))
    kinds = {TableName(space, table): kind for space, table, kind in await ask(_TABLES)}
    return [
        Table(name, tuple(columns[name]), keys.get(name, ()), is_view=kinds[name] == "VIEW")
        for name in sorted(kinds)
        if columns.get(name)
    ]


async def _check_spaces(session: Session, spaces: Sequence[str]) -> None:
    known = [str(name) for (name,) in await session.fetch(Statement(_SPACES))]
    for space in spaces:
        if space not in known:
            near = nearest(space, known)
            hint = f'; did you mean "{near}"?' if near else ""
            raise ConfigurationError(
                f'there is no database "{space}", or this user may not read anything in it{hint}', field="database"
            )


def _keys(rows: Sequence[tuple[str | None, ...]]) -> dict[TableName, tuple[Key, ...]]:
    """Returns the keys of each table, the primary one first, then those of few columns."""
    parts: dict[tuple[TableName, str], list[tuple[str | None, bool, bool]]] = defaultdict(list)
    for space, table, index, column, nullable, prefix in rows:
        parts[TableName(str(space), str(table)), str(index)].append((column, nullable == "YES", prefix is not None))
    found: dict[TableName, list[tuple[bool, int, str, Key]]] = defaultdict(list)
    for (name, index), columns in parts.items():
        names = [column for column, nullable, _ in columns if column is not None and not nullable]
        if len(names) == len(columns):  # no NULLs, and no expression in place of a column
            key = Key(tuple(names), indexed=not any(prefix for _, _, prefix in columns))
            found[name].append((index != "PRIMARY", len(names), index, key))
    return {name: tuple(key for *_, key in sorted(keys, key=lambda item: item[:3])) for name, keys in found.items()}


async def log_position(session: Session) -> list[object] | None:
    """Returns server, file and position of the binary log; None where it does not tell of every change.

    That is so where there is none or the user may not see it (REPLICATION CLIENT, in MariaDB BINLOG MONITOR), where
    the server leaves databases out, and where it takes changes from another server that it does not log.
    """
    names = "'log_bin', 'log_slave_updates', 'log_replica_updates', 'wsrep_on', 'server_id', 'port', 'hostname'"
    rows = await session.fetch(Statement(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"))
    variables = {str(name).lower(): str(value) for name, value in rows}
    if variables.get("log_bin") != "ON":
        return None
    logs_updates = "ON" in {variables.get("log_slave_updates"), variables.get("log_replica_updates")}
    if not logs_updates and (variables.get("wsrep_on") == "ON" or await _first(session, "REPLICA", "SLAVE") != []):
        return None
    status = await _first(session, "MASTER", "BINARY LOG")
    if not status or any(status[0][2:4]):
        return None
    return [variables.get("hostname"), variables.get("port"), variables.get("server_id"), *status[0][:2]]


async def _first(session: Session, *names: str) -> list[tuple[object, ...]] | None:
    """Returns what the first SHOW … STATUS that this server knows tells; None when none may be asked."""
    for name in names:
        try:
            return [tuple(row) for row in await session.fetch(Statement(f"SHOW {name} STATUS"))]
        except ConfigurationError:
            continue
    return None
