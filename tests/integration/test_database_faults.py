"""What befalls a database in the middle of a sync, through the real engine: nothing is wiped, and the sync goes on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, nullcontext
from pathlib import Path
from typing import Any, Final, cast

import pytest

from connectors.errors import ConfigurationError, RetryableError
from connectors.source import BaseDataSource
from connectors.testing.memory_sync import MemorySync
from tests.support.databases import ROWS, SUBJECTS, Subject

pytestmark = [
    pytest.mark.server,
    # The driver of MongoDB leaves a socket that it is just connecting to the collector of garbage.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

#: In the middle of the first table.
_MIDDLE: Final = 15
_LEFT: Final = range(5, ROWS + 1)


@pytest.fixture(autouse=True)
def _tidy() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module", params=SUBJECTS, ids=lambda subject: subject.kind.title)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[type[Subject], Any]]:
    """A running server, and what is done to it."""
    with request.param.kind.or_skip() as server:
        yield request.param, server


@pytest.fixture
async def subject(server: tuple[type[Subject], Any]) -> AsyncIterator[Subject]:
    """The database with sixty rows."""
    kind, running = server
    async with kind(running) as subject:
        yield subject


async def _sync(
    sync: MemorySync, subject: Subject, befalls: Callable[[], Awaitable[None]] | None = None, **given: Any
) -> Any:
    """Runs one job by a source of its own; something befalls it in the middle of the first table."""
    source, deeds = subject.source(), list[asyncio.Task[None]]()
    if befalls is not None:
        source.get_docs = _befallen(source, befalls, deeds)  # type: ignore[method-assign]  # of this object
    try:
        return await sync.run(source, **given)
    finally:
        await source.close()
        await asyncio.gather(*deeds)


def _befallen(source: BaseDataSource, befalls: Callable[[], Awaitable[None]], deeds: list[asyncio.Task[None]]) -> Any:
    original = source.get_docs

    async def get_docs(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        number = 0
        async with aclosing(cast("Any", original(*args, **kwargs))) as items:
            async for item in items:
                yield item
                number += 1
                if number == _MIDDLE:
                    deeds.append(asyncio.ensure_future(cast("Any", befalls())))
                    # A table that is being read is dropped when the server is done with the piece that we read.
                    await asyncio.wait(deeds, timeout=5 if befalls.__name__ != "drop" else 0.5)

    return get_docs


async def _filled(subject: Subject, folder: Path) -> tuple[MemorySync, set[str]]:
    """Returns a sync whose index holds everything, of which something is to be deleted."""
    sync = MemorySync(folder)
    await _sync(sync, subject)
    held = set(await sync.indexed())
    assert held == subject.ids("a", *range(1, ROWS + 1)) | subject.ids("b", *range(1, ROWS + 1))
    await subject.shrink()
    return sync, held


@pytest.mark.parametrize(
    ("trouble", "error"),
    [("kill", RetryableError), ("revoke", ConfigurationError), ("stall", RetryableError)],
    ids=["killed server", "revoked grant", "slow query"],
)
async def test_a_sync_that_something_befalls_wipes_nothing_and_goes_on(
    subject: Subject, tmp_path: Path, trouble: str, error: type[Exception]
) -> None:
    if trouble == "kill" and not subject.server.is_ours:
        pytest.skip("the server is not ours to kill")
    sync, held = await _filled(subject, tmp_path)
    with pytest.raises(error):
        await _sync(sync, subject, getattr(subject, trouble))
    assert set(await sync.indexed()) == held
    (job, *_) = await sync.store.jobs(limit=1)
    progress = (await sync.store.state(job.connector_id)).data["progress"]
    assert progress["job"] == job.id, "there is a checkpoint to go on behind"
    await subject.heal()
    result, _ = await _sync(sync, subject, job=job)
    assert set(await sync.indexed()) == subject.ids("a", *_LEFT) | subject.ids("b", *_LEFT)
    assert result.counters.balanced
    assert result.counters.vanished == 8
    assert result.counters.unchanged == 2 * len(_LEFT), "nothing is counted twice"


async def test_a_table_dropped_while_it_is_read_wipes_nothing(subject: Subject, tmp_path: Path) -> None:
    sync, held = await _filled(subject, tmp_path)
    with nullcontext() if subject.dropped is None else pytest.raises(subject.dropped):
        await _sync(sync, subject, subject.drop)
    assert set(await sync.indexed()) == held
    await _sync(sync, subject)  # which knows nothing of the table any more
    assert set(await sync.indexed()) == subject.ids("b", *_LEFT)
