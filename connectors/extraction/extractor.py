"""`TextExtractor`: small plain files right here, everything else in worker processes."""

from __future__ import annotations

from typing import Final

from connectors.extraction.detect import Kind, detect
from connectors.extraction.errors import ExtractionError
from connectors.extraction.formats.markdown import read_markdown
from connectors.extraction.pool import WorkerPool
from connectors.extraction.text import Extracted, clean, clean_title
from connectors.extraction.worker import OUT_OF_MEMORY, extract_in_worker

__all__ = ["TextExtractor"]

_BEHAVIOUR: Final = 3
"""Raised by hand whenever the same file gives another text or title than before."""

_LIBRARIES: Final = ("charset-normalizer", "lxml", "openpyxl", "pypdf")

# Bytes up to which a valid UTF-8 file is converted on the event loop. The worst content of that size (nothing but line
# ends, nothing but backslashes) was measured at four milliseconds; prose takes one. A worker costs a hop of 0.2.
_HERE: Final = {Kind.TEXT: 64 * 1024, Kind.MARKDOWN: 16 * 1024}


class TextExtractor:
    """Text out of files, safe against hostile ones: a file can cost its own text and some seconds, never more.

    Args:
        workers: number of worker processes, at most; they are started when they are first needed.
        timeout: seconds that one file may take.
        memory: bytes of address space that one worker may use (enforced on Linux).
        max_text_chars: characters of text that are kept of one file; the rest is cut off.

    Raises:
        ValueError: one of them is not positive.
    """

    def __init__(self, *, workers: int, timeout: float, memory: int, max_text_chars: int) -> None:
        if workers < 1 or timeout <= 0 or memory < 1 or max_text_chars < 1:
            raise ValueError("workers, timeout, memory and max_text_chars must all be positive")
        self._timeout = timeout
        self._memory = memory
        self._max_text_chars = max_text_chars
        self._workers = workers
        self._pool: WorkerPool | None = None

    async def start(self) -> None:
        """Gets ready; starts no process yet."""
        self._pool = WorkerPool(self._workers, self._timeout, self._memory)

    async def close(self) -> None:
        """Ends all worker processes; may be called more than once. Calls under way raise SyncError."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.stop()

    def fingerprint(self) -> str:
        """Returns a short text that changes whenever the same file may give another text or title than before."""
        return ";".join([f"{_BEHAVIOUR}", f"max_text_chars={self._max_text_chars}", *map(_version, _LIBRARIES)])

    async def extract(self, content: bytes, *, name: str, mime_type: str | None = None) -> Extracted | None:
        """Returns text and title of a file, None when its format has no text for us (a picture, say).

        Both hold no control characters, NULs or lone surrogates, so they always encode to UTF-8.

        Args:
            content: the whole file.
            name: its name or path: for messages, and to tell formats apart that look alike.
            mime_type: what the source says it is, if anything.

        Raises:
            ExtractionError: the file is broken, encrypted or refused, or took too much time or memory.
            SyncError: no worker process can be started, or the extractor was closed meanwhile.
        """
        kind = detect(content, name, mime_type)
        if kind is None:
            return None
        if len(content) <= _HERE.get(kind, 0):
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError:
                pass  # in another encoding, whose guess takes too long for the event loop
            else:
                raw = read_markdown(text) if kind is Kind.MARKDOWN else Extracted(text)
                return Extracted(clean(raw.text, self._max_text_chars), clean_title(raw.title))
        return await self._extract_in_worker(content, kind, name or "attachment")

    async def _extract_in_worker(self, content: bytes, kind: Kind, name: str) -> Extracted | None:
        from pebble import ProcessExpired

        if self._pool is None:
            raise RuntimeError("TextExtractor is used before start() or after close()")
        try:
            outcome = await self._pool.run(extract_in_worker, content, kind, self._max_text_chars)
        except TimeoutError:
            raise ExtractionError(f"{name}: the text extraction took longer than {self._timeout:g} s") from None
        except ProcessExpired as error:
            raise ExtractionError(f"{name}: the text extraction {self._death(error.exitcode)}") from None
        if isinstance(outcome, str):
            raise ExtractionError(f"{name}: the {_noun(kind)} {outcome}")
        return outcome

    def _death(self, exitcode: int) -> str:
        if exitcode == OUT_OF_MEMORY:
            return f"needed more than {_size(self._memory)} of memory"
        return f"died over this file (exit status {exitcode})"


def _noun(kind: Kind) -> str:
    return {Kind.ZIP: "Office file", Kind.ENCRYPTED: "Office file", Kind.TEXT: "file"}.get(kind, kind.value)


def _size(count: int) -> str:
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= factor:
            return f"{count / factor:.4g} {unit}"
    return f"{count} bytes"


def _version(library: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"{library}={version(library)}"
    except PackageNotFoundError:
        return f"{library}=none"
