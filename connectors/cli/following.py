"""Follows a job by its record, wherever it runs, and shows its progress on stderr."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, Self

from connectors.byoc import ACTIVE_JOB_STATUSES, JobStatus, SyncJob, parse_time
from connectors.cli.output import console
from connectors.cli.presence import daemon_runs
from connectors.cli.words import clock, counters_in_words
from connectors.utils import escape_controls

if TYPE_CHECKING:
    from connectors.app import App

__all__ = ["Display", "Follower", "Sight", "display_for"]

#: Seconds between two looks at the record.
_LOOK: Final = 0.2
#: Seconds between two lines where there is no terminal.
_LINE: Final = 3.0
#: A daemon that is not busy takes a job within one poll interval; one more, and a margin for a slow machine.
_POLLS: Final = 2
_MARGIN: Final = 1.0
#: Seconds after which a job that does not run is said to wait.
_SETTLING: Final = 1.0


@dataclass(frozen=True, slots=True)
class Sight:
    """A job as it was seen.

    Attributes:
        note: what it waits for, if it does not run or does not get on.
        expected: documents that the index held of the connector when it began.
    """

    job: SyncJob
    note: str
    expected: int

    @property
    def counters(self) -> dict[str, int]:
        """Documents by outcome, so far."""
        return self.job.counters

    @property
    def words(self) -> str:
        """How far the job is."""
        return counters_in_words(self.counters) if self.counters.get("read") else "begins"


class Display(Protocol):
    """Where progress is shown."""

    def show(self, sight: Sight) -> None:
        """Shows what was seen."""
        ...


class Follower:
    """Looks at one job again and again."""

    def __init__(self, app: App, job_id: str, display: Display) -> None:
        self.job_id = job_id
        self._app = app
        self._display = display
        self._begun = time.monotonic()
        self._expected: int | None = None

    def over(self, job: SyncJob) -> bool:
        """Whether there is nothing to wait for: the job has ended, or somebody must mend something first."""
        from connectors.service.daemon import waits_for_a_person

        return job.ended or waits_for_a_person(job, self._app.runtime.time())

    async def while_daemon_runs(self, stop: asyncio.Event) -> SyncJob:
        """Follows for as long as a daemon does the job, or can be expected to; returns its record."""
        app = self._app
        service = app.config.service
        patience = time.monotonic() + _POLLS * service.poll_interval + _MARGIN
        while True:
            job = await app.store.job(self.job_id)
            waiting = job.status not in ACTIVE_JOB_STATUSES and time.monotonic() >= patience
            if self.over(job) or waiting or stop.is_set() or not daemon_runs(service.data_dir):
                return job
            await self._show(job)
            await _pause(stop)

    async def until(self, done: Callable[[], bool]) -> None:
        """Follows until `done()` says so."""
        while not done():
            await self._show(await self._app.store.job(self.job_id))
            await asyncio.sleep(_LOOK)

    async def _show(self, job: SyncJob) -> None:
        if job.status not in ACTIVE_JOB_STATUSES and time.monotonic() < self._begun + _SETTLING:
            return  # most jobs begin at once: that one waits is worth a word only when it does
        if self._expected is None:
            index = str(job.connector.get("index_name") or "")
            self._expected = await self._app.destination.count(index, job.connector_id)
        self._display.show(Sight(job, await self._note(job), self._expected))

    async def _note(self, job: SyncJob) -> str:
        """Says what a job waits for that does not run, or does not get on."""
        if job.status in ACTIVE_JOB_STATUSES:
            return job.stalled or ""
        if job.status == JobStatus.SUSPENDED and job.error:
            return f"waits for another try: {job.error}"
        state = await self._app.store.state(job.connector_id)
        if state.worker is None or state.expires_at <= self._app.runtime.time():
            return "waits to begin"
        return f"waits for {state.worker}, which holds the connector until {clock(parse_time(state.expires_at))}"


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_LOOK):
            await stop.wait()
    except TimeoutError:
        return


@contextmanager
def display_for(name: str, *, quiet: bool) -> Iterator[Display]:
    """Gives a progress bar on a terminal, lines elsewhere, nothing when `quiet`."""
    if quiet:
        yield _Nothing()
    elif sys.stderr.isatty():
        with _Bar(name) as bar:
            yield bar
    else:
        yield _Lines(name)


class _Nothing:
    def show(self, sight: Sight) -> None:
        """Shows nothing."""


class _Lines:
    """A line whenever the state changes, and every few seconds while documents come."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told: tuple[str, str] = ("", "")
        self._told_at = float("-inf")

    def show(self, sight: Sight) -> None:
        """Prints a line if there is something new to say."""
        state = (str(sight.job.status), sight.note)
        if state == self._told and (sight.note or time.monotonic() - self._told_at < _LINE):
            return
        text = sight.note or f"{sight.job.job_type} sync: {sight.words}"
        print(escape_controls(f"{self._name}: {text}"), file=sys.stderr, flush=True)
        self._told, self._told_at = state, time.monotonic()


class _Bar:
    """rich's progress bar; how long it is, is guessed from what the index holds already."""

    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(name, total=None, words="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, sight: Sight) -> None:
        """Moves the bar."""
        read = sight.counters.get("read", 0)
        words = escape_controls(sight.note or sight.words)
        total = sight.expected if sight.expected > read else None
        self._progress.update(self._task, completed=read, total=total, words=words)
