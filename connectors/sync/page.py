"""A page: some hundred documents that are classified by one look at the ledger."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from connectors.backends.ports import DIGEST_SIZE, HASH_SIZE
from connectors.source import Document, LazyDownload
from connectors.sync.encode import content_hash, decode, encode, id_digest

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
        digests, hashes: of each id, and of each content; `joined` makes them.
        read, filtered: documents that came in, and those of them that a rule kept out.
        size: JSON bytes.
    """

    __slots__ = ("bodies", "digests", "documents", "filtered", "hashes", "ids", "lazies", "operations", "read", "size")

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.bodies: list[bytes | None] = []
        self.digests: list[bytes] = []
        self.hashes: list[bytes] = []
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

    def joined(self) -> tuple[bytes, bytes]:
        """Returns the digest of each id, and the hash of each content, joined: what the ledger wants to know.

        A document with a download has a hash only if its `_timestamp` vouches for the file.
        """
        self.digests = [id_digest(document_id) for document_id in self.ids]
        self.hashes = hashes = [INCOMPARABLE if body is None else content_hash(body) for body in self.bodies]
        for position in self.lazies:
            if position in self.operations or "_timestamp" not in self.documents[position]:
                hashes[position] = INCOMPARABLE
        return b"".join(self.digests), b"".join(hashes)

    def split(self) -> None:
        """Makes `bodies`, `digests` and `hashes` ready, where they are not: they are needed of what has changed."""

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
    """A page that another process has read, encoded and hashed; where nothing has changed it is never taken apart.

    Args:
        sizes: of the bodies, as a format of `struct`.
        content: digests, hashes and bodies, each joined.

    Raises:
        ValueError: the numbers do not fit each other.
    """

    __slots__ = ("_content", "_cut")

    def __init__(
        self,
        ids: list[str],
        sizes: str,
        content: memoryview,
        *,
        lazies: dict[int, LazyDownload],
        read: int,
        filtered: int,
    ) -> None:
        super().__init__()
        number = len(ids)
        try:
            self._cut = struct.Struct(f"{DIGEST_SIZE}s" * number + f"{HASH_SIZE}s" * number + sizes)
        except struct.error as error:
            raise ValueError(f"its sizes are none: {error}") from None
        if self._cut.size != len(content) or sizes.count("s") != number or read != number + filtered:
            raise ValueError("its numbers do not fit each other")
        self._content = content
        self.ids = ids
        self.lazies = lazies
        self.documents = _Parsed(self.bodies, lazies)
        self.read = read
        self.filtered = filtered

    def joined(self) -> tuple[bytes, bytes]:
        """Returns the digest of each id, and the hash of each content, joined."""
        end = len(self.ids) * DIGEST_SIZE
        return bytes(self._content[:end]), bytes(self._content[end : end + len(self.ids) * HASH_SIZE])

    def split(self) -> None:
        """Makes `bodies`, `digests` and `hashes` ready."""
        if not self.bodies:
            found, number = self._cut.unpack(self._content), len(self.ids)
            self.digests, self.hashes = list(found[:number]), list(found[number : 2 * number])
            self.bodies.extend(found[2 * number :])

    def parts(self) -> Iterator[Page]:
        """Yields the page, or cuts it so that no part holds an id twice, in the same order."""
        if len(set(self.ids)) < len(self.ids):
            self.split()
        return super().parts()


class _Parsed(dict[int, Document]):
    """The documents that have a download, made of their bodies when they are asked for."""

    def __init__(self, bodies: list[bytes | None], lazies: dict[int, LazyDownload]) -> None:
        super().__init__()
        self._bodies = bodies  # not the page itself, whose memory would wait for the garbage collector then
        self._lazies = lazies

    def __contains__(self, position: object) -> bool:
        return position in self._lazies

    def __missing__(self, position: int) -> Document:
        return decode(self._bodies[position] or b"{}")
