"""`connectors dead-letters`: list, show, replay, drop."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

import click

from connectors.cli.exits import Exit
from connectors.cli.output import json_option, print_json, print_lines, print_table, print_verdict
from connectors.cli.settings import Settings
from connectors.cli.subjects import known_connector, subject
from connectors.cli.words import clock, how_many
from connectors.logger import mask
from connectors.utils import escape_controls

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.backends.ports import DeadLetter
    from connectors.service.letters import LetterOutcome

__all__ = ["dead_letters"]

_OUTCOMES: Final = {
    "indexed": "indexed",
    "deleted": "deleted",
    "superseded": "gone, since the index has a newer version",
    "refused": "refused again",
    "filtered": "kept out by the sync rules",
    "kept": "cannot be sent again",
}


class _ListByDefault(click.Group):
    """`dead-letters NAME` is `dead-letters list NAME`, as it was before there were others."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["list", *args]
        return super().resolve_command(ctx, args)


@click.group("dead-letters", cls=_ListByDefault, short_help="Look at what could not be indexed, send it again.")
def dead_letters() -> None:
    """Documents that could not be indexed, kept whole with the reason: list, show, replay, drop.

    A letter goes by itself when a sync indexes its document, or when the source has it no more.
    """


@dead_letters.command("list")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many, by id.")
@click.option("--after", metavar="ID", help="Go on behind this id.")
@json_option
@click.pass_obj
def list_(settings: Settings, *, name: str, limit: int, after: str | None, as_json: bool) -> None:
    """List the documents of a connector that could not be indexed, and why."""
    from connectors.cli.shapes import dead_letter_shape

    async def work(app: App) -> tuple[list[DeadLetter], int]:
        await subject(app, name)
        letters = await app.store.dead_letters(name, limit=limit, after=after)
        return letters, await app.store.count_dead_letters(name)

    letters, total = settings.run(work)
    if as_json:
        print_json({"connector": name, "total": total, "dead_letters": [dead_letter_shape(each) for each in letters]})
        return
    rows = ((each.id, each.operation, clock(each.created_at), mask(each.reason)) for each in letters)
    print_table(("document", "failed at", "when", "reason"), rows, empty=f"{name} has no dead letters")
    if len(letters) < total:
        print_lines("", f"{len(letters):,} of {total:,}; go on with --after or a higher --limit")


@dead_letters.command()
@click.argument("name")
@click.argument("document_id", metavar="ID")
@json_option
@click.pass_obj
def show(settings: Settings, *, name: str, document_id: str, as_json: bool) -> None:
    """Show one dead letter: the reason and the document. With --json, nothing of the document is cut."""
    from connectors.cli.shapes import dead_letter_shape
    from connectors.service.letters import document_text, plain_document

    async def work(app: App) -> DeadLetter:
        await subject(app, name)
        return await app.store.dead_letter(name, document_id)

    letter = settings.run(work)
    if as_json:
        document = None if letter.body is None else plain_document(letter.body)
        print_json({**dead_letter_shape(letter), "document": document})
        return
    facts = {
        "document": letter.id,
        "connector": letter.connector_id,
        "failed at": letter.operation,
        "reason": mask(letter.reason),
        "when": clock(letter.created_at),
        "job": letter.job_id,
        "can be replayed": "yes" if letter.replayable else "no",
    }
    print_table(("", ""), facts.items(), empty="")
    print_lines("")
    if letter.body is None:
        print_lines("No document was kept.")
    else:
        print_lines(*document_text(letter.body).split("\n"))


@dead_letters.command()
@click.argument("name")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of the connector.")
@json_option
@click.pass_obj
def replay(settings: Settings, *, name: str, ids: tuple[str, ...], every: bool, as_json: bool) -> int:
    """Send dead letters to the index again, once the cause is mended.

    A document that the index has in a newer version stays as it is there. Letters that the index takes are gone.
    """
    wanted = _wanted(ids, every=every)

    async def work(app: App) -> list[LetterOutcome]:
        return await app.operations.letters.replay(await known_connector(app, name), wanted)

    outcomes = settings.run(work)
    numbers = Counter(each.outcome for each in outcomes)
    if as_json:
        letters = [{"id": each.id, "outcome": each.outcome, "reason": each.reason or None} for each in outcomes]
        print_json({"connector": name, "counts": {key: numbers[key] for key in _OUTCOMES}, "dead_letters": letters})
    else:
        staying = ((each.id, _OUTCOMES[each.outcome], each.reason) for each in outcomes if not each.gone)
        if any(not each.gone for each in outcomes):
            print_table(("document", "outcome", "reason"), staying, empty="")
            print_lines("")
        words = [f"{numbers[key]:,} {text}" for key, text in _OUTCOMES.items() if numbers[key]]
        print_verdict(f"{name}: {', '.join(words) or 'no dead letters'}", good=all(each.gone for each in outcomes))
    return Exit.OK if all(each.gone for each in outcomes) else Exit.FAILED


@dead_letters.command()
@click.argument("name")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of the connector, after a question.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def drop(settings: Settings, *, name: str, ids: tuple[str, ...], every: bool, yes: bool, as_json: bool) -> None:
    """Forget dead letters. What the index holds of these documents stays; the next full sync tries them again."""
    wanted = _wanted(ids, every=every)
    if every and not yes:
        if as_json or not sys.stdin.isatty():
            raise click.UsageError(f"drop --all forgets every dead letter of {name}: answer beforehand with --yes")
        total = settings.run(lambda app: _count(app, name))
        click.confirm(escape_controls(f"Forget {how_many(total, 'dead letter')} of {name}?"), abort=True)

    async def work(app: App) -> int:
        await known_connector(app, name)
        return await app.operations.letters.drop(name, wanted)

    number = settings.run(work)
    if as_json:
        print_json({"connector": name, "dropped": number})
    else:
        print_verdict(f"{name}: {how_many(number, 'dead letter')} dropped", good=True)


async def _count(app: App, name: str) -> int:
    await known_connector(app, name)
    return await app.store.count_dead_letters(name)


def _wanted(ids: tuple[str, ...], *, every: bool) -> list[str] | None:
    """Returns which letters are meant, None for all."""
    if every == bool(ids):
        raise click.UsageError("name the dead letters by their ids, or all of them with --all")
    return None if every else list(ids)
