"""The errors of the project, typed by what the caller should do about them.

::

    ConnectorsError
    ├── ConfigurationError            mend the configuration; trying again is useless
    │   └── InvalidFilteringError     a sync rule is invalid; the sync refuses to run
    ├── RetryableError                try again, after `retry_after` seconds when it is known
    ├── SyncError                     fatal for this sync; the next scheduled one starts afresh
    │   ├── SuspendSync               suspend the job: credentials, a missing or blocked index; go on when mended
    │   ├── DeletionGuardError        the sync would delete too much; the operator decides
    │   ├── DeadLetterLimitError      so many documents are refused that something else is wrong
    │   ├── IndexChangedError         the index was deleted or recreated during the sync
    │   ├── StalledError              the sync made no progress, and the operator wants it given up then
    │   ├── FullSyncNeededError       an incremental sync lost its position; a full one is queued
    │   └── LeaseLostError            another worker owns the connector now; send nothing more
    ├── SkippableError                costs this one document, which becomes a dead letter
    ├── NotFoundError                 the named connector, job or index does not exist
    ├── ConflictError                 the record was changed by somebody else; read it again
    └── SyncCanceledError             the operator cancelled

Messages say what happened, where, and what to do. Functions return or raise; none logs an error and goes on.
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "ConflictError",
    "ConnectorsError",
    "DeadLetterLimitError",
    "DeletionGuardError",
    "FullSyncNeededError",
    "IndexChangedError",
    "InvalidFilteringError",
    "LeaseLostError",
    "NotFoundError",
    "RetryableError",
    "SkippableError",
    "StalledError",
    "SuspendSync",
    "SyncCanceledError",
    "SyncError",
    "describe",
]


class ConnectorsError(Exception):
    """Root of every error that the project raises on purpose."""


class ConfigurationError(ConnectorsError):
    """Something in a configuration must be changed by a person.

    Args:
        message: what is wrong and what to write instead.
        field: the configuration key that is at fault, if it is one.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidFilteringError(ConfigurationError):
    """Sync rules do not validate; the message lists every problem with its rule."""


class RetryableError(ConnectorsError):
    """A passing fault: the same call may succeed later.

    Args:
        message: what failed.
        retry_after: seconds to wait before the next try, where the backend told us.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SyncError(ConnectorsError):
    """This sync cannot go on."""


class SuspendSync(SyncError):  # noqa: N818 - an instruction to the runner, named for what it does
    """The sync waits, suspended, for a person to mend credentials, an index or a disk."""


class DeletionGuardError(SyncError):
    """The sync would have deleted more than the operator allows.

    Args:
        message: what would be deleted, the cause that can be seen, and how to allow it.
        vanished: number of documents that would have been deleted.
    """

    def __init__(self, message: str, *, vanished: int) -> None:
        super().__init__(message)
        self.vanished = vanished


class DeadLetterLimitError(SyncError):
    """More documents were refused than the limit of dead letters allows."""


class IndexChangedError(SyncError):
    """The index is not the one that the sync started with."""


class StalledError(SyncError):
    """The sync made no progress for as long as the operator allows; the next one goes on behind its checkpoint."""


class FullSyncNeededError(SyncError):
    """Changes cannot be followed from where the last sync ended, so a full sync is queued.

    Args:
        reason: what was lost, and where.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}: only a full sync makes the index true again, and it is queued")


class LeaseLostError(SyncError):
    """This worker no longer owns the connector."""


class SkippableError(ConnectorsError):
    """One document cannot be read, fetched or converted; the sync goes on without it."""


class NotFoundError(ConnectorsError):
    """A connector, job or index that was named does not exist."""


class ConflictError(ConnectorsError):
    """A record changed between reading and writing it."""


class SyncCanceledError(ConnectorsError):
    """The sync was cancelled by the operator."""


def describe(error: BaseException) -> str:
    """Returns one line for people: the message, with the class name only where the message alone says little."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return describe(error.exceptions[0])
    text = " ".join(str(error).split())
    if isinstance(error, ConnectorsError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
