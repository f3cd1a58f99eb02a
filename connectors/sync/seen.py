"""The seen log: the ids that this job's enumeration has met, on local disk, durable before its checkpoint.

Digests are appended, never sorted or updated. A job that resumes reads them back, so that what was seen before the
interruption counts when vanished documents are deleted. A log that is not there in full (another machine, a cleared
disk) is told from a complete one by its token and length. The file stays until the next job begins one, since the end
of this job may be stored later than the log is done with.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from connectors.backends.ports import DIGEST_SIZE
from connectors.utils import file_name

__all__ = ["SeenLog"]

_TOKEN_SIZE: Final = 16
_CHUNK: Final = DIGEST_SIZE * 65_536


class SeenLog:
    """Appends digests to one file; `length` counts them."""

    def __init__(self, file: BinaryIO, token: str, length: int) -> None:
        self._file = file
        self._path = Path(file.name)
        self.token = token
        self.length = length

    @classmethod
    def create(cls, folder: Path, job_id: str) -> SeenLog:
        """Starts an empty log in place of whatever the folder holds."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        token = secrets.token_bytes(_TOKEN_SIZE)
        file = _path(folder, job_id).open("wb+")
        file.write(token)
        return cls(file, token.hex(), 0)

    @classmethod
    def reopen(cls, folder: Path, job_id: str, token: str, length: int, *, of: str | None = None) -> SeenLog | None:
        """Takes the first `length` digests of the log of an interrupted job; None when it is not there in full.

        Args:
            of: the job, where that is another one than `job_id`, to which the log belongs from then on.
        """
        path = _path(folder, of or job_id)
        needed = _TOKEN_SIZE + length * DIGEST_SIZE
        try:
            before = path.open("rb")
        except OSError:
            return None
        with before:
            if before.read(_TOKEN_SIZE).hex() != token or path.stat().st_size < needed:
                return None
            # A copy: a worker that lost the job, and has not noticed yet, appends to a file that nobody reads.
            before.seek(0)
            path = _path(folder, job_id)
            log = cls(path.with_suffix(".new").open("wb+"), token, length)
            try:
                for start in range(0, needed, _CHUNK):
                    log._file.write(before.read(min(_CHUNK, needed - start)))
                log.sync()
                log._path.replace(path)
            except BaseException:  # a full disk, say
                with suppress(OSError):
                    log.close()
                raise
        log._path = path
        return log

    def append(self, digests: bytes) -> None:
        """Adds joined digests; buffered."""
        self._file.write(digests)
        self.length += len(digests) // DIGEST_SIZE

    def sync(self) -> None:
        """Makes everything that was appended durable; blocks."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def read(self) -> Iterator[bytes]:
        """Yields joined digests, from the start."""
        self._file.flush()
        with self._path.open("rb") as file:
            file.seek(_TOKEN_SIZE)
            while chunk := file.read(_CHUNK):
                yield chunk

    def close(self) -> None:
        """Closes the file and leaves it."""
        self._file.close()


def _path(folder: Path, job_id: str) -> Path:
    return folder / f"{file_name(job_id)}.seen"
