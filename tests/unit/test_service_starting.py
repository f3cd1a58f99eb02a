"""A daemon may be started before the index is, and when there is nothing to do."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import pytest

from connectors.errors import RetryableError
from tests.support.service import Service, connector, play


def _away(service: Service, *, until: float) -> None:
    """The store answers from that second on."""
    began = asyncio.get_running_loop().time()

    def before(_: str) -> None:
        if asyncio.get_running_loop().time() - began < until:
            raise RetryableError("the index cannot be reached")

    service.store.before = before


async def _run_for(service: Service, seconds: float) -> None:
    stop = asyncio.Event()
    running = asyncio.create_task(service.daemon().run(stop))
    await asyncio.wait([running], timeout=seconds)
    stop.set()
    await running


def test_an_index_that_is_away_at_the_start_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        _away(service, until=60)
        await _run_for(service, 90)
        assert await service.statuses() == ["completed"]

    with caplog.at_level(logging.INFO, "connectors.daemon"):
        play(scenario, tmp_path, connector("a"))
    told = [record.message for record in caplog.records if record.name == "connectors.daemon"]
    assert told[0] == "the index cannot be reached (tried again for 10m)"
    assert re.fullmatch(r"the index is reached, 1m 0\ds after the first try", told[1])


def test_the_wait_for_an_index_that_never_comes_ends(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        _away(service, until=10_000)
        with pytest.raises(RetryableError, match="cannot be reached"):
            await service.daemon().run(asyncio.Event())
        assert 120 <= asyncio.get_running_loop().time() <= 130

    play(scenario, tmp_path, connector("a"), sync={"retry_patience": "2m"})


def test_a_stop_ends_the_wait_at_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        _away(service, until=10_000)
        await _run_for(service, 30)
        assert asyncio.get_running_loop().time() < 31

    play(scenario, tmp_path, connector("a"))


@pytest.mark.parametrize(
    ("names", "schedule", "said"),
    [
        (["a"], "every 10m", "next sync of a in 9m 30s"),
        (["a", "b", "c"], "every 10m", "next sync of a in 9m 30s; of 2 more later"),
        (["a"], None, "no sync to do: none is scheduled; start one with: connectors sync NAME"),
        ([], None, "no sync to do: there are no connectors yet"),
    ],
)
def test_a_start_with_nothing_to_do_says_what_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], schedule: str | None, said: str
) -> None:
    async def scenario(service: Service) -> None:
        await _run_for(service, 29.9)
        caplog.clear()
        await _run_for(service, 2)

    caplog.set_level(logging.INFO)
    play(scenario, tmp_path, *(connector(name, full=schedule) for name in names))
    assert [record.getMessage() for record in caplog.records] == [said]
