"""`connectors reconcile NAME`: does the index hold what the source has?"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from connectors.byoc import JobStatus, JobType, SyncJob
from connectors.cli.exits import Exit
from connectors.cli.following import Display, Sight, display_for
from connectors.cli.output import json_option, print_json, print_lines, print_table, print_verdict
from connectors.cli.settings import Settings
from connectors.cli.signals import stop_on_signals
from connectors.cli.subjects import known_connector, open_source, subject
from connectors.cli.sync import SeenThrough, print_outcome, see_through
from connectors.cli.words import ago, how_many
from connectors.logger import mask
from connectors.utils import utc_now

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.byoc import Connector
    from connectors.config import Config
    from connectors.sync.compare import Comparison
    from connectors.sync.counters import Counters

__all__ = ["reconcile"]

#: Seconds between two lines of progress where there is no terminal.
_LINE: Final = 3.0


@click.command(short_help="Compare the index with the source.")
@click.argument("name")
@click.option("--repair", is_flag=True, help="Mend what differs, by a full sync that trusts nothing but the index.")
@click.option("--deep", is_flag=True, help="Compare all contents, files included, not only what the stamps tell.")
@click.option(
    "--allow-deletes", type=click.IntRange(1), metavar="N", help="Let the repair delete up to N extra documents."
)
@click.option("--limit", type=click.IntRange(0, 100_000), default=20, show_default=True, help="Differences to list.")
@json_option
@click.pass_obj
def reconcile(
    settings: Settings, *, name: str, repair: bool, deep: bool, allow_deletes: int | None, limit: int, as_json: bool
) -> int:
    """Compare what the index holds of a connector with what its source has now. Nothing is written.

    Ends with 0 when they are equal, or were made so by --repair, and with 1 when they are not.
    """
    if allow_deletes is not None and not repair:
        raise click.UsageError("--allow-deletes is for --repair: without it nothing is deleted")
    config = settings.load()
    quiet = as_json or settings.verbosity < 0
    connector, found = asyncio.run(_compare(settings, config, name, deep=deep, limit=limit, quiet=quiet))
    if not as_json:
        _print(connector, found, advise=not repair, deep=deep)
    repaired = None
    if repair and not found.equal and not found.stopped:
        repaired = asyncio.run(_repair(settings, config, name, found, allow_deletes, quiet=quiet))
    if as_json:
        from connectors.cli.shapes import comparison_shape, job_shape

        shape = comparison_shape(name, connector.index_name, found, deep=deep)
        print_json({**shape, "repair": job_shape(repaired.job) if repaired else None})
    elif repaired is not None:
        print_outcome(repaired.job, repaired.letters)
    return _exit(found, repaired)


def _exit(found: Comparison, repaired: SeenThrough | None) -> Exit:
    if found.stopped or (repaired is not None and repaired.interrupted):
        return Exit.INTERRUPTED
    if repaired is None:
        return Exit.OK if found.equal else Exit.FAILED
    job = repaired.job
    whole = job.status == JobStatus.COMPLETED and not job.incomplete and not job.counters.get("dead_lettered")
    return Exit.OK if whole else Exit.FAILED


async def _compare(
    settings: Settings, config: Config, name: str, *, deep: bool, limit: int, quiet: bool
) -> tuple[Connector, Comparison]:
    from connectors.app import equip, open_app
    from connectors.service.reconcile import reconcile

    if not settings.verbose:
        # What the log would say of single documents is listed or counted here.
        logging.getLogger("connectors.sync").setLevel(logging.CRITICAL)
    with stop_on_signals() as stop:
        async with open_app(config) as app, equip(app) as application:
            connector = await known_connector(app, name)
            chosen = await subject(app, name)
            expected = await app.destination.count(connector.index_name, name) if connector.index_name else 0
            with display_for(name, quiet=quiet) as display:
                async with open_source(app, chosen) as source:
                    found = await reconcile(
                        application.services,
                        connector,
                        source,
                        chosen.rules,
                        deep=deep,
                        limit=limit,
                        stop=stop,
                        observer=_Watching(display, name, expected),
                    )
    return connector, found


class _Watching:
    """Shows how far the comparison is."""

    def __init__(self, display: Display, name: str, expected: int) -> None:
        self._display = display
        self._name = name
        self._expected = expected
        self._shown_at = float("-inf")

    def begin(self, connector_id: str, counters: Counters) -> None:
        """There is nothing to show yet."""

    def progress(self, connector_id: str, counters: Counters, queued: int) -> None:  # noqa: ARG002 - nothing is written
        """Shows the number of documents that were read."""
        if not sys.stderr.isatty() and time.monotonic() - self._shown_at < _LINE:
            return
        self._shown_at = time.monotonic()
        job = SyncJob(id="", connector={"id": connector_id}, metadata={"counters": {"read": counters.read}})
        self._display.show(Sight(job, f"{counters.read:,} documents compared", self._expected))

    def stalled(self, connector_id: str, seconds: float) -> None:
        """The progress that stands still tells it."""


async def _repair(
    settings: Settings, config: Config, name: str, found: Comparison, allow_deletes: int | None, *, quiet: bool
) -> SeenThrough:
    """Lets a full sync mend what differs, in the daemon where there is one, else here."""
    again = None if found.altered is None else [digest.hex() for digest in found.altered]

    async def queue(app: App) -> SyncJob:
        return await app.operations.sync_now(
            name, JobType.FULL, allow_deletes=allow_deletes, reconcile={"again": again}
        )

    return await see_through(settings, config, queue, quiet=quiet)


def _print(connector: Connector, found: Comparison, *, advise: bool, deep: bool) -> None:
    from connectors.sync.compare import KINDS

    name = connector.id
    rows = [(each.kind, each.id, mask(each.detail)) for each in found.differences]
    if rows:
        print_table(("kind", "document", "what"), rows, empty="")
        if found.counts.total() > len(rows):
            print_lines(f"… the first {len(rows):,} of {found.counts.total():,}; more with --limit")
        print_lines("")
    for reason in found.incomplete:
        print_lines(f"not everything could be read, so extra documents were not looked for: {mask(reason)}")
    for number, note in _notes(found, deep=deep):
        if number:
            print_lines(f"{how_many(number, 'document')} {note}")
    read = f"{how_many(found.counters.read, 'document')} read"
    if found.stopped:
        print_verdict(f"{name}: stopped after {read}", good=False)
        return
    if found.equal:
        print_verdict(f"{name}: {read}; the index {connector.index_name} holds what the source has", good=True)
        return
    words = [f"{found.counts[kind]:,} {kind}" for kind in KINDS if found.counts[kind]]
    print_verdict(f"{name}: {read}; {', '.join(words) or 'it cannot be told whether all is equal'}", good=False)
    if advise:
        synced = f"since the last sync, {ago(connector.last_synced, utc_now())}, or " if connector.last_synced else ""
        print_lines(
            f"  what changed at the source {synced}while this ran counts too; "
            f"mend it with: connectors reconcile {name} --repair{' --deep' if deep else ''}"
        )


def _notes(found: Comparison, *, deep: bool) -> list[tuple[int, str]]:
    unverified = "can only be told by content, which an ingest pipeline changes"
    stale = "with the right content and a stamp that is not of now: the next sync writes them once more"
    repeated = "listed more than once: if its contents are not the same, each difference is counted"
    return [(found.unverified, unverified), (0 if deep else found.stale, stale), (found.counters.duplicate, repeated)]
