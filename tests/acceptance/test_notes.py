"""The example sources keep the contract."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from connectors.testing.acceptance import SourceAcceptance


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """Makes the modules of a folder importable within the block, as PYTHONPATH does."""
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in ("notes", "recent_notes"):
            if name not in before:
                sys.modules.pop(name, None)


with importable(Path(__file__).parents[2] / "examples/sources"):
    from notes import NotesDataSource
    from recent_notes import RecentNotesDataSource


class Notebook:
    """A file with seven notes, of which the third is locked; each change comes a minute after the one before."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "notes.db"
        self.minutes = count()
        self.write("CREATE TABLE notes (id INTEGER PRIMARY KEY, changed TEXT, title TEXT, text TEXT, locked INT)")
        for number in range(1, 8):
            self.insert(number, locked=number == 3)

    def add(self) -> str:
        return self.insert(8 + next(self.minutes))

    def change(self) -> str:
        changed = self.now()
        self.write("UPDATE notes SET text = ?, changed = ? WHERE id = 1", f"meadow at {changed}", changed)
        return "1"

    def delete(self) -> str:
        self.write("DELETE FROM notes WHERE id = 2")
        return "2"

    def spoil(self) -> str:
        self.write("UPDATE notes SET locked = 1 WHERE id = 5")
        return "5"

    def insert(self, number: int, *, locked: bool = False) -> str:
        values = number, self.now(), f"Note {number}", f"lantern{number}", locked
        self.write("INSERT INTO notes VALUES (?, ?, ?, ?, ?)", *values)
        return str(number)

    def now(self) -> str:
        return f"{datetime(2026, 5, 1, tzinfo=UTC) + timedelta(minutes=next(self.minutes)):%Y-%m-%d %H:%M:%S}"

    def write(self, statement: str, *values: Any) -> None:
        with closing(sqlite3.connect(self.file)) as database, database:
            database.execute(statement, values)


class TestNotes(SourceAcceptance):
    source_class = NotesDataSource
    configuration: ClassVar = {"file": "notes.db", "page_size": 2}
    data = Notebook
    wrong_configuration: ClassVar = {"file": "missing.db"}
    exempt: ClassVar = {"test_a_cut_connection_is_told": "each query opens the file anew"}


class TestRecentNotes(TestNotes):
    source_class = RecentNotesDataSource
