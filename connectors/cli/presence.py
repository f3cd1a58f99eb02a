"""Tells whether a daemon runs on a data folder of this machine.

A daemon holds a shared lock on a file there for as long as it lives; the kernel gives it back however the process
ends. It decides only where a job is best run. That no job runs twice is the business of leases.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from connectors.errors import ConfigurationError

__all__ = ["daemon_runs", "present"]

_FILE: Final = "daemon.lock"


@contextmanager
def present(data_dir: Path) -> Iterator[None]:
    """Shows others that a daemon runs; raises ConfigurationError where the folder cannot be written."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / _FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"the folder {data_dir} cannot be written: {error.strerror}; name another one, or give this user the right",
            field="service.data_dir",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def daemon_runs(data_dir: Path) -> bool:
    """Whether a daemon of this machine runs on the folder."""
    try:
        descriptor = os.open(data_dir / _FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
