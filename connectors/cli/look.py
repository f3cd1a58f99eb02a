"""Commands that look: status, jobs, job, search."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import click

from connectors.byoc import ACTIVE_JOB_STATUSES, ConnectorStatus, JobStatus, SyncJob
from connectors.cli.output import console, json_option, marked, print_json, print_lines, print_table
from connectors.cli.settings import Settings
from connectors.cli.subjects import subject
from connectors.cli.words import ago, clock, how_many, outcome, until
from connectors.logger import mask
from connectors.utils import escape_controls, format_duration, format_size, utc_now

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.backends.ports import Hit, SearchPage
    from connectors.service.operations import ConnectorView

__all__ = ["job", "jobs", "search", "status"]

_SCAN: Final = 1000


@click.command(short_help="Show the connectors.")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def status(settings: Settings, *, name: str | None, as_json: bool) -> None:
    """Show the connectors: what they hold, their last sync and their next one."""
    from connectors.cli.presence import Enrolled, daemon_runs, workers_here
    from connectors.cli.shapes import view_shape

    async def work(app: App) -> tuple[list[ConnectorView], bool, list[tuple[Enrolled, list[str]]]]:
        known = {connector.id: connector for connector in await app.store.connectors()}
        if name is not None:
            chosen = [known.get(name) or (await subject(app, name)).connector]
        else:
            new = [item.id for item in app.config.connectors if item.id not in known]
            chosen = [*known.values(), *[(await subject(app, each)).connector for each in new]]
        data_dir = app.config.service.data_dir
        active = await app.store.jobs(statuses=ACTIVE_JOB_STATUSES, limit=_SCAN)
        workers = [
            (worker, sorted(job.connector_id for job in active if job.worker_hostname == worker.name))
            for worker in workers_here(data_dir)
        ]
        return await app.operations.views(chosen), daemon_runs(data_dir), workers

    views, running, workers = settings.run(work)
    if as_json:
        shapes = [{"number": each.number, "name": each.name, "running": busy} for each, busy in workers]
        print_json({"daemon": running, "workers": shapes, "connectors": [view_shape(view) for view in views]})
        return
    print_lines("a daemon is running" if running else "no daemon is running here; start one with: connectors run")
    if len(workers) > 1:
        print_lines(*(f"  {each.name}: {', '.join(busy) or 'nothing to do'}" for each, busy in workers))
    print_lines("")
    headers = ("connector", "index", "state", "documents", "dead letters", "last sync", "next sync")
    print_table(headers, map(_status_row, views), empty="there are no connectors yet; write one into config.yml")
    if troubles := [f"{view.connector.id}: {trouble}" for view in views for trouble in _troubles(view)]:
        print_lines("", *troubles)


def _status_row(view: ConnectorView) -> tuple[str | int, ...]:
    now, connector = utc_now(), view.connector
    soonest = min(view.next_syncs.values(), default=None)
    return (
        connector.id,
        connector.index_name,
        _state(view),
        view.documents,
        view.dead_letters,
        ago(connector.last_synced, now),
        until(soonest, now),
    )


def _state(view: ConnectorView) -> str:
    """Returns in a few words what the operator should know first."""
    connector = view.connector
    if view.orphaned:
        return "no longer in config.yml"
    if view.running is not None:
        hangs = ", without progress" if view.running.stalled else ""
        return f"{view.running.job_type} sync: {view.running.counters.get('read', 0):,} read{hangs}"
    if connector.error:
        return "suspended" if view.last_job and view.last_job.status == JobStatus.SUSPENDED else "error"
    if connector.status == ConnectorStatus.NEEDS_CONFIGURATION:
        return "needs configuration"
    if connector.paused:
        return "paused"
    if connector.last_synced is None:
        return "never synced"
    return "in order, with gaps" if view.dead_letters or _incomplete(view) else "in order"


def _incomplete(view: ConnectorView) -> list[str]:
    """Returns what the last sync could not read."""
    return view.last_job.incomplete if view.last_job else []


def _troubles(view: ConnectorView) -> list[str]:
    """Returns in whole sentences what is wrong with the connector; too long for a table."""
    connector, found = view.connector, []
    if view.orphaned:
        return []
    if view.running is not None and view.running.stalled:
        found.append(view.running.stalled)
    elif connector.error and view.running is None:
        found.append(connector.error)
    if _incomplete(view):
        found.append(f"not everything could be read, so nothing was deleted: {'; '.join(_incomplete(view))}")
    if view.dead_letters:
        letters = how_many(view.dead_letters, "document")
        found.append(f"{letters} could not be indexed; why: connectors dead-letters {connector.id}")
    return [mask(text) for text in found]


@click.command(short_help="List the sync jobs.")
@click.argument("name", required=False)
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many, newest first.")
@json_option
@click.pass_obj
def jobs(settings: Settings, *, name: str | None, limit: int, as_json: bool) -> None:
    """List the sync jobs of one connector or of all, newest first."""
    from connectors.cli.shapes import job_shape

    async def work(app: App) -> list[SyncJob]:
        if name is not None:
            await subject(app, name)
        return await app.store.jobs(connector_id=name, limit=limit)

    found = settings.run(work)
    if as_json:
        print_json({"jobs": [job_shape(each) for each in found]})
        return
    headers = ("job", "connector", "type", "begun", "outcome")
    rows = ((each.id, each.connector_id, str(each.job_type), clock(each.started_at), outcome(each)) for each in found)
    print_table(headers, rows, empty="there are no jobs yet")


@click.command(short_help="Show one sync job.")
@click.argument("job_id")
@json_option
@click.pass_obj
def job(settings: Settings, *, job_id: str, as_json: bool) -> None:
    """Show one sync job with its counters."""
    from connectors.cli.shapes import job_shape

    found: SyncJob = settings.run(lambda app: app.store.job(job_id))
    if as_json:
        print_json(job_shape(found))
        return
    facts = {
        "job": found.id,
        "connector": found.connector_id,
        "index": str(found.connector.get("index_name") or "-"),
        "type": f"{found.job_type}, {found.trigger_method}",
        "status": str(found.status),
        "error": mask(found.error or "-"),
        **({"hangs": mask(found.stalled)} if found.stalled else {}),
        "created": clock(found.created_at),
        "begun": clock(found.started_at),
        "ended": clock(found.completed_at or found.canceled_at),
        "took": format_duration(found.seconds) if found.seconds is not None else "-",
        "worker": found.worker_hostname or "-",
    }
    counters = {
        name.replace("_", " "): format_size(number) if name == "bytes" else str(number)
        for name, number in found.counters.items()
    }
    rows = [*facts.items(), *counters.items()]
    rows += [("not read", mask(reason)) for reason in found.incomplete]
    print_table(("", ""), rows, empty="")


# The words may begin with a dash (`-draft`: without that word), so that this command has no short options.
@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]}, short_help="Search an index."
)
@click.argument("index")
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many hits.")
@click.option("--offset", type=click.IntRange(0), default=0, help="How many of the best to leave out.")
@json_option
@click.pass_obj
def search(settings: Settings, *, index: str, words: tuple[str, ...], limit: int, offset: int, as_json: bool) -> None:
    """Search an index, best hits first.

    All WORDS must be met; pre* finds beginnings, field:value looks into one field, -word excludes, OR is either of two.
    Put a phrase into both kinds of quotes: '"annual report"'.
    """
    query = " ".join(words)

    async def work(app: App) -> tuple[SearchPage, float]:
        begun = time.perf_counter()
        page = await app.operations.search(index, query, limit=limit, offset=offset)
        return page, (time.perf_counter() - begun) * 1000

    page, milliseconds = settings.run(work)
    if as_json:
        from connectors.cli.shapes import search_shape

        print_json(search_shape(index, query, page, milliseconds))
        return
    print_lines(f"{how_many(page.total, 'document')} in {index}, {milliseconds:.0f} ms")
    for position, hit in enumerate(page.hits, start=offset + 1):
        _print_hit(position, hit)


def _print_hit(position: int, hit: Hit) -> None:
    from rich.text import Text

    def text_of(field: str) -> Text:
        fragments = hit.highlights.get(field)
        return marked(fragments[0]) if fragments else Text(escape_controls(str(hit.source.get(field) or "")))

    title = text_of("title") if hit.source.get("title") else text_of("name")
    path = text_of("path") if hit.source.get("path") else Text(escape_controls(str(hit.source.get("url") or hit.id)))
    out = console()
    out.print()
    out.print(Text(f"{position}. ").append_text(title or path), soft_wrap=True)
    out.print(Text("   ", "dim").append_text(path), soft_wrap=True)
    if fragments := hit.highlights.get("body"):
        snippet = " ".join(fragments[0].split())
        out.print(Text("   ").append_text(marked(snippet)), soft_wrap=True)
