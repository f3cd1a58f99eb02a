"""The end of a simulated world: faults cease, the service goes on by itself, and what is there is looked at."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from connectors.backends.ports import DIGEST_SIZE, IndexHandle
from connectors.byoc import JobStatus, JobType, SyncJob
from connectors.errors import ConfigurationError
from tests.simulation.runs import keeps
from tests.simulation.watch import SECRET

if TYPE_CHECKING:
    from tests.simulation.world import World

__all__ = ["converge", "heal", "look_for_tasks", "stop"]

#: Seconds within which everything is well again.
_PATIENCE = 3600.0
_LOOK = 2.0
#: Seconds after which a worker that is not there is told of.
_MISSED = 30.0
#: Full syncs after which the index is what the source is, at the latest: for as long as writes of before may land late,
#: and then one.
_ROUNDS = 8
_ALLOWED = re.compile(r"--allow-deletes (\d+)")


async def heal(world: World) -> None:
    """Nothing misbehaves any more, and what is under way arrives."""
    world.note("world", "heals")
    world.calm = True
    world.declared = list(world.plan.connectors)
    world.edition += 1
    world.store_away_until = world.server.away_until = 0.0
    for process in world.processes:
        process.move()
    while world.server.busy:
        await asyncio.wait(list(world.server.busy))
    for connector in await world.operator.store.connectors():
        if connector.paused:
            await world.operator.operations.pause(connector.id, paused=False)


async def converge(world: World) -> None:
    """Waits until the index is what the source is, with no help but an operator's permission to delete."""
    ends = asyncio.get_running_loop().time() + _PATIENCE
    last = max((job.id for job in await world.operator.store.jobs(limit=1)), default="")
    difference = "no full sync was completed"
    while asyncio.get_running_loop().time() < ends:
        await asyncio.sleep(_LOOK)
        world.check()
        jobs = await world.operator.store.jobs(limit=10_000)
        if any(not job.ended for job in jobs):
            await _wake(world, jobs)
            continue
        rounds = min(_completed(jobs, name, last) for name in world.databases)
        await _allow(world, jobs)
        if rounds:
            found = await _difference(world)
            if found is None:
                world.watch.seen[f"rounds {rounds}"] += 1
                return
            difference = found
        if rounds > _ROUNDS:
            break
    world.fail(f"the index is not what the source is: {difference}")
    world.check()


def _completed(jobs: list[SyncJob], connector: str, last: str) -> int:
    """Full syncs that began after the world was healed, and ran to their end."""
    return sum(
        job.connector_id == connector
        and job.job_type == JobType.FULL
        and job.status == JobStatus.COMPLETED
        and job.id > last
        for job in jobs
    )


async def _wake(world: World, jobs: list[SyncJob]) -> None:
    """In every second world the operator does not wait for the next try of a suspended sync."""
    if world.plan.seed % 2:
        return
    for job in jobs:
        if job.status == JobStatus.SUSPENDED and job.number("resume_at"):
            with suppress(ConfigurationError):  # nobody has read yet that it is in `config.yml` again
                await world.operator.operations.sync_now(job.connector_id, JobType(job.job_type))


async def _allow(world: World, jobs: list[SyncJob]) -> None:
    """Follows what the deletion guard says."""
    for name in world.databases:
        newest = next((job for job in jobs if job.connector_id == name and job.job_type == JobType.FULL), None)
        if newest is None or newest.status != JobStatus.ERROR:
            continue
        if (allowed := _ALLOWED.search(newest.error or "")) is not None:
            world.watch.seen["guard"] += 1
            with suppress(ConfigurationError):  # as above
                await world.operator.operations.sync_now(name, allow_deletes=int(allowed[1]))


async def _difference(world: World) -> str | None:
    """Says what is not as it should be, None when all is."""
    for name, database in world.databases.items():
        wanted: dict[str, dict[str, Any]] = {}
        troubled: set[str] = set()
        for row_id, row in database.rows.items():
            kept = keeps([{"field": "kind", "value": kind} for kind in world.rules], row)
            taken = row.trouble == "refused" and not world.server.strict
            if row.trouble == "unreadable" or (kept and row.trouble and not taken):
                troubled.add(row_id)
            elif kept:
                document = row.document(row_id) | (row.content() if row.file else {})
                wanted[row_id] = {key: value for key, value in document.items() if key != "_id"}
        found = await _indexed(world, name)
        letters = set(await world.store.dead_letter_ids(name))
        if letters != troubled:
            return f"dead letters of {name}: {sorted(letters - troubled)} too many, {sorted(troubled - letters)} lack"
        for row_id in sorted(wanted.keys() | (found.keys() - troubled)):
            if found.get(row_id) != wanted.get(row_id):
                return f"{row_id} is {found.get(row_id)} and should be {wanted.get(row_id)}"
    return await _foreign(world)


async def _indexed(world: World, connector: str) -> dict[str, dict[str, Any]]:
    destination, index = world.server.inner, world.index_of(connector)
    info = await destination.info(index)
    if info is None:
        return {}
    handle, ids = IndexHandle(index, info.uuid, connector, ""), []
    async for page in destination.stamps(handle):
        digests = [page.digests[at : at + DIGEST_SIZE] for at in range(0, len(page.digests), DIGEST_SIZE)]
        ids += [row_id for _, row_id in await destination.find_ids(handle, digests)]
    return {row_id: orjson.loads(body) for row_id, body in (await destination.fetch(index, ids)).items()}


async def _foreign(world: World) -> str | None:
    for index in {world.index_of(name): None for name in world.databases}:
        info = await world.server.inner.info(index)
        kept = world.foreign.get(info.uuid if info is not None else "", {})
        if await world.server.inner.fetch(index, list(kept)) != kept:
            return f"the documents of somebody else in {index} are not as they were"
    return None


async def stop(world: World) -> None:
    """Ends all processes in an orderly way, and looks at what they leave."""
    if world.plan.workers > 1:  # those that ended at a fault are started again in time
        await asyncio.sleep(2 * _MISSED)
        for process in world.processes:
            if (trouble := process.crew.trouble()) is not None:
                world.fail(f"workers of {process.name} are {trouble}")
    for process in world.processes:
        process.terminate()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for process in list(world.processes):
        await process.done.wait()
    longest = world.plan.service["drain_timeout"] + 15.0
    if loop.time() - begun > longest:
        world.fail(f"the processes took {loop.time() - begun:.0f} s to end")
    records: list[Any] = [job.to_record() for job in await world.store.jobs(limit=10_000)]
    for connector in await world.store.connectors():
        records += [connector.to_record(), dict((await world.store.state(connector.id)).data)]
    if SECRET in repr(records):
        world.fail("a record holds a secret")
    world.check()


def look_for_tasks(world: World) -> None:
    """Sees that no task is left."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left and world.outcome.violation is None:
        world.fail(f"tasks are left: {left}")
