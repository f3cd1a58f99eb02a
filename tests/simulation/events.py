"""What may befall a simulated world."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any

import orjson

from connectors.backends.ports import IndexHandle, Operation
from connectors.byoc import JobType
from connectors.errors import ConfigurationError, ConflictError, NotFoundError, RetryableError, SuspendSync
from connectors.sync.encode import content_hash, id_digest
from tests.simulation.database import KINDS, Database
from tests.simulation.kernel import LATEST

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

__all__ = ["EVENTS", "Happening"]

Happening = Callable[["World"], Awaitable[None]]

_NOT_NOW = (ConflictError, NotFoundError, ConfigurationError)


def _victim(world: World) -> Process | None:
    alive = [process for process in world.processes if not process.dead]
    return world.random.choice(alive) if alive else None


def _database(world: World) -> Database:
    return world.databases[world.random.choice(world.plan.connectors)]


def _edited(world: World) -> None:
    world.edition += 1


async def _kill(world: World) -> None:
    if (process := _victim(world)) is not None:
        world.kill(process)


async def _kill_in_mid_request(world: World) -> None:
    """A process dies as a request of it is under way, and what it was about is deleted at the source."""
    for _ in range(50):
        busy = list(world.server.busy.values())
        victims = [process for process in world.processes if busy and process.name == busy[0].process]
        if victims:
            world.kill(victims[0])
            busy[0].held = world.random.uniform(0.0, LATEST)
            database = world.databases[busy[0].handle.connector_id]
            for operation in busy[0].operations[:3]:
                world.note("database", f"delete {operation.id}")
                database.remove(operation.id)
            return
        await asyncio.sleep(0.2)


async def _power_cut(world: World) -> None:
    if (process := _victim(world)) is not None:
        world.kill(process, power_cut=True)


async def _lose_disk(world: World) -> None:
    """A machine is replaced: its processes die, and the new one has an empty disk."""
    if (process := _victim(world)) is None:
        return
    machine = process.machine
    world.kill(process, power_cut=True)
    machine.generation += 1


async def _terminate(world: World) -> None:
    if (process := _victim(world)) is not None:
        process.terminate()


async def _stand_still(world: World) -> None:
    await _stop_for(world, world.random.uniform(0.1, world.plan.service["lease"]))


async def _stand_still_for_long(world: World) -> None:
    await _stop_for(world, world.plan.service["lease"] * world.random.uniform(1.0, 2.5))


async def _stop_for(world: World, seconds: float) -> None:
    if (process := _victim(world)) is None:
        return
    process.stand_still()
    world.note(process.name, f"stands still for {seconds:.1f} s")

    def go_on() -> None:
        world.note(process.name, "goes on")
        process.move()

    asyncio.get_running_loop().call_later(seconds, go_on, context=Context())


async def _cancel(world: World) -> None:
    if jobs := await world.operator.unfinished():
        with suppress(*_NOT_NOW):
            await world.operator.operations.cancel(world.random.choice(jobs).id)


async def _sync_now(world: World) -> None:
    with suppress(*_NOT_NOW):
        await world.operator.operations.sync_now(_database(world).name)


async def _sync_changes_now(world: World) -> None:
    with suppress(*_NOT_NOW):
        await world.operator.operations.sync_now(_database(world).name, JobType.INCREMENTAL)


async def _sync_and_allow(world: World) -> None:
    with suppress(*_NOT_NOW):
        await world.operator.operations.sync_now(_database(world).name, allow_deletes=world.random.randrange(5))


async def _sync_by_command(world: World) -> None:
    world.command(_database(world).name)


async def _undeclare(world: World) -> None:
    """A connector leaves `config.yml`; somebody may purge what is left of it."""
    gone = world.declared.pop(world.random.randrange(len(world.declared))) if world.declared else None
    _edited(world)
    if gone is not None and world.random.random() < 0.5:
        await asyncio.sleep(10.0)
        with suppress(*_NOT_NOW):
            await world.operator.operations.purge(gone)


async def _declare(world: World) -> None:
    world.declared = list(world.plan.connectors)
    _edited(world)


async def _edit_rules(world: World) -> None:
    world.rules = sorted(world.random.sample(KINDS, world.random.choice((0, 0, 1, 1, 2, 3))))
    _edited(world)


async def _edit_settings(world: World) -> None:
    world.settings += 1
    _edited(world)


async def _pause(world: World) -> None:
    with suppress(*_NOT_NOW):
        await world.operator.operations.pause(_database(world).name)


async def _resume(world: World) -> None:
    with suppress(*_NOT_NOW):
        await world.operator.operations.pause(_database(world).name, paused=False)


async def _index_gone(world: World) -> None:
    """Somebody deletes the index."""
    await world.server.inner.delete_index(world.index_of(_database(world).name))


async def _store_away(world: World) -> None:
    now = asyncio.get_running_loop().time()
    world.store_away_until = now + world.random.uniform(0.5, 2 * world.plan.service["lease"])


async def _server_away(world: World) -> None:
    now = asyncio.get_running_loop().time()
    world.server.away_until = now + world.random.uniform(0.5, 40.0)


async def _foreign_writes(world: World) -> None:
    """Somebody else keeps documents in the same index."""
    index = world.index_of(_database(world).name)
    info = await world.server.inner.info(index)
    if info is None:
        return
    handle = IndexHandle(index, info.uuid, "somebody-else", "-")
    kept = world.foreign.setdefault(info.uuid, {})
    for _ in range(5):
        row_id, body = f"foreign-{len(kept)}", orjson.dumps({"text": world.random.randrange(9)})
        await world.server.inner.write(handle, [Operation(row_id, id_digest(row_id), content_hash(body), 1, body)])
        kept[row_id] = body


async def _reset(world: World) -> None:
    with suppress(*_NOT_NOW):
        await world.operator.operations.reset(_database(world).name)


async def _purge(world: World) -> None:
    with suppress(*_NOT_NOW):
        await world.operator.operations.purge(_database(world).name)


async def _mend_mapping(world: World) -> None:
    """The server takes from now on what it refused."""
    world.server.strict = False


async def _replay_letters(world: World) -> None:
    with suppress(*_NOT_NOW, RetryableError, SuspendSync):
        connector = await world.operator.store.connector(_database(world).name)
        found = await world.operator.letters.replay(connector, None)
        world.note("operator", [f"{letter.id} {letter.outcome}" for letter in found])


async def _cut_log(world: World) -> None:
    _database(world).forget_log()


async def _mend_rows(world: World) -> None:
    _database(world).mend()


async def _many_changes(world: World) -> None:
    database = _database(world)
    for _ in range(world.random.randrange(1, 12)):
        world.note("database", database.change())


_ALL: Sequence[Any] = (
    _kill, _kill_in_mid_request, _power_cut, _lose_disk, _terminate, _stand_still, _stand_still_for_long, _cancel,
    _sync_now, _sync_changes_now, _sync_and_allow, _sync_by_command, _undeclare, _declare, _edit_rules, _edit_settings,
    _pause, _resume, _index_gone, _store_away, _server_away, _foreign_writes, _reset, _purge, _mend_mapping,
    _replay_letters, _cut_log, _mend_rows, _many_changes,
)  # fmt: skip

#: By the names that stand in a plan.
EVENTS: dict[str, Happening] = {happening.__name__.strip("_").replace("_", " "): happening for happening in _ALL}
