"""`connectors preview`: what sync rules would make of real documents, and of the index."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from connectors.cli.output import console, json_option, print_json, print_lines, print_table
from connectors.cli.settings import Settings
from connectors.cli.subjects import subject
from connectors.cli.words import how_many
from connectors.logger import mask, register_secrets

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.config import WrittenRules
    from connectors.service.subjects import Subject
    from connectors.sync.preview import Impact, Preview, Verdict

__all__ = ["preview"]

#: Seconds between two looks at a preview that counts, and between two lines where there is no terminal.
_LOOK: Final = 0.2
_LINE: Final = 3.0
_VERDICTS: Final = {True: "kept", False: "dropped", None: "unreadable"}


@click.command(short_help="Show what the sync rules keep.")
@click.argument("name")
@click.option(
    "--rules",
    "rules_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Try the rules of this file, YAML or JSON, in the shape of filtering: in the configuration.",
)
@click.option("--active", is_flag=True, help="Try the rules in force, though others are waiting.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True, help="Documents to show.")
@click.option(
    "--count/--no-count", default=True, show_default=True, help="Read on to the end, and count what a sync would do."
)
@json_option
@click.pass_obj
def preview(
    settings: Settings, *, name: str, rules_file: Path | None, active: bool, limit: int, count: bool, as_json: bool
) -> None:
    """Read documents and show which ones the sync rules keep, and by which rule; then read on to the end, and count how
    many documents of the index a full sync with these rules would delete and add.

    Nothing is written. Ctrl-C stops the counting; the documents are shown before it.
    """
    from connectors.config import read_rules_file

    if rules_file is not None and active:
        raise click.UsageError("--rules and --active exclude each other: one set of rules is tried")
    written = read_rules_file(rules_file) if rules_file is not None else None
    if written is not None:
        register_secrets(written.secrets)
    quiet = as_json or settings.verbosity < 0

    async def work(app: App) -> tuple[Subject, str, Preview]:
        found = await subject(app, name)
        return found, *await _preview(app, found, written, active=active, limit=limit, count=count, quiet=quiet)

    found, origin, done = settings.run(work)
    index = found.connector.index_name
    if as_json:
        from connectors.cli.shapes import preview_shape

        print_json(preview_shape(name, index, origin, done))
        return
    if quiet:
        _print_documents(f"{name}, {origin}", done)
    _print_totals(name, index, done)


async def _preview(
    app: App, found: Subject, written: WrittenRules | None, *, active: bool, limit: int, count: bool, quiet: bool
) -> tuple[str, Preview]:
    """Returns where the rules come from, and what became of them; shows the documents as soon as they are known."""
    from connectors.service.preview import TriedRules

    previewer = app.previewer(lambda: app.config)
    if written is not None:
        tried = TriedRules.of(written, f"the rules of {written.name}")
    else:
        tried = await previewer.rules(found, active=active)
    told = False

    async def watch(running: Preview) -> None:
        nonlocal told
        await running.shown.wait()
        told = True
        _print_documents(f"{found.connector.id}, {tried.origin}", running)
        with _progress() as show:
            while True:
                show(f"counting, Ctrl-C stops: {running.read:,} read")
                await asyncio.sleep(_LOOK)

    done = await previewer.run(found, tried, limit=limit, count=count, watch=None if quiet else watch)
    if not quiet and not told:
        _print_documents(f"{found.connector.id}, {tried.origin}", done)
    return tried.origin, done


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Gives what shows one line of progress on stderr: in place on a terminal, a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        with console(stderr=True).status("") as status:
            yield status.update
        return
    loop = asyncio.get_running_loop()
    next_line = loop.time() + _LINE

    def show(text: str) -> None:
        nonlocal next_line
        if loop.time() >= next_line:
            print(text, file=sys.stderr, flush=True)
            next_line = loop.time() + _LINE

    yield show


# In words


def _print_documents(what: str, found: Preview) -> None:
    print_lines(what)
    headers = ("verdict", "document", "rule", "order", "because", "value found")
    print_table(headers, map(_row, found.verdicts), empty="the source lists no document")


def _row(verdict: Verdict) -> tuple[str, ...]:
    rule = verdict.rule
    if rule is None:
        name, order, because = "-", "-", verdict.reason
    else:
        name, order, because = rule.id, "last" if rule.is_default else str(rule.order), rule.words
    value = "" if verdict.value is None else mask(verdict.value)
    return _VERDICTS[verdict.kept], verdict.id or "-", name, order, mask(because), value


def _print_totals(name: str, index: str, found: Preview) -> None:
    unreadable = f", {found.unreadable:,} unreadable" if found.unreadable else ""
    print_lines("", f"{found.read:,} read, {found.kept:,} kept, {found.dropped:,} dropped{unreadable}")
    impact = found.impact
    if impact is None:
        print_lines("Not counted what a sync would do to the index: leave --no-count out for that.")
        return
    rows = [
        (each.rule.id, "last" if each.rule.is_default else str(each.rule.order), mask(each.rule.words), each.documents,
         each.deletes)
        for each in found.by_rule
    ]  # fmt: skip
    print_lines("")
    print_table(("rule", "order", "says", "documents", "would delete"), rows, empty="")
    print_lines("", *_impact_in_words(name, index, found, impact))


def _impact_in_words(name: str, index: str, found: Preview, impact: Impact) -> Iterator[str]:
    held = how_many(impact.held, "document")
    yield f"The index {index} holds {held} of {name}. A full sync with these rules would delete {impact.deleted:,}:"
    yield f"  {impact.dropped:,} that the rules drop, {impact.unlisted:,} that the source does not list;"
    yield f"and add {impact.added:,}."
    if found.incomplete:
        yield f"But not everything could be read, and such a sync deletes nothing: {mask(found.incomplete[0])}"
    elif impact.stopped:
        yield (
            "That is more than max_delete_ratio allows, so the sync would stop and delete nothing. "
            f"Once the rules are in force, allow it with: connectors sync {name} --allow-deletes {impact.deleted}"
        )
