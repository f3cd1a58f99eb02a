"""The daemons of a soak: started, killed, frozen and started again, each with local files of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Final

import yaml

__all__ = ["Daemon", "Fleet"]

ROOT: Final = Path(__file__).parents[2]
#: Seconds between two disturbances, at most; how long a frozen daemon stays so; how long a clean end may take.
_CALM: Final = 7.0
_FROZEN: Final = (2.0, 9.0)
_ENDING: Final = 60.0
_PEAK: Final = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


class Daemon:
    """One daemon: as if it were a machine of its own, it keeps its files when it dies."""

    def __init__(self, name: str, folder: Path, config: Mapping[str, Any]) -> None:
        self.name = name
        self.peak = 0  # bytes of memory that were resident, at most
        self.log = folder / f"{name}.log"
        self._config = folder / f"{name}.yml"
        service = {**config["service"], "data_dir": str(folder / name), "worker_name": name}
        self._config.write_text(yaml.safe_dump({**config, "service": service}), "utf-8")
        self._environment = {**os.environ, "COUNTED_LOG": str(folder)}
        self._process: subprocess.Popen[bytes] | None = None
        self._log_begins = 0

    def start(self) -> None:
        """Starts it; its log grows over all its lives."""
        with self.log.open("ab") as log:
            self._log_begins = log.tell()
            command = [sys.executable, "-m", "connectors", "--config", str(self._config), "run"]
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=self._environment)

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, if it still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    async def wait(self) -> int:
        """Returns the exit code once it has ended."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, _ENDING)

    @property
    def greeted(self) -> bool:
        """Whether it came so far in this life that it listens to signals."""
        with self.log.open("rb") as log:
            log.seek(self._log_begins)
            return b"index: " in log.read()

    def measure(self) -> None:
        """Looks how much memory it has used at most in this life."""
        if self._process is not None and self.alive:
            try:
                status = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
            except OSError:
                return  # it died under our hands
            if (found := _PEAK.search(status)) is not None:
                self.peak = max(self.peak, int(found[1]) * 1024)


class Fleet:
    """All daemons of a soak, and what is done to them.

    Attributes:
        done: how often each disturbance took place.
    """

    def __init__(self, daemons: list[Daemon], *, seed: int) -> None:
        self.daemons = daemons
        self.done: Counter[str] = Counter()
        self._random = Random(seed)
        self._thaws: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Starts those that do not run."""
        for daemon in self.daemons:
            if not daemon.alive:
                daemon.start()

    async def disturb(self, seconds: float) -> None:
        """Kills, suspends and freezes daemons for so many seconds; a killed one is started again after a moment."""
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._random.uniform(1.0, _CALM)))
            daemon = self._random.choice(self.daemons)
            kind = self._random.choices(("kill -9", "SIGTERM", "frozen"), (7, 1, 2))[0]
            self.done[kind] += 1
            if kind == "frozen":
                self._freeze(daemon, self._random.uniform(*_FROZEN))
                continue
            daemon.signal(signal.SIGCONT)
            daemon.signal(signal.SIGKILL if kind == "kill -9" else signal.SIGTERM)
            code = await daemon.wait()
            fine = kind == "kill -9" or code == 0 or (code == -signal.SIGTERM and not daemon.greeted)
            assert fine, f"{daemon.name} ended with {code}: see {daemon.log}"
            await asyncio.sleep(self._random.uniform(0.0, 1.5))
            daemon.start()
        await asyncio.gather(*self._thaws)
        self.start()

    def _freeze(self, daemon: Daemon, seconds: float) -> None:
        daemon.signal(signal.SIGSTOP)

        async def thaw() -> None:
            await asyncio.sleep(seconds)
            daemon.signal(signal.SIGCONT)

        task = asyncio.create_task(thaw())
        self._thaws.add(task)
        task.add_done_callback(self._thaws.discard)

    async def watch(self) -> None:
        """Measures until cancelled; a daemon that ends unasked is an error."""
        while True:
            for daemon in self.daemons:
                daemon.measure()
            await asyncio.sleep(0.5)

    async def stop(self) -> None:
        """Ends all by SIGTERM; raises AssertionError when one does not end cleanly."""
        for daemon in self.daemons:
            daemon.signal(signal.SIGTERM)
        for daemon in self.daemons:
            code = await daemon.wait()
            assert code == 0, f"{daemon.name} ended with {code} after SIGTERM: see {daemon.log}"

    def kill(self) -> None:
        """Ends all at once, whatever they do."""
        for daemon in self.daemons:
            daemon.signal(signal.SIGKILL)
