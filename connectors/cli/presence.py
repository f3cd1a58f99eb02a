"""Tells whether a daemon runs on a data folder of this machine.

A daemon holds a shared lock on a file there for as long as it lives; the kernel gives it back however the process
ends. It decides only where a job is best run. That no job runs twice is the business of leases.

Each worker holds a lock on a file of its own besides, which says who it is.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connectors.errors import ConfigurationError

__all__ = ["Enrolled", "daemon_runs", "enrolled", "present", "workers_here"]

_FILE: Final = "daemon.lock"
_WORKERS: Final = "workers"


@contextmanager
def present(data_dir: Path) -> Iterator[None]:
    """Shows others that a daemon runs; raises ConfigurationError where the folder cannot be written."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / _FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _not_writable(data_dir, error) from error
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
        return _is_locked(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A worker of this machine: its number in its daemon, and its name in leases and jobs."""

    number: int
    name: str


@contextmanager
def enrolled(data_dir: Path, name: str, number: int) -> Iterator[None]:
    """Shows others that this process is a worker of a daemon; raises ConfigurationError where it cannot."""
    path = data_dir / _WORKERS / f"{os.getpid()}.json"
    try:
        path.parent.mkdir(exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_TRUNC, 0o600)
    except OSError as error:
        raise _not_writable(path.parent, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps({"number": number, "name": name}).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def workers_here(data_dir: Path) -> list[Enrolled]:
    """Returns the workers of this machine on the folder, by daemon and number; files of dead ones are removed."""
    found: list[tuple[float, Enrolled]] = []
    for path in (data_dir / _WORKERS).glob("*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):  # it ends, or begins, at this very moment
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _is_locked(descriptor):
                    content = json.loads(os.read(descriptor, 4096))
                    found.append((path.stat().st_mtime, Enrolled(int(content["number"]), str(content["name"]))))
                else:
                    path.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
    return [worker for _, worker in sorted(found, key=lambda each: (each[1].number, each[0]))]


def _not_writable(folder: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the folder {folder} cannot be written: {error.strerror}; name another one, or give this user the right",
        field="service.data_dir",
    )


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
