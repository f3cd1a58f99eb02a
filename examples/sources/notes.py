"""Notes in a SQLite file: an example of a source."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from typing import Any

from connectors.source import (
    BaseDataSource,
    Checkpoint,
    ConfigurationError,
    Filter,
    RetryableError,
    SkippableError,
    Skipped,
    SourceItem,
)

__all__ = ["NotesDataSource"]

PAGE = "SELECT id, changed, title, locked FROM notes WHERE id > ? ORDER BY id LIMIT ?"


class NotesDataSource(BaseDataSource):
    """Reads the table `notes (id, changed, title, text, locked)`."""

    name = "Notes"
    service_type = "notes"
    resumable = True

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        """Returns the fields `file` and `page_size`."""
        return {
            "file": {"label": "SQLite file", "type": "str", "value": ""},
            "page_size": {
                "label": "Notes a query",
                "type": "int",
                "value": 500,
                "validations": [{"type": "greater_than", "constraint": 0}],
            },
        }

    async def ping(self) -> None:
        """Reaches the table."""
        await self._query(PAGE, 0, 1)

    async def get_docs(
        self,
        filtering: Filter | None = None,  # noqa: ARG002 - advanced rules, of which this source has none
        *,
        checkpoint: Any = None,
    ) -> AsyncIterator[SourceItem]:
        """Yields the notes in the order of their ids, with a checkpoint after each page."""
        last = checkpoint or 0
        while page := await self._query(PAGE, last, self.configuration["page_size"]):
            for note in page:
                yield self._item(note)
            last = page[-1]["id"]
            yield Checkpoint(last)

    def _item(self, note: sqlite3.Row) -> SourceItem:
        if note["locked"]:
            return Skipped(f'the note "{note["title"]}" is locked: unlock it', _id=str(note["id"]))
        document = {"_id": str(note["id"]), "_timestamp": note["changed"], "title": note["title"]}
        return document, partial(self._text, note["id"])

    async def _text(self, note: int, *, doit: bool = True, **_: Any) -> dict[str, Any] | None:
        if not doit:  # the note is unchanged, and we hold nothing for it that would have to be released
            return None
        rows = await self._query("SELECT text AS body FROM notes WHERE id = ?", note)
        if not rows:
            raise SkippableError(f"the note {note} was deleted while it was read; the next sync settles it")
        return dict(rows[0])

    async def _query(self, statement: str, *values: Any) -> list[sqlite3.Row]:
        return await asyncio.to_thread(self._read, statement, values)

    def _read(self, statement: str, values: tuple[Any, ...]) -> list[sqlite3.Row]:
        file = self.framework_config.base_dir / self.configuration["file"]
        try:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
                database.row_factory = sqlite3.Row
                return database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise RetryableError(f"{file} is locked by another program") from error
            raise ConfigurationError(f"{file}: {error}; name a file with notes", field="file") from error
