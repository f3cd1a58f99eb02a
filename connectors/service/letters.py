"""What operators do with dead letters: look at them, send them again, drop them.

A letter is sent again just as it was refused: with the version, the hash and the fingerprint of then. So a newer write
of the same document stays, whoever made it, and the next sync takes the document for what it is: unchanged if the
source still has it like that, changed if not. The connector's lease is held meanwhile, since a sync that runs beside it
would not know of the document and never delete it.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from connectors.backends.ports import (
    DeadLetter,
    Destination,
    Failure,
    FailureKind,
    IndexHandle,
    IndexInfo,
    Lease,
    Operation,
    Store,
)
from connectors.backends.records import no_letter
from connectors.byoc import Connector
from connectors.errors import NotFoundError, RetryableError, SuspendSync, describe
from connectors.filtering.basic_rule import BasicRuleEngine
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.service.hold import hold
from connectors.sync.encode import decode, id_digest
from connectors.sync.page import INCOMPARABLE
from connectors.sync.patience import Patience
from connectors.utils import truncate

__all__ = ["LetterOutcome", "Letters", "document_text", "plain_document"]

#: Letters that are read, and bytes of documents that are sent, at a time.
_PAGE: Final = 50
_BATCH_BYTES: Final = 5_000_000
#: Seconds for which a destination that does not take them is tried again.
_PATIENCE: Final = 30.0
_WHY_KEPT: Final = {
    "download": "its file could not be fetched and is no part of the letter; the next full sync tries it again",
    "update": "there is no whole document to send; the next full sync tries it again",
}
_NOTHING: Final = "there is nothing to send: what failed had no document yet; the next full sync tries it again"


@dataclass(frozen=True, slots=True)
class LetterOutcome:
    """What became of a letter that was to be sent again.

    Attributes:
        outcome: "indexed", "deleted" or "superseded" (the index has a newer version), and the letter is gone;
            "refused", "filtered" (by the sync rules of now) or "kept" (it cannot be sent), and the letter stays.
        reason: why, where it stays.
    """

    id: str
    outcome: str
    reason: str = ""

    @property
    def gone(self) -> bool:
        """Whether there is no such letter any more."""
        return self.outcome in {"indexed", "deleted", "superseded"}


class Letters:
    """The dead letters of all connectors.

    Args:
        worker: name of this process.
    """

    def __init__(self, store: Store, destination: Destination, runtime: Runtime, worker: str) -> None:
        self._store = store
        self._destination = destination
        self._runtime = runtime
        self._worker = worker

    async def drop(self, connector_id: str, ids: Sequence[str] | None) -> int:
        """Forgets these letters, or all; returns their number. Raises NotFoundError for one that is not there."""
        if ids is not None:
            await self._check(connector_id, ids)
        return await self._store.remove_dead_letters(connector_id, ids)

    async def replay(self, connector: Connector, ids: Sequence[str] | None) -> list[LetterOutcome]:
        """Sends these letters again, or all of the connector; those that the index takes are gone.

        Raises:
            NotFoundError: there is no such letter, or no index to write to; nothing was sent.
            ConflictError: a sync of the connector runs; nothing was sent.
            RetryableError: the destination took no more of them; the rest stays.
            SuspendSync: somebody has to mend something before documents can be written.
        """
        if ids is not None:
            await self._check(connector.id, ids)
        outcomes: list[LetterOutcome] = []
        async with hold(self._store, connector.id, self._worker, self._runtime) as lease:
            index = await self._index(connector)
            keep = BasicRuleEngine.from_records(connector.active_filter.basic_rules).should_ingest
            async for letters in self._pages(connector.id, ids):
                page = [_unsent(letter, keep) for letter in letters]
                again = [letter for letter, unsent in zip(letters, page, strict=True) if unsent is None]
                for batch in _batches(again):
                    outcomes += await self._send(connector, index, batch, lease)
                outcomes += [unsent for unsent in page if unsent is not None]
        return outcomes

    async def _check(self, connector_id: str, ids: Sequence[str]) -> None:
        known = await self._store.dead_letter_ids(connector_id)
        for document_id in ids:
            if document_id not in known:
                raise no_letter(connector_id, document_id)

    async def _index(self, connector: Connector) -> IndexInfo:
        info = None
        if connector.index_name:
            info = await self._destination.info(connector.index_name, connector.pipeline)
        if info is None:
            raise NotFoundError(
                f"{connector.id} has no index to write to; its next sync makes it: connectors sync {connector.id}"
            )
        return info

    async def _pages(self, connector_id: str, ids: Sequence[str] | None) -> AsyncIterator[list[DeadLetter]]:
        if ids is not None:
            for document_id in dict.fromkeys(ids):
                yield [await self._store.dead_letter(connector_id, document_id)]
            return
        after: str | None = None
        while page := await self._store.dead_letters(connector_id, limit=_PAGE, after=after, bodies=True):
            yield page
            after = page[-1].id

    async def _send(
        self, connector: Connector, index: IndexInfo, letters: Sequence[DeadLetter], lease: Callable[[], Lease]
    ) -> list[LetterOutcome]:
        """Sends letters of one fingerprint, and removes or renews each by what became of it."""
        # The fingerprint of then: if it is another one by now, the next sync writes the document anew, as it must.
        handle = IndexHandle(index.name, index.uuid, connector.id, letters[0].fingerprint, connector.pipeline)
        failures = await self._write(handle, letters, lease)
        outcomes = [_outcome(letter, failures.get(letter.id)) for letter in letters]
        gone = [outcome.id for outcome in outcomes if outcome.gone]
        if gone:
            await self._store.remove_dead_letters(connector.id, gone)
        now = self._runtime.now()
        refused = [
            replace(letter, reason=outcome.reason, created_at=now)
            for letter, outcome in zip(letters, outcomes, strict=True)
            if not outcome.gone
        ]
        if refused:
            await self._store.add_dead_letters(refused)
        return outcomes

    async def _write(
        self, handle: IndexHandle, letters: Sequence[DeadLetter], lease: Callable[[], Lease]
    ) -> dict[str, Failure]:
        """Writes until each has its outcome; returns the failures by id."""
        patience = Patience(f"writing to {handle.index}", _PATIENCE, self._runtime)
        failures: dict[str, Failure] = {}
        waiting = list(letters)
        while waiting:
            lease()
            retry_after: float | None = None
            try:
                result = await self._destination.write(handle, [_operation(letter) for letter in waiting])
            except RetryableError as error:
                retry_after, reason = error.retry_after, describe(error)
            else:
                again: list[DeadLetter] = []
                retry_after, reason = result.retry_after, ""
                for position, failure in result.failures.items():
                    letter = waiting[position]
                    if failure.kind is FailureKind.OVERLOADED:
                        again.append(letter)
                        reason = failure.reason
                    else:
                        failures[letter.id] = failure
                waiting = again
            if waiting:
                await _pause(patience, reason, retry_after)
        return failures


async def _pause(patience: Patience, reason: str, retry_after: float | None) -> None:
    try:
        await patience.pause(reason, retry_after)
    except SuspendSync:
        raise RetryableError(
            f"the index takes no documents at the moment: {reason}. What was not written stays a dead letter; try again"
        ) from None


def document_text(body: bytes, longest: int = 1000) -> str:
    """Returns a document as indented JSON for people; texts (a file in base64, say) beyond `longest` characters are
    cut, and their length is told."""
    return json.dumps(_shortened(plain_document(body), longest), indent=2, ensure_ascii=False)


def plain_document(body: bytes) -> dict[str, Any]:
    """Returns a document as it can be shown: a number that is beyond all that programs calculate with as text."""
    document: dict[str, Any] = json.loads(body, parse_float=_plain_number, parse_int=_plain_number)
    return document


def _plain_number(text: str) -> float | str:
    try:
        number = int(text) if text.lstrip("-").isdigit() else float(text)
    except ValueError:  # Python makes no numbers of thousands of digits
        return text
    return number if math.isfinite(number) else text


def _shortened(value: Any, longest: int) -> Any:
    if isinstance(value, str) and len(value) > longest:
        return f"{truncate(value, longest)} ({len(value):,} characters)"
    if isinstance(value, dict):
        return {key: _shortened(item, longest) for key, item in value.items()}
    return [_shortened(item, longest) for item in value] if isinstance(value, list) else value


def _unsent(letter: DeadLetter, keep: Callable[[dict[str, object]], bool]) -> LetterOutcome | None:
    """Returns why a letter is not sent, None for one that is."""
    if not letter.replayable:
        return LetterOutcome(letter.id, "kept", _WHY_KEPT.get(letter.operation, _NOTHING))
    if letter.body is not None and not keep({**decode(letter.body), "_id": letter.id}):
        return LetterOutcome(letter.id, "filtered", "the sync rules keep it out by now; the next full sync removes it")
    return None


def _batches(letters: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """Yields letters of one fingerprint, and of not too many bytes, at a time."""
    batch: list[DeadLetter] = []
    size = 0
    for letter in sorted(letters, key=lambda each: each.fingerprint):
        length = len(letter.body or b"")
        if batch and (letter.fingerprint != batch[0].fingerprint or size + length > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(letter)
        size += length
    if batch:
        yield batch


def _operation(letter: DeadLetter) -> Operation:
    version, content_hash = letter.version or 0, letter.content_hash or INCOMPARABLE
    return Operation(letter.id, id_digest(letter.id), content_hash, version, letter.body)


def _outcome(letter: DeadLetter, failure: Failure | None) -> LetterOutcome:
    if failure is None:
        return LetterOutcome(letter.id, "deleted" if letter.body is None else "indexed")
    if failure.kind is FailureKind.SUPERSEDED:
        return LetterOutcome(letter.id, "superseded")
    return LetterOutcome(letter.id, "refused", mask(failure.reason))
