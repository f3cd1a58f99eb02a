"""Rules about what changes between two syncs: `changed()` and incremental reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import orjson

from connectors.byoc import Filter
from connectors.source import BaseDataSource, Checkpoint
from connectors.testing.reading import Reading, read, read_all, through_json
from connectors.testing.rules.base import Rules, rule
from connectors.testing.rules.stopping import spread
from connectors.testing.trial import Breach, Trial

__all__ = ["ChangeRules"]

_ROUNDS: Final = 3
#: Places in a full reading at which something is written meanwhile.
_PLACES: Final = 4


class ChangeRules(Rules):
    """What is told between syncs, and followed by incremental ones."""

    @rule()
    async def test_changed_is_true_before_a_whole_reading(self, trial: Trial) -> None:
        """changed() is True for an object that read nothing yet, or not to the end."""
        whole = await trial.whole()
        source = trial.source()
        await _must_be_changed(source, "before anything was read")
        stream = cast("Any", source.get_docs(Filter()))
        for _ in range(max(1, len(whole.items) // 2)):
            await anext(stream)
        await stream.aclose()
        await _must_be_changed(source, "after a reading that was stopped in the middle")

    @rule()
    async def test_changed_misses_nothing(self, trial: Trial) -> None:
        """changed() is True after anything was added, changed or deleted."""
        await trial.whole()
        source = trial.source()
        for name in ("change", "add", "delete"):
            if trial.can(name) or name == "change":
                await read_all(source)
                await source.changed()
                id_ = await trial.touched(name)
                await _must_be_changed(source, f'after {name}() of the document "{id_}"')
                await _must_be_changed(source, f'asked again after {name}() of the document "{id_}"')

    @rule("incremental_sync_enabled")
    async def test_changed_tells_of_what_an_incremental_sync_left_out(self, trial: Trial) -> None:
        """After an incremental reading that yields no deletes, changed() is True while one waits for the full sync."""
        await trial.whole()
        source = trial.source()
        index = (await read_all(source)).bodies
        id_ = await trial.touched("delete")
        await _follow(source, source.sync_cursor(), index)
        if id_ in index:
            await _must_be_changed(source, f'after "{id_}" was deleted and an incremental reading did not yield that')

    @rule("incremental_sync_enabled")
    async def test_the_cursor_can_be_stored(self, trial: Trial) -> None:
        """After a full reading, sync_cursor() returns where the next incremental one starts, as plain JSON."""
        await trial.whole()
        source = trial.source()
        await read_all(source)
        cursor = source.sync_cursor()
        if cursor is None:
            raise Breach(
                "sync_cursor() is None after a full reading",
                "fix the position before the first read, and return it from sync_cursor()",
            )
        try:
            same = through_json(cursor) == (list(cursor) if isinstance(cursor, tuple) else cursor)
        except (TypeError, ValueError):
            same = False
        if not same:
            raise Breach(f"sync_cursor() is {cursor!r}", "return text, numbers, lists and dicts: it is stored as JSON")

    @rule("incremental_sync_enabled")
    async def test_incremental_readings_follow_the_source(self, trial: Trial) -> None:
        """What was added, changed or deleted since the cursor is yielded, in the same form as by a full reading."""
        await trial.whole()
        source = trial.source()
        index = (await read_all(source)).bodies
        cursor = source.sync_cursor()
        for number in range(_ROUNDS):
            for name in ("change", "add", "delete"):
                if trial.can(name) or name == "change":
                    await trial.touched(name)
            if number:  # the first one in the same object, as the framework does it; later ones after a restart
                source = trial.source()
            cursor = await _follow(source, cursor, index)
            await self._check_mirror(trial, index, f"round {number + 1} of incremental readings")

    @rule("incremental_sync_enabled")
    async def test_nothing_written_during_a_full_reading_is_missed(self, trial: Trial) -> None:
        """The position is fixed before the first read: what is written meanwhile is in the full or the next reading."""
        number = len((await trial.whole()).items)
        for place in sorted({1, number, *spread(range(1, number + 1))[:_PLACES]}):
            source = trial.source()
            index = (await self._read_with_a_change(trial, source, place)).bodies
            await _follow(trial.source(), source.sync_cursor(), index)
            await self._check_mirror(trial, index, f"written when {place} items of a full reading were yielded")
            await trial.close()

    @rule("incremental_sync_enabled", "resumable")
    async def test_the_position_survives_a_stop(self, trial: Trial) -> None:
        """A full reading that goes on behind a checkpoint has the position of its own beginning."""
        for at, checkpoint in spread((await trial.whole()).checkpoints)[:_PLACES]:
            first = trial.source()
            part = await read(first.get_docs(Filter()), first, limit=at + 1)
            index = part.bodies
            await trial.touched("change")
            if trial.can("add"):
                await trial.touched("add")
            state = next(item.state for item in reversed(part.items) if isinstance(item, Checkpoint))
            resumed = trial.source()
            index |= (await read_all(resumed, checkpoint=through_json(state))).bodies
            await _follow(trial.source(), resumed.sync_cursor(), index)
            await self._check_mirror(trial, index, f"stopped at {checkpoint}, and gone on after a change")
            await trial.close()

    @rule("incremental_sync_enabled")
    async def test_incremental_readings_go_on_behind_their_checkpoints(self, trial: Trial) -> None:
        """An incremental reading that starts at a cursor yielded by an earlier one misses nothing."""
        await trial.whole()
        source = trial.source()
        before = (await read_all(source)).bodies
        start = source.sync_cursor()
        for name in ("change", "add", "change", "delete"):
            if trial.can(name) or name == "change":
                await trial.touched(name)
        whole = await _read_incrementally(trial.source(), start)
        for at, checkpoint in spread(whole.checkpoints):
            index = dict(before)
            Reading(whole.items[:at]).mirror(index)
            await _follow(trial.source(), checkpoint.state, index)
            await self._check_mirror(trial, index, f"going on behind {checkpoint}")
            await trial.close()

    async def _read_with_a_change(self, trial: Trial, source: BaseDataSource, place: int) -> Reading:
        """Reads everything; when `place` items were yielded, documents are changed and added."""

        async def meddled() -> Any:
            yielded = 0
            async for item in source.get_docs(Filter()):
                yield item
                yielded += 1
                if yielded == place:
                    await trial.touched("change")
                    if trial.can("add"):
                        await trial.touched("add")

        return await read(meddled(), source)

    async def _check_mirror(self, trial: Trial, index: Mapping[str, bytes], what: str) -> None:
        """Compares what was followed with what a full reading says."""
        truth = (await trial.read()).bodies
        if missed := sorted(truth.keys() - index.keys()):
            raise Breach(f"{what}: the new document {missed[0]} was missed", _ADVICE)
        for id_, body in truth.items():
            if orjson.loads(index[id_]) != orjson.loads(body):
                raise Breach(
                    f'{what}: the document "{id_}" is {_short(index[id_])}, and a full reading has {_short(body)}',
                    _ADVICE,
                )
        if self.incremental_sees_deletes and (kept := sorted(index.keys() - truth.keys())):
            raise Breach(f'{what}: the delete of "{kept[0]}" was missed', 'yield ({"_id": ...}, None, "delete")')


_ADVICE: Final = (
    "fix the position before the first read and carry it in the checkpoints; read from the cursor on inclusively and a "
    "little before it; build documents in one function for full and incremental reading"
)


async def _read_incrementally(source: BaseDataSource, cursor: Any) -> Reading:
    stream = source.get_docs_incrementally(through_json(cursor), Filter())
    reading = await read(stream, source, incremental=True)
    if reading.faults:
        raise Breach(f"incremental reading: {reading.faults[0]}", "see “Incremental syncs” in docs/SOURCES.md")
    return reading


async def _follow(source: BaseDataSource, cursor: Any, index: dict[str, bytes]) -> Any:
    """Does an incremental sync to `index`; returns the next cursor."""
    reading = await _read_incrementally(source, cursor)
    reading.mirror(index)
    return reading.checkpoints[-1][1].state if reading.checkpoints else source.sync_cursor()


async def _must_be_changed(source: BaseDataSource, when: str) -> None:
    answer = await source.changed()
    if not isinstance(answer, bool):
        raise Breach(f"changed() returned {answer!r} {when}", "return True or False")
    if not answer:
        raise Breach(
            f"changed() was False {when}",
            "compare what cannot miss a change with what the last whole reading saw, and forget that when a reading "
            "begins; when in doubt, return True",
        )


def _short(body: bytes) -> str:
    text = body.decode(errors="replace")
    return text if len(text) <= 200 else f"{text[:197]}..."
