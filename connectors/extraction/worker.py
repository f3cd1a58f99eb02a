"""What runs inside a worker process: limits, then one file after another.

The module is imported by a fresh interpreter, so it imports nothing that is not needed at once; each format's library
is loaded with the first file of that format.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
import warnings
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import TypeAlias

from connectors.extraction.detect import Kind
from connectors.extraction.errors import UnreadableFileError
from connectors.extraction.text import Extracted, clean, clean_title, decode

__all__ = ["OUT_OF_MEMORY", "Outcome", "extract_in_worker", "prepare_worker", "read_file"]

Outcome: TypeAlias = Extracted | str | None
"""What was taken out, None where there is no text, or the reason why it cannot be had.
Plain values, since an exception of a library may not survive pickling."""

OUT_OF_MEMORY = 77
"""Exit status of a worker that met its memory limit."""

_PR_SET_PDEATHSIG = 1


def prepare_worker(memory: int, parent: int) -> None:
    """Sets the limits of this process; the first thing that a worker does.

    Args:
        memory: bytes of address space that it may use (Linux; other systems know no such limit that works).
        parent: process id of the daemon, with which the worker ends in any case.
    """
    logging.disable(logging.CRITICAL)  # the libraries' remarks on broken files help nobody
    warnings.simplefilter("ignore")
    _end_with_parent(parent)
    # openpyxl loads numpy where it finds it and needs nothing of it here: 100 MB of address space less.
    sys.modules["numpy"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = memory if allowed == resource.RLIM_INFINITY else min(memory, allowed)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _end_with_parent(parent: int) -> None:
    """Makes this process end with its parent, also when that one is killed and this one is in an endless loop."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it went before the kernel knew of our wish
            os._exit(1)
    else:
        daemon = parent_process()
        if daemon is not None:
            threading.Thread(target=_watch, args=(daemon.sentinel,), daemon=True).start()


def _watch(sentinel: int) -> None:
    """Ends this process when the daemon has ended; for systems whose kernel does not do it."""
    wait([sentinel])
    os._exit(1)


def extract_in_worker(content: bytes, kind: Kind, limit: int) -> Outcome:
    """Returns what one file says, or why that cannot be had. Ends the process when memory runs out."""
    try:
        return read_file(content, kind, limit)
    except UnreadableFileError as error:
        return str(error)
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # a process that could not allocate is in no state for the next file
    except ImportError as error:
        return f"cannot be read: {error}; is everything installed? pip install 'connectors[extraction]'"
    except RecursionError:
        return "is nested too deeply"
    except Exception as error:  # noqa: BLE001 - parsers of hostile files raise whatever they like; all of it means this
        return f"is broken: {' '.join(str(error).split())[:300] or type(error).__name__}"


def read_file(content: bytes, kind: Kind, limit: int) -> Extracted | None:
    """Returns the cleaned text of a file, of at most `limit` characters, and its title; None when it has no text.

    Raises:
        UnreadableFileError: why it cannot be read, to be put behind "the file".
        Exception: whatever a parser raises for a file that is broken in its own way.
    """
    raw = _read_raw(content, kind, limit * 2)
    return raw if raw is None else Extracted(clean(raw.text, limit), clean_title(raw.title))


def _read_raw(content: bytes, kind: Kind, limit: int) -> Extracted | None:
    match kind:
        case Kind.TEXT:
            return Extracted(decode(content))
        case Kind.MARKDOWN:
            from connectors.extraction.formats.markdown import read_markdown

            return read_markdown(decode(content))
        case Kind.HTML:
            from connectors.extraction.formats.html import read_html

            return read_html(content, limit)
        case Kind.CSV:
            from connectors.extraction.formats.data import csv_to_text

            return Extracted(csv_to_text(decode(content), limit))
        case Kind.JSON:
            from connectors.extraction.formats.data import json_to_text

            return Extracted(json_to_text(decode(content), limit))
        case Kind.PDF:
            from connectors.extraction.formats.pdf import read_pdf

            return read_pdf(content, limit)
        case Kind.ZIP:
            from connectors.extraction.formats.office import read_office

            return read_office(content, limit)
        case Kind.ENCRYPTED:
            raise UnreadableFileError("is encrypted: it cannot be read without its password")
