"""What the framework makes of a hostile source: each behaviour ends as promised, and nothing is wiped."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors.errors import ConfigurationError, ConnectorsError, RetryableError, SuspendSync, SyncError
from connectors.source import DataSourceConfiguration
from connectors.testing.acceptance import SourceAcceptance
from connectors.testing.hostile import BEHAVIOURS, HostileDataSource
from connectors.testing.memory_sync import MemorySync


def hostile(*behaviours: str, **values: Any) -> HostileDataSource:
    given = {"behaviours": list(behaviours), "milliseconds": 1, "size": 10_000, **values}
    return HostileDataSource(DataSourceConfiguration.merge(HostileDataSource.get_default_configuration(), given))


class TestWithoutBehaviours(SourceAcceptance):
    """It keeps the contract as long as nobody asks for more."""

    source_class = HostileDataSource
    configuration: ClassVar = {"documents": 450}
    exempt: ClassVar = {
        "test_a_cut_connection_is_told": "it has none",
        "test_a_wrong_configuration_is_told": "there is no backend that could refuse it",
        "test_what_cannot_be_read_is_told": "all can be read",
        "test_what_cannot_be_read_stays_in_the_index": "all can be read",
        "test_changed_misses_nothing": "nothing changes",
        "test_syncs_follow_the_source": "nothing changes",
    }


#: Behaviour → outcomes of the twelve documents, all that are not zero.
ENDS: dict[str, dict[str, int]] = {
    "changing_ids": {"indexed": 12},
    "checkpoint_storm": {"indexed": 12},
    "deaf": {"indexed": 12},
    "deep": {"dead_lettered": 12},
    "ending_early": {"indexed": 6},
    "failing_downloads": {"dead_lettered": 12},
    "huge": {"indexed": 12},
    "huge_downloads": {"indexed": 12},
    "incomplete": {"indexed": 12},
    "long_ids": {"indexed": 12},
    "never_yielding": {"indexed": 12},
    "nonsense_downloads": {"indexed": 12},
    "repeating_ids": {"indexed": 12, "duplicate": 12},
    "skipping_all": {"dead_lettered": 12},
    "slow": {"indexed": 12},
    "slow_downloads": {"indexed": 12},
    "unencodable": {"indexed": 8, "dead_lettered": 4},
    "volatile": {"indexed": 12},
    "empty": {},
}
RAISES: dict[str, type[Exception]] = {
    "foreign_items": SyncError,
    "raising": RuntimeError,
    "raising_configuration": ConfigurationError,
    "raising_retryable": RetryableError,
    "raising_suspend": SuspendSync,
    "without_ids": SyncError,
}


def test_every_behaviour_is_tried() -> None:
    assert {*ENDS, *RAISES, "stuck"} == set(BEHAVIOURS)


@pytest.mark.parametrize("name", ENDS)
async def test_a_behaviour_costs_no_more_than_its_documents(name: str, tmp_path: Path) -> None:
    result, _ = await MemorySync(tmp_path).run(hostile(name))
    counters = {key: number for key, number in result.counters.to_dict().items() if number and key != "bytes"}
    assert counters.pop("read", 0) == sum(counters.values())
    assert counters == ENDS[name]
    assert not result.suspended
    assert bool(result.incomplete) == (name == "incomplete")


@pytest.mark.parametrize("name", RAISES)
async def test_an_error_ends_the_sync_and_wipes_nothing(name: str, tmp_path: Path) -> None:
    sync = MemorySync(tmp_path)
    await sync.run(hostile())
    with pytest.raises(RAISES[name]):
        await sync.run(hostile(name))
    assert len(await sync.indexed()) == 12


async def test_what_lists_nothing_or_only_a_part_wipes_nothing(tmp_path: Path) -> None:
    sync = MemorySync(tmp_path)
    await sync.run(hostile())
    with pytest.raises(ConnectorsError, match="the source listed no document"):
        await sync.run(hostile("empty"))
    await sync.run(hostile("incomplete", documents=6))
    assert len(await sync.indexed()) == 12


async def test_what_is_stuck_can_be_stopped_and_goes_on(tmp_path: Path) -> None:
    sync = MemorySync(tmp_path)
    first, job = await sync.run(hostile("deaf", "slow", documents=350), stop_after=250)
    assert first.suspended
    assert first.counters.read < 350
    last, _ = await sync.run(hostile(documents=350), job=job)
    assert last.counters.read == 350 == len(await sync.indexed())
    running = asyncio.ensure_future(MemorySync(tmp_path / "other").run(hostile("stuck")))
    await asyncio.wait([running], timeout=0.2)
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
