"""A document's way into a page: rules, the source's own `serialize`, its id, its bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from connectors.errors import SkippableError, SyncError, describe
from connectors.filtering.basic_rule import BasicRuleEngine
from connectors.source import BaseDataSource, Document, LazyDownload
from connectors.sync.contract import OPERATIONS, short
from connectors.sync.encode import MAX_ID_BYTES
from connectors.sync.page import Page, Refused

if TYPE_CHECKING:
    from connectors.sync.dropped import DroppedDocuments

__all__ = ["EXCLUDE", "Intake"]

#: In an incremental sync the rules keep a document out that the index may hold: it goes at once.
EXCLUDE: Final = "exclude"


class Intake:
    """Puts what one source yields into pages.

    Args:
        full: whether the sync lists everything, so that what a rule keeps out need not be deleted by itself.
        dropped: takes what the rules drop, where somebody wants to know.
    """

    def __init__(
        self,
        source: BaseDataSource,
        service_type: str,
        engine: BasicRuleEngine,
        *,
        full: bool,
        dropped: DroppedDocuments | None = None,
    ) -> None:
        self._source = source
        self._service_type = service_type
        self._keep: Callable[[Document], bool] | None = None if engine.is_trivial else engine.should_ingest
        self._serialize = _own_serialize(source)
        self._operations = ("index",) if full else OPERATIONS
        self._full = full and source.lists_all
        self._dropped = dropped

    def keeps(self, document: Document) -> bool:
        """Whether the rules let a whole document pass."""
        return self._keep is None or self._keep(document)

    def take(
        self, page: Page, document: Document, lazy: LazyDownload | None, operation: str = "index"
    ) -> Refused | None:
        """Adds one document to the page, or counts it as filtered there; returns it where it has no JSON form.

        Raises:
            SyncError: the source breaks the contract.
        """
        page.read += 1
        # What an update leaves out may decide about it, so it is asked when it is whole.
        if operation == "index" and self._keep is not None and not self._keep(document):
            if self._full:
                page.filtered += 1
                if self._dropped is not None:
                    self._note_dropped(self._dropped, document)
                return None
            operation = EXCLUDE
        if self._serialize is not None:
            document = self._serialize(document)
            if not isinstance(document, dict):
                raise SyncError(f"serialize() of the source {self._service_type} returned {short(document)}, no dict")
        try:
            given = document.pop("_id")
        except KeyError:
            raise SyncError(
                f"the source {self._service_type} yielded a document without `_id`; "
                "every document needs one that is the same in each sync"
            ) from None
        document_id = self.identify(given)
        if operation != "index" and operation is not EXCLUDE and operation not in self._operations:
            if self._operations is not OPERATIONS:
                raise SyncError(
                    f"get_docs() of the source {self._service_type} yielded the operation {operation!r} for "
                    f'"{document_id}"; it lists what there is, and get_docs_incrementally() what became of it'
                )
            raise SyncError(
                f"the source {self._service_type} yielded the operation {operation!r} for "
                f'"{document_id}"; write "index", "update" or "delete"'
            )
        refused = None
        try:
            page.add(document_id, document, lazy, operation)
        except SkippableError as error:
            page.read -= 1
            refused = Refused(document_id, describe(error))
        # The dict is the source's, and its download may look into it.
        document["_id"] = given
        return refused

    def _note_dropped(self, dropped: DroppedDocuments, document: Document) -> None:
        """Notes what the changed rules drop. One without an id is in no index."""
        written = document if self._serialize is None else self._serialize(document)
        if written.get("_id") not in (None, ""):
            dropped.add(self.identify(written["_id"]), document)

    def identify(self, given: Any) -> str:
        """Returns an id in the form in which it is sent: text that the servers take."""
        document_id = given if isinstance(given, str) else str(given)
        if not document_id or given is None:
            raise SyncError(
                f"the source {self._service_type} yielded a document with an empty `_id`; "
                "every document needs one that is the same in each sync"
            )
        if document_id.isascii():
            fits = len(document_id) <= MAX_ID_BYTES
        else:
            try:
                fits = len(document_id.encode()) <= MAX_ID_BYTES
            except UnicodeEncodeError:
                fits = False  # lone surrogates have no place in an id
        return document_id if fits else self._source.hash_id(document_id)


def _own_serialize(source: BaseDataSource) -> Callable[[Document], Document] | None:
    """Returns the source's `serialize` if it has one of its own: the encoder needs none."""
    return None if type(source).serialize is BaseDataSource.serialize else source.serialize
