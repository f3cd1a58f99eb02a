"""What the servers of databases for tests share: where one comes from, its folder, its start, its end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Final, Self
from urllib.parse import SplitResult, urlsplit

import pytest

from tests.servers.docker import container_name, engine_answers
from tests.servers.java import MissingError
from tests.servers.process import Keep, Kept
from tests.servers.search import ServerError

__all__ = ["PASSWORD", "DatabaseServer", "contained"]

#: Of the user with all rights, on servers that are started here.
PASSWORD: Final = "correct-horse-battery"
_PATIENCE: Final = 120.0  # seconds; pulling an image is part of it


class DatabaseServer(ABC):
    """One server: `with PostgresServer() as server:`, or `start()` and `stop()`.

    It is one that an address in the environment names, which is used as it is and must be one for tests; else one in a
    container; else one that is started here. The latter two listen on 127.0.0.1 only, and are gone with their data
    after `stop()` or when this process dies.

    Args:
        settings: more settings of the server, by name. A server that the environment names cannot be given any, so
            then one is started all the same.

    Attributes:
        title: of the product, for people.
        address: the variable that names a server.
        image: of the container; its port is `container_port`.
        locks: files that would keep the next server away from the data of a killed one.
        must_run: whether continuous integration fails without it.
    """

    title: ClassVar[str]
    address: ClassVar[str]
    image: ClassVar[str]
    container_port: ClassVar[int]
    locks: ClassVar[tuple[str, ...]] = ()
    must_run: ClassVar[bool] = True

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self._settings = dict(settings or {})
        self._kept: list[Kept] = []
        self._keep: Keep | None = None
        self._folder: Path | None = None
        self._named = False
        self.host = "127.0.0.1"
        self.port = 0

    # What a product says

    @classmethod
    @abstractmethod
    def native_obstacle(cls) -> str | None:
        """Says why none can be started here, as a sentence for people; None when one can."""

    @abstractmethod
    def _native(self, folder: Path) -> Keep:
        """Prepares a server of this machine, with its data in the folder; raises MissingError, ServerError."""

    @abstractmethod
    def _container(self, folder: Path, run: list[str]) -> Keep:
        """Prepares a server in a container; `run` is the command up to the options of the product."""

    @abstractmethod
    def _use(self, address: SplitResult) -> None:
        """Takes over what an address says."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether the server takes work; what a start that goes on raises is no answer."""

    def _end(self, folder: Path) -> None:  # noqa: B027 - most leave nothing
        """Asks a server of this machine to let go of what outlives its processes."""

    # What all do

    @classmethod
    def obstacle(cls) -> str | None:
        """Says why no server can run here, as a sentence for people; None when one can."""
        return None if os.environ.get(cls.address) or engine_answers() else cls.native_obstacle()

    @classmethod
    def or_skip(cls, **settings: str) -> Self:
        """Returns a started server; skips the test where none can run (continuous integration fails then)."""
        try:
            return cls(settings=settings).start()
        except MissingError as missing:
            if cls.must_run and os.environ.get("CI"):
                pytest.fail(str(missing), pytrace=False)
            pytest.skip(str(missing))
        except ServerError as problem:
            pytest.fail(str(problem), pytrace=False)

    def start(self) -> Self:
        """Returns when the server takes work; raises ServerError, MissingError."""
        if self._named or self._kept:
            return self
        if (address := os.environ.get(self.address)) and not self._settings:
            self._named = True
            self._use(urlsplit(address))
            if not self._answers():
                raise ServerError(f"the server that {self.address} names does not answer")
            return self
        if (reason := self.obstacle()) is not None:
            raise MissingError(reason)
        self.port = _free_port()
        self._folder = folder = Path(tempfile.mkdtemp(prefix=f"connectors-{self.title.lower()}-"))
        try:
            self._keep = self._container(folder, self._docker()) if engine_answers() else self._native(folder)
            self._run(self._keep)
        except BaseException:  # an interrupted start, too, must leave nothing behind
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends the server and deletes its data; may be called twice."""
        if self._kept and self._folder is not None:
            self._end(self._folder)
        while self._kept:
            self._kept.pop().stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def is_ours(self) -> bool:
        """True for a server of this machine that was started here, and may be killed."""
        return bool(self._kept) and not engine_answers()

    def kill(self) -> None:
        """Kills the server with all of its processes, as a power cut would; its data stay."""
        assert self._folder is not None
        pids = self._kept[-1].processes()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        while not self._kept[-1].ended:
            time.sleep(0.02)
        for lock in self.locks:
            (self._folder / lock).unlink(missing_ok=True)

    def start_again(self) -> None:
        """Starts a server that was killed, on the same port and data."""
        assert self._keep is not None
        self._run(self._keep)

    def wait(self) -> None:
        """Returns when the server takes work, after it was shaken too; raises ServerError."""
        until = time.monotonic() + _PATIENCE
        while not self._answers():
            if (self._kept and self._kept[-1].ended) or time.monotonic() > until:
                printed = self._kept[-1].log() if self._kept else ""
                raise ServerError(f"{self.title} did not start. It printed:\n{printed}")
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _docker(self) -> list[str]:
        published = f"{self.host}:{self.port}:{self.container_port}"
        return ["docker", "run", "--rm", "--name", container_name(), "--publish", published]

    def _run(self, keep: Keep) -> None:
        self._kept.append(Kept(keep))
        self.wait()


def contained(folder: Path, command: list[str]) -> Keep:
    """Returns how to keep a container that `docker run` starts by this command."""
    name = command[command.index("--name") + 1]
    last = ["docker", "rm", "--force", "--volumes", name]
    return Keep(command=command, folder=str(folder), log=str(folder / "server.log"), last=last)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
