"""A backend in memory and a source that reads it well: for tests of the framework, and of the acceptance kit itself.

`Shelf` is the backend: rows, a log of what happened to them, connections that are counted and can be cut.
`ShelfDataSource` does everything that a source can do, each part in a small method of its own, so that a test breaks
one by overriding it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast
from weakref import WeakValueDictionary

from connectors.filtering.validation import AdvancedRulesValidator, SyncRuleValidationResult
from connectors.source import (
    BaseDataSource,
    Checkpoint,
    ConfigurationError,
    Document,
    IncrementalItem,
    LazyDownload,
    RetryableError,
    Skipped,
    SourceItem,
)

__all__ = ["Connection", "Event", "PartitionedShelfDataSource", "Row", "Shelf", "ShelfDataSource", "TopicsValidator"]

_DOCUMENTS: Final = 12
_TOPICS: Final = ("ships", "tides", "stars")
_SHELVES: Final[WeakValueDictionary[str, Shelf]] = WeakValueDictionary()
_names: Final = count(1)

Operation: TypeAlias = Literal["index", "delete"]


@dataclass(frozen=True, slots=True)
class Row:
    """One document of the backend; `edition` grows with each change."""

    key: int
    edition: int
    topic: str
    locked: bool = False

    @property
    def text(self) -> str:
        """The content, which a source fetches by itself."""
        return f"edition {self.edition} of a text on {self.topic}, the {self.key}th on the shelf"


class Event(NamedTuple):
    """One thing that happened: `number` grows by one from event to event."""

    number: int
    operation: Operation
    key: int


class Connection:
    """A way to a shelf; every call raises RetryableError once it was cut."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf: Shelf | None = shelf
        shelf.open.add(self)

    async def page(self, after: int, size: int) -> list[Row]:
        """Returns the rows behind a key, in order."""
        shelf = await self._reach()
        return [shelf.rows[key] for key in sorted(shelf.rows) if key > after][:size]

    async def row(self, key: int) -> Row | None:
        """Returns one row, None when it is not there."""
        return (await self._reach()).rows.get(key)

    async def events(self, after: int) -> list[Event]:
        """Returns what happened behind an event."""
        return (await self._reach()).log[after:]

    async def position(self) -> int:
        """Returns the number of the last event."""
        return len((await self._reach()).log)

    async def _reach(self) -> Shelf:
        await asyncio.sleep(0)
        if self._shelf is None or self not in self._shelf.open:
            raise RetryableError("the connection to the shelf was cut")
        return self._shelf

    def close(self) -> None:
        """Gives it back; may be called twice."""
        if self._shelf is not None:
            self._shelf.open.discard(self)
            self._shelf = None


class Shelf:
    """The backend. It fits `data` of `SourceAcceptance`, whose folder it does not need.

    Args:
        documents: number of rows in the beginning.

    Attributes:
        name: under which sources find it: the setting `shelf`.
        password: which the sources must give.
        open: connections.
    """

    def __init__(self, folder: Path | None = None, *, documents: int = _DOCUMENTS) -> None:
        del folder
        self.name = f"shelf-{next(_names)}"
        self.password = "correct-horse"  # noqa: S105 - invented
        self.rows: dict[int, Row] = {}
        self.log: list[Event] = []
        self.open: set[Connection] = set()
        self._turn = count()
        _SHELVES[self.name] = self
        for key in range(1, documents + 1):
            self._put(Row(key, 1, _TOPICS[key % len(_TOPICS)]))

    @staticmethod
    def find(name: str) -> Shelf:
        """Returns the shelf of that name; raises ConfigurationError."""
        if name not in _SHELVES:
            raise ConfigurationError(f'there is no shelf "{name}"; write the name of one', field="shelf")
        return _SHELVES[name]

    # What the acceptance kit calls

    def add(self) -> str:
        """Adds a row."""
        return self._put(Row(max(self.rows, default=0) + 1, 1, _TOPICS[0]))

    def change(self) -> str:
        """Changes a row: the first one, the last one, and so on in turn."""
        keys = sorted(self.rows)
        row = self.rows[keys[-(next(self._turn) % 2)]]
        return self._put(replace(row, edition=row.edition + 1))

    def delete(self) -> str:
        """Deletes the second row."""
        key = sorted(self.rows)[1]
        del self.rows[key]
        self.log.append(Event(len(self.log) + 1, "delete", key))
        return str(key)

    def spoil(self) -> str:
        """Locks the third row: it is listed, and may not be read."""
        return self._put(replace(self.rows[sorted(self.rows)[2]], locked=True))

    def cut(self) -> None:
        """Cuts all connections."""
        self.open.clear()

    def connections(self) -> int:
        """Returns the number of open connections."""
        return len(self.open)

    def _put(self, row: Row) -> str:
        self.rows[row.key] = row
        self.log.append(Event(len(self.log) + 1, "index", row.key))
        return str(row.key)


class TopicsValidator(AdvancedRulesValidator):
    """Advanced rules are a list of topics."""

    def validate(self, advanced_rules: Any) -> Sequence[SyncRuleValidationResult]:
        """Returns one result for what is wrong; none when all is well."""
        if isinstance(advanced_rules, list) and all(
            isinstance(topic, str) and topic in _TOPICS for topic in advanced_rules
        ):
            return []
        message = f"write a list of topics, such as {list(_TOPICS[:2])}; there are {', '.join(_TOPICS)}"
        return [
            SyncRuleValidationResult(
                SyncRuleValidationResult.ADVANCED_RULES, is_valid=False, validation_message=message
            )
        ]


