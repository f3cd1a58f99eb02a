"""A page: some hundred documents that are classified by one look at the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

from connectors.backends.ports import HASH_SIZE
from connectors.source import Document, LazyDownload
from connectors.sync.encode import content_hash, encode, id_digest

__all__ = ["INCOMPARABLE", "PAGE_BYTES", "PAGE_DOCUMENTS", "PAGE_READ", "Page", "ReadPage", "Refused"]

#: A page of so many documents, or bytes, or documents of which most were kept out by rules, is full.
PAGE_DOCUMENTS: Final = 512
PAGE_BYTES: Final = 1_000_000
PAGE_READ: Final = 8 * PAGE_DOCUMENTS
#: In place of a hash: the document counts as changed.
INCOMPARABLE: Final = b"\0" * HASH_SIZE


class Refused(NamedTuple):
    """A document that has no JSON form."""

    id: str
    reason: str


class Page:
    """Documents in the order in which the source yielded them.

    Attributes:
        ids, bodies: one entry a document; the body is None where there is none yet, or none at all.
        documents: position → the dict itself, only where a later step needs it.
        lazies: position → download, of the documents that have one.
        operations: position → what to do, where that is not "index": "update", "delete", or the outcome that the
            document has already.
        read, filtered: documents that came in, and those of them that a rule kept out.
        size: JSON bytes.
    """

    __slots__ = ("bodies", "documents", "filtered", "ids", "lazies", "operations", "read", "size")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.bodies: list[bytes | None] = []
        self.documents: dict[int, Document] = {}
        self.lazies: dict[int, LazyDownload] = {}
        self.operations: dict[int, str] = {}
        self.read = 0
        self.filtered = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self.ids)

    def add(self, document_id: str, document: Document, lazy: LazyDownload | None, operation: str = "index") -> None:
        """Encodes one document, which is without its `_id`; raises SkippableError when it has no JSON form."""
        body: bytes | None = None
        if operation == "index":
            body = encode(document)
            self.size += len(body)
        else:
            self.operations[len(self.ids)] = operation
        if lazy is not None:
            self.lazies[len(self.ids)] = lazy
        if lazy is not None or operation == "update":
            self.documents[len(self.ids)] = document
        self.ids.append(document_id)
        self.bodies.append(body)

    def put_merged(self, position: int, document: Document) -> None:
        """Puts the whole document in place of an update of it."""
        self.bodies[position] = encode(document)
        self.documents[position] = document

    @property
    def plain(self) -> bool:
        """Whether all documents are there in full and shall be indexed."""
        return not self.lazies and not self.operations

    def digests(self) -> list[bytes]:
        """Returns the digest of each id."""
        return [id_digest(document_id) for document_id in self.ids]

    def hashes(self) -> list[bytes]:
        """Returns the hash of each content; of a document with a download only if its `_timestamp` vouches for it."""
        hashes = [INCOMPARABLE if body is None else content_hash(body) for body in self.bodies]
        for position in self.lazies:
            if position in self.operations or "_timestamp" not in self.documents[position]:
                hashes[position] = INCOMPARABLE
        return hashes

    def parts(self) -> Iterator[Page]:
        """Yields the page, or cuts it so that no part holds an id twice, in the same order."""
        if len(set(self.ids)) == len(self.ids):
            yield self
            return
        part, met = Page(), set[str]()
        for position, document_id in enumerate(self.ids):
            if document_id in met:
                yield part
                part, met = Page(), set()
            met.add(document_id)
            part._take(self, position)
        yield part

    def _take(self, page: Page, position: int) -> None:
        here = len(self.ids)
        self.ids.append(page.ids[position])
        self.bodies.append(page.bodies[position])
        if position in page.documents:
            self.documents[here] = page.documents[position]
        if position in page.lazies:
            self.lazies[here] = page.lazies[position]
        if position in page.operations:
            self.operations[here] = page.operations[position]


class ReadPage(Page):
    """A page that another process has read, encoded and hashed."""

    __slots__ = ("_digests", "_hashes")

    def __init__(
        self,
        ids: list[str],
        bodies: list[bytes | None],
        digests: list[bytes],
        hashes: list[bytes],
        *,
        lazies: dict[int, LazyDownload],
        read: int,
        filtered: int,
    ) -> None:
        super().__init__()
        self.ids = ids
        self.bodies = bodies
        self.lazies = lazies
        self.documents = _Parsed(bodies, lazies)
        self.read = read
        self.filtered = filtered
        self._digests = digests
        self._hashes = hashes

    def digests(self) -> list[bytes]:
        """Returns the digest of each id."""
        return self._digests

    def hashes(self) -> list[bytes]:
        """Returns the hash of each content."""
        return self._hashes


class _Parsed(dict[int, Document]):
    """The documents that have a download, made of their bodies when they are asked for."""

    def __init__(self, bodies: list[bytes | None], lazies: dict[int, LazyDownload]) -> None:
        super().__init__()
        self._bodies = bodies
        self._lazies = lazies

    def __contains__(self, position: object) -> bool:
        return position in self._lazies

    def __missing__(self, position: int) -> Document:
        # Not a digit of a number is lost.
        document: Document = json.loads(self._bodies[position] or b"{}", parse_float=Decimal)
        return document
