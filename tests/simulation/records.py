"""The simulated store of records: a real store behind a network that misbehaves."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from connectors.backends.ports import Claim, Lease
from connectors.errors import RetryableError

if TYPE_CHECKING:
    from tests.simulation.process import Process

__all__ = ["StoreClient"]


class StoreClient:
    """What one process has of the store. Its methods are those of the port, each with delays and faults around it."""

    def __init__(self, process: Process, inner: Any) -> None:
        self._process = process
        self._world = process.world
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._process.gate()
            await self._delay()
            self._break(name, "before")
            try:
                # What was sent is done, though its sender may be gone by then: nothing here waits.
                result = await method(*args, **kwargs)
            except Exception as error:
                self._world.note(self._process.name, f"{name} -> {type(error).__name__}")
                raise
            self._observe(name, args, kwargs, result)
            await self._delay()
            self._break(name, "after")
            await self._process.gate()
            return result

        return call

    async def _delay(self) -> None:
        if self._process.spared:
            return
        random = self._world.random
        chance = random.random()
        if chance < 0.6:
            return
        slow = chance > 0.995 and self._world.chance("store slow")
        await asyncio.sleep(random.random() * (12.0 if slow else 0.02))

    def _break(self, name: str, moment: str) -> None:
        world = self._world
        if self._process.spared:
            return
        away = moment == "before" and asyncio.get_running_loop().time() < world.store_away_until
        if world.chance("die at the store"):
            world.note(self._process.name, f"dies {moment} {name}")
            world.kill(self._process)
            raise asyncio.CancelledError
        if away or world.chance(f"store {moment}"):
            world.note(self._process.name, f"{name} fails {moment} it is done")
            raise RetryableError(f"the store failed {moment} {name}")

    def _observe(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        watch, process = self._world.watch, self._process.name
        if name in {"acquire", "claim"} and result is not None:
            self._claimed(result, kwargs["now"])
        elif name == "renew":
            watch.renewed(result)
        elif name == "release":
            watch.released(args[0])
        elif name == "commit":
            self._world.note(process, "commits", kwargs.get("job"), kwargs.get("connector"), kwargs.get("state"))
            watch.committed(process, args[0], kwargs.get("job"), kwargs.get("connector"), kwargs.get("state"))
            status = (kwargs.get("job") or {}).get("status")
            if status is not None:
                watch.status(kwargs["job_id"], str(status))
            if kwargs.get("release"):
                watch.released(args[0])
        elif name in {"update_job", "create_job"}:
            watch.status(result.id, str(result.status))
            self._world.note(process, f"{name} {result.job_type} {result.id[-4:]}: {result.status}")
        elif name == "add_dead_letters":
            self._world.note(process, "letters", args[0])
            watch.kept_letters(args[0])
        elif name == "remove_connector":
            watch.removed_letters(args[0], None)
        elif name == "remove_dead_letters":
            watch.removed_letters(args[0], args[1] if len(args) > 1 else None)

    def _claimed(self, result: Lease | Claim, now: float) -> None:
        watch, process = self._world.watch, self._process.name
        lease = result if isinstance(result, Lease) else result.lease
        self._world.note(process, f"claims {lease.connector_id}, epoch {lease.epoch}")
        watch.seen["claimed by a further worker"] += self._process.is_member
        watch.granted(lease, now)
        if isinstance(result, Claim):
            watch.status(result.job.id, str(result.job.status))
            watch.working[process, lease.connector_id] = result.job
