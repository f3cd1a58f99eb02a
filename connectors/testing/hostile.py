"""A source that does what sources must not do, and what they may do at their worst: for tests of the framework.

Each behaviour changes the stream of a good source; `behaviours` names those that are wanted, in order. It can be used
in a `config.yml`, too::

    sources:
      hostile: connectors.testing.hostile:HostileDataSource
    connectors:
      - id: hostile
        service_type: hostile
        index: hostile
        configuration: {documents: 10000, behaviours: [slow, huge]}
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from types import MappingProxyType
from typing import Any, Final, TypeAlias, cast

from connectors.source import (
    BaseDataSource,
    Checkpoint,
    ConfigurationError,
    RetryableError,
    SkippableError,
    Skipped,
    SourceItem,
    SuspendSync,
)

__all__ = ["BEHAVIOURS", "HostileDataSource"]

Stream: TypeAlias = AsyncIterator[SourceItem]
Behaviour: TypeAlias = Callable[[Stream, "HostileDataSource"], Stream]


def _each(change: Callable[[HostileDataSource, int, dict[str, Any], Any], SourceItem]) -> Behaviour:
    """Makes a behaviour of a function that is given the source, a running number, a document and its download."""

    async def behave(stream: Stream, source: HostileDataSource) -> Stream:
        number = 0
        async for item in stream:
            if isinstance(item, tuple):
                number += 1
                yield change(source, number, *item)
            else:
                yield item

    return behave


def _in_the_middle(meddle: Callable[[], Any]) -> Behaviour:
    """Makes a behaviour of a function that is called once, behind half of the documents."""

    async def behave(stream: Stream, source: HostileDataSource) -> Stream:
        left = max(1, source.documents // 2)
        async for item in stream:
            yield item
            left -= isinstance(item, tuple)
            if left == 0:
                left = -1
                await meddle()

    return behave


def _raising(error: Callable[[], Exception]) -> Behaviour:
    async def meddle() -> None:
        raise error()

    return _in_the_middle(meddle)


async def _slow(stream: Stream, source: HostileDataSource) -> Stream:
    async for item in stream:
        await asyncio.sleep(source.seconds)
        yield item


async def _never_yielding(stream: Stream, source: HostileDataSource) -> Stream:
    async for item in stream:
        time.sleep(source.seconds)  # noqa: ASYNC251 - to block the loop is what it is for
        yield item


async def _stuck() -> None:
    await asyncio.Event().wait()


async def _deaf(stream: Stream, source: HostileDataSource) -> Stream:
    """Takes its time with the first cancellation."""
    async for item in stream:
        try:
            await asyncio.sleep(source.seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(source.seconds)
            raise
        yield item


async def _ending_early(stream: Stream, source: HostileDataSource) -> Stream:
    left = source.documents // 2
    async for item in stream:
        yield item
        left -= isinstance(item, tuple)
        if left <= 0:
            return


async def _empty(stream: Stream, source: HostileDataSource) -> Stream:
    if source.documents < 0:  # never: it only makes a generator of this
        yield Checkpoint(stream)


async def _repeating_ids(stream: Stream, source: HostileDataSource) -> Stream:
    del source
    async for item in stream:
        yield item
        if isinstance(item, tuple):
            yield {**item[0], "edition": 2}, item[1]


async def _skipping_all(stream: Stream, source: HostileDataSource) -> Stream:
    del source
    async for item in stream:
        yield Skipped("it cannot be read", _id=str(item[0]["_id"])) if isinstance(item, tuple) else item


async def _incomplete(stream: Stream, source: HostileDataSource) -> Stream:
    del source
    async for item in stream:
        yield item
    yield Skipped("a part cannot be listed")


async def _checkpoint_storm(stream: Stream, source: HostileDataSource) -> Stream:
    """A checkpoint behind each document; their states grow."""
    number = 0
    async for item in stream:
        yield item
        if isinstance(item, tuple):
            number += 1
            yield Checkpoint({"last": number, "padding": "x" * min(number, source.size)})


async def _foreign_items(stream: Stream, source: HostileDataSource) -> Stream:
    del source
    async for item in stream:
        yield cast("SourceItem", [item])


def _without_id(_: HostileDataSource, __: int, document: dict[str, Any], download: Any) -> SourceItem:
    return {key: value for key, value in document.items() if key != "_id"}, download


def _changing_ids(source: HostileDataSource, number: int, document: dict[str, Any], download: Any) -> SourceItem:
    source.calls += 1
    return {**document, "_id": f"{number}-{source.calls}"}, download


def _long_ids(_: HostileDataSource, __: int, document: dict[str, Any], download: Any) -> SourceItem:
    return {**document, "_id": document["_id"] + "é" * 600}, download


def _volatile(source: HostileDataSource, _: int, document: dict[str, Any], download: Any) -> SourceItem:
    source.calls += 1
    return {**document, "views": source.calls}, download


def _huge(source: HostileDataSource, number: int, document: dict[str, Any], download: Any) -> SourceItem:
    return {**document, "text": str(number % 10) * source.size}, download


def _unencodable(_: HostileDataSource, number: int, document: dict[str, Any], download: Any) -> SourceItem:
    return ({**document, "thing": object()} if number % 3 == 0 else document), download


def _deep(_: HostileDataSource, __: int, document: dict[str, Any], download: Any) -> SourceItem:
    value: Any = "ground"
    for _level in range(5_000):
        value = [value]
    return {**document, "deep": value}, download


def _with_download(fetch: Callable[[HostileDataSource], Any]) -> Behaviour:
    """Makes a behaviour that gives each document a download, which awaits `fetch(source)`."""

    def change(source: HostileDataSource, _: int, document: dict[str, Any], __: Any) -> SourceItem:
        async def download(*, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any] | None:
            del timestamp
            return cast("Mapping[str, Any] | None", await fetch(source)) if doit else None

        return document, download

    return _each(change)


async def _fetch_nothing_for_long(source: HostileDataSource) -> None:
    await asyncio.sleep(source.seconds)


async def _fetch_failing(_: HostileDataSource) -> None:
    raise SkippableError("the file cannot be read")


async def _fetch_huge(source: HostileDataSource) -> dict[str, Any]:
    return {"body": "x" * source.size}


async def _fetch_nonsense(_: HostileDataSource) -> Any:
    return {"_attachment": "this is no base64!"}


#: Name → what it does to the stream. `seconds` and `size` of the configuration say how slow and how large.
BEHAVIOURS: Final[Mapping[str, Behaviour]] = MappingProxyType({
    "changing_ids": _each(_changing_ids),
    "checkpoint_storm": _checkpoint_storm,
    "deaf": _deaf,
    "deep": _each(_deep),
    "empty": _empty,
    "ending_early": _ending_early,
    "failing_downloads": _with_download(_fetch_failing),
    "foreign_items": _foreign_items,
    "huge": _each(_huge),
    "huge_downloads": _with_download(_fetch_huge),
    "incomplete": _incomplete,
    "long_ids": _each(_long_ids),
    "never_yielding": _never_yielding,
    "nonsense_downloads": _with_download(_fetch_nonsense),
    "raising": _raising(lambda: RuntimeError("a defect")),
    "raising_configuration": _raising(lambda: ConfigurationError("the password was changed; write the new one")),
    "raising_retryable": _raising(lambda: RetryableError("the backend restarts")),
    "raising_suspend": _raising(lambda: SuspendSync("the backend is in maintenance")),
    "repeating_ids": _repeating_ids,
    "skipping_all": _skipping_all,
    "slow": _slow,
    "slow_downloads": _with_download(_fetch_nothing_for_long),
    "stuck": _in_the_middle(_stuck),
    "unencodable": _each(_unencodable),
    "volatile": _each(_volatile),
    "without_ids": _each(_without_id),
})  # fmt: skip


class HostileDataSource(BaseDataSource):
    """Yields generated documents in the way that its behaviours say.

    Attributes:
        calls: documents so far that were made to differ.
    """

    name = "Hostile"
    service_type = "hostile"
    resumable = True

    calls = 0

    @property
    def documents(self) -> int:
        """How many documents there are."""
        return int(self.configuration["documents"])

    @property
    def seconds(self) -> float:
        """How long what is slow takes."""
        return float(self.configuration["milliseconds"] / 1000)

    @property
    def size(self) -> int:
        """Bytes of what is huge."""
        return int(self.configuration["size"])

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        """Returns the fields `behaviours`, `documents`, `milliseconds` and `size`."""
        options = [{"label": name.replace("_", " "), "value": name} for name in BEHAVIOURS]
        return {
            "behaviours": {"label": "Behaviours", "type": "list", "value": [], "required": False, "options": options},
            "documents": {"label": "Documents", "type": "int", "value": 12},
            "milliseconds": {"label": "Milliseconds of what is slow", "type": "int", "value": 100},
            "size": {"label": "Bytes of what is huge", "type": "int", "value": 1_000_000},
        }

    async def ping(self) -> None:
        """Always succeeds."""

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> Stream:
        """Yields the documents, changed by each behaviour in turn."""
        del filtering
        start = int(checkpoint["last"]) if checkpoint else 0
        async with AsyncExitStack() as stack:
            stream: Any = await stack.enter_async_context(aclosing(cast("Any", self._good(start))))
            for name in self.configuration["behaviours"]:
                stream = await stack.enter_async_context(aclosing(cast("Any", BEHAVIOURS[name](stream, self))))
            async for item in stream:
                yield item

    async def _good(self, start: int) -> Stream:
        for number in range(start + 1, self.documents + 1):
            yield {"_id": f"h{number}", "_timestamp": 1, "title": f"Document {number}"}, None
            if number % 100 == 0 or number == self.documents:
                yield Checkpoint({"last": number})
                await asyncio.sleep(0)
