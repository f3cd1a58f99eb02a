"""What one sync job is given, and what it reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket
from typing import Any, Final, Protocol

from xxhash import xxh3_64_hexdigest

from connectors.backends.ports import DIGEST_SIZE, ConnectorState, Documents, IndexHandle, IndexInfo, JobStore, Lease
from connectors.byoc import Connector, Filter, JobType, SyncJob
from connectors.config import SyncConfig
from connectors.runtime import Runtime
from connectors.source import BaseDataSource
from connectors.sync.counters import Counters
from connectors.sync.encode import ENCODING_VERSION
from connectors.sync.limits import FlightLimit
from connectors.sync.watch import Watch

#: Of the metadata of a job that mends the index; `again` has the ids, as digests, of what it writes in any case.
RECONCILE: Final = "reconcile"

__all__ = ["RECONCILE", "Extractor", "Observer", "ReaderPlan", "ReaderProcess", "SyncContext", "SyncResult"]


class ExtractedText(Protocol):
    """What was taken out of a file."""

    @property
    def text(self) -> str:
        """Everything that a reader sees."""
        ...

    @property
    def title(self) -> str | None:
        """The title that the file itself bears, if any."""
        ...


class Extractor(Protocol):
    """Takes text and title out of a file's content."""

    async def extract(self, content: bytes, *, name: str, mime_type: str | None = None) -> ExtractedText | None:
        """Returns text and title, None where the format has none; raises SkippableError when it cannot be read."""
        ...

    def fingerprint(self) -> str:
        """Returns text that changes when the same content gives another text or title."""
        ...


class Observer(Protocol):
    """Is told of progress, for metrics and progress bars."""

    def begin(self, connector_id: str, counters: Counters) -> None:
        """A job begins with these counters: zeros, or those of the earlier part of a job that goes on."""
        ...

    def progress(self, connector_id: str, counters: Counters, queued: int) -> None:
        """Takes the counters of the job so far and the number of operations that wait."""
        ...

    def stalled(self, connector_id: str, seconds: float) -> None:
        """Takes for how long a sync has been without progress, when that is too long; 0 when it is so no more."""
        ...


class ReaderProcess(Protocol):
    """A process that runs `reading.Reader`."""

    @property
    def end(self) -> socket:
        """Our end of the socket to it."""
        ...

    async def ended(self, seconds: float) -> bool:
        """Waits for its end, so long at most; returns whether it came."""
        ...

    async def kill(self) -> None:
        """Ends it at once."""
        ...

    @property
    def how_it_ended(self) -> str:
        """How it ended, in words."""
        ...


@dataclass(frozen=True, slots=True)
class ReaderPlan:
    """How readers are made, and how many there may be at the same time."""

    number: int
    start: Callable[[], Awaitable[ReaderProcess]]


@dataclass(slots=True)
class SyncContext:
    """Everything that one sync job works with.

    Attributes:
        lease: returns the lease, renewed by somebody else; raises LeaseLostError as soon as it may not be ours.
        state: the connector's state as it was when the lease was taken.
        stop: set when the job is to suspend: drain what is in flight, store the checkpoint, return.
        folder: for the ledger and the seen log of this connector.
        configuration_fingerprint: changes when the connector's configuration or its rules do; a checkpoint made under
            another one is not used.
        made_with: digests of "settings", "basic_rules" and "advanced_rules", to tell which of them changed since the
            last completed sync.
        watch: is told what the sync waits for.
    """

    connector: Connector
    job: SyncJob
    source: BaseDataSource
    filtering: Filter
    destination: Documents
    store: JobStore
    index: IndexInfo
    lease: Callable[[], Lease]
    state: ConnectorState
    config: SyncConfig
    runtime: Runtime
    folder: Path
    stop: asyncio.Event
    limit: FlightLimit
    logger: logging.Logger | logging.LoggerAdapter[Any]
    configuration_fingerprint: str
    max_delete_ratio: float
    drain_timeout: float
    extractor: Extractor | None = None
    observer: Observer | None = None
    readers: ReaderPlan | None = None
    watch: Watch = field(default_factory=Watch)
    made_with: Mapping[str, str] = field(default_factory=dict)

    def changed(self, part: str) -> bool:
        """Whether a part of `made_with` is known to be another one than when a full sync last completed."""
        before = self.state.data.get("made_with") or {}
        return part in before and before[part] != self.made_with.get(part)

    @property
    def job_type(self) -> JobType:
        """Full or incremental."""
        return JobType(self.job.job_type)

    @property
    def handle(self) -> IndexHandle:
        """This connector's view of the index, which its documents' stamps tell of."""
        extraction = self.extractor.fingerprint() if self.extractor else "-"
        made_by = f"{ENCODING_VERSION}/{self.index.fingerprint}/{extraction}"
        return IndexHandle(
            index=self.index.name,
            uuid=self.index.uuid,
            connector_id=self.connector.id,
            fingerprint=xxh3_64_hexdigest(made_by.encode()),
            pipeline=self.connector.pipeline,
        )

    @property
    def basis(self) -> dict[str, Any]:
        """What a checkpoint is valid for, besides its job."""
        return {
            "configuration": self.configuration_fingerprint,
            "uuid": self.index.uuid,
            "mends": self.mends or None,  # before the wish, documents were compared with a ledger, not with the stamps
        }

    @property
    def mends(self) -> bool:
        """Whether the job is to make the index equal to the source, whatever the ledger says."""
        return isinstance(self.job.metadata.get(RECONCILE), Mapping)

    @property
    def write_again(self) -> bytes | None:
        """Joined digests of the documents that count as changed, whatever their stamps say; None: all do."""
        if self.state.data.get("rewrite"):
            return None
        given: Any = self.job.metadata.get(RECONCILE) if self.mends else {}
        again = given.get("again", [])
        try:
            digests = bytes.fromhex("".join(again))
        except (TypeError, ValueError):  # another tool may write anything
            return None
        return digests if len(digests) % DIGEST_SIZE == 0 else None


@dataclass(slots=True)
class SyncResult:
    """How a sync ended that did not raise.

    Attributes:
        suspended: it was asked to stop before the end.
        resumed: it went on behind a checkpoint, and so saw the rest only.
        incomplete: reasons why the enumeration was not complete; nothing was deleted then.
        needs_full: a full sync is due, since this one could not delete, or wrote changes to an index that none filled.
        provisional: a late write of an earlier claim may still change the index, which a later sync has to see.
        state: changes of the connector's state that go with the final commit.
        cursor: where the next incremental sync starts, if the source said.
    """

    counters: Counters
    suspended: bool = False
    resumed: bool = False
    incomplete: list[str] = field(default_factory=list)
    needs_full: bool = False
    provisional: bool = False
    state: dict[str, Any] = field(default_factory=dict)
    cursor: Any = None
