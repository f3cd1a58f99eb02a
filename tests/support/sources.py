"""A source that plays a script, and makers of what stands in scripts."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from connectors.source import BaseDataSource, Checkpoint, DataSourceConfiguration, Document, LazyDownload

__all__ = ["Download", "ResumableSource", "ScriptedSource", "checkpointed", "documents"]


class ScriptedSource(BaseDataSource):
    """Plays its script: pairs, triples, `Checkpoint` and `Skipped` are yielded, a number sleeps so many seconds, an
    exception is raised, a callable is called (and awaited)."""

    service_type = "scripted"

    def __init__(self, script: Iterable[Any], *, cursor: Any = None) -> None:
        super().__init__(DataSourceConfiguration())
        self.script: Sequence[Any] = list(script)
        self.cursor = cursor
        self.given_checkpoint: Any = None
        self.given_cursor: Any = None
        self.yielded = 0
        self.closed = False

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[Any]:
        self.given_checkpoint = checkpoint
        async for item in self._play(checkpoint or 0):
            yield item

    async def get_docs_incrementally(self, sync_cursor: Any, filtering: Any = None) -> AsyncIterator[Any]:
        self.given_cursor = sync_cursor
        async for item in self._play(0):
            yield item

    async def _play(self, start: int, script: Sequence[Any] | None = None) -> AsyncIterator[Any]:
        try:
            for item in (self.script if script is None else script)[start:]:
                if isinstance(item, int | float):
                    await asyncio.sleep(item)
                elif isinstance(item, BaseException):
                    raise item
                elif callable(item):
                    found = item()
                    if inspect.isawaitable(found):
                        await found
                else:
                    self.yielded += 1
                    yield (dict(item[0]), *item[1:]) if isinstance(item, tuple) else item
        finally:
            self.closed = True

    def sync_cursor(self) -> Any:
        return self.cursor


class ResumableSource(ScriptedSource):
    """Goes on at a checkpoint, whose state is the position in the script; see `checkpointed`."""

    resumable = True


class Download:
    """A lazy download that brings `extra` after some seconds, or fails, and counts its calls."""

    def __init__(
        self, extra: Mapping[str, Any] | None = None, *, seconds: float = 0.0, error: Exception | None = None
    ) -> None:
        self.extra = extra
        self.seconds = seconds
        self.error = error
        self.done = 0
        self.released = 0

    async def __call__(self, *, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any] | None:
        if not doit:
            self.released += 1
            return None
        self.done += 1
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.extra


def documents(
    numbers: Iterable[int], *, edition: int = 1, lazy: Callable[[int], LazyDownload | None] = lambda _: None
) -> list[tuple[Document, LazyDownload | None]]:
    """Returns documents `d0`, `d1`, … whose content is their number and edition."""
    return [({"_id": f"d{number}", "number": number, "edition": edition}, lazy(number)) for number in numbers]


def checkpointed(items: Iterable[Any], every: int, *, pause: float = 0.0) -> list[Any]:
    """Puts a pause behind each item, and a checkpoint behind each `every` items; its state is the position of what
    comes after it."""
    script: list[Any] = []
    for number, item in enumerate(items, start=1):
        script.append(item)
        if pause:
            script.append(pause)
        if number % every == 0:
            script.append(Checkpoint(len(script) + 1))
    return script
