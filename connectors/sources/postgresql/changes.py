"""From what the log says to the rows that have to be read again.

The log says *which* rows changed; what they are now is read from the table, by their keys. So a document is the same
whichever way it came: large values that the log leaves out when they did not change are there, and generated columns;
a row that changed ten times is read once; and an old state never lands over a newer one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from connectors.sources.postgresql.dialect import parameter
from connectors.sources.postgresql.faults import FullSyncNeededError
from connectors.sources.postgresql.pgoutput import UNCHANGED, Begin, Change, Commit, Message, Relation, Truncate, Values
from connectors.sources.relational import Statement
from connectors.sources.relational.selection import Work

__all__ = ["Changes", "KeyValues", "by_keys"]

#: The key of one row, as text.
KeyValues: TypeAlias = "tuple[str, ...]"


@dataclass(slots=True)
class Changes:
    """Rows that changed, gathered while the log is read.

    Attributes:
        works: the tables that are followed, by their number.
        rows: the keys of the rows that changed since `take`, by the number of their table.
        xids: the transactions that changed them.
        pending: the number of those rows.
        done: the end of the last transaction that was read whole, 0 before the first one.
    """

    works: Mapping[int, Work]
    rows: dict[int, dict[KeyValues, None]] = field(default_factory=dict)
    xids: set[int] = field(default_factory=set)
    pending: int = 0
    done: int = 0
    _indexes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    _xid: int = 0

    def take(self) -> dict[int, list[KeyValues]]:
        """Returns the rows, and forgets them."""
        taken = {oid: list(keys) for oid, keys in self.rows.items()}
        self.rows.clear()
        self.xids.clear()
        self.pending = 0
        return taken

    def add(self, message: Message) -> None:
        """Takes in a message of the log.

        Raises:
            FullSyncNeededError: it says something after which single rows are not known any more.
        """
        if isinstance(message, Change):
            self._change(message)
        elif isinstance(message, Begin):
            self._xid = message.xid
        elif isinstance(message, Commit):
            self.done = message.end_lsn
        elif isinstance(message, Relation):
            self._relation(message)
        else:
            self._truncate(message)

    def _relation(self, relation: Relation) -> None:
        """Learns where the key stands among the columns, which may be others since the last time."""
        work = self.works.get(relation.oid)
        if work is None:
            return
        places = {column.name: place for place, column in enumerate(relation.columns)}
        known = {column.name for column in relation.columns if column.in_key}
        if not set(work.key) <= (places.keys() if relation.identity == "f" else known):
            raise FullSyncNeededError(
                f"{work.title} is not identified by {', '.join(work.key)} in the log, as its definition was changed"
            )
        self._indexes[relation.oid] = tuple(places[name] for name in work.key)

    def _change(self, change: Change) -> None:
        indexes = self._indexes.get(change.relation)
        if indexes is None:
            return  # a table that is not synced
        rows = self.rows.setdefault(change.relation, {})
        before = len(rows)
        self.xids.add(self._xid)
        if change.old is not None:
            rows[self._key(indexes, change, change.old, change.old)] = None
        if change.new is not None:
            rows[self._key(indexes, change, change.new, change.old)] = None
        self.pending += len(rows) - before

    def _key(self, indexes: Sequence[int], change: Change, row: Values, old: Values | None) -> KeyValues:
        key = []
        for index in indexes:
            value = row[index]
            if value is UNCHANGED and old is not None:
                value = old[index]
            if not isinstance(value, str):
                work = self.works[change.relation]
                raise FullSyncNeededError(f"the log does not have the key of a row of {work.title} that changed")
            key.append(value)
        return tuple(key)

    def _truncate(self, message: Truncate) -> None:
        for oid in message.relations:
            work = self.works.get(oid)
            if work is not None:
                raise FullSyncNeededError(f"{work.title} was emptied by TRUNCATE, which names no rows")


def by_keys(select: str, quoted_key: Sequence[str], keys: Sequence[KeyValues]) -> Statement:
    """Returns the statement that reads the rows with these keys.

    Args:
        select: the statement that reads all rows.
        quoted_key: the key's columns, as SQL.
    """
    width = len(quoted_key)
    values = tuple(value for key in keys for value in key)
    marks = [parameter(number) for number in range(1, len(values) + 1)]
    if width == 1:
        return Statement(f"{select} WHERE {quoted_key[0]} IN ({', '.join(marks)})", values)
    tuples = (f"({', '.join(marks[at : at + width])})" for at in range(0, len(marks), width))
    return Statement(f"{select} WHERE ({', '.join(quoted_key)}) IN ({', '.join(tuples)})", values)
