"""Large tables in ranges of their key, so that several processes can read them at the same time.

The ranges are bounded by keys of rows, found by counting along the index, whatever the key is made of. The first range
has no beginning and the last one no end, so that every row belongs to one of them, also one that is yet to be written.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any, Final

from connectors.source import Checkpoint, Skipped, SourceItem
from connectors.sources.relational import statements
from connectors.sources.relational.dialect import Dialect, SlowQueryError, TableGoneError
from connectors.sources.relational.reader import Reader
from connectors.sources.relational.selection import Unread, Work
from connectors.sources.relational.values import decode_values, encode_values

__all__ = ["PARTITION_ROWS", "Splitter"]

PARTITION_ROWS: Final = 50_000
#: Ranges of one table, at most: a larger table has longer ones.
_MOST: Final = 64


class Splitter:
    """Divides the tables of one source, and reads a part.

    Args:
        rows: of a range, at least.
    """

    def __init__(self, dialect: Dialect, reader: Reader, rows: int) -> None:
        self._dialect = dialect
        self._reader = reader
        self._rows = rows

    async def ranges(self, works: Iterable[Work | Unread]) -> dict[str, list[Sequence[Any]]]:
        """Returns label → the keys that bound the ranges, in order, of tables that are worth dividing."""
        found: dict[str, list[Sequence[Any]]] = {}
        for work in works:
            if isinstance(work, Work) and work.table is not None and work.paged and work.strict and work.indexed:
                with suppress(TableGoneError):  # reading it says so
                    bounds = await self._bounds(work)
                    if bounds:
                        found[work.label] = bounds
        return found

    async def _bounds(self, work: Work) -> list[Sequence[Any]]:
        """Returns the key of each row that ends a range, but for the last range."""
        assert work.table is not None  # noqa: S101 - for mypy; the caller has looked
        columns = tuple(column for column in work.table.columns if column.name in work.key)
        narrow = replace(work, table=replace(work.table, columns=columns))
        bounds: list[Sequence[Any]] = []
        rows, last = self._rows, None
        with suppress(SlowQueryError):  # with those that were found, then
            while (last := await self._key_at(narrow, last, rows - 1)) is not None:
                bounds.append(last)
                if len(bounds) == _MOST:
                    bounds, rows = bounds[1::2], 2 * rows
        return bounds

    async def _key_at(self, work: Work, after: Sequence[Any] | None, offset: int) -> Sequence[Any] | None:
        """Returns the key of the row so many rows behind the one that follows `after`; None where there is none."""
        assert work.table is not None  # noqa: S101 - for mypy
        statement = statements.page(self._dialect, work.table, work.key, after, strict=True, limit=1, offset=offset)
        async with aclosing(self._reader.read(work, statement)) as pages:
            keys = [page.after async for page in pages]
        return keys[0] if keys else None

    def partitions(self, works: Iterable[Work | Unread], ranges: Mapping[str, list[Sequence[Any]]]) -> list[Any]:
        """Returns all that there is to read, as JSON."""
        found: list[Any] = []
        for work in works:
            bounds = ranges.get(work.label, [])
            for start, end in pairwise([None, *map(encode_values, bounds), None]):
                part = {"label": work.label, "from": start, "to": end}
                found.append(part | {"key": list(work.key)} if isinstance(work, Work) else part)
        return found

    async def read(
        self,
        partition: Mapping[str, Any],
        works: Iterable[Work | Unread],
        checkpoint: Mapping[str, Any] | None,
        why_gone: Callable[[str], Awaitable[str]],
    ) -> AsyncGenerator[SourceItem, None]:
        """Yields the rows of one partition, with a checkpoint after each page.

        Args:
            works: what there is to read now.
            why_gone: says why a table is not among it.
        """
        label, key = partition["label"], partition.get("key")
        work = next((work for work in works if work.label == label), None)
        if not isinstance(work, Work):
            yield Skipped(work.reason if work is not None else await why_gone(label))
            return
        if list(work.key) != key:
            yield Skipped(f"{work.title} has another key than when this sync began; the next sync settles it")
            return
        start, end = (None if bound is None else decode_values(bound) for bound in (partition["from"], partition["to"]))
        after = start if checkpoint is None else decode_values(checkpoint["after"])
        try:
            async with aclosing(self._reader.pages(work, after, end)) as pages:
                async for page in pages:
                    for document in page.documents:
                        yield document, None
                    if page.after is not None:
                        yield Checkpoint({"after": encode_values(page.after)})
        except TableGoneError as error:
            yield Skipped(f"{error}; what was read of it stays until the next sync")
