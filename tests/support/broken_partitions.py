"""Sources that break rules about partitions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from connectors.source import SourceItem
from connectors.testing.shelf import PartitionedShelfDataSource
from tests.support.broken import Registry

__all__ = ["BROKEN"]

BROKEN = Registry()
breaks = BROKEN.breaks


@breaks("test_the_partitions_are_the_whole", found="it yielded 17 documents, where the whole has 12")
class Overlaps(PartitionedShelfDataSource):
    async def partitions(self, filtering: Any = None) -> Sequence[Any]:
        first, second, third = await super().partitions(filtering)
        return [first, [0, second[1]], third]


@breaks("test_a_partition_goes_on_behind_each_checkpoint", found="it yielded 8 documents, where it has 5")
class BeginsAgain(PartitionedShelfDataSource):
    async def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncIterator[SourceItem]:
        given = checkpoint if partition is None else None
        async for item in super().get_docs(filtering, checkpoint=given, partition=partition):
            yield item


@breaks(
    "test_what_is_new_belongs_to_a_partition", "test_naming_the_partitions_fixes_the_position", found="is in no part"
)
class EndsAtTheLast(PartitionedShelfDataSource):
    async def partitions(self, filtering: Any = None) -> Sequence[Any]:
        first, second, third = await super().partitions(filtering)
        self._cursor = 1_000_000
        return [first, second, [third[0], third[0] + 3]]


@breaks("test_naming_the_partitions_fixes_the_position", found="does not see the change")
class ForgetsThePosition(PartitionedShelfDataSource):
    async def partitions(self, filtering: Any = None) -> Sequence[Any]:
        found = await super().partitions(filtering)
        self._cursor = 1_000_000
        return found
