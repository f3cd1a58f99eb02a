"""Decodes what the server's `pgoutput` plugin says of changes (protocol version 1, values as text).

The messages come in transactions, in the order of their commits: `Begin`, changes, `Commit`. A `Relation` precedes the
first change of a table, and comes again when the table's definition has changed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from connectors.errors import SyncError

__all__ = [
    "UNCHANGED", "Begin", "Change", "Commit", "Message", "Relation", "RelationColumn", "Truncate", "Unchanged",
    "Values", "decode", "format_lsn", "parse_lsn",
]  # fmt: skip


class Unchanged:
    """Stands for a large value that was stored outside of its row and did not change: it is not in the log."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()
#: The values of one row, in the order of the relation's columns. None is NULL.
Values: TypeAlias = Sequence["str | Unchanged | None"]


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction that was committed; `lsn` is where its commit stands, `xid` its number (32 bits)."""

    lsn: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Its end: a reader that goes on at `end_lsn` does not meet it again."""

    lsn: int
    end_lsn: int


class RelationColumn(NamedTuple):
    """A column: `in_key` says that the log holds its value for rows that were deleted or got another key."""

    name: str
    type_oid: int
    in_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as it was when it was changed; `identity` is its REPLICA IDENTITY: d, n, f or i."""

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One row's change.

    Attributes:
        old: what the log holds of the row before: its key, or all of it with REPLICA IDENTITY FULL. None in an insert,
            and in an update that left the key alone. What is not in the key is None there, whatever it was.
        new: the row after; None in a delete.
    """

    kind: Literal["insert", "update", "delete"]
    relation: int
    old: Values | None
    new: Values | None


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows of these tables are gone."""

    relations: tuple[int, ...]


Message: TypeAlias = Begin | Commit | Relation | Change | Truncate

_BEGIN: Final = struct.Struct("!QqI")
_COMMIT: Final = struct.Struct("!BQQq")
_OID: Final = struct.Struct("!I")
_SHORT: Final = struct.Struct("!H")
_LENGTH: Final = struct.Struct("!I")
_COLUMN_TYPE: Final = struct.Struct("!Ii")
_TRUNCATE: Final = struct.Struct("!IB")


def parse_lsn(text: str) -> int:
    """Returns a position in the log, such as `16/B374D848`, as a number. Raises ValueError."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def format_lsn(lsn: int) -> str:
    """Returns it as the server writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def decode(data: bytes) -> Message | None:
    """Returns one message; None for one that says nothing of rows (an origin, a type, a logical message).

    Raises:
        SyncError: it is not of protocol version 1, or it is cut short.
    """
    kind = data[:1]
    try:
        if kind in {b"I", b"U", b"D"}:
            return _change(kind, data)
        if kind == b"B":
            lsn, _, xid = _BEGIN.unpack_from(data, 1)
            return Begin(lsn, xid)
        if kind == b"C":
            _, lsn, end_lsn, _ = _COMMIT.unpack_from(data, 1)
            return Commit(lsn, end_lsn)
        if kind == b"R":
            return _relation(data)
        if kind == b"T":
            number, _ = _TRUNCATE.unpack_from(data, 1)
            return Truncate(struct.unpack_from(f"!{number}I", data, 6))
    except (struct.error, UnicodeDecodeError, IndexError, ValueError) as error:
        raise SyncError(f"the server's log has a message that cannot be read: {kind!r}, {error}") from None
    if kind in {b"O", b"Y", b"M"}:
        return None
    raise SyncError(f"the server's log has a message of a kind that is not known: {kind!r}")


def _relation(data: bytes) -> Relation:
    (oid,) = _OID.unpack_from(data, 1)
    schema, at = _text(data, 5)
    name, at = _text(data, at)
    identity = chr(data[at])
    (number,) = _SHORT.unpack_from(data, at + 1)
    at += 3
    columns = []
    for _ in range(number):
        in_key = bool(data[at] & 1)
        column, at = _text(data, at + 1)
        type_oid, _ = _COLUMN_TYPE.unpack_from(data, at)
        at += 8
        columns.append(RelationColumn(column, type_oid, in_key))
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def _change(kind: bytes, data: bytes) -> Change:
    (oid,) = _OID.unpack_from(data, 1)
    old: Values | None = None
    new: Values | None = None
    at = 5
    while at < len(data):
        part = data[at : at + 1]
        values, at = _values(data, at + 1)
        if part == b"N":
            new = values
        elif part in {b"K", b"O"}:
            old = values
        else:
            raise ValueError(f"a row of the kind {part!r}")
    if (kind == b"D") == (new is not None) or (kind == b"D" and old is None):
        raise ValueError("the row is missing")
    name: Literal["insert", "update", "delete"] = "insert" if kind == b"I" else "update" if kind == b"U" else "delete"
    return Change(name, oid, old, new)


def _values(data: bytes, at: int) -> tuple[Values, int]:
    (number,) = _SHORT.unpack_from(data, at)
    at += 2
    values: list[str | Unchanged | None] = []
    for _ in range(number):
        kind = data[at]
        at += 1
        if kind == 0x74:  # t: text
            (length,) = _LENGTH.unpack_from(data, at)
            at += 4
            if at + length > len(data):
                raise ValueError("a value is cut short")
            values.append(data[at : at + length].decode())
            at += length
        elif kind == 0x6E:  # n: NULL
            values.append(None)
        elif kind == 0x75:  # u
            values.append(UNCHANGED)
        else:
            raise ValueError(f"a value of the kind {chr(kind)!r}")
    return values, at


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode(), end + 1
