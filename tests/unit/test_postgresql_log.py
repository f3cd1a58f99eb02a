"""Decoding of the log, and what is made of it, without a server."""

from __future__ import annotations

import struct

import pytest

from connectors.errors import SyncError
from connectors.sources.postgresql.changes import Changes, by_keys
from connectors.sources.postgresql.dialect import MARK
from connectors.sources.postgresql.faults import FullSyncNeededError
from connectors.sources.postgresql.log import unfinished
from connectors.sources.postgresql.pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Relation,
    RelationColumn,
    Truncate,
    decode,
    format_lsn,
    parse_lsn,
)
from connectors.sources.relational.selection import Work


def _text(value: str) -> bytes:
    return value.encode() + b"\0"


def _row(*values: str | bytes | None) -> bytes:
    """Builds a row; bytes are the kind of a value that has none."""
    data = struct.pack("!H", len(values))
    for value in values:
        if value is None:
            data += b"n"
        elif isinstance(value, bytes):
            data += value
        else:
            data += b"t" + struct.pack("!I", len(value.encode())) + value.encode()
    return data


def _oid(oid: int = 7) -> bytes:
    return struct.pack("!I", oid)


RELATION = (
    b"R" + _oid() + _text("public") + _text("nötes") + b"d" + struct.pack("!H", 2)
    + b"\1" + _text("id") + struct.pack("!Ii", 23, -1) + b"\0" + _text("text") + struct.pack("!Ii", 25, -1)
)  # fmt: skip


def test_every_message() -> None:
    assert decode(b"B" + struct.pack("!QqI", 0x16B374D848, 5, 99)) == Begin(0x16B374D848, 99)
    assert decode(b"C" + struct.pack("!BQQq", 0, 1, 2, 3)) == Commit(1, 2)
    columns = (RelationColumn("id", 23, True), RelationColumn("text", 25, False))
    assert decode(RELATION) == Relation(7, "public", "nötes", "d", columns)
    assert decode(b"I" + _oid() + b"N" + _row("1", "ü")) == Change("insert", 7, None, ["1", "ü"])
    update = decode(b"U" + _oid() + b"K" + _row("1", None) + b"N" + _row("2", b"u"))
    assert update == Change("update", 7, ["1", None], ["2", UNCHANGED])
    assert decode(b"U" + _oid() + b"N" + _row("2", "")) == Change("update", 7, None, ["2", ""])
    assert decode(b"D" + _oid() + b"O" + _row("1", "x")) == Change("delete", 7, ["1", "x"], None)
    assert decode(b"T" + struct.pack("!IB2I", 2, 0, 7, 8)) == Truncate((7, 8))
    assert decode(b"O" + bytes(20)) is None
    assert decode(b"Y" + bytes(20)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"S\0",
        b"B\0",
        RELATION[:-3],
        b"I" + _oid() + b"N" + _row("1", "long")[:-2],
        b"I" + _oid() + b"N" + _row(b"b"),
        b"I" + _oid() + b"X" + _row("1"),
        b"I" + _oid(),
        b"D" + _oid() + b"N" + _row("1"),
    ],
)
def test_what_is_no_message_is_an_error(data: bytes) -> None:
    with pytest.raises(SyncError, match="the server's log has a message"):
        decode(data)


def test_positions() -> None:
    assert parse_lsn("16/B374D848") == 0x16B374D848
    assert format_lsn(0x16B374D848) == "16/B374D848"


def test_a_commit_that_is_not_visible_yet_is_waited_for() -> None:
    assert not unfinished({10, 11}, "12:12:")
    assert unfinished({11}, "11:13:11")
    assert not unfinished({12}, "11:13:11")
    assert unfinished({13}, "11:13:11")  # it began after the last one that ended
    epoch = 1 << 32
    assert unfinished({5}, f"{epoch + 5}:{epoch + 9}:{epoch + 5},{epoch + 7}")
    assert not unfinished({4}, f"{epoch + 5}:{epoch + 9}:{epoch + 5}")
    assert not unfinished({epoch - 1}, f"{epoch + 5}:{epoch + 9}:")  # before the numbers began anew


def _changes(*key: str) -> Changes:
    work = Work("public.notes", "the table public.notes", "public.notes", {}, key or ("id",), "public")
    changes = Changes({7: work})
    changes.add(Begin(50, 3))
    return changes


COLUMNS = (RelationColumn("text", 25, False), RelationColumn("id", 23, True))
NOTES = Relation(7, "public", "notes", "d", COLUMNS)


def test_rows_are_known_by_their_keys() -> None:
    changes = _changes()
    changes.add(NOTES)
    changes.add(Change("insert", 7, None, ["x", "1"]))
    changes.add(Change("update", 7, None, [UNCHANGED, "1"]))
    changes.add(Change("update", 7, [None, "2"], [UNCHANGED, "3"]))
    changes.add(Change("delete", 7, [None, "4"], None))
    changes.add(Commit(50, 60))
    assert changes.pending == 4
    assert (changes.done, changes.xids) == (60, {3})
    assert changes.take() == {7: [("1",), ("2",), ("3",), ("4",)]}
    assert (changes.pending, changes.xids) == (0, set())
    changes.add(Relation(7, "public", "notes", "d", COLUMNS[::-1]))  # its columns may stand elsewhere from now on
    changes.add(Change("insert", 7, None, ["5", "x"]))
    assert changes.take() == {7: [("5",)]}


def test_a_large_key_that_did_not_change_is_that_of_the_old_row() -> None:
    changes = _changes()
    changes.add(NOTES)
    changes.add(Change("update", 7, [None, "1"], ["x", UNCHANGED]))
    assert changes.take() == {7: [("1",)]}
    with pytest.raises(FullSyncNeededError, match="does not have the key"):
        changes.add(Change("update", 7, None, ["x", UNCHANGED]))


def test_other_tables_are_passed_over() -> None:
    changes = _changes()
    changes.add(Relation(8, "public", "other", "d", COLUMNS))
    changes.add(Change("insert", 8, None, ["x", "1"]))
    changes.add(Truncate((8,)))
    assert changes.take() == {}


def test_what_leaves_no_rows_to_read_needs_a_full_sync() -> None:
    changes = _changes()
    changes.add(NOTES)
    with pytest.raises(FullSyncNeededError, match="TRUNCATE"):
        changes.add(Truncate((8, 7)))
    with pytest.raises(FullSyncNeededError, match="definition was changed"):
        _changes("text").add(NOTES)
    with pytest.raises(FullSyncNeededError):
        _changes("gone").add(Relation(7, "public", "notes", "f", COLUMNS))
    _changes("text").add(Relation(7, "public", "notes", "f", COLUMNS))  # the log has whole rows


def test_rows_are_read_by_their_keys() -> None:
    one = by_keys("SELECT * FROM t", ['"id"'], [("1",), ("2",)])
    assert MARK.sub(r"$\1", one.sql) == 'SELECT * FROM t WHERE "id" IN ($1, $2)'
    assert one.parameters == ("1", "2")
    two = by_keys("SELECT * FROM t", ['"a"', '"b"'], [("1", "x"), ("2", "y")])
    assert MARK.sub(r"$\1", two.sql) == 'SELECT * FROM t WHERE ("a", "b") IN (($1, $2), ($3, $4))'
    assert two.parameters == ("1", "x", "2", "y")
