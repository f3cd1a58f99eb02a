"""Commands that change something: cancel, pause, resume, reset, purge."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

import click

from connectors.byoc import JobStatus
from connectors.cli.output import json_option, print_json, print_verdict
from connectors.cli.settings import Settings
from connectors.cli.subjects import known_connector, open_source, subject
from connectors.cli.words import how_many
from connectors.errors import describe
from connectors.logger import mask
from connectors.utils import escape_controls

if TYPE_CHECKING:
    from connectors.app import App

__all__ = ["cancel", "pause", "purge", "reset", "resume"]

#: Seconds for a source to remove what it made in its backend.
_FORGETTING: Final = 60.0


@click.command(short_help="Cancel a sync job.")
@click.argument("job_id")
@json_option
@click.pass_obj
def cancel(settings: Settings, *, job_id: str, as_json: bool) -> None:
    """Cancel a sync job: a waiting one at once, a running one within a poll interval."""
    job = settings.run(lambda app: app.operations.cancel(job_id))
    if as_json:
        from connectors.cli.shapes import job_shape

        print_json(job_shape(job))
    elif job.status == JobStatus.CANCELED:
        print_verdict(f"{job.id} is cancelled", good=True)
    else:
        print_verdict(f"{job.id} stops as soon as its worker sees it; connectors job {job.id} tells", good=True)


@click.command(short_help="Suspend a connector's schedules.")
@click.argument("name")
@json_option
@click.pass_obj
def pause(settings: Settings, *, name: str, as_json: bool) -> None:
    """Let no scheduled sync of a connector start. A running one goes on; `sync` works all the same."""
    _pause(settings, name, paused=True, as_json=as_json)


@click.command(short_help="Resume a connector's schedules.")
@click.argument("name")
@json_option
@click.pass_obj
def resume(settings: Settings, *, name: str, as_json: bool) -> None:
    """Let the schedules of a paused connector count again; what was missed is caught up once."""
    _pause(settings, name, paused=False, as_json=as_json)


def _pause(settings: Settings, name: str, *, paused: bool, as_json: bool) -> None:
    async def work(app: App) -> None:
        await known_connector(app, name)
        await app.operations.pause(name, paused=paused)

    settings.run(work)
    if as_json:
        print_json({"connector": name, "paused": paused})
    else:
        print_verdict(f"{name} is paused" if paused else f"{name} syncs by its schedules again", good=True)


@click.command(short_help="Let the next sync start from nothing.")
@click.argument("name")
@json_option
@click.pass_obj
def reset(settings: Settings, *, name: str, as_json: bool) -> None:
    """Let the next sync of a connector start from nothing: it writes every document anew.

    What is in the index stays there meanwhile. Waiting jobs of the connector are cancelled.
    """

    async def work(app: App) -> None:
        await known_connector(app, name)
        await app.operations.reset(name)

    settings.run(work)
    if as_json:
        print_json({"connector": name, "reset": True})
    else:
        print_verdict(f"{name}: the next sync writes every document anew", good=True)


@click.command(short_help="Delete all documents of a connector.")
@click.argument("name")
@click.option("--index", metavar="INDEX", help="Delete them from this index, which it wrote to before.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def purge(settings: Settings, *, name: str, index: str | None, yes: bool, as_json: bool) -> None:
    """Delete all documents of a connector from its index, after a question.

    The record of a connector that left config.yml goes too. One that is still there comes back with its next sync.
    What the source made in its backend for the connector, such as a replication slot, is removed if it can be.
    With --index, only the documents that it left in that index are deleted.
    """
    if not yes and (as_json or not sys.stdin.isatty()):
        raise click.UsageError(f"purge deletes every document of {name}: answer beforehand with --yes")
    if not yes:
        _ask(settings, name, index)

    async def work(app: App) -> tuple[int, str | None]:
        connector = await known_connector(app, name)
        if index is not None:
            return await app.operations.purge_index(name, index), None
        if all(declared.id != name for declared in app.config.connectors):
            await app.registry.disown(connector)
        left: list[str] = []

        async def forget() -> None:
            try:
                async with asyncio.timeout(_FORGETTING), open_source(app, await subject(app, name)) as source:
                    await source.forget()
            except Exception as error:  # noqa: BLE001 - whatever a source raises, its documents shall go
                left.append(mask(describe(error)))

        return await app.operations.purge(name, forget=forget), next(iter(left), None)

    number, left = settings.run(work)
    if as_json:
        print_json({"connector": name, "documents": number, "left": left})
        return
    print_verdict(f"{name}: {how_many(number, 'document')} deleted", good=True)
    if left is not None:
        print_verdict(f"{name}: what its source made in its backend may be there still: {left}", good=False)


def _ask(settings: Settings, name: str, index: str | None) -> None:
    """Asks whether to purge; a no aborts the command."""

    async def look(app: App) -> tuple[str, int, bool]:
        connector = await known_connector(app, name)
        declared = index is None and any(item.id == name for item in app.config.connectors)
        emptied = connector.index_name if index is None else index
        return emptied, await app.destination.count(emptied, name), declared

    emptied, number, declared = settings.run(look)
    after = " Its next sync brings them back, unless you pause it or take it out of config.yml." if declared else ""
    question = f"Delete {how_many(number, 'document')} of {name} from the index {emptied}?{after}"
    click.confirm(escape_controls(question), abort=True)
