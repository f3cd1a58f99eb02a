"""i. More than one core: the same connectors on a daemon of one process, and of two (`service.workers`).

Four connectors, in which nothing has changed, are due at the same moment. What counts is the time from the beginning of
their first job to the end of their last one: nearly all of it is the framework's own work, so that a second core
shows. Both daemons take turns on the same folder.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from bench.figures import FOLDER, Bench, environment, generated_connectors, run_once, working_folder, write_config

__all__ = ["measure"]

_CONNECTORS = 4
_WORKERS = (1, 2)
_ROUNDS = 3
_EVERY = 10
_PATIENCE = 120.0


def measure(scale: float) -> Bench:
    """Measures; at scale 1 with a million documents."""
    number = max(250, int(250_000 * scale))
    bench = Bench("i. More than one core")
    with working_folder() as folder:
        schedule = {"full": f"every {_EVERY}s"}
        connectors = generated_connectors(_CONNECTORS, number, indices=_CONNECTORS, scheduling=schedule)
        config = write_config(folder, connectors)
        run_once(config)
        found: dict[int, list[float]] = {workers: [] for workers in _WORKERS}
        for turn in range(_ROUNDS):
            for workers in sorted(found, reverse=bool(turn % 2)):
                given = yaml.safe_load(config.read_text())
                given["service"]["workers"] = workers
                config.write_text(yaml.safe_dump(given))
                found[workers].append(_together(config, folder / "data" / "connectors.db", number))
    for workers, seconds in found.items():
        rate = _CONNECTORS * number / statistics.median(seconds)
        bench.add(f"{workers} {'process' if workers == 1 else 'processes'}: unchanged", rate, "documents/s")
    one, *_, most = (statistics.median(seconds) for seconds in found.values())
    bench.add(f"{_WORKERS[-1]} processes are faster by", one / most, "times")
    return bench


def _together(config: Path, path: Path, number: int) -> float:
    """Runs the daemon until all were synced after the same tick; returns the seconds that all of them took."""
    with _daemon(config), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        until = time.monotonic() + _PATIENCE
        began = time.time()
        while time.monotonic() < until:
            time.sleep(0.1)
            ticks = defaultdict[int, list[dict[str, Any]]](list)
            for (record,) in database.execute("SELECT record FROM jobs WHERE status = 'completed'"):
                job = json.loads(record)
                if (created := _seconds(job["created_at"])) > began:
                    ticks[int(created) // _EVERY].append(job)
            for jobs in ticks.values():
                if len(jobs) == _CONNECTORS:
                    assert all(job["metadata"]["counters"]["unchanged"] == number for job in jobs), jobs
                    first = min(_seconds(job["started_at"]) for job in jobs)
                    return max(_seconds(job["completed_at"]) for job in jobs) - first
    raise RuntimeError("the connectors were not synced after the same tick")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@contextmanager
def _daemon(config: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "connectors", "--config", str(config), "run"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment(), cwd=FOLDER, stdout=quiet, stderr=quiet) as daemon:
        try:
            yield
        finally:
            daemon.terminate()
