"""Records as they come out of an index, where anybody may have written them; what does not fit counts as absent."""

from __future__ import annotations

from connectors.backends.server.documents import Document
from connectors.byoc import Connector, SyncJob

__all__ = ["connector_of", "is_removed", "job_of"]


def connector_of(document: Document) -> Connector:
    """Reads a connector's record."""
    return Connector.from_record(document.id, document.source, version=document.version)


def is_removed(document: Document) -> bool:
    """Whether a connector's record is only there to say that it was removed: so the Connectors API does it."""
    return document.source.get("deleted") is True


def job_of(document: Document) -> SyncJob:
    """Reads a job's record."""
    return SyncJob.from_record(document.id, document.source, version=document.version)