class ShelfDataSource(BaseDataSource):
    """Reads a shelf: page by page, with downloads, checkpoints, incremental reading, `changed()` and advanced rules."""

    name = "Shelf"
    service_type = "shelf"
    advanced_rules_enabled = True
    incremental_sync_enabled = True
    resumable = True

    _connection: Connection | None = None
    _cursor: int | None = None
    _read: int | None = None

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        """Returns the fields `shelf`, `password` and `page_size`."""
        return {
            "shelf": {"label": "Name of the shelf", "type": "str", "value": ""},
            "password": {"label": "Password", "type": "str", "value": "", "sensitive": True},
            "page_size": {
                "label": "Documents a page",
                "type": "int",
                "value": 3,
                "validations": [{"type": "greater_than", "constraint": 0}],
            },
        }

    # Life

    async def ping(self) -> None:
        """Reaches the shelf."""
        await (await self._reach()).position()

    async def close(self) -> None:
        """Gives the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def connect(self) -> Connection:
        """Opens a connection; raises ConfigurationError for a wrong password or name."""
        shelf = Shelf.find(self.configuration["shelf"])
        if self.configuration["password"] != shelf.password:
            raise ConfigurationError("the shelf refuses this password; write another one", field="password")
        return Connection(shelf)

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Opens a connection for one reading."""
        connection = self.connect()
        try:
            yield connection
        finally:
            connection.close()

    async def _reach(self) -> Connection:
        """Returns the connection for single questions, which is opened once, and anew when it was cut."""
        if self._connection is not None:
            try:
                await self._connection.position()
            except RetryableError:
                await self.close()
        if self._connection is None:
            self._connection = self.connect()
        return self._connection

    # Reading

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[SourceItem]:
        """Yields the rows in the order of their keys, with a checkpoint after each page."""
        self._read = None
        topics = filtering.get_advanced_rules() if filtering is not None else ()
        with self.connected() as connection:
            start, last = checkpoint or (await self.first_position(connection), 0)
            while page := await connection.page(last, self.configuration["page_size"]):
                for row in page:
                    if not topics or row.topic in topics:
                        yield self.item(row)
                last = page[-1].key
                yield Checkpoint(self.state(start, last))
            self._cursor = await self.last_position(connection, start)
        self._read = start if checkpoint is None else None

    async def get_docs_incrementally(self, sync_cursor: Any, filtering: Any = None) -> AsyncIterator[IncrementalItem]:
        """Yields the rows of all events behind the cursor as they are now, with a checkpoint after each."""
        topics = filtering.get_advanced_rules() if filtering is not None else ()
        with self.connected() as connection:
            self._cursor = sync_cursor
            for number, _, key in await connection.events(sync_cursor):
                row = await connection.row(key)
                if row is None:
                    yield {"_id": str(key)}, None, "delete"
                elif not topics or row.topic in topics:
                    item = self.item(row)
                    if isinstance(item, tuple):
                        yield *item, "index"
                    else:
                        yield item
                self._cursor = number
                yield Checkpoint(number)

    def item(self, row: Row) -> SourceItem:
        """Returns what is yielded for a row."""
        if row.locked:
            return Skipped(f"the text {row.key} is locked: unlock it", _id=str(row.key))
        return self.document(row), self.download(row)

    def document(self, row: Row) -> Document:
        """Returns the document of a row, without its text."""
        return {"_id": str(row.key), "_timestamp": row.edition, "title": f"Text {row.key}", "topic": row.topic}

    def download(self, row: Row) -> LazyDownload | None:
        """Returns the download of a row's text."""
        return partial(self.fetch, row.key)

    async def fetch(self, key: int, *, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any] | None:
        """Returns the text of a row as it is now."""
        del timestamp
        if not doit:
            return None
        row = await (await self._reach()).row(key)
        return None if row is None else {"body": row.text}

    # Positions

    def state(self, start: int, last: int) -> Any:
        """Returns what a checkpoint holds: where the reading began in the log, and the last key."""
        return [start, last]

    async def first_position(self, connection: Connection) -> int:
        """Returns where the log is before the first read."""
        return await connection.position()

    async def last_position(self, connection: Connection, start: int) -> int | None:
        """Returns the cursor of a full reading."""
        del connection
        return start

    def sync_cursor(self) -> int | None:
        """Returns where the next incremental reading starts."""
        return self._cursor

    async def changed(self) -> bool:
        """Whether anything happened since the last whole reading began."""
        return self._read is None or await (await self._reach()).position() != self._read

    # Rules

    def advanced_rules_validators(self) -> Sequence[Any]:
        """Returns the validator of topics."""
        return [TopicsValidator()]


class PartitionedShelfDataSource(ShelfDataSource):
    """Can be read by several processes: the keys in ranges, of which the last one has no end."""

    partitioned = True

    async def partitions(self, filtering: Any = None) -> Sequence[Any]:  # noqa: ARG002 - of any rules the keys are the same
        """Returns three ranges, and fixes the position."""
        connection = await self._reach()
        self._cursor = await self.first_position(connection)
        keys = [row.key for row in await connection.page(0, 1_000_000)]
        cuts = [0, keys[len(keys) // 3], keys[2 * len(keys) // 3], None]
        return [list(limits) for limits in pairwise(cuts)]

    async def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncIterator[SourceItem]:
        """Yields all rows, or those of a range, in the order of their keys."""
        if partition is None:
            async with aclosing(cast("Any", super().get_docs(filtering, checkpoint=checkpoint))) as items:
                async for item in items:
                    yield item
            return
        topics = filtering.get_advanced_rules() if filtering is not None else ()
        last, end = partition[0] if checkpoint is None else checkpoint, partition[1]
        with self.connected() as connection:
            while page := await connection.page(last, self.configuration["page_size"]):
                for row in page:
                    if end is not None and row.key > end:
                        return
                    if not topics or row.topic in topics:
                        yield self.item(row)
                last = page[-1].key
                yield Checkpoint(last)
