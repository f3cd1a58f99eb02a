"""Dead letters as documents of the state index; their bodies compressed, and never searched."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from xxhash import xxh3_128_hexdigest

from connectors.backends.ports import DeadLetter
from connectors.backends.records import encode, no_letter, storable
from connectors.backends.server.documents import Document, DocumentIndex
from connectors.byoc import format_time, parse_time

__all__ = ["Letters"]

_LEVEL: Final = 1
#: Bytes of a compressed body beyond which a server might refuse the request.
_MOST: Final = 50_000_000
_TOO_LARGE: Final = " (the document is too large to be kept)"


class Letters:
    """The dead letters of all connectors."""

    def __init__(self, index: DocumentIndex) -> None:
        self._index = index

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keeps them, durable on return; a newer one of the same document replaces the older."""
        await self._index.bulk(
            [encode({"index": {"_id": _key(letter.connector_id, letter.id)}}), encode(_source(letter))]
            for letter in letters
        )

    async def remove(self, connector_id: str, ids: Sequence[str] | None) -> int:
        """Removes those of these ids, or all; returns their number."""
        if ids is None:
            return await self._index.delete(_of(connector_id))
        return await self._index.delete_ids([_key(connector_id, id_) for id_ in ids])

    async def list(self, connector_id: str, limit: int, after: str | None, *, bodies: bool) -> list[DeadLetter]:
        """Returns them ordered by id, those behind `after`."""
        query = _of(connector_id)
        if after is not None:
            query["bool"]["filter"].append({"range": {"letter_id": {"gt": storable(after)}}})
        if limit <= 0:
            return []
        sort = [{"letter_id": "asc"}]
        if bodies:
            return [_letter(document) for document in await self._index.search(query, sort=sort, limit=limit)]
        found = await self._index.search(query, sort=sort, limit=limit, without="body")
        if not all("size" in document.source for document in found):  # earlier releases did not write it
            found = await self._index.search(query, sort=sort, limit=limit)
        return [_letter(document).listed() for document in found]

    async def get(self, connector_id: str, id_: str) -> DeadLetter:
        """Returns one; raises NotFoundError."""
        found = await self._index.get(_key(connector_id, id_))
        if found is None:
            raise no_letter(connector_id, id_)
        return _letter(found)

    async def ids(self, connector_id: str) -> dict[str, str]:
        """Returns id → job, of all of them."""
        found: dict[str, str] = {}
        async for page in self._index.pages(_of(connector_id), "letter_id", ("letter_id", "job_id")):
            found.update((id_, job_id) for id_, job_id in page)
        return found

    async def count(self, connector_id: str) -> int:
        """Returns their number."""
        return await self._index.count(_of(connector_id))

    async def count_all(self) -> dict[str, int]:
        """Returns connector → their number."""
        return await self._index.count_by({"term": {"kind": "letter"}}, "connector_id")


def _of(connector_id: str) -> dict[str, Any]:
    return {"bool": {"filter": [{"term": {"kind": "letter"}}, {"term": {"connector_id": connector_id}}]}}


def _key(connector_id: str, id_: str) -> str:
    both = f"{connector_id}\0{storable(id_)}"
    return f"letter:{xxh3_128_hexdigest(both.encode())}"


def _source(letter: DeadLetter) -> Mapping[str, Any]:
    body, reason = None, storable(letter.reason)
    if letter.body is not None:
        packed = zlib.compress(letter.body, _LEVEL)
        if len(packed) <= _MOST:
            body = base64.b64encode(packed).decode()
        else:
            reason += _TOO_LARGE
    return {
        "kind": "letter",
        "connector_id": letter.connector_id,
        "letter_id": storable(letter.id),
        "operation": letter.operation,
        "reason": reason,
        "job_id": letter.job_id,
        "created_at": format_time(letter.created_at),
        "body": body,
        "version": letter.version,
        "content_hash": letter.content_hash.hex() if letter.content_hash is not None else None,
        "fingerprint": letter.fingerprint,
        "size": letter.size if body is not None else None,
    }


def _letter(document: Document) -> DeadLetter:
    source = document.source
    body, content_hash = source.get("body"), source.get("content_hash")  # earlier releases kept no more than the body
    return DeadLetter(
        source["connector_id"],
        source["letter_id"],
        source["operation"],
        source["reason"],
        source["job_id"],
        parse_time(source["created_at"]),
        None if body is None else zlib.decompress(base64.b64decode(body)),
        source.get("version"),
        None if content_hash is None else bytes.fromhex(content_hash),
        source.get("fingerprint") or "",
        source.get("size"),
    )
