"""g. Start: seconds until `connectors --help` has ended, and until `connectors run` has indexed its first document."""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

from bench.figures import FOLDER, Bench, environment, working_folder, write_config

__all__ = ["measure"]

_ROUNDS = 7
_PATIENCE = 60.0


def measure(_: float) -> Bench:
    """Measures."""
    bench = Bench("g. Start")
    helped = []
    for _round in range(_ROUNDS):
        began = time.perf_counter()
        subprocess.run(_command("--help"), env=environment(), cwd=FOLDER, check=True, stdout=subprocess.DEVNULL)
        helped.append(time.perf_counter() - began)
    bench.add("connectors --help", statistics.median(helped), "s", target=0.3)
    bench.add(
        "connectors run, to the first document in the index",
        statistics.median(_first_document() for _ in range(_ROUNDS)),
        "s",
    )
    return bench


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "connectors", *words]


def _first_document() -> float:
    with working_folder() as folder:
        connector = {"id": "bench", "service_type": "generated", "index": "bench"}
        plan = {"configuration": {"documents": 1}, "scheduling": {"full": "every 1h"}}
        config = write_config(folder, [connector | plan])
        began = time.perf_counter()
        command = _command("--config", str(config), "run")
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, env=environment(), cwd=FOLDER, stdout=quiet, stderr=quiet) as daemon:
            try:
                while not _documents(folder / "data" / "connectors.db"):
                    if daemon.poll() is not None or time.perf_counter() - began > _PATIENCE:
                        raise RuntimeError("the daemon indexed nothing")
                    time.sleep(0.005)
                return time.perf_counter() - began
            finally:
                daemon.terminate()


def _documents(path: Path) -> int:
    """Returns how many documents a database has; none while it is being made."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return int(database.execute("SELECT count(*) FROM documents").fetchone()[0])
    return 0
