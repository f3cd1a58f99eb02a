"""Reads what a source yields, and notes at once what of it the framework could not use."""

from __future__ import annotations

import asyncio
import base64
import binascii
import inspect
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import orjson

from connectors.byoc import Filter
from connectors.errors import SkippableError
from connectors.source import BaseDataSource, Checkpoint, LazyDownload, Skipped
from connectors.sync.contract import misshapen, short
from connectors.sync.encode import encode

__all__ = ["Listed", "Reading", "complete", "read", "read_all", "through_json"]


class Listed(NamedTuple):
    """One document as it was yielded. `body` is its JSON without `_id`, empty where it has none."""

    id: str
    body: bytes
    document: dict[str, Any]
    download: LazyDownload | None
    operation: str


@dataclass(slots=True)
class Reading:
    """All that a stream yielded.

    Attributes:
        items: `Listed`, `Checkpoint` and `Skipped`, in order.
        misshapen: what is none of them, or breaks their form.
        unencodable: documents that have no JSON form.
    """

    items: list[Listed | Checkpoint | Skipped] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    unencodable: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """All that the framework could not use."""
        return self.misshapen + self.unencodable

    @property
    def documents(self) -> list[Listed]:
        """The documents, in order."""
        return [item for item in self.items if isinstance(item, Listed)]

    @property
    def bodies(self) -> dict[str, bytes]:
        """`_id` → JSON; of two with one id the last."""
        return {item.id: item.body for item in self.documents}

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be read."""
        return [item for item in self.items if isinstance(item, Skipped)]

    @property
    def checkpoints(self) -> list[tuple[int, Checkpoint]]:
        """Checkpoints with their positions in `items`."""
        return [(at, item) for at, item in enumerate(self.items) if isinstance(item, Checkpoint)]

    @property
    def repeated(self) -> list[str]:
        """What was listed twice."""
        times = Counter(item.id for item in self.documents)
        times.update(item.id for item in self.skipped if item.id is not None)
        return [f'"{id_}" was yielded {number} times' for id_, number in times.items() if number > 1]

    def mirror(self, index: dict[str, bytes]) -> None:
        """Does to `index` what an incremental sync does: writes, merges and deletes."""
        for item in self.documents:
            if item.operation == "delete":
                index.pop(item.id, None)
            elif item.operation == "update" and item.id in index:
                index[item.id] = orjson.dumps({**orjson.loads(index[item.id]), **orjson.loads(item.body)})
            else:
                index[item.id] = item.body


async def read(stream: Any, source: BaseDataSource, *, limit: int | None = None, incremental: bool = False) -> Reading:
    """Reads a stream to its end, or up to `limit` items, giving the event loop back between any two."""
    reading = Reading()
    if not hasattr(stream, "__aiter__") or not hasattr(stream, "aclose"):
        reading.misshapen.append(f"{short(stream)} is no async generator: make the method `async def` with `yield`")
        if inspect.iscoroutine(stream):
            stream.close()
        return reading
    async with aclosing(cast("Any", stream)) as items:
        async for item in items:
            _take(reading, item, source, incremental=incremental)
            await asyncio.sleep(0)
            if limit is not None and len(reading.items) >= limit:
                break
    return reading


async def read_all(
    source: BaseDataSource, *, filtering: Any = None, checkpoint: Any = None, partition: Any = None
) -> Reading:
    """Reads all documents, those of a partition, or those behind a checkpoint, as a full sync does."""
    rules = Filter() if filtering is None else filtering
    given = {"checkpoint": checkpoint, "partition": partition}
    return await read(
        source.get_docs(rules, **{name: value for name, value in given.items() if value is not None}), source
    )


def _take(reading: Reading, item: Any, source: BaseDataSource, *, incremental: bool) -> None:
    problem = misshapen(item, incremental=incremental)
    if isinstance(item, Checkpoint):
        problem = _not_json(item.state)
    if problem is not None:
        reading.misshapen.append(problem)
    elif isinstance(item, Checkpoint | Skipped):
        reading.items.append(item)
    else:
        document = item[0]
        id_ = document["_id"] if isinstance(document["_id"], str) else str(document["_id"])
        try:
            body = _encoded(source, document)
        except Exception as error:  # noqa: BLE001 - serialize() is the author's, and may raise anything
            reading.unencodable.append(f'the document "{id_}": {error}')
            return
        reading.items.append(Listed(id_, body, dict(document), item[1], item[2] if incremental else "index"))


def _encoded(source: BaseDataSource, document: Mapping[str, Any]) -> bytes:
    given = source.serialize(dict(document))
    return encode({key: value for key, value in given.items() if key != "_id"})


def _not_json(state: Any) -> str | None:
    if state is None:
        return "Checkpoint(None) says nothing: its state is what get_docs is to go on behind"
    try:
        if through_json(state) != (list(state) if isinstance(state, tuple) else state):
            return f"the state of a checkpoint, {short(state)}, comes back from JSON as something else"
    except (TypeError, ValueError) as error:
        return f"the state of a checkpoint, {short(state)}, cannot be stored as JSON: {error}"
    return None


def through_json(state: Any) -> Any:
    """Returns a checkpoint's state or a cursor as it comes back from the store."""
    return orjson.loads(orjson.dumps(state))


async def complete(item: Listed, source: BaseDataSource) -> bytes | None:
    """Returns a document with what its download brings, as it is indexed without text extraction; None when the
    download says that this document cannot be read.

    Raises:
        TypeError: the download brings what no document can take.
    """
    if item.download is None:
        return item.body
    pending = item.download(doit=True, timestamp=item.document.get("_timestamp"))
    if not inspect.isawaitable(pending):
        raise TypeError(f"it returned {short(pending)} at once, and is no coroutine function")
    try:
        extra = await pending
    except SkippableError:
        return None
    if extra is not None and not isinstance(extra, Mapping):
        raise TypeError(f"it brought {short(extra)}, which is neither a dict nor None")
    attachment = (extra or {}).get("_attachment")
    if isinstance(attachment, str):
        try:
            base64.b64decode(attachment, validate=True)
        except (binascii.Error, ValueError) as error:
            raise TypeError(f"its `_attachment` is no base64 text: {error}") from None
    elif attachment is not None and not isinstance(attachment, bytes):
        raise TypeError(f"its `_attachment` is of type {type(attachment).__name__}, not bytes or base64 text")
    try:
        return _encoded(source, {**orjson.loads(item.body), **(extra or {})})
    except SkippableError as error:
        raise TypeError(str(error)) from None
