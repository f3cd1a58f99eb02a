"""What a benchmark gives: figures, each with its unit and, where the project set itself one, the target."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = [
    "FOLDER",
    "Bench",
    "Figure",
    "generated_connectors",
    "percentile",
    "run_once",
    "working_folder",
    "write_config",
]

FOLDER: Final = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        target: the bound; None where there is none.
        least: whether the target is the least, not the most.
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        if self.target is None:
            return None
        return self.value >= self.target if self.least else self.value <= self.target


@dataclass(slots=True)
class Bench:
    """All figures of one benchmark, and why some are missing."""

    title: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, value: float, unit: str, *, target: float | None = None, least: bool = False) -> None:
        """Adds a figure and prints it."""
        figure = Figure(name, value, unit, target, least)
        self.figures.append(figure)
        print(line(asdict(figure) | {"met": figure.met}), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Adds a remark and prints it."""
        self.notes.append(text)
        print(f"  {text}", file=sys.stderr, flush=True)

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        figures = [asdict(figure) | {"met": figure.met} for figure in self.figures]
        return {"title": self.title, "figures": figures, "notes": self.notes}


def line(figure: Mapping[str, Any]) -> str:
    """Returns a figure as a line of the table on the terminal."""
    bound = "" if figure["target"] is None else f"{'≥' if figure['least'] else '≤'} {shown(figure['target'])}"
    verdict = {None: "", True: "met", False: "MISSED"}[figure["met"]]
    return f"  {figure['name']:<62} {shown(figure['value']):>10} {figure['unit']:<20} {bound:<10} {verdict}"


def shown(value: float) -> str:
    """Returns a number with three digits that say something."""
    if not value:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def percentile(values: list[float], part: float) -> float:
    """Returns the smallest of the values that at least this part of them does not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * part) - 1)]


# Runs of the daemon in processes of their own


@contextmanager
def working_folder() -> Iterator[Path]:
    """Gives a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="connectors-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def write_config(folder: Path, connectors: list[dict[str, Any]], **blocks: Any) -> Path:
    """Writes a configuration with the generated source; returns its path."""
    path = folder / "config.yml"
    config = {
        "service": {"data_dir": str(folder / "data")},
        "sources": {"generated": "bench.generated:GeneratedDataSource"},
        "web": {"enabled": False},
        "extraction": {"enabled": False},
        **blocks,
        "connectors": connectors,
    }
    path.write_text(yaml.safe_dump(config))
    return path


def generated_connectors(number: int, documents: int, *, indices: int, **more: Any) -> list[dict[str, Any]]:
    """Returns connectors of the generated source, which share so many indices; `more` is declared of each."""
    return [
        {
            "id": f"connector-{place}",
            "service_type": "generated",
            "index": f"index-{place % indices}",
            "configuration": {"documents": documents},
            **more,
        }
        for place in range(number)
    ]


def run_once(config: Path, *, null: bool = False) -> dict[str, Any]:
    """Syncs everything once in a process of its own (see `bench.daemon`); returns what that says of itself."""
    command = [sys.executable, "-m", "bench.daemon", str(config), *(["--null"] if null else [])]
    done = subprocess.run(command, cwd=FOLDER, env=environment(), stdout=subprocess.PIPE, check=True)
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def environment() -> dict[str, str]:
    """Returns the environment for processes that import this package."""
    return {**os.environ, "PYTHONPATH": str(FOLDER)}


def peak_memory() -> float:
    """Returns the most memory that this process ever held, in MiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


async def loop_delays(delays: list[float], interval: float = 0.02) -> None:
    """Measures how late the event loop is, until it is cancelled; seconds."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        delays.append(max(0.0, loop.time() - due))
