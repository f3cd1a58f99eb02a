"""Rules about whole syncs: the source, the real pipeline, and an index in memory."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import orjson
import pytest

from connectors.byoc import JobType
from connectors.errors import ConnectorsError
from connectors.source import BaseDataSource
from connectors.sync.encode import MAX_ID_BYTES
from connectors.testing.memory_sync import MemorySync
from connectors.testing.reading import complete, read_all
from connectors.testing.rules.base import Rules, rule
from connectors.testing.rules.stopping import spread
from connectors.testing.trial import Breach, Trial

__all__ = ["SyncRules"]

_STOPS: Final = 5
_CHANGES: Final = ("change", "add", "delete")


class SyncRules(Rules):
    """The index equals the source, whatever happened before."""

    @rule()
    async def test_a_sync_fills_the_index_and_the_next_writes_nothing(self, trial: Trial) -> None:
        """After a sync the index equals the source; a second sync of unchanged data finds everything unchanged."""
        await trial.whole()
        sync, source = MemorySync(trial.folder / "sync"), trial.source()
        result, _ = await sync.run(source)
        await _check_index(trial, sync, "after the first sync")
        for which, again in (("same", source), ("new", trial.source())):
            result, _ = await sync.run(again)
            counters = result.counters
            failed = counters.dead_lettered
            if counters.unchanged + failed != counters.read or counters.vanished:
                raise Breach(
                    f"a second sync in the {which} object wrote {counters.indexed} and deleted {counters.vanished} of "
                    f"{counters.read} documents",
                    "yield the same documents while nothing changes, each with a download with a `_timestamp`",
                )

    @rule()
    async def test_syncs_follow_the_source(self, trial: Trial) -> None:
        """What is added, changed and deleted is so in the index after the next sync."""
        await trial.whole()
        kept = () if trial.source_class.lists_all else ("delete",)
        known = [name for name in _CHANGES if trial.can(name) and name not in kept]
        if not known:
            pytest.skip("the data have none of the methods change(), add() and delete(): give them one")
        sync, source = MemorySync(trial.folder / "sync"), trial.source()
        await sync.run(source)
        for name in known:
            id_ = await trial.touched(name)
            await sync.run(source)
            await _check_index(trial, sync, f'after {name}() of the document "{id_}" and a sync')

    @rule()
    async def test_what_cannot_be_read_stays_in_the_index(self, trial: Trial) -> None:
        """A document that cannot be read any more is not deleted from the index."""
        await trial.whole()
        sync, source = MemorySync(trial.folder / "sync"), trial.source()
        await sync.run(source)
        before = (await sync.indexed()).keys()
        await trial.act("spoil")
        with suppress(ConnectorsError):  # the job ends or waits, and nothing is deleted
            await sync.run(source)
        if lost := sorted(before - (await sync.indexed()).keys()):
            raise Breach(
                f"after spoil() and a sync, {len(lost)} documents were deleted: {', '.join(lost[:3])}",
                "yield Skipped(reason, _id=...) for a document and Skipped(reason) for a part, or raise",
            )

    @rule()
    async def test_a_sync_that_stops_goes_on(self, trial: Trial) -> None:
        """A sync that is stopped in the middle, and goes on in another process, ends with the same index."""
        whole = await trial.whole()
        places = spread(range(1, len(whole.items)))
        for place in places[:: max(1, len(places) // _STOPS)]:
            sync = MemorySync(trial.folder / f"sync-{place}")
            first, job = await sync.run(trial.source(), stop_after=place)
            last, _ = await sync.run(trial.source(), job=job) if first.suspended else (first, job)
            what = f"after a sync that stopped behind {place} items and went on"
            if last.counters.vanished or not last.counters.balanced:
                raise Breach(
                    f"{what}, {last.counters.vanished} documents were deleted, of {last.counters.read} that were read",
                    "go on behind the checkpoint with exactly what was not yielded before it",
                )
            await _check_index(trial, sync, what)
            await trial.close()

    @rule("incremental_sync_enabled")
    async def test_incremental_syncs_follow_the_source(self, trial: Trial) -> None:
        """What changed is so in the index after the next incremental sync, and a full one then has nothing to write."""
        await trial.whole()
        sync, source = MemorySync(trial.folder / "sync"), trial.source()
        await sync.run(source)
        for name in _CHANGES:
            if trial.can(name) and (name != "delete" or self.incremental_sees_deletes):
                id_ = await trial.touched(name)
                await sync.run(source, JobType.INCREMENTAL)
                await _check_index(trial, sync, f'after {name}() of the document "{id_}" and an incremental sync')
        result, _ = await sync.run(trial.source())
        if result.counters.indexed or result.counters.vanished:
            raise Breach(
                f"the full sync after incremental ones wrote {result.counters.indexed} documents and deleted "
                f"{result.counters.vanished}",
                "build documents in one function for full and incremental reading",
            )


async def _check_index(trial: Trial, sync: MemorySync, what: str) -> None:
    """Compares the index with what the source has now, downloads included."""
    source = trial.source()  # its downloads are wanted, too
    truth: dict[str, Any] = {}
    for item in (await read_all(source)).documents:
        try:
            body = await complete(item, source)
        except TypeError as error:
            pytest.skip(f"not tried before the test of downloads passes: {error}")
        if body is not None:
            truth[_stored_id(source, item.id)] = orjson.loads(body)
    found = await sync.indexed()
    letters = await sync.dead_letters()
    if missing := sorted(truth.keys() - found.keys()):
        why = f": {letters[missing[0]]}" if missing[0] in letters else ""
        raise Breach(f'{what}, the document "{missing[0]}" is not in the index{why}', "yield it in each reading")
    if surplus := sorted(found.keys() - truth.keys() - letters.keys()):  # what cannot be read stays as it was
        raise Breach(f'{what}, the document "{surplus[0]}" is in the index still', "list only what is there")
    for id_, document in truth.items():
        if found[id_] != document:
            raise Breach(
                f'{what}, the document "{id_}" is {str(found[id_])[:200]} in the index, '
                f"and {str(document)[:200]} in the source",
                "let `_timestamp` change whenever the document or its file does",
            )


def _stored_id(source: BaseDataSource, id_: str) -> str:
    """Returns the id under which the pipeline indexes a document."""
    return id_ if len(id_.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES else source.hash_id(id_)
