"""`connectors sync NAME`: one job, run by the daemon where there is one, else here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from connectors.byoc import JobStatus, JobType, SyncJob
from connectors.cli.exits import Exit
from connectors.cli.following import Follower, display_for
from connectors.cli.output import json_option, print_json, print_lines, print_verdict
from connectors.cli.presence import daemon_runs
from connectors.cli.settings import Settings
from connectors.cli.signals import stop_on_signals
from connectors.cli.subjects import known_connector
from connectors.cli.words import how_many, outcome
from connectors.logger import mask

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.config import Config

__all__ = ["SeenThrough", "print_outcome", "see_through", "sync"]


@click.command(short_help="Sync one connector now and follow it.")
@click.argument("name")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["full", "incremental"]),
    default="full",
    show_default=True,
    help="What to read.",
)
@click.option(
    "--allow-deletes",
    type=click.IntRange(1),
    metavar="N",
    help="Let this sync delete up to N vanished documents, whatever max_delete_ratio says.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Whether to follow the job to its end.")
@json_option
@click.pass_obj
def sync(settings: Settings, *, name: str, kind: str, allow_deletes: int | None, wait: bool, as_json: bool) -> int:
    """Sync one connector now.

    A daemon that runs on the same data folder does it, and this command follows; without one the sync runs here.
    """
    config = settings.load()

    async def queue(app: App) -> SyncJob:
        await known_connector(app, name)
        return await app.operations.sync_now(name, JobType(kind), allow_deletes=allow_deletes)

    if wait:
        return asyncio.run(_sync(settings, config, queue, as_json=as_json))
    job = settings.run(queue)
    if as_json:
        _print_job(job)
        return Exit.OK
    print_verdict(f"{name}: queued as {job.id}", good=True)
    if not daemon_runs(config.service.data_dir):
        print_lines("No daemon runs here, so that it waits until one does: connectors run")
    return Exit.OK


async def _sync(
    settings: Settings, config: Config, queue: Callable[[App], Awaitable[SyncJob]], *, as_json: bool
) -> int:
    """Queues the job, sees it through to its end, or to Ctrl-C, and prints how it ended."""
    ended = await see_through(settings, config, queue, quiet=as_json or settings.verbosity < 0)
    job = ended.job
    if as_json:
        _print_job(job)
    elif ended.interrupted:
        then = "the next sync of it goes on from there" if ended.here else "the daemon goes on with it"
        print_verdict(f"{job.connector_id}: {job.status} ({job.id}); {then}", good=False)
    else:
        print_outcome(job, ended.letters)
    if ended.interrupted:
        return Exit.INTERRUPTED
    return Exit.OK if job.status == JobStatus.COMPLETED else Exit.FAILED


@dataclass(frozen=True, slots=True)
class SeenThrough:
    """A job that was followed: its record, the connector's dead letters, and whether it ran here or was left alone."""

    job: SyncJob
    letters: int
    here: bool
    interrupted: bool


async def see_through(
    settings: Settings, config: Config, queue: Callable[[App], Awaitable[SyncJob]], *, quiet: bool
) -> SeenThrough:
    """Queues a job and follows it to its end, or to Ctrl-C; runs it here where no daemon does."""
    from connectors.app import open_app

    with stop_on_signals() as stop:
        async with open_app(config) as app:
            job = await queue(app)
            with display_for(job.connector_id, quiet=quiet) as display:
                follower = Follower(app, job.id, display)
                job = await follower.while_daemon_runs(stop)
                here = not follower.over(job) and not stop.is_set()
                if here:
                    job = await _run_here(settings, app, follower, stop)
            letters = await app.store.count_dead_letters(job.connector_id)
        return SeenThrough(job, letters, here, interrupted=stop.is_set() and not job.ended)


async def _run_here(settings: Settings, app: App, follower: Follower, stop: asyncio.Event) -> SyncJob:
    """Runs the job in this process; should a daemon take it meanwhile, the lease lets one of them have it."""
    from connectors.app import equip

    if not settings.verbose:
        # What the log would say of this job is shown and summed up here.
        logging.getLogger("connectors.sync").setLevel(logging.CRITICAL)
    async with equip(app) as application, asyncio.TaskGroup() as group:
        running = group.create_task(application.daemon.finish([follower.job_id], stop))
        await follower.until(running.done)
        return (await running)[0]


def _print_job(job: SyncJob) -> None:
    from connectors.cli.shapes import job_shape

    print_json(job_shape(job))


def print_outcome(job: SyncJob, letters: int) -> None:
    """Prints how a job ended, for people."""
    name = job.connector_id
    print_verdict(f"{name}: {outcome(job)}", good=job.status == JobStatus.COMPLETED)
    for reason in job.incomplete:
        print_lines(f"  not everything could be read, so nothing was deleted: {mask(reason)}")
    if letters:
        print_lines(
            f"  {how_many(letters, 'document')} could not be indexed; see why with: connectors dead-letters list {name}"
        )
