"""The data that a simulated source reads: rows that change while they are read, and the log of their changes."""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, replace
from random import Random
from typing import Any

__all__ = ["KINDS", "Database", "Row"]

#: What sync rules look at.
KINDS = ("a", "b", "c")


@dataclass(frozen=True, slots=True)
class Row:
    """One row, as it is between two changes.

    Attributes:
        rev: grows with each change of the row, also when it was deleted in between.
        text: its content; may return to what it was.
        plain: its document says nothing of `rev`, so that an old content may come back byte for byte.
        file: "" none, "vouched" with a `_timestamp`, "unknown" without.
        trouble: "" none, "refused" by the server for good, "broken" file, "unreadable" row.
    """

    rev: int
    text: int
    kind: str
    plain: bool = False
    file: str = ""
    trouble: str = ""

    def document(self, row_id: str) -> dict[str, Any]:
        """Returns the document without its file."""
        document: dict[str, Any] = {"_id": row_id, "text": self.text, "kind": self.kind}
        if not self.plain:
            document["rev"] = self.rev
        if self.file == "vouched":
            document["_timestamp"] = self.rev
        if self.trouble == "refused":
            document["refused"] = True
        return document

    def content(self) -> dict[str, Any]:
        """Returns what the download of its file brings."""
        return {"body": f"file {self.text if self.plain and self.file != 'vouched' else self.rev}"}


class Database:
    """Rows by id, in the order of the ids, and a log of which id changed when.

    Attributes:
        position: number of the last change.
        cut: changes up to this one are no longer in the log.
    """

    def __init__(self, name: str, random: Random, *, files: bool, troubles: float) -> None:
        self.name = name
        self._random = random
        self._files = files
        self._troubles = troubles
        self.rows: dict[str, Row] = {}
        self._ids: list[str] = []
        self._revs: dict[str, int] = {}
        self._log: list[str] = []
        self.cut = 0

    @property
    def position(self) -> int:
        """Number of the last change."""
        return len(self._log)

    def ids_behind(self, row_id: str, limit: int, to: str | None = None) -> list[str]:
        """Returns the ids that follow, in order, up to the last one that is wanted."""
        start = bisect_right(self._ids, row_id)
        end = len(self._ids) if to is None else bisect_right(self._ids, to)
        return self._ids[start : min(start + limit, end)]

    def changes_behind(self, position: int, limit: int) -> list[tuple[int, str]]:
        """Returns `(number, id)` of the changes that follow, in order."""
        return [(at + 1, self._log[at]) for at in range(position, min(position + limit, len(self._log)))]

    def rev(self, row_id: str) -> int:
        """Returns the last `rev` that the row had."""
        return self._revs.get(row_id, 0)

    # Changes

    def fill(self, number: int) -> None:
        """Inserts so many rows."""
        for _ in range(number):
            self.insert()

    def change(self) -> str:
        """Makes one random change and returns what it was."""
        choice = self._random.random()
        if choice < 0.3 or len(self._ids) < 3:
            return self.insert()
        row_id = self._random.choice(self._ids)
        if choice < 0.55:
            self.remove(row_id)
            return f"delete {row_id}"
        row = self.rows[row_id]
        changed = replace(row, rev=self._next(row_id), text=self._random.randrange(2 if row.plain else 100))
        if self._random.random() < 0.3:
            changed = replace(changed, kind=self._random.choice(KINDS), trouble=self._trouble(changed.file))
        self.rows[row_id] = changed
        self._note(row_id)
        return f"update {row_id} to {changed.rev}"

    def touch(self, row_id: str) -> None:
        """Changes one row, if it is there."""
        if (row := self.rows.get(row_id)) is not None:
            trouble = self._trouble(row.file)
            self.rows[row_id] = replace(row, rev=self._next(row_id), text=self._random.randrange(100), trouble=trouble)
            self._note(row_id)

    def remove(self, row_id: str) -> None:
        """Deletes one row, if it is there."""
        if self.rows.pop(row_id, None) is not None:
            self._ids.remove(row_id)
            self._note(row_id)

    def insert(self) -> str:
        """Inserts a row, perhaps one that was there before."""
        row_id = f"{self.name}{self._random.randrange(60):02}"
        while row_id in self.rows:
            row_id = f"{self.name}{self._random.randrange(400):02}"
        random = self._random
        file = random.choice(("vouched", "unknown")) if self._files and random.random() < 0.3 else ""
        self.rows[row_id] = Row(
            self._next(row_id),
            random.randrange(2),
            random.choice(KINDS),
            plain=random.random() < 0.15,
            file=file,
            trouble=self._trouble(file),
        )
        insort(self._ids, row_id)
        self._note(row_id)
        return f"insert {row_id}"

    def mend(self) -> None:
        """The owner of the data looks after some of the rows that make trouble."""
        for row_id, row in list(self.rows.items()):
            if row.trouble and self._random.random() < 0.5:
                self.rows[row_id] = replace(row, rev=self._next(row_id), trouble="")
                self._note(row_id)

    def forget_log(self) -> None:
        """Cuts the log: an incremental sync that starts before is too late."""
        self.cut = self.position

    def _trouble(self, file: str) -> str:
        if self._random.random() >= self._troubles:
            return ""
        return self._random.choice(("refused", "unreadable", "broken") if file else ("refused", "unreadable"))

    def _next(self, row_id: str) -> int:
        self._revs[row_id] = self._revs.get(row_id, 0) + 1
        return self._revs[row_id]

    def _note(self, row_id: str) -> None:
        if row_id not in self.rows:
            self._next(row_id)
        self._log.append(row_id)
