"""Rules about what a source yields, and how it behaves while it reads."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, TypeVar

import pytest

from connectors.byoc import Filter
from connectors.errors import ConnectorsError, describe
from connectors.source import BaseDataSource, LazyDownload
from connectors.testing.reading import Listed, complete, read_all
from connectors.testing.rules.base import Rules, rule
from connectors.testing.trial import Breach, Trial
from connectors.testing.watching import LoopWatch

__all__ = ["ReadingRules"]

T = TypeVar("T")

_TRIES: Final = 3
#: Downloads that are tried: enough for all kinds of document, few enough for large data.
_DOWNLOADS: Final = 200
#: Nonsense that people and programs write in place of advanced rules.
_NONSENSE: Final[tuple[Any, ...]] = (
    "text", 7, True, ["text"], [7], [None], [[]], [{}], {"a": None}, {"": {}}, {"a": {"b": 1}}, [{"query": 1}],
    {"find": 1}, [{"tables": "x"}], {"a": {"b": ["c", {"d": None}]}},
)  # fmt: skip


class ReadingRules(Rules):
    """What is yielded, downloads, advanced rules, and the event loop."""

    @rule()
    async def test_items_have_the_form_of_the_contract(self, trial: Trial) -> None:
        """get_docs() yields (document with `_id`, download or None), Checkpoint(JSON) and Skipped(reason)."""
        reading = await trial.read()
        if reading.misshapen:
            raise Breach(reading.misshapen[0], "see “What you yield” in docs/SOURCES.md")
        if reading.checkpoints and not trial.source_class.resumable:
            raise Breach(
                "it yields Checkpoint, and the class is not resumable",
                "write `resumable = True` and go on at `checkpoint`, or yield none",
            )

    @rule()
    async def test_documents_can_be_encoded(self, trial: Trial) -> None:
        """Every value of a document has a JSON form."""
        reading = await trial.read()
        if reading.unencodable:
            raise Breach(
                reading.unencodable[0],
                "yield plain values: text, numbers, booleans, None, lists and dicts; dates, decimals, bytes, UUIDs, "
                "sets and paths are understood, too",
            )

    @rule()
    async def test_ids_are_unique(self, trial: Trial) -> None:
        """No two documents of one reading share an `_id`."""
        reading = await trial.read()
        if reading.repeated:
            raise Breach(
                "; ".join(reading.repeated[:3]),
                "build the `_id` of all that makes the document one: table and key, say. Only the last of them is kept",
            )

    @rule()
    async def test_two_readings_are_equal(self, trial: Trial) -> None:
        """While the data stay the same, ids and contents stay the same: in the same object and in another one."""
        source = trial.source()
        first = await read_all(source)
        for which, other in (("the same object", source), ("another object", trial.source())):
            second = await read_all(other)
            if first.bodies.keys() != second.bodies.keys():
                differing = sorted(first.bodies.keys() ^ second.bodies.keys())[:3]
                raise Breach(
                    f"a second reading by {which} has other ids; in one of them only: {', '.join(differing)}",
                    "build ids out of what stays: a key, a path; no counter of this run, no time, no hash() of Python",
                )
            for id_, body in first.bodies.items():
                if second.bodies[id_] != body:
                    raise Breach(
                        f'the document "{id_}" was {_short(body)} and in a second reading by {which} '
                        f"{_short(second.bodies[id_])}",
                        "keep times of reading, signed links and counters out of documents, and sort what has no order",
                    )

    @rule()
    async def test_downloads_bring_what_documents_can_take(self, trial: Trial) -> None:
        """A download returns None or a dict, with `body` as text and `_attachment` as bytes or base64 text."""
        source = trial.source()
        for item in _spread([item for item in (await read_all(source)).documents if item.download is not None]):
            if "_timestamp" not in item.document:
                raise Breach(
                    f'the document "{item.id}" has a download and no `_timestamp`: each sync fetches it again',
                    "give it a `_timestamp` that changes whenever the document or its file does",
                )
            try:
                await complete(item, source)
            except TypeError as error:
                raise Breach(f'the download of "{item.id}": {error}', "see “A download” in docs/SOURCES.md") from error

    @rule()
    async def test_downloads_can_be_let_go(self, trial: Trial) -> None:
        """download(doit=False) fetches nothing and returns None."""
        for id_, _, download in _downloads((await read_all(trial.source())).documents):
            found = await download(doit=False)
            if found is not None:
                raise Breach(
                    f'of "{id_}" it returned {_short(found)}',
                    "return None at once when `doit` is False: the document is unchanged, and its file is not wanted",
                )

    @rule()
    async def test_what_cannot_be_read_is_told(self, trial: Trial) -> None:
        """What cannot be read is yielded as Skipped, or raised; it is never left out."""
        before = await trial.whole()
        spoiled = await trial.act("spoil")
        source = trial.source()
        try:
            after = await read_all(source)
            # A download may be what tells it.
            untold = spoiled is None or spoiled not in {*after.bodies, *(item.id for item in after.skipped)}
            if spoiled in after.bodies:
                item = next(item for item in after.documents if item.id == spoiled)
                untold = item.body == before.bodies.get(spoiled) and await complete(item, source) is not None
        except ConnectorsError:
            return
        except Exception as error:
            raise Breach(
                f"it raised {describe(error)}",
                "raise RetryableError, ConfigurationError or SyncError in words for people",
            ) from error
        if untold and not (spoiled is None and any(item.id is None for item in after.skipped)):
            what = "a part" if spoiled is None else f'the document "{spoiled}"'
            raise Breach(
                f"{what} could not be read, and nothing was said: the framework deletes it from the index",
                "yield Skipped(reason, _id=...) for a document and Skipped(reason) for a part, or raise",
            )

    @rule()
    async def test_the_event_loop_runs_on(self, trial: Trial) -> None:
        """Nothing that a source does keeps the event loop for itself for longer than 50 ms."""
        watches: list[LoopWatch] = []
        for _ in range(_TRIES):  # once is chance: an import, the garbage collector, another program
            with LoopWatch(self.max_blocking) as watch:
                await _live(trial.source())
            if watch.worst <= self.max_blocking:
                return
            watches.append(watch)
        best = min(watches, key=lambda watch: watch.worst)
        where = f", last seen in\n{best.where}" if best.where else ""
        raise Breach(
            f"nothing else could run for {best.worst * 1000:.0f} ms{where}",
            "await I/O; put blocking calls into threads, whole pages at a time: await asyncio.to_thread(...)",
        )

    # Advanced rules

    @rule("advanced_rules_enabled")
    async def test_good_advanced_rules_are_accepted(self, trial: Trial) -> None:
        """Advanced rules that are right are found valid, and select documents that can be read again and again."""
        given = trial.hook("good_advanced_rules")
        if not given:
            pytest.skip("give the test class `good_advanced_rules`, a list of rules that are right")
        for advanced in given:
            filtering = Filter.of(advanced=advanced)
            verdict = await trial.source().validate_filtering(filtering)
            if not verdict.is_valid:
                raise Breach(f"{_short(advanced)} is refused: {verdict}", "mend advanced_rules_validators()")
            if not (await trial.whole(filtering=filtering)).bodies:
                raise Breach(
                    f"{_short(advanced)} selects nothing", "mend get_docs(filtering), or the rule of this test"
                )

    @rule("advanced_rules_enabled")
    async def test_bad_advanced_rules_are_refused(self, trial: Trial) -> None:
        """Advanced rules that are wrong are refused in words for people."""
        given = trial.hook("bad_advanced_rules")
        if not given:
            pytest.skip("give the test class `bad_advanced_rules`, a list of rules that are wrong")
        for advanced in given:
            verdict = await trial.source().validate_filtering(Filter.of(advanced=advanced))
            if verdict.is_valid:
                raise Breach(
                    f"{_short(advanced)} is accepted",
                    "return a validator that refuses it from advanced_rules_validators(): otherwise it fails in a sync",
                )
            _check_no_failure(advanced, str(verdict))

    @rule("advanced_rules_enabled")
    async def test_validators_bear_any_nonsense(self, trial: Trial) -> None:
        """A validator of advanced rules judges whatever is written, and does not fail over it."""
        source = trial.source()
        for advanced in _NONSENSE:
            _check_no_failure(advanced, str(await source.validate_filtering(Filter.of(advanced=advanced))))


def _downloads(documents: list[Listed]) -> list[tuple[str, Any, LazyDownload]]:
    """Returns the id, timestamp and download of documents that have one."""
    return _spread(
        [(item.id, item.document.get("_timestamp"), item.download) for item in documents if item.download is not None]
    )


def _spread(found: list[T]) -> list[T]:
    """Returns some of them, from the beginning to the end."""
    return found[:: max(1, len(found) // _DOWNLOADS)]


async def _live(source: BaseDataSource) -> None:
    """All that a source does in its life."""
    await source.validate_config()
    await source.ping()
    for _, timestamp, download in _downloads((await read_all(source)).documents):
        with suppress(ConnectorsError, TypeError):  # judged by another rule
            await download(doit=True, timestamp=timestamp)
        await asyncio.sleep(0)
    await source.changed()
    await source.close()
    await asyncio.sleep(0)


def _check_no_failure(advanced: Any, verdict: str) -> None:
    if "the validator " in verdict and " failed, so nothing is known of this" in verdict:
        raise Breach(
            f"for {_short(advanced)} it says: {verdict}",
            "look at the type of everything before you use it, and return a SyncRuleValidationResult",
        )


def _short(value: Any) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
