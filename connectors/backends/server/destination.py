"""Where documents go: the `Destination` of a search server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Final, TypeVar

import orjson

from connectors.backends.ports import (
    IndexHandle,
    IndexInfo,
    IndexSpec,
    Operation,
    SearchPage,
    StampPage,
    WriteResult,
    unguarded,
)
from connectors.backends.server.bulk import EMPTY_ID, STAMP, IndexMissingError, strip_stamp
from connectors.backends.server.client import NDJSON, Client, Response
from connectors.backends.server.faults import raise_for, reason_of
from connectors.backends.server.indices import Indices
from connectors.backends.server.names import path_of
from connectors.backends.server.search import search_index
from connectors.backends.server.stamps import of_connector, read_ids, read_stamps
from connectors.backends.server.writing import Write
from connectors.errors import IndexChangedError, NotFoundError, RetryableError

__all__ = ["ServerDestination"]

T = TypeVar("T")

_FETCHED_AT_ONCE: Final = 500
_COUNTED_AT_ONCE: Final = 1000
#: What is answered of an index that is not there, or cannot be: another tool may have written any name.
_NO_INDEX: Final = frozenset({400, 404})
_DELETED_AT_ONCE: Final = 10_000
_ALIASES: Final = "*@Connectors-*"
#: What stands before a document in an answer; a quote within an id is escaped, so this stands nowhere else.
_SOURCE: Final = ',"_source":'
_scan: Final = json.JSONDecoder().raw_decode


class ServerDestination:
    """Documents on one server; made by `ServerBackend`.

    Args:
        release: called by `close`.
        reserved: names of the indices that hold records, where no documents may go.
    """

    def __init__(
        self, client: Client, *, release: Callable[[], Awaitable[None]], reserved: Collection[str] = ()
    ) -> None:
        self._client = client
        self._release = release
        self._indices = Indices(client, reserved)
        self._written: set[str] = set()  # indices whose last writes a search may not see yet

    # Indices

    async def prepare(self, spec: IndexSpec) -> IndexInfo:
        """Creates the index when it is missing and says what it is.

        Raises:
            ConfigurationError: nothing can be written there: a data stream, a wrong pipeline or language, say.
        """
        return await self._indices.prepare(spec)

    async def info(self, index: str, pipeline: Mapping[str, Any] | None = None) -> IndexInfo | None:
        """Says what the index is, None when there is none; with the same pipeline, as `prepare` said it."""
        return await self._indices.info(index, pipeline)

    async def indices(self) -> list[str]:
        """Returns the names of the indices that we write to, and the aliases of the operator's that lead there."""
        response = await self._client.request("GET", f"/{_ALIASES}/_alias")
        names: set[str] = set()
        for index, entry in (response.json() if response.ok else {}).items():
            names.add(index)
            names.update(name for name, alias in entry["aliases"].items() if not alias.get("is_hidden"))
        return sorted(names)

    # Writing

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        """Writes and deletes in the given order; raises IndexChangedError when the index is not that of the handle.

        When the call raises or is cancelled, part of the batch may have been written; sending it again is right.
        """

        async def send() -> WriteResult:
            # Made anew when a first try found the index without our alias.
            write = Write(self._client, handle, piped=self._indices.piped(handle))
            await write.send(operations)
            return WriteResult(write.failures, write.retry_after, write.too_large)

        try:
            return await self._present(handle, send)
        finally:
            self._written.add(handle.index)

    async def _present(self, handle: IndexHandle, use: Callable[[], Awaitable[T]]) -> T:
        """Uses the handle's index through our alias, which is put there again if somebody took it away."""
        try:
            return await use()
        except IndexMissingError:
            await self._indices.restore_alias(handle)
        try:
            return await use()
        except IndexMissingError:
            raise IndexChangedError(f'The index "{handle.index}" was deleted while the sync ran') from None

    # What the index holds

    async def stamps(self, handle: IndexHandle) -> AsyncIterator[StampPage]:
        """Yields the stamps of all documents that the connector wrote, all acknowledged writes included."""
        try:
            async with aclosing(read_stamps(self._client, handle)) as pages:
                async for page in pages:
                    yield page
        except IndexMissingError:
            await self._indices.restore_alias(handle)
            raise RetryableError(f'The index "{handle.index}" was without our alias, which is there again') from None

    async def find_ids(self, handle: IndexHandle, digests: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Returns `(digest, _id)` of those of the connector's documents that have one of these digests."""
        if not digests:
            return []
        return await self._present(handle, partial(read_ids, self._client, handle, digests))

    async def fetch(self, index: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Returns `_id` → the document as JSON bytes, for those that are there; without the stamp."""
        found: dict[str, bytes] = {}
        for start in range(0, len(ids), _FETCHED_AT_ONCE):
            part = [id_ or EMPTY_ID for id_ in ids[start : start + _FETCHED_AT_ONCE]]
            path = path_of(self._indices.written(index))
            response = await self._client.request("POST", f"{path}/_mget", body={"ids": part})
            if response.status == 404:
                return {}
            if not response.ok:
                raise self._client.refused(response, f"to fetch documents of {index}")
            found.update(_documents(response))
        return found

    async def count(self, index: str, connector_id: str | None = None) -> int:
        """Returns the number of documents, of one connector or of all; 0 where there is no index."""
        await self._show_writes(index)
        query = {"match_all": {}} if connector_id is None else of_connector(connector_id)
        response = await self._client.request("POST", f"{path_of(index)}/_count", body={"query": query})
        if response.status == 404:
            return 0
        if not response.ok:
            raise self._client.refused(response, f"to count documents of {index}")
        return int(response.json()["count"])

    async def count_each(self, wanted: Sequence[tuple[str, str]]) -> list[int]:
        """Returns the number of documents for each index and connector, 0 where there is no index."""
        for index in {index for index, _ in wanted}:
            await self._show_writes(index)
        found: list[int] = []
        for start in range(0, len(wanted), _COUNTED_AT_ONCE):
            found += await self._count_some(wanted[start : start + _COUNTED_AT_ONCE])
        return found

    async def _count_some(self, wanted: Sequence[tuple[str, str]]) -> list[int]:
        lines: list[bytes] = []
        for index, connector_id in wanted:
            lines.append(orjson.dumps({"index": index}))
            lines.append(orjson.dumps({"query": of_connector(connector_id), "size": 0, "track_total_hits": True}))
        response = await self._client.request(
            "POST",
            "/_msearch",
            params={"filter_path": "responses.status,responses.error,responses.hits.total.value"},
            body=b"\n".join((*lines, b"")),
            content_type=NDJSON,
        )
        if not response.ok:
            raise self._client.refused(response, "to count documents")
        answers = response.json()["responses"]
        for answer, (index, _) in zip(answers, wanted, strict=True):
            if answer["status"] not in {200, *_NO_INDEX}:
                where = f"{self._client.product.name} {self._client.url}, counting documents of {index}"
                raise_for(answer["status"], response.headers, orjson.dumps(answer), where=where)
                raise RetryableError(f"{where}: {reason_of(answer.get('error'))}")
        return [int(answer["hits"]["total"]["value"]) if answer["status"] == 200 else 0 for answer in answers]

    async def purge(self, index: str, connector_id: str, *, guard: Callable[[], object] = unguarded) -> int:
        """Deletes all documents of the connector and returns their number; those of other writers stay. Raises what
        `guard` raises, which is called before each request."""
        total = 0
        while True:
            await self._client.request("POST", f"{path_of(index)}/_refresh")
            # A limited number at a time, so that no request outlasts its time-out. A document that is written
            # meanwhile is met again in the next round.
            guard()
            response = await self._client.request(
                "POST",
                f"{path_of(index)}/_delete_by_query",
                params={"conflicts": "proceed", "refresh": "true", "max_docs": str(_DELETED_AT_ONCE)},
                body={"query": of_connector(connector_id)},
            )
            if response.status == 404:
                return total
            if not response.ok:
                raise self._client.refused(response, f"to delete documents of {index}")
            answer = response.json()
            total += int(answer["deleted"])
            if not answer["total"]:
                return total
            if answer["failures"]:
                raise RetryableError(f"deleting documents of {index} failed in part: {answer['failures'][0]}")

    async def search(self, index: str, query: str, *, limit: int = 10, offset: int = 0) -> SearchPage:
        """Searches for people; see `connectors.backends.query_language`. Raises NotFoundError without such an index.

        `total` is exact up to 10,000 and stays there beyond; hits behind the first 10,000 cannot be had. A hit's
        `source` has the first 300 characters of `body`.
        """
        await self._show_writes(index)
        page = await search_index(self._client, index, query, limit, offset)
        if page is None:
            raise NotFoundError(f'There is no index "{index}"; the page lists those that there are')
        return page

    async def _show_writes(self, index: str) -> None:
        """Makes what this process wrote visible to searches; what others wrote shows within a second by itself."""
        if index in self._written:
            self._written.discard(index)
            await self._client.request("POST", f"{path_of(index)}/_refresh")

    async def maintain(self) -> None:
        """Does nothing: the server keeps house by itself."""

    async def close(self) -> None:
        """Releases the connections, which end once the store is closed too; may be called twice."""
        await self._release()


def _documents(response: Response) -> dict[str, bytes]:
    """Returns the documents of an answer as the bytes that they were stored as.

    The bytes are cut out of the answer: read and written again, numbers of more than 64 bits would not be the same.
    """
    answer = response.json()
    text = response.body.decode()
    found: dict[str, bytes] = {}
    position = 0
    for item in answer["docs"]:
        if "error" in item and item["error"].get("type") != "index_not_found_exception":
            # It must not be taken for one that is not there.
            raise RetryableError(f"a document cannot be fetched: {reason_of(item['error'])}")
        if not item.get("found") or "_source" not in item:
            continue
        start = text.index(_SOURCE, position) + len(_SOURCE)
        _, position = _scan(text, start)
        given = strip_stamp(text[start:position], _scan)
        if given is None:  # an ingest pipeline moved the stamp, or another writer made the document
            given = orjson.dumps({key: value for key, value in item["_source"].items() if key != STAMP})
        id_ = item["_id"]
        found["" if id_ == EMPTY_ID else id_] = given
    return found
