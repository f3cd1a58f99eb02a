"""What PostgreSQL and its driver complain of, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from connectors.errors import ConfigurationError, ConnectorsError, FullSyncNeededError, RetryableError, SyncError
from connectors.sources.relational import TableDeniedError, TableGoneError

__all__ = ["FullSyncNeededError", "translate", "translated"]

#: What the server says while it is right to wait. A refused connection bears no code, only the message.
_PASSING: Final = (
    "starting up",
    "shutting down",
    "recovery mode",
    "not yet accepting connections",
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "administrator command",
)
#: What is said of TLS that does not come about, rather than of a connection that ends.
_TLS: Final = (
    "certificate",
    "private key",
    "does not support SSL",
    "sslmode",
    "sslrootcert",
    "alert ",
    "wrong version",
)
_RETRYABLE_CLASSES: Final = frozenset({"08", "40", "53", "57", "58"})
_GONE: Final = frozenset({"42P01", "42703", "3F000"})
_DENIED: Final = "42501"
_CANCELLED: Final = "57014"
_LOCKED: Final = "55P03"
_IN_USE: Final = "55006"
_DROPPED_DATABASE: Final = "57P04"


def translate(error: psycopg.Error, what: str) -> ConnectorsError:
    """Returns the error to raise instead: what was tried, what the server said, what to do."""
    said = _said(error)
    state = error.sqlstate
    if state is None:
        return _connecting(said, what)
    if state in _GONE:
        return TableGoneError(f"{what}: {said}")
    if state == _DENIED:
        return TableDeniedError(f"{what}: {said}; grant the user the right to it")
    if state == _CANCELLED:
        return RetryableError(
            f"{what}: {said}; raise the time-out that ended it (statement_timeout on the server), or read less at once"
        )
    if state == _LOCKED:
        return RetryableError(f"{what}: {said}; another transaction holds a lock for too long")
    if state == _IN_USE:
        return RetryableError(f"{what}: {said}; another connection uses it, perhaps one that has not ended yet")
    if state[:2] in {"28", "3D"} or state == _DROPPED_DATABASE:
        return ConfigurationError(f"{what}: {said}; mend the database, the user or the password")
    if state[:2] in _RETRYABLE_CLASSES:
        return RetryableError(f"{what}: {said}")
    if state[:2] in {"42", "25", "22", "0A"}:
        return ConfigurationError(f"{what}: {said}")
    return SyncError(f"{what}: {said} (SQLSTATE {state})")


def _said(error: psycopg.Error) -> str:
    diagnosis = error.diag.message_primary
    text = " ".join(str(diagnosis or error).split()).rstrip(".;")
    return f"{text} ({error.diag.message_hint.rstrip('.')})" if error.diag.message_hint else text


def _connecting(said: str, what: str) -> ConnectorsError:
    if "FATAL" in said and not any(words in said for words in _PASSING):
        return ConfigurationError(f"{what}: {said}; mend the database, the user or the password")
    if "FATAL" not in said and any(words in said for words in _TLS):
        return ConfigurationError(f"{what}: {said}; mend the ssl_… settings", field="ssl_enabled")
    return RetryableError(f"{what}: {said}")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turns the driver's errors into ours; `what` names what was tried, for the message."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, what) from error
