"""`connectors run`: the daemon, or every connector once."""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from connectors import __version__
from connectors.byoc import JobStatus, SyncJob
from connectors.cli.exits import Exit
from connectors.cli.output import json_option, print_json, print_table
from connectors.cli.presence import enrolled, present
from connectors.cli.settings import Settings
from connectors.cli.signals import stop_on_signals
from connectors.cli.words import how_many
from connectors.utils import format_duration

if TYPE_CHECKING:
    from connectors.app import Application
    from connectors.config import Config, ConfigFile

__all__ = ["run"]

_logger = logging.getLogger("connectors")

#: Columns of the summary; those of the second line are shown only where they count something.
_ALWAYS: Final = ("read", "indexed", "unchanged", "filtered", "vanished")
_SOMETIMES: Final = ("deleted", "duplicate", "superseded", "dead_lettered")


@click.command(short_help="Run the daemon, or every connector once.")
@click.option("--once", is_flag=True, help="Sync every connector once in full, print a summary, and end.")
@json_option
@click.pass_obj
def run(settings: Settings, *, once: bool, as_json: bool) -> int:
    """Run the daemon: sync by the schedules, follow the configuration file, serve the page.

    The first Ctrl-C (or SIGTERM) suspends what runs and ends; a second one ends at once.
    """
    if as_json and not once:
        raise click.UsageError("--json prints the summary of --once; the daemon's log becomes JSON by logging.format")
    config, file = settings.follow()
    return asyncio.run(_once(settings, config, as_json=as_json) if once else _serve(settings, config, file))


async def _serve(settings: Settings, config: Config, file: ConfigFile) -> int:
    from connectors.app import open_application
    from connectors.cli.worker import launcher

    workers = config.service.workers
    with stop_on_signals(follows_file=True) as stop, present(config.service.data_dir):
        async with open_application(config, file, of=workers) as application:
            _greet(settings, application)
            crew = application.crew(launcher(config, settings.path, settings.level(config)))
            page = application.page(crew)
            address = await page.start() if page is not None else None
            try:
                if address is not None:
                    _logger.info("page: %s", address)
                with enrolled(config.service.data_dir, application.app.worker_name, 1):
                    async with crew.at_work(stop):
                        await application.daemon.run(stop, page.serve if page is not None else None)
            finally:
                if page is not None:
                    await page.close()
        _logger.info("stopped")
    return Exit.OK


async def _once(settings: Settings, config: Config, *, as_json: bool) -> int:
    from connectors.app import open_application

    with stop_on_signals() as stop:
        async with open_application(config) as application:
            _greet(settings, application)
            jobs = await application.daemon.run_once(stop)
        _print_summary(jobs, as_json=as_json)
        if stop.is_set():
            return Exit.INTERRUPTED
    return Exit.OK if all(job.status == JobStatus.COMPLETED for job in jobs) else Exit.FAILED


def _greet(settings: Settings, application: Application) -> None:
    config = application.app.config
    _logger.info("connectors %s on Python %s", __version__, platform.python_version())
    _logger.info("configuration: %s, %s", settings.path.absolute(), how_many(len(config.connectors), "connector"))
    _logger.info("index: %s", config.index_place)
    if config.service.workers > 1:
        _logger.info("workers: %s", config.service.workers)


def _print_summary(jobs: Sequence[SyncJob], *, as_json: bool) -> None:
    if as_json:
        from connectors.cli.shapes import job_shape

        print_json({"jobs": [job_shape(job) for job in jobs]})
        return
    counters = [job.counters for job in jobs]
    shown = [*_ALWAYS, *(name for name in _SOMETIMES if any(each.get(name) for each in counters))]
    rows: list[tuple[str | int, ...]] = [
        (
            job.connector_id,
            str(job.status),
            *(int(each.get(name, 0)) for name in shown),
            format_duration(job.seconds) if job.seconds is not None else "-",
        )
        for job, each in zip(jobs, counters, strict=True)
    ]
    headers = ("connector", "outcome", *(name.replace("_", " ") for name in shown), "took")
    print_table(headers, rows, empty="there is no connector to sync; write one into config.yml")
