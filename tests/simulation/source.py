"""A source over a simulated database: full and incremental, resumable or not, slow, and with every kind of trouble."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from connectors.errors import FullSyncNeededError, RetryableError, SkippableError, SuspendSync
from connectors.source import BaseDataSource, Checkpoint, ConfigurationError, Skipped
from tests.simulation.database import Database, Row
from tests.simulation.runs import Item, Run, keeps
from tests.simulation.splits import StoredSplit
from tests.simulation.watch import SECRET

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.readers import SimulatedReader
    from tests.simulation.splits import SplitRun

__all__ = ["SimulatedError", "SimulatedSource"]


class SimulatedError(Exception):
    """What a source raises of itself."""


class _File:
    """The lazy download of one row."""

    def __init__(self, source: SimulatedSource, row_id: str) -> None:
        self._source = source
        self._id = row_id

    async def __call__(self, *, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any] | None:
        if not doit:
            return None
        await self._source.pause(0.5, 3.0)
        row = self._source.database.rows.get(self._id)
        if row is None:
            raise SkippableError(f"{self._id} is gone by now")
        if row.trouble == "broken":
            raise SkippableError(f"the file of {self._id} is broken, says the server at {SECRET}")
        return row.content()


class SimulatedSource(BaseDataSource):
    """Reads the database of its connector in the order of the ids, a few rows at a time.

    Attributes:
        process: the process that this object lives in.
        whole: the sync by several readers of which it reads a part.
    """

    service_type: ClassVar[str] = "sim"
    process: ClassVar[Process | SimulatedReader]
    whole: ClassVar[SplitRun]

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self.connector: str = configuration["name"]
        self.world = self.process.world
        self.database: Database = self.world.databases[self.connector]
        self._cursor: dict[str, Any] | None = None
        self._complete_at: int | None = None
        self._short = False  # whether it listed fewer rows than there are, without a word

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        return {
            "name": {"type": "str", "value": ""},
            "password": {"type": "str", "value": "", "sensitive": True},
            "edition": {"type": "int", "value": 0, "required": False},
        }

    async def ping(self) -> None:
        await self.pause(0.1, 1.0)
        self._trip("ping")

    async def changed(self) -> bool:
        await self.pause(0.1, 1.0)
        return self._complete_at != self.database.position

    def sync_cursor(self) -> Any:
        return self._cursor

    async def pause(self, chance: float, seconds: float) -> None:
        """Takes some time, now and then."""
        random = self.world.random
        if not self.world.calm and random.random() < chance:
            await self._sleep(random.random() * seconds)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            # A library that swallows one cancellation, as `wait_for` of Python 3.11 may.
            if self.process.dead or not self.world.chance("deaf"):
                raise
            self.world.note(self.process.name, "a cancellation is swallowed")
            await asyncio.sleep(seconds)

    def _trip(self, where: str) -> None:
        """Raises, if this is a moment for it."""
        if not self.world.chance(f"source {where}"):
            return
        kind = self.world.random.choice((RetryableError, SimulatedError, SuspendSync, ConfigurationError))
        self.world.note(self.process.name, f"source of {self.connector} raises {kind.__name__} ({where})")
        raise kind(f"the source fails at {where}, as user:{SECRET}@host")

    # Reading

    async def partitions(self, filtering: Any = None) -> list[Any]:
        """Returns ranges of ids, of rows that are there at this moment."""
        await self.pause(0.1, 1.0)
        self._trip("in the middle")
        world, random = self.world, self.world.random
        cuts = sorted(random.sample(sorted(self.database.rows), min(len(self.database.rows), random.randrange(4))))
        split, start = len(world.watch.splits), self.database.position
        world.watch.splits.append(StoredSplit())
        self._cursor, self._complete_at = {"position": start, "split": split}, None
        world.note(self.process.name, f"{self.connector} is split at {cuts}")
        return [{"part": part, "from": low, "to": high} for part, (low, high) in enumerate(pairwise(["", *cuts, None]))]

    async def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncIterator[Any]:
        world, database, name = self.world, self.database, self.process.name
        if partition is None:
            run = world.watch.begin(name, self.connector, full=True, rules=filtering.basic_rules, state=checkpoint)
        else:
            run = world.watch.begin_part(self.whole, partition["part"], checkpoint)
        world.note(name, f"run {run.number} reads {partition or 'all'} of {self.connector}, {checkpoint=}")
        start = checkpoint["position"] if checkpoint is not None else database.position
        self._cursor = self._complete_at = None
        self._short = False
        after, to = (partition["from"], partition["to"]) if partition is not None else ("", None)
        async for item in self._list(run, checkpoint["after"] if checkpoint is not None else after, to, start):
            yield item
        self._trip("at the end")
        run.ended = True
        self._cursor = {"position": start, "run": run.number, "at": len(run.items)}
        self._complete_at = None if self._short else start

    async def _list(self, run: Run, after: str, to: str | None, start: int) -> AsyncIterator[Any]:
        random, plan = self.world.random, self.world.plan
        last = len(self.database.rows)
        if self.world.chance("lists less"):
            last = random.choice((0, random.randrange(last + 1)))
            self._short = True
            self.world.note(self.process.name, f"source of {self.connector} lists {last} rows")
        listed = 0
        while ids := self.database.ids_behind(after, plan.chunk, to):
            rows = [(row_id, self.database.rows[row_id]) for row_id in ids]
            await self.pause(plan.slowness, 1.0)
            for row_id, row in rows:
                if listed >= last and last < len(self.database.rows):
                    return
                listed += 1
                await self.pause(plan.slowness / 10, 8.0)
                self._trip("in the middle")
                yield self._item(run, row_id, row)
                after = row_id
                if self.world.chance("repeats"):
                    if random.random() < 0.5:  # it changes while it is read
                        self.database.touch(row_id)
                    if (again := self.database.rows.get(row_id)) is not None:
                        yield self._item(run, row_id, again)
                if self.world.chance("blind"):
                    run.blind = len(run.items) if run.blind is None else run.blind
                    yield Skipped(f"a folder cannot be read with {SECRET}")
            if plan.checkpoints and random.random() < plan.checkpoints:
                state = {"after": after, "position": start, "run": run.number}
                yield Checkpoint({**state, "at": len(run.items), "count": run.count})

    def _item(self, run: Run, row_id: str, row: Row) -> Any:
        kept = keeps(run.rules, row)
        if row.trouble == "unreadable":
            run.items.append(Item(row_id, row.rev, "any"))
            return Skipped(f"{row_id} cannot be read with {SECRET}", row_id)
        wanted = "out" if not kept else "any" if row.plain else "there"
        run.items.append(Item(row_id, row.rev, wanted, doubtful=bool(row.file or row.trouble)))
        return row.document(row_id), _File(self, row_id) if row.file else None

    # Changes

    async def get_docs_incrementally(self, sync_cursor: Any, filtering: Any = None) -> AsyncIterator[Any]:
        world, database, plan = self.world, self.database, self.world.plan
        run = world.watch.begin(
            self.process.name, self.connector, full=False, rules=filtering.basic_rules, state=sync_cursor
        )
        position = sync_cursor["position"] if sync_cursor is not None else 0
        world.note(self.process.name, f"run {run.number} reads changes of {self.connector} behind {position}")
        if position < database.cut:
            raise FullSyncNeededError("the log of changes was cut")
        self._cursor, self._complete_at = None, None
        while changes := database.changes_behind(position, plan.chunk):
            await self.pause(plan.slowness, 1.0)
            for number, row_id in changes:
                self._trip("in the middle")
                yield self._change(run, row_id)
                position = number
            if plan.checkpoints and world.random.random() < plan.checkpoints:
                yield Checkpoint({"position": position, "run": run.number, "at": len(run.items)})
        self._trip("at the end")
        run.ended = True
        cursor = {"position": position, "run": run.number, "at": len(run.items)}
        self._cursor = cursor
        if plan.checkpoints:
            yield Checkpoint(cursor)

    def _change(self, run: Run, row_id: str) -> Any:
        row = self.database.rows.get(row_id)
        if row is None:
            run.items.append(Item(row_id, self.database.rev(row_id), "gone"))
            return {"_id": row_id}, None, "delete"
        if row.trouble == "unreadable":
            return self._item(run, row_id, row)
        wanted = "gone" if not keeps(run.rules, row) else "any" if row.plain else "there"
        run.items.append(Item(row_id, row.rev, wanted, doubtful=bool(row.file or row.trouble)))
        document = row.document(row_id)
        if not row.file and self.world.random.random() < 0.2:
            return document, None, "update"
        return document, _File(self, row_id) if row.file else None, "index"
