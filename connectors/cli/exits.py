"""Exit codes, and how an error is told."""

from __future__ import annotations

import sys
import traceback
from enum import IntEnum
from typing import Final

from connectors import __version__
from connectors.errors import (
    ConfigurationError,
    ConnectorsError,
    NotFoundError,
    RetryableError,
    SuspendSync,
    describe,
)
from connectors.logger import mask
from connectors.utils import escape_controls

__all__ = ["Exit", "explain"]


class Exit(IntEnum):
    """What the shell learns of a command; usage errors are click's own 2."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    DEFECT = 70
    INTERRUPTED = 130


_CODES: Final[tuple[tuple[type[ConnectorsError], Exit], ...]] = (
    (ConfigurationError, Exit.CONFIGURATION),
    (NotFoundError, Exit.NOT_FOUND),
    (RetryableError, Exit.UNAVAILABLE),
    (SuspendSync, Exit.UNAVAILABLE),
    (ConnectorsError, Exit.FAILED),
)


def explain(error: Exception, *, verbose: bool) -> Exit:
    """Tells on stderr what happened, and returns the exit code.

    An error that the project raises on purpose is one message; any other is a defect, and its traceback is shown.
    """
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    expected = isinstance(error, ConnectorsError)
    if verbose or not expected:
        _print(mask("".join(traceback.format_exception(error))).rstrip())
    if not expected:
        _print(
            f"Error: connectors {__version__} has met a fault of its own: {mask(describe(error))}\n"
            "Nothing that was acknowledged is lost. Please report it with the lines above, what you ran, and the part "
            "of config.yml that it is about, without its secrets."
        )
        return Exit.DEFECT
    # The problems of a config file are one a line; any other message is one line as it is.
    message = str(error) if isinstance(error, ConfigurationError) else describe(error)
    _print(f"Error: {mask(message)}")
    return next(code for kind, code in _CODES if isinstance(error, kind))


def _print(text: str) -> None:
    for line in text.split("\n"):
        print(escape_controls(line), file=sys.stderr)
