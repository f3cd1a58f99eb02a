"""Dead letters of one job: collected, kept in the store, and withdrawn when the document is well again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from connectors.backends.ports import DeadLetter, JobStore, Operation
from connectors.errors import DeadLetterLimitError
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.sync.patience import patiently
from connectors.utils import truncate

__all__ = ["DeadLetters"]

T = TypeVar("T")

_LONGEST_REASON: Final = 2000  # characters
_FLUSH_LETTERS: Final = 200
_FLUSH_BYTES: Final = 8_000_000


class DeadLetters:
    """Buffers dead letters, so that a run of refused documents costs few writes; flushed before each commit.

    Args:
        limit: letters that one connector may have; more stop the sync loudly, for something else is wrong then.
        patience: seconds for which a store that fails in passing is tried again.
        fingerprint: part of the stamp of what this job writes.
    """

    def __init__(
        self,
        store: JobStore,
        connector_id: str,
        job_id: str,
        *,
        limit: int,
        patience: float,
        runtime: Runtime,
        fingerprint: str = "",
    ) -> None:
        self._store = store
        self._connector_id = connector_id
        self._job_id = job_id
        self._limit = limit
        self._patience = patience
        self._runtime = runtime
        self._fingerprint = fingerprint
        self._known: dict[str, str] = {}
        self._met: set[str] = set()
        self._new: dict[str, DeadLetter] = {}
        self._size = 0
        self._healed: set[str] = set()
        self._versions: dict[str, int] = {}
        self._flushing = asyncio.Lock()

    async def load(self) -> None:
        """Reads which documents of the connector are dead letters already."""
        self._known = await self._patiently(lambda: self._store.dead_letter_ids(self._connector_id))
        # What an earlier part of this very job wrote was met by its enumeration.
        self._met = {document_id for document_id, job_id in self._known.items() if job_id == self._job_id}

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        return await patiently(call, what="the store of dead letters", seconds=self._patience, runtime=self._runtime)

    @property
    def any_known(self) -> bool:
        """Whether documents must be looked up here at all."""
        return bool(self._known or self._new)

    def log_level(self, document_id: str) -> int:
        """Returns how loudly to say that the document could not be indexed.

        What an earlier sync said is no news: of a broken file one would hear every few seconds.
        """
        return logging.DEBUG if document_id in self._known else logging.WARNING

    def met(self, document_id: str) -> None:
        """Notes that the enumeration listed the document."""
        if document_id in self._known:
            self._met.add(document_id)

    def healed(self, document_id: str, version: int | None = None) -> None:
        """Withdraws the letter of a document that is as it should be in the index now.

        Args:
            version: what was acknowledged; the letter of a newer version stays. None: the source says so just now.
        """
        if version is not None and version < self._versions.get(document_id, 0):
            return
        if self._known.pop(document_id, None) is not None or document_id in self._new:
            self._new.pop(document_id, None)
            self._healed.add(document_id)

    def refused(self, operation: Operation, reason: str) -> None:
        """Keeps an operation that the destination refused, with all that it takes to send it again as it was."""
        kind = "index" if operation.body is not None else "delete"
        self.add(operation.id, kind, reason, operation.body, operation, version=operation.version)

    def add(
        self,
        document_id: str,
        what: str,
        reason: str,
        body: bytes | None,
        operation: Operation | None = None,
        *,
        version: int = 0,
    ) -> None:
        """Keeps a document that could not be indexed; `what` failed. Of two versions the newer one is kept, whichever
        failed first."""
        if version < self._versions.get(document_id, 0):
            return
        self._versions[document_id] = version
        self._new[document_id] = DeadLetter(
            connector_id=self._connector_id,
            id=document_id,
            operation=what,
            reason=truncate(mask(reason), _LONGEST_REASON),
            job_id=self._job_id,
            created_at=self._runtime.now(),
            body=body,
            version=None if operation is None else operation.version,
            content_hash=None if operation is None else operation.content_hash,
            fingerprint=self._fingerprint,
        )
        self._healed.discard(document_id)
        self._met.add(document_id)
        self._size += len(body or b"")

    @property
    def full(self) -> bool:
        """Whether the buffer should be flushed now."""
        return len(self._new) >= _FLUSH_LETTERS or self._size >= _FLUSH_BYTES

    async def flush(self) -> None:
        """Stores everything that was collected, durable on return; raises DeadLetterLimitError beyond the limit.

        One flush at a time: whoever returns from here may rely on the letters of all others too. A letter leaves the
        buffer only when it is stored, for a flush may fail or be cancelled.
        """
        async with self._flushing:
            letters, healed = list(self._new.values()), sorted(self._healed)
            if letters:
                await self._patiently(lambda: self._store.add_dead_letters(letters))
                for letter in letters:
                    if self._new.get(letter.id) is letter:
                        del self._new[letter.id]
                        self._known[letter.id] = letter.job_id
                self._size = sum(len(letter.body or b"") for letter in self._new.values())
            if healed:
                await self._patiently(lambda: self._store.remove_dead_letters(self._connector_id, healed))
                self._healed.difference_update(healed)
        if len(self._known) > self._limit:
            last = f"; the last reason was: {letters[-1].reason}" if letters else ""
            raise DeadLetterLimitError(
                f"{len(self._known)} documents of {self._connector_id} could not be indexed: more than "
                f"sync.max_dead_letters ({self._limit}) allows{last}. All of them are kept. "
                "Mend the cause or raise it, then sync again"
            )

    def forget_vanished(self) -> None:
        """After a complete enumeration: withdraws the letters of documents that it did not list."""
        for document_id in self._known.keys() - self._met:
            self.healed(document_id)
