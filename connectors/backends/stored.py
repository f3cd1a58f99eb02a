"""What a store keeps besides the records of the connector protocol: leases, states, dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from connectors.byoc import Connector, SyncJob

__all__ = ["Claim", "ClaimRequest", "ConnectorState", "DeadLetter", "Lease"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a connector's content sync. `epoch` grows with each claim and fences off earlier owners."""

    connector_id: str
    worker: str
    epoch: int
    expires_at: float  # seconds since the Unix epoch


@dataclass(frozen=True, slots=True)
class ConnectorState:
    """What the connector protocol does not know of a connector.

    Attributes:
        epoch: of the last claim.
        worker: owner of the lease, None when nobody holds it.
        expires_at: end of the lease, seconds since the Unix epoch.
        data: what the sync keeps between jobs: checkpoint, fingerprints, what the ledger is valid for.
    """

    connector_id: str
    epoch: int = 0
    worker: str | None = None
    expires_at: float = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A job that a worker wants to take.

    Attributes:
        job, connector: as they were read.
        job_changes, connector_changes: fields that they get with the claim.
    """

    job: SyncJob
    connector: Connector
    job_changes: Mapping[str, Any]
    connector_changes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that a worker has taken: the lease of its connector, and the records as they are since."""

    lease: Lease
    job: SyncJob
    connector: Connector
    state: ConnectorState


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document that could not be indexed, kept whole. One per connector and `_id`; a newer one replaces it.

    Attributes:
        operation: what failed: "index", "delete", "update" or "download".
        body: the document as JSON bytes, without a file that could not be fetched; None where there is none, and in a
            list of letters.
        size: of the body in bytes; None where there is none.
        version, content_hash, fingerprint: of the operation that was refused, to send it again just as it was.
    """

    connector_id: str
    id: str
    operation: str
    reason: str
    job_id: str
    created_at: datetime
    body: bytes | None = None
    version: int | None = None
    content_hash: bytes | None = None
    fingerprint: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        """Takes the size of the body."""
        if self.body is not None:
            object.__setattr__(self, "size", len(self.body))

    @property
    def replayable(self) -> bool:
        """Whether the operation is there in full."""
        return self.version is not None and (self.size is not None or self.operation == "delete")

    def listed(self) -> DeadLetter:
        """Returns it without its body, as lists have it."""
        return replace(self, body=None)
