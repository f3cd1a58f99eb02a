"""What the driver raises, as errors that say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pymongo import errors

from connectors.errors import ConfigurationError, ConnectorsError, RetryableError, SyncError

__all__ = ["CURSOR_LOST", "as_ours", "code_of", "heed_cancellation", "translated"]

#: The cursor is gone, and the same question can be asked again behind what it has told already: it was not asked for
#: its next batch in time, it used up the time of one query, somebody killed it, its plan lost an index.
CURSOR_LOST: Final = frozenset({43, 50, 175, 237, 11601})

_CREDENTIALS: Final = frozenset({18, 8000})
_FORBIDDEN: Final = 13
_TOO_SLOW: Final = 50
#: The server is shutting down, stepping down, or busy; the driver did not try these again by itself.
_PASSING: Final = frozenset({6, 7, 24, 43, 89, 91, 112, 175, 189, 237, 262, 9001, 10107, 11600, 11602, 13435, 13436})


def code_of(error: errors.PyMongoError) -> int | None:
    """Returns the server's number of an error, None where the driver itself raised it."""
    return error.code if isinstance(error, errors.OperationFailure) else None


def heed_cancellation() -> None:
    """Raises CancelledError where this task was cancelled, and the driver went on all the same.

    The driver waits by `asyncio.wait_for`, which before Python 3.12 drops a cancellation that comes at the very moment
    at which what it waits for is done.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raises what the driver raises as an error of ours; `what` was being done, such as `shop.orders: reading`."""
    try:
        yield
    except errors.PyMongoError as error:
        raise as_ours(error, what) from error
    heed_cancellation()


def as_ours(error: errors.PyMongoError, what: str) -> ConnectorsError:
    """Returns the error that says what failed and what to do about it."""
    text = _first_words(error)
    if isinstance(error, errors.OperationFailure):
        return _refused(error, what, text)
    if isinstance(error, errors.InvalidURI | errors.ConfigurationError | errors.InvalidName):
        if "timed out" in text or "timeout" in text:  # the name server, which is asked about mongodb+srv addresses
            return RetryableError(f"{what}: {text}")
        return ConfigurationError(f"{what}: {text}; mend the address and its options", field="host")
    if isinstance(error, errors.ConnectionFailure):
        if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
            return ConfigurationError(
                f"{what}: the server's certificate is not trusted ({text}); give the authority behind it in ssl_ca",
                field="ssl_ca",
            )
        return RetryableError(f"{what}: the server does not answer, or hung up: {text}")
    return SyncError(f"{what}: {text}")


def _refused(error: errors.OperationFailure, what: str, text: str) -> ConnectorsError:
    code = error.code
    if code in _CREDENTIALS:
        return ConfigurationError(
            f"{what}: the server refuses the user or the password ({text}); check them, and authSource in the address",
            field="password",
        )
    if code == _FORBIDDEN:
        return ConfigurationError(
            f"{what}: the user may not do that ({text}); grant the role read on the database", field="user"
        )
    if code == _TOO_SLOW:
        return RetryableError(
            f"{what}: the query took longer than query_timeout; raise it, or give the server an index for the rule"
        )
    if code in _PASSING or error.has_error_label("RetryableReadError"):
        return RetryableError(f"{what}: {text}")
    return SyncError(f"{what}: the server refuses: {text} (code {code})")


def _first_words(error: errors.PyMongoError) -> str:
    """Returns the message without the server's whole answer and the driver's view of the cluster."""
    return str(error).split(", full error:")[0].split(", Timeout:")[0].split(" (configured timeouts:")[0]
