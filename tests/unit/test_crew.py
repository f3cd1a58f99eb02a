"""The crew: who may run the next job, what becomes of a worker that ends, and how all of them stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from connectors.config.models import Config
from connectors.processes import Channel, Child
from connectors.runtime import Runtime
from connectors.service import crew as module
from connectors.service.crew import Crew
from connectors.service.metrics import Metrics
from connectors.service.worker import Worker


class StandIn:
    """In place of a process: the test holds the other end of the socket."""

    def __init__(self) -> None:
        self.end, self._theirs = socket.socketpair()
        self.gone = asyncio.Event()
        self.killed = False
        self.how_it_ended = "ended by SIGKILL"

    async def channel(self) -> Channel:
        return await Channel.open(self._theirs)

    async def ended(self, _seconds: float) -> bool:
        await self.gone.wait()
        return True

    async def kill(self) -> None:
        self.killed = True
        self.gone.set()


class OwnWorker:
    """The worker of the first process, as far as the crew knows it."""

    def __init__(self) -> None:
        self.running: dict[str, None] = {}
        self.allowed = 99
        self.freed = asyncio.Event()
        self.on_change: Callable[[], None] = lambda: None

    def runs(self, *names: str) -> None:
        self.running = dict.fromkeys(names)
        self.on_change()


class Scene:
    """A crew of two further workers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.01)
        self.started: dict[int, list[StandIn]] = {2: [], 3: []}
        self.own = OwnWorker()
        self.metrics = Metrics()
        self.stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.crew = Crew(
            2,
            self._launch,
            name="host:1",
            worker=cast("Worker", self.own),
            metrics=self.metrics,
            runtime=Runtime(),
            drain_timeout=0.1,
        )

    def _launch(self, number: int) -> Child:
        made = StandIn()
        self.started[number].append(made)
        return cast("Child", made)

    @asynccontextmanager
    async def member(self, number: int, life: int = 0) -> AsyncIterator[Channel]:
        await until(lambda: len(self.started[number]) > life)
        stand_in = self.started[number][life]
        channel = await stand_in.channel()
        try:
            yield channel
        finally:
            channel.close()
            stand_in.gone.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - any condition of the test, which no event stands for
            await asyncio.sleep(0.001)


async def heard(channel: Channel) -> Any:
    async with asyncio.timeout(5):
        return await channel.hear()


async def test_the_least_busy_worker_claims_the_next_job_and_the_first_one_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene(monkeypatch)
    async with scene.crew.at_work(scene.stop):
        assert scene.own.allowed == 0, "the others are about to be there"
        async with scene.member(2) as two, scene.member(3) as three:
            two.tell(name="host:2", running=[])
            three.tell(name="host:3", running=[])
            assert await heard(two) == await heard(three) == {"allowed": 1}
            assert scene.own.allowed == 0
            two.tell(name="host:2", running=["a"])
            three.tell(name="host:3", running=["b"])
            await until(lambda: scene.own.allowed == 1)
            assert scene.own.freed.is_set()
            scene.own.runs("c")
            assert await heard(two) == await heard(three) == {"allowed": 2}
            assert [(each.number, each.name, each.running) for each in scene.crew.workers()] == [
                (1, "host:1", ["c"]),
                (2, "host:2", ["a"]),
                (3, "host:3", ["b"]),
            ]
            scene.stop.set()
            assert await heard(two) == await heard(three) == {"stop": True}


async def test_a_worker_that_ended_counts_no_more_and_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch)
    async with scene.crew.at_work(scene.stop), scene.member(2) as two:
        async with scene.member(3) as three:
            three.tell(name="host:3", running=[])
            two.tell(name="host:2", running=["a", "b"])
            three.tell(metrics=Metrics().export())
            await until(lambda: b'worker="3"' in scene.metrics.render()[0])
            assert scene.own.allowed == 0
        await until(lambda: scene.own.allowed == 2)  # as many as the one that is left
        assert b'worker="3"' not in scene.metrics.render()[0]
        async with scene.member(3, life=1) as three:
            three.tell(name="host:33", running=[])
            await until(lambda: scene.own.allowed == 0)
            assert scene.crew.trouble() is None
            scene.stop.set()
            assert (await heard(three))["allowed"] == 1


async def test_a_worker_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GRACE", 0.05)
    scene = Scene(monkeypatch)
    async with scene.crew.at_work(scene.stop):
        await until(lambda: all(scene.started.values()))
        for number in (2, 3):
            channel = await scene.started[number][0].channel()
            channel.tell(name=f"host:{number}", running=["a"])
            # Its socket ends with it, as that of a killed process does.
            ending = asyncio.create_task(scene.started[number][0].gone.wait())
            ending.add_done_callback(lambda _, channel=channel: channel.close())  # type: ignore[misc]  # mypy wants no default there
        scene.stop.set()
    assert all(stand_in.killed for [stand_in] in scene.started.values())


async def test_who_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MISSING", 0.0)
    scene = Scene(monkeypatch)
    async with scene.crew.at_work(scene.stop), scene.member(2) as two, scene.member(3):
        two.tell(name="host:2", running=[])
        await until(lambda: str(scene.crew.trouble()).count("worker") == 1)
        assert "worker 3" in str(scene.crew.trouble())
        scene.stop.set()


@pytest.mark.parametrize("number", [0, 65])
def test_the_number_of_workers_has_bounds(number: int) -> None:
    with pytest.raises(ValueError, match="workers"):
        Config.model_validate({"service": {"workers": number}}, context={"base_dir": Path()})
