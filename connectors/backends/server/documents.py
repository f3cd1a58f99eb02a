"""Small documents with optimistic concurrency: what the store keeps its records in.

Single documents are read as they are, whatever a search can see by now. Lists are searches; what has to show in them
at once is written with a refresh.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import orjson

from connectors.backends.records import encode
from connectors.backends.server.bulk import IndexMissingError
from connectors.backends.server.client import NDJSON, Client, Response
from connectors.backends.server.faults import error_of, reason_of, told
from connectors.backends.server.names import path_of
from connectors.backends.server.pit import MOST, point_in_time
from connectors.errors import ConfigurationError, RetryableError
from connectors.utils import Backoff

__all__ = ["PAGE", "Contention", "Document", "DocumentIndex", "read_many"]

PAGE: Final = MOST
#: Bytes of a bulk request, about.
_BODY: Final = 5_000_000
_TERM_SHIFT: Final = 44
_SOME: Final = 1000


@dataclass(frozen=True, slots=True)
class Document:
    """One document; sequence number and primary term name exactly this state of it."""

    id: str
    source: dict[str, Any]
    seq_no: int
    term: int

    @property
    def version(self) -> int:
        """Both numbers as one, positive, which grows with each change."""
        return self.term << _TERM_SHIFT | (self.seq_no + 1)

    @property
    def condition(self) -> dict[str, str]:
        """The parameters that let a write succeed only while the document is in this state."""
        return {"if_seq_no": str(self.seq_no), "if_primary_term": str(self.term)}


class Contention:
    """Waits a short, random time between tries of a change that somebody else was faster with."""

    def __init__(self) -> None:
        self._backoff = Backoff(Random(), initial=0.005, maximum=0.25)  # noqa: S311 - jitter is no secret

    async def pause(self) -> None:
        """Sleeps until the next try."""
        await asyncio.sleep(self._backoff.next())


class DocumentIndex:
    """One index of records.

    Args:
        name: of the index, or of an alias of it.
        body: settings and mappings, used when the index has to be created; None where the server does that itself.
        headers: sent with each request.
        own: nobody else has a say in the index: its mapping gets the fields that it lacks.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None = None,
        *,
        own: bool = False,
    ) -> None:
        self.name = name
        self._client = client
        self._body = body
        self._headers = headers or {}
        self._own = own

    async def create_index(self) -> None:
        """Creates the index if it is missing; ConfigurationError when it is there and is none of ours."""
        if self._body is None:
            return
        found = await self._request("GET", f"{path_of(self.name)}/_alias")
        if found.status != 404:
            if self._own:
                await self._add_fields(self._body["mappings"])
            return
        response = await self._request("PUT", path_of(self.name), body=encode(self._body))
        error = error_of(response.body)
        if response.ok or (isinstance(error, Mapping) and error.get("type") == "resource_already_exists_exception"):
            return
        raise ConfigurationError(f'The index "{self.name}" cannot be created: {told(reason_of(error))}')

    async def _make_again(self, response: Response) -> None:
        """Creates an index that somebody deleted meanwhile: the next write would do so too, and map its fields anyhow,
        so that nothing would be found in it any more."""
        error = error_of(response.body)
        if isinstance(error, Mapping) and error.get("type") == "index_not_found_exception":
            await self.create_index()

    async def _add_fields(self, mappings: Mapping[str, Any]) -> None:
        path = f"{path_of(self.name)}/_mapping"
        response = await self._client.request(
            "PUT", path, body=encode(mappings), headers=self._headers, answered=(500,)
        )
        if response.ok:
            return
        error = error_of(response.body)
        if response.status == 500 and not (isinstance(error, Mapping) and error.get("type") == "mapper_exception"):
            raise RetryableError(f"{self.name} answered 500: {reason_of(error)}")
        raise ConfigurationError(
            f'The index "{self.name}" was made by somebody else: {reason_of(error)}. Name another one in config.yml '
            "(state_index), or delete it if nothing in it is needed"
        )

    # One document

    async def get(self, id_: str) -> Document | None:
        """Returns the document as it is now, None when there is none."""
        response = await self._request("GET", path_of(self.name, "_doc", id_))
        if response.status == 404:
            await self._make_again(response)
            return None
        return _document(self._ok(response).json())

    async def create(self, id_: str, source: Mapping[str, Any], *, refresh: bool = True) -> Document | None:
        """Writes a new document; None when there is one of this id already."""
        return await self._put(path_of(self.name, "_create", id_), id_, source, {}, refresh=refresh)

    async def replace(self, old: Document, source: Mapping[str, Any], *, refresh: bool = True) -> Document | None:
        """Writes the document if it still is as it was read; None when it is not."""
        return await self._put(path_of(self.name, "_doc", old.id), old.id, source, old.condition, refresh=refresh)

    async def _put(
        self, path: str, id_: str, source: Mapping[str, Any], condition: Mapping[str, str], *, refresh: bool
    ) -> Document | None:
        data = encode(source)
        response = await self._request("PUT", path, params={**condition, **_refresh(refresh)}, body=data)
        if response.status in {404, 409}:
            return None
        answer = self._ok(response).json()
        return Document(id_, orjson.loads(data), int(answer["_seq_no"]), int(answer["_primary_term"]))

    # Several

    async def search(
        self,
        query: Mapping[str, Any],
        *,
        sort: Sequence[Any] = (),
        limit: int | None = None,
        without: str | None = None,
    ) -> list[Document]:
        """Returns the documents that match, at most `limit` where it is given; none without the index.

        Args:
            without: a field that is left out.
        """
        most = PAGE if limit is None else min(limit, PAGE)
        body = {"query": query, "size": most, "sort": list(sort), "seq_no_primary_term": True}
        if without is not None:
            body["_source"] = {"excludes": [without]}
        hits = await self._search(body)
        if len(hits) == PAGE and limit != PAGE:  # there are more than one request can have
            hits = await self._search_all(body, limit)
        return [_document(hit) for hit in hits]

    async def _search_all(self, body: Mapping[str, Any], limit: int | None) -> list[dict[str, Any]]:
        """Returns the hits of a search page after page, out of one moment, so that none is missed or met twice."""
        hits: list[dict[str, Any]] = []
        paged = {**body, "sort": [*body["sort"], {self._client.product.tiebreak: "asc"}], "track_total_hits": False}
        with suppress(IndexMissingError):
            async with point_in_time(self._client, self.name, self._headers) as pit:
                while limit is None or len(hits) < limit:
                    page = await pit.search(paged)
                    hits += page
                    if len(page) < PAGE:
                        break
                    paged["search_after"] = page[-1]["sort"]
        return hits[:limit]

    async def scan(self, query: Mapping[str, Any], *, sort: Sequence[Any], size: int) -> AsyncIterator[list[Document]]:
        """Yields pages of all that match. Equals in `sort` that change meanwhile may be met twice or never."""
        body: dict[str, Any] = {"query": query, "size": size, "sort": [*sort, "_doc"], "seq_no_primary_term": True}
        while True:
            hits = await self._search(body)
            if hits:
                yield [_document(hit) for hit in hits]
            if len(hits) < size:
                return
            body["search_after"] = hits[-1]["sort"]

    async def pages(self, query: Mapping[str, Any], key: str, fields: Sequence[str]) -> AsyncIterator[list[list[Any]]]:
        """Yields all that match, ordered by a unique keyword, as the values of these fields (None where one has none).

        Only what doc values hold is read.
        """
        body: dict[str, Any] = {
            "query": query,
            "size": PAGE,
            "sort": [{key: "asc"}],
            "_source": False,
            "docvalue_fields": list(fields),
        }
        while True:
            hits = await self._search(body)
            if hits:
                yield [[(hit["fields"].get(name) or [None])[0] for name in fields] for hit in hits]
            if len(hits) < PAGE:
                return
            body["search_after"] = hits[-1]["sort"]

    async def _search(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        response = await self._request("POST", f"{path_of(self.name)}/_search", body=encode(body))
        if response.status == 404:
            await self._make_again(response)
            return []
        answer = self._ok(response).json()
        if answer["timed_out"] or answer["_shards"]["failed"]:
            raise RetryableError(f"a part of {self.name} did not answer")
        hits: list[dict[str, Any]] = answer["hits"]["hits"]
        return hits

    async def count(self, query: Mapping[str, Any]) -> int:
        """Returns how many documents match."""
        response = await self._request("POST", f"{path_of(self.name)}/_count", body=encode({"query": query}))
        return 0 if response.status == 404 else int(self._ok(response).json()["count"])

    async def count_by(self, query: Mapping[str, Any], key: str) -> dict[str, int]:
        """Returns how many documents match, by the values of a keyword."""
        body = {"query": query, "size": 0, "aggs": {"by": {"terms": {"field": key, "size": PAGE}}}}
        response = await self._request("POST", f"{path_of(self.name)}/_search", body=encode(body))
        if response.status == 404:
            return {}
        found = self._ok(response).json().get("aggregations") or {"by": {"buckets": ()}}
        return {bucket["key"]: int(bucket["doc_count"]) for bucket in found["by"]["buckets"]}

    async def delete(self, query: Mapping[str, Any]) -> int:
        """Deletes all documents that match, and returns their number."""
        total = 0
        while True:
            response = await self._request(
                "POST",
                f"{path_of(self.name)}/_search",
                body=encode({"query": query, "size": _SOME, "_source": False}),
            )
            hits = [] if response.status == 404 else self._ok(response).json()["hits"]["hits"]
            if not hits:
                return total
            total += await self.delete_ids([hit["_id"] for hit in hits])

    async def delete_ids(self, ids: Sequence[str]) -> int:
        """Deletes these documents, and returns how many there were."""
        lines = ([encode({"delete": {"_id": id_}})] for id_ in ids)
        results = await self.bulk(lines)
        return sum(result.get("result") == "deleted" for result in results)

    async def bulk(self, operations: Iterator[list[bytes]], *, refresh: bool = True) -> list[dict[str, Any]]:
        """Sends operations, each as its lines, and returns the answer to each of them.

        Conflicts are answered; anything else that fails raises.
        """
        results: list[dict[str, Any]] = []
        lines: list[bytes] = []
        size = 0
        for operation in operations:
            lines += operation
            size += sum(map(len, operation))
            if size >= _BODY:
                results += await self._send_bulk(lines, refresh=refresh)
                lines, size = [], 0
        if lines:
            results += await self._send_bulk(lines, refresh=refresh)
        return results

    async def _send_bulk(self, lines: list[bytes], *, refresh: bool) -> list[dict[str, Any]]:
        response = await self._request(
            "POST",
            f"{path_of(self.name)}/_bulk",
            params=_refresh(refresh),
            body=b"\n".join((*lines, b"")),
            content_type=NDJSON,
        )
        results: list[dict[str, Any]] = [next(iter(item.values())) for item in self._ok(response).json()["items"]]
        for result in results:
            if "error" in result and result["status"] != 409:
                raise RetryableError(f"writing to {self.name} failed: {reason_of(result['error'])}")
        return results

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> Response:
        return await self._client.request(
            method, path, params=params, body=body, content_type=content_type, headers=self._headers
        )

    def _ok(self, response: Response) -> Response:
        if not response.ok:
            raise self._client.refused(response, f"a request for {self.name}")
        return response


async def read_many(client: Client, wanted: Sequence[tuple[DocumentIndex, str]]) -> list[Document | None]:
    """Returns these documents of several indices as they are now, by one request."""
    headers: dict[str, str] = {}
    for index, _ in wanted:
        headers |= index._headers  # noqa: SLF001 - of this very module
    response = await client.request(
        "POST",
        "/_mget",
        body={"docs": [{"_index": index.name, "_id": id_} for index, id_ in wanted]},
        headers=headers,
    )
    if not response.ok:
        raise client.refused(response, "to read records")
    return [_document(found) if found.get("found") else None for found in response.json()["docs"]]


def _document(found: Mapping[str, Any]) -> Document:
    return Document(found["_id"], found["_source"], int(found["_seq_no"]), int(found["_primary_term"]))


def _refresh(refresh: bool) -> dict[str, str]:
    return {"refresh": "true"} if refresh else {}
