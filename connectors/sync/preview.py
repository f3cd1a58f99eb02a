"""What sync rules would make of a source's documents, and of those that the index holds. Nothing is written.

One reading of the source shows the first documents with the rule that decides about each, and, if it is to count, goes
on to the end: each id is looked up among the stamps of the index, in arrays on disk, so that memory stays flat.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from connectors.backends.ports import HASH_SIZE, Destination, IndexHandle
from connectors.byoc import Filter
from connectors.errors import SyncError
from connectors.filtering.basic_rule import BasicRule, BasicRuleEngine
from connectors.filtering.fields import compile_lookup
from connectors.runtime import Runtime
from connectors.source import BaseDataSource, Checkpoint, Document, Skipped
from connectors.sync.contract import opened, told
from connectors.sync.dropped import DroppedDocuments
from connectors.sync.encode import id_digest
from connectors.sync.guard import Limits
from connectors.sync.intake import Intake
from connectors.sync.ledger import Ledger, LedgerLog
from connectors.utils import truncate

__all__ = ["Counting", "Decided", "Impact", "Preview", "Verdict"]

_PAGE: Final = 256
_SLICE: Final = 0.004
_LONGEST_VALUE: Final = 200
_MAX_REASONS: Final = 20


@dataclass(frozen=True, slots=True)
class Verdict:
    """What would become of one document.

    Attributes:
        id: as it stands in the index; None for what has none.
        kept: None for what could not be read.
        rule: the one that decides, the default rule too; None for what could not be read.
        reason: the rule in words, or why it could not be read.
        value: what the rule found in its field, as text that is cut short; None where it looked at none.
    """

    id: str | None
    kept: bool | None
    rule: BasicRule | None
    reason: str
    value: str | None = None


@dataclass(slots=True)
class Decided:
    """How many documents one rule decided about, and how many of the index it would delete."""

    rule: BasicRule
    documents: int = 0
    deletes: int = 0


@dataclass(frozen=True, slots=True)
class Counting:
    """What it takes to count what a full sync with the rules would do to the index.

    Attributes:
        handle: None where there is no index yet.
    """

    destination: Destination
    handle: IndexHandle | None
    limits: Limits


@dataclass(frozen=True, slots=True)
class Impact:
    """What a full sync with the rules would do to the index.

    Attributes:
        held: documents that the index holds of the connector.
        added: documents that it does not hold and would.
        dropped: documents that it holds, and that the rules would delete.
        unlisted: documents that it holds, and that the source does not list, with its advanced rules.
        stopped: whether the deletion guard would stop that sync.
    """

    held: int
    added: int
    dropped: int
    unlisted: int
    stopped: bool

    @property
    def deleted(self) -> int:
        """Documents that would be deleted, for either reason."""
        return self.dropped + self.unlisted


class Preview:
    """One preview; its attributes can be looked at while it runs.

    Args:
        rules: valid ones.
        limit: documents to show.
        counting: None: reading ends at the limit.

    Attributes:
        verdicts: what would become of the first documents.
        shown: set when `verdicts` is complete.
        read, kept, dropped, unreadable: documents so far.
        by_rule: what each rule decided, in the order of the rules, the default rule last.
        incomplete: reasons why the source's list is not complete; a sync then deletes nothing.
        impact: None until everything is counted.
    """

    def __init__(
        self, source: BaseDataSource, rules: Filter, *, limit: int, runtime: Runtime, counting: Counting | None = None
    ) -> None:
        self._source = source
        self._rules = rules
        self._limit = limit
        self._runtime = runtime
        self._counting = counting
        self._count: _Count | None = None
        self._engine = BasicRuleEngine.from_records(rules.basic_rules)
        self._intake = Intake(source, source.service_type, self._engine, full=True)
        self.by_rule = [Decided(rule) for rule in (*self._engine.rules, self._engine.default)]
        self._decided = {id(each.rule): each for each in self.by_rule}
        self.verdicts: list[Verdict] = []
        self.shown = asyncio.Event()
        self.read = self.kept = self.dropped = self.unreadable = 0
        self.incomplete: list[str] = []
        self.impact: Impact | None = None

    async def run(self) -> None:
        """Reads, and counts.

        Raises:
            SyncError: the source yielded what a sync could not take.
            Exception: whatever the source or the destination raises.
        """
        if self._counting is None:
            await self._read()
        else:
            with _temporary_folder() as folder:
                self._count = _Count(self._engine, await _held(self._counting, folder, self._runtime), folder)
                try:
                    await self._read()
                    self.impact = await self._runtime.in_thread(self._weigh, self._count, self._counting.limits)
                finally:
                    self._count.close()
        self.shown.set()

    def _weigh(self, count: _Count, limits: Limits) -> Impact:
        dropped = count.dropped.by_rule()
        for rule, number in dropped:
            self._decided[id(rule)].deletes = number
        by_rules = sum(number for _, number in dropped)
        held, gone = len(count.ledger), count.ledger.vanished_count
        if not self._source.lists_all:  # what the rules drop goes one by one, and nothing else
            return Impact(held, count.added(), by_rules, 0, stopped=False)
        empty = not self.kept and not count.ledger.seen_count
        stopped = not self.incomplete and limits.stop(held=held, vanished=gone, empty=empty)
        return Impact(held, count.added(), by_rules, gone - by_rules, stopped)

    # Reading

    async def _read(self) -> None:
        slice_ends = self._runtime.monotonic() + _SLICE
        async with opened(self._source.get_docs(self._rules), self._source.service_type) as stream:
            async for item in stream:
                if isinstance(item, Skipped):
                    self._skip(item)
                elif not isinstance(item, Checkpoint):
                    try:
                        document, lazy_download, *_ = item
                        self._take(document)
                    except (TypeError, ValueError, AttributeError) as error:
                        raise told(error, item, self._source.service_type) from None
                    if lazy_download is not None:
                        await lazy_download(doit=False)
                if len(self.verdicts) >= self._limit:
                    self.shown.set()
                    if self._counting is None:
                        return
                if self._runtime.monotonic() >= slice_ends:
                    await asyncio.sleep(0)
                    slice_ends = self._runtime.monotonic() + _SLICE
        if self._count is not None:
            self._count.look_up()

    def _take(self, document: Document) -> None:
        # The rules see what the source yields, as in a sync: before `serialize`.
        rule = self._engine.explain(document)
        value = _value(rule, document) if len(self.verdicts) < self._limit else None
        document_id = self._id(self._source.serialize(document), needed=rule.is_include)
        self.read += 1
        self._decided[id(rule)].documents += 1
        if rule.is_include:
            self.kept += 1
        else:
            self.dropped += 1
        if self._count is not None and document_id is not None:
            self._count.take(document_id, document, rule)
        if len(self.verdicts) < self._limit:
            self.verdicts.append(Verdict(document_id, rule.is_include, rule, str(rule), value))

    def _skip(self, item: Skipped) -> None:
        self.read += 1
        self.unreadable += 1
        document_id = None
        if item.id is not None:
            document_id = self._intake.identify(item.id)
            if self._count is not None:
                self._count.take(document_id, {}, None)  # a dead letter stays in the index
        elif len(self.incomplete) < _MAX_REASONS:
            self.incomplete.append(item.reason)
        if len(self.verdicts) < self._limit:
            self.verdicts.append(Verdict(document_id, None, None, item.reason))

    def _id(self, document: Document, *, needed: bool) -> str | None:
        """Returns the id in the index; None where there is none, which a sync minds of documents that rules keep."""
        given = document.get("_id")
        if given not in (None, ""):
            return self._intake.identify(given)
        if needed:
            raise SyncError(
                f"the source {self._source.service_type} yielded a document without `_id`; every document needs one "
                "that is the same in each sync"
            )
        return None


class _Count:
    """What the index holds, and what of it was met. Blocks on a local disk for moments only."""

    def __init__(self, engine: BasicRuleEngine, ledger: Ledger, folder: Path) -> None:
        self.ledger = ledger
        self.dropped = DroppedDocuments(engine, ledger)
        self._new = LedgerLog(folder / "new.log")
        self._page: list[bytes] = []

    def take(self, document_id: str, document: Document, rule: BasicRule | None) -> None:
        """Notes a document that `rule` keeps or drops; None: one that is there but could not be read."""
        if rule is not None and not rule.is_include:
            self.dropped.add(document_id, document, rule)
            return
        self._page.append(id_digest(document_id))
        if len(self._page) >= _PAGE:
            self.look_up()

    def look_up(self) -> None:
        """Looks up what has gathered."""
        digests = b"".join(self._page)
        found = self.ledger.mark_seen(digests)
        new = [digest for digest, known in zip(self._page, found.tolist(), strict=True) if not known]
        if new:
            self._new.append(b"".join(new), bytes(HASH_SIZE * len(new)), [0] * len(new))
        self._page.clear()

    def added(self) -> int:
        """Returns how many documents are kept that the index does not hold; one that is listed twice counts once."""
        return self._new.distinct()

    def close(self) -> None:
        self._new.close()


async def _held(counting: Counting, folder: Path, runtime: Runtime) -> Ledger:
    """Reads from the index what it holds of the connector."""
    ledger, stamps = Ledger(folder), LedgerLog(folder / "index.stamps")
    try:
        if counting.handle is not None:
            async with aclosing(cast("Any", counting.destination.stamps(counting.handle))) as pages:
                async for page in pages:
                    number = len(page.hashes) // HASH_SIZE
                    stamps.append(page.digests, page.hashes, [0] * number)
        await runtime.in_thread(ledger.rebuild, stamps)
    finally:
        stamps.close()
    return ledger


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="connectors-preview-") as name:
        yield Path(name)


def _value(rule: BasicRule, document: Document) -> str | None:
    """Returns what a rule looks at, as people read it."""
    if rule.is_default:
        return None
    found: Callable[[Document], Any] = compile_lookup(rule.field)
    return truncate(str(found(document)), _LONGEST_VALUE)
