"""Rules about a source that several processes read at the same time."""

from __future__ import annotations

from typing import Any

from connectors.byoc import Filter
from connectors.source import BaseDataSource, Checkpoint
from connectors.testing.reading import Listed, Reading, read, through_json
from connectors.testing.rules.base import Rules, rule
from connectors.testing.rules.stopping import check_whole, spread
from connectors.testing.trial import Breach, Trial

__all__ = ["PartitionRules"]


class PartitionRules(Rules):
    """The partitions are the whole, each document belongs to one of them, and each can be gone on with."""

    @rule("partitioned")
    async def test_the_partitions_are_the_whole(self, trial: Trial) -> None:
        """The partitions, each read by an object of its own, yield every document once, as one reading does."""
        whole = await trial.whole()
        joined: list[Any] = []
        parts = await _partitions(trial, trial.source())
        for partition in parts:
            part = await trial.read(partition=partition)
            if part.misshapen:
                raise Breach(
                    f"of the partition {partition}, {part.misshapen[0]}", "yield the same items as of the whole"
                )
            joined += [item for item in part.items if not isinstance(item, Checkpoint)]
        check_whole(whole, joined, f"in {len(parts)} partitions")

    @rule("partitioned")
    async def test_a_partition_goes_on_behind_each_checkpoint(self, trial: Trial) -> None:
        """What a partition yields before a checkpoint, and behind it, are together that partition."""
        await trial.whole()
        tried = 0
        for partition in spread(await _partitions(trial, trial.source())):
            part = await trial.read(partition=partition)
            for at, checkpoint in spread(part.checkpoints):
                tried += 1
                rest = await trial.read(partition=partition, checkpoint=through_json(checkpoint.state))
                _check_part(part, at, rest, f"of the partition {partition}, going on behind {checkpoint}")
        if not tried:
            trial.misuse("no partition yields a checkpoint: give it more documents, or smaller pages")

    @rule("partitioned")
    async def test_what_is_new_belongs_to_a_partition(self, trial: Trial) -> None:
        """A document that is added after the partitions were named is in one of them, or behind the cursor."""
        await trial.whole()
        source = trial.source()
        parts = await _partitions(trial, source)
        cursor = through_json(source.sync_cursor())
        added = await trial.touched("add")
        for partition in parts:
            if added in (await trial.read(partition=partition)).bodies:
                return
        if trial.source_class.incremental_sync_enabled:
            reader = trial.source()
            stream = reader.get_docs_incrementally(cursor, Filter())
            if added in (await read(stream, reader, incremental=True)).bodies:
                return
        if added not in (await trial.read()).bodies:
            trial.misuse(f"add() of the data returned {added!r}, and the source yields no such `_id`")
        raise Breach(
            f'"{added}" is in no partition',
            "leave the first partition without a beginning and the last one without an end",
        )

    @rule("partitioned", "incremental_sync_enabled")
    async def test_naming_the_partitions_fixes_the_position(self, trial: Trial) -> None:
        """An incremental sync from the cursor after partitions() sees what was changed since then."""
        await trial.whole()
        source = trial.source()
        await _partitions(trial, source)
        cursor = through_json(source.sync_cursor())
        changed = await trial.touched("change")
        reader = trial.source()
        seen = await read(reader.get_docs_incrementally(cursor, Filter()), reader, incremental=True)
        if changed not in seen.bodies:
            raise Breach(
                f'an incremental sync from {cursor} does not see the change of "{changed}"',
                "fix the position in partitions(), before it returns, and return it from sync_cursor()",
            )


async def _partitions(trial: Trial, source: BaseDataSource) -> list[Any]:
    found = [through_json(partition) for partition in await source.partitions(Filter())]
    if len(found) < 2:
        trial.misuse(
            f"it names {len(found)} partitions for these data: give it more documents or smaller partitions, so that "
            "there are two or more"
        )
    return found


def _check_part(part: Reading, at: int, rest: Reading, what: str) -> None:
    wanted = [item for item in part.items if not isinstance(item, Checkpoint)]
    joined = [item for item in (*part.items[:at], *rest.items) if not isinstance(item, Checkpoint)]
    if [_identity(item) for item in joined] != [_identity(item) for item in wanted]:
        raise Breach(
            f"{what}, it yielded {len(joined)} documents, where it has {len(wanted)}",
            "go on behind `checkpoint`, and end where the partition ends",
        )


def _identity(item: Any) -> Any:
    return (item.id, item.body) if isinstance(item, Listed) else item
