"""What the server's catalogue says of types and tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from connectors.sources.postgresql.dialect import parameter
from connectors.sources.postgresql.link import Link
from connectors.sources.postgresql.values import BUILT_IN, TypeInfo, array_of, range_of, ranges_of
from connectors.sources.relational import Column, Key, Table, TableName

__all__ = ["Types", "read_tables"]

#: Of PostgreSQL 14; servers before it have no multiranges.
_MULTIRANGES: Final = 140000
_TYPES: Final = """
SELECT t.oid, format_type(t.oid, NULL), t.typtype, t.typcategory, t.typbasetype, t.typelem,
  (SELECT e.typdelim FROM pg_type e WHERE e.oid = t.typelem), r.rngsubtype
FROM pg_type t LEFT JOIN pg_range r ON r.rngtypid = t.oid{multiranges} WHERE t.oid = ANY ({oids}::oid[])
"""
_COLUMNS: Final = """
SELECT n.nspname, c.relname, c.relkind, a.attname, a.atttypid, a.attnotnull
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE n.nspname = ANY ({schemas}::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
ORDER BY n.nspname, c.relname, a.attnum
"""
# Only indexes that cover every row, are checked at once and have no NULLs; the primary key first, then the shortest.
_KEYS: Final = """
SELECT n.nspname, c.relname, i.indexrelid, a.attname
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, place)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
WHERE n.nspname = ANY ({schemas}::text[]) AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND i.indexprs IS NULL AND k.place <= i.indnkeyatts
  AND NOT EXISTS (
    SELECT FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS o (attnum, place)
    JOIN pg_attribute b ON b.attrelid = c.oid AND b.attnum = o.attnum
    WHERE o.place <= i.indnkeyatts AND NOT b.attnotnull)
ORDER BY n.nspname, c.relname, NOT i.indisprimary, i.indnkeyatts, i.indexrelid, k.place
"""
_UNKNOWN: Final = TypeInfo("unknown")
#: Types whose order is the server's and whose text can be sent back: enumerations, and those of extensions alike.
_PAGEABLE_CATEGORIES: Final = frozenset("BDEINSTV")
_ARRAY: Final = "A"


class Types:
    """The types of one database, looked up once."""

    def __init__(self) -> None:
        self._known: dict[int, TypeInfo] = dict(BUILT_IN)

    def get(self, oid: int) -> TypeInfo:
        """Returns a type that `load` was asked for."""
        return self._known.get(oid, _UNKNOWN)

    async def load(self, link: Link, oids: Iterable[int]) -> None:
        """Looks up the types that are not known yet, and those that they are made of."""
        found: dict[int, Sequence[str | None]] = {}
        wanted = {oid for oid in oids if oid not in self._known}
        multiranges = " OR r.rngmultitypid = t.oid" if link.server_version >= _MULTIRANGES else ""
        sql = _TYPES.format(multiranges=multiranges, oids=parameter(1))
        while wanted:
            rows = await link.fetch(sql, [_array(wanted)])
            found |= {int(row[0] or 0): row for row in rows}
            parts = {int(oid) for row in rows for oid in (row[4], row[5], row[7]) if oid not in {None, "0"}}
            wanted = {oid for oid in parts if oid not in self._known and oid not in found}
        for oid in found:
            self._known[oid] = self._build(oid, found)

    def _build(self, oid: int, found: dict[int, Sequence[str | None]]) -> TypeInfo:
        if oid in self._known:
            return self._known[oid]
        if oid not in found:
            return _UNKNOWN
        _, name, kind, category, base, element, delimiter, subtype = found[oid]
        name = name or ""
        if kind == "d":  # a domain
            whole = self._build(int(base or 0), found)
            return TypeInfo(name, whole.convert, whole.growth, whole.pageable)
        if category == _ARRAY and element not in {None, "0"}:
            return TypeInfo(name, array_of(self._build(int(element or 0), found).convert, delimiter or ","))
        if subtype is not None and kind in {"r", "m"}:
            part = self._build(int(subtype), found).convert
            return TypeInfo(name, range_of(part) if kind == "r" else ranges_of(part))
        return TypeInfo(name, pageable=kind in {"b", "e"} and category in _PAGEABLE_CATEGORIES)


async def read_tables(link: Link, types: Types, schemas: Sequence[str]) -> list[Table]:
    """Returns the tables, views, materialised views and foreign tables of the schemas, with their keys.

    Partitions are not among them, since their rows are those of the partitioned table. A table that the user may not
    read is: that it cannot be read must not look as if it were gone.
    """
    names = _array(schemas)
    columns = await link.fetch(_COLUMNS.format(schemas=parameter(1)), [names])
    keys = await link.fetch(_KEYS.format(schemas=parameter(1)), [names])
    await types.load(link, {int(row[4]) for row in columns if row[4] is not None})
    indexes: dict[TableName, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for schema, table, index, column in keys:
        indexes[TableName(schema or "", table or "")][index or ""].append(column or "")
    found: dict[TableName, tuple[str, list[Column]]] = {}
    for schema, table, kind, column, oid, not_null in columns:
        _, own = found.setdefault(TableName(schema or "", table or ""), (kind or "", []))
        if column is not None and oid is not None:
            own.append(_column(column, types.get(int(oid)), nullable=not_null != "t"))
    return [
        Table(
            name,
            tuple(own),
            tuple(Key(tuple(parts)) for parts in indexes[name].values()) if name in indexes else (),
            is_view=kind in {"v", "m", "f"},
        )
        for name, (kind, own) in found.items()
        if own
    ]


def _column(name: str, info: TypeInfo, *, nullable: bool) -> Column:
    return Column(name, info.name, nullable, info.growth, info.pageable, convert=info.convert)


def _array(values: Iterable[object]) -> str:
    """Returns an array as the server reads it."""
    parts = (str(value).replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{part}"' for part in parts) + "}"
