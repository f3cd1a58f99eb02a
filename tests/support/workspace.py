"""A folder with documents and a config file, and the project's own processes that work on it."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson
import yaml

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.ports import DIGEST_SIZE, IndexHandle
from connectors.byoc import JobStatus, SyncJob
from connectors.sync.counters import Counters

__all__ = ["FILES", "Daemon", "Ended", "Workspace", "eventually"]

T = TypeVar("T")

_PATIENCE: Final = 20.0
_LOOK: Final = 0.05
#: What `fill_slowly` makes.
FILES: Final = 2000
_SLOW_SOURCE: Final = """
import asyncio
from contextlib import aclosing

from connectors.sources.directory import DirectoryDataSource


class SlowDataSource(DirectoryDataSource):
    service_type = "slow"

    async def get_docs(self, filtering=None, *, checkpoint=None):
        async with aclosing(super().get_docs(filtering, checkpoint=checkpoint)) as items:
            async for item in items:
                yield item
                await asyncio.sleep(0.001)
"""
#: So that the processes run the code that the tests import, wherever another copy of it is installed.
_CODE: Final = str(Path(__file__).parents[2])
_PR_CAPBSET_DROP: Final = 24
_CAP_DAC_OVERRIDE: Final = 1
_CAP_DAC_READ_SEARCH: Final = 2


def eventually(condition: Callable[[], bool], what: str, within: float = _PATIENCE) -> None:
    """Looks again and again until the condition holds; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"this did not come true within {within:g} s: {what}"
        time.sleep(_LOOK)


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be JSON and nothing else."""
        return json.loads(self.out)


class Daemon:
    """A running daemon, whose log goes into a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text("utf-8")

    def says(self, text: str, times: int = 1, within: float = _PATIENCE) -> None:
        """Waits until the text stands in the log."""
        deadline = time.monotonic() + within
        while self.log.count(text) < times:
            assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < deadline, f"no {text!r} within {within:g} s in:\n{self.log}"
            time.sleep(_LOOK)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(_PATIENCE)


class Workspace:
    """One folder of documents, one connector `docs`, one embedded index.

    Attributes:
        docs: the folder that is synced.
        config: path of the config file.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.docs = root / "docs"
        self.docs.mkdir()
        self.config = root / "config.yml"
        self._daemons = 0
        self.configure()

    def configure(self, *, connectors: Sequence[dict[str, Any]] | None = None, **blocks: Any) -> None:
        """Writes the config file: quick polls, a free port, and what is given instead of the usual."""
        data: dict[str, Any] = {
            "service": {"poll_interval": "100ms", "heartbeat_interval": "1s", "lease": "30s"},
            "web": {"port": 0},
            "connectors": [self.connector()] if connectors is None else list(connectors),
        }
        for name, block in blocks.items():
            data[name] = {**data.get(name, {}), **block}
        # In one step, as editors do it: a daemon that watches the file never sees half of it.
        draft = self.config.with_suffix(".new")
        draft.write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
        draft.replace(self.config)

    @staticmethod
    def connector(name: str = "docs", **keys: Any) -> dict[str, Any]:
        """Returns the block of one connector, which syncs every second."""
        return {
            "id": name,
            "service_type": "directory",
            "index": name,
            "configuration": {"directory": "docs"},
            "scheduling": {"full": "every 1s"},
            **keys,
        }

    def write(self, name: str, text: str) -> Path:
        """Writes a document."""
        path = self.docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def module(self, name: str, source: str) -> None:
        """Writes a Python module that the project's processes can import."""
        (self.root / f"{name}.py").write_text(source, "utf-8")

    def fill_slowly(self) -> None:
        """Makes a sync that takes some seconds: `FILES` files, from a source that dawdles."""
        for position in range(FILES):
            self.write(f"{position % 10}/{position:05}.txt", f"common text of number {position}")
        self.module("slow_source", _SLOW_SOURCE)
        self.configure(
            connectors=[self.connector(service_type="slow")],
            sources={"slow": "slow_source:SlowDataSource"},
            sync={"checkpoint_interval": "100ms"},
        )

    def run(self, *args: str, unprivileged: bool = False, **environment: str) -> Ended:
        """Runs one command to its end.

        Args:
            unprivileged: permissions of files count for it, even if we are root.
            environment: variables in addition to ours.
        """
        done = subprocess.run(
            self._command(*args),
            capture_output=True,
            check=False,
            cwd=self.root,
            encoding="utf-8",
            env=self._environment() | environment,
            stdin=subprocess.DEVNULL,
            preexec_fn=_obey_permissions if unprivileged else None,
            timeout=60,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def daemon(self, *args: str) -> Iterator[Daemon]:
        """Starts `connectors run`; kills it at the end, if it still runs."""
        self._daemons += 1
        log = self.root / f"daemon-{self._daemons}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                self._command("run", *args), cwd=self.root, env=self._environment(), stdout=file, stderr=file
            )
        try:
            yield Daemon(process, log)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(_PATIENCE)

    @contextmanager
    def started(self, *args: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Starts one command with pipes; kills it at the end, if it still runs."""
        process = subprocess.Popen(
            self._command(*args),
            cwd=self.root,
            encoding="utf-8",
            env=self._environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        with process:  # closes the pipes
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    # Looking into the index, without the start of a process for each look

    def hits(self, words: str, index: str = "docs") -> list[str]:
        """Returns the ids of up to a thousand hits; none while there is no such index."""

        async def search(backend: EmbeddedBackend) -> list[str]:
            if index not in await backend.destination.indices():
                return []
            return [hit.id for hit in (await backend.destination.search(index, words, limit=1000)).hits]

        return self._look(search)

    def jobs(self) -> list[SyncJob]:
        """Returns all jobs, newest first."""
        return self._look(lambda backend: backend.store.jobs(limit=1000))

    def read_so_far(self) -> int:
        """Returns how many documents the running job has read."""
        running = [job for job in self.jobs() if job.status == JobStatus.IN_PROGRESS]
        return Counters.from_dict(running[0].metadata.get("counters")).read if running else 0

    def has_read(self, *, more_than: int) -> bool:
        """Whether the running job has read more documents than that."""
        return self.read_so_far() > more_than

    def texts(self, index: str = "docs", connector: str = "docs") -> dict[str, str]:
        """Returns path → text of every document that the index holds of the connector."""

        async def fetch(backend: EmbeddedBackend) -> dict[str, str]:
            info = await backend.destination.info(index)
            assert info is not None
            handle = IndexHandle(index, info.uuid, connector, "")
            digests: list[bytes] = []
            async for page in backend.destination.stamps(handle):
                digests += [page.digests[at : at + DIGEST_SIZE] for at in range(0, len(page.digests), DIGEST_SIZE)]
            ids = [found for _, found in await backend.destination.find_ids(handle, digests)]
            documents = map(orjson.loads, (await backend.destination.fetch(index, ids)).values())
            return {document["path"]: document.get("body", "") for document in documents}

        return self._look(fetch)

    def on_disk(self) -> dict[str, str]:
        """Returns path → text of every file, as the extraction gives it."""
        files = (path for path in self.docs.rglob("*") if path.is_file())
        return {str(path.relative_to(self.docs)): path.read_text("utf-8").strip() for path in files}

    def _look(self, work: Callable[[EmbeddedBackend], Awaitable[T]]) -> T:
        async def opened() -> T:
            backend = await EmbeddedBackend.open(self.root / "data" / "connectors.db")
            try:
                return await work(backend)
            finally:
                await backend.close()

        return asyncio.run(opened())

    def _command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "connectors", "--config", str(self.config), *args]

    def _environment(self) -> dict[str, str]:
        dropped = {"CONNECTORS_CONFIG", "FORCE_COLOR", "NO_COLOR", "COLUMNS"}
        kept = {name: value for name, value in os.environ.items() if name not in dropped}
        return kept | {"PYTHONUTF8": "1", "PYTHONPATH": os.pathsep.join((str(self.root), _CODE))}


def _obey_permissions() -> None:
    """Takes root's right to read everything from the process that is about to start."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "prctl")
