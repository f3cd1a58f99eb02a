"""What every destination promises; each sentence of the port's docstrings has a test."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from hashlib import blake2b
from typing import Any, Protocol

import orjson
import pytest

from connectors.backends.ports import (
    DIGEST_SIZE,
    HASH_SIZE,
    Destination,
    Failure,
    FailureKind,
    IndexHandle,
    IndexSpec,
    Operation,
)
from connectors.errors import IndexChangedError, LeaseLostError


class Recreates(Protocol):
    def recreate(self, index: str, /) -> AbstractAsyncContextManager[None]: ...


def put(id_: str, version: int = 1, **fields: Any) -> Operation:
    return raw(id_, orjson.dumps(fields), version)


def raw(id_: str, body: bytes | None, version: int = 1) -> Operation:
    digest = blake2b(id_.encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE).digest()
    return Operation(id_, digest, blake2b(body or b"", digest_size=HASH_SIZE).digest(), version, body)


def delete(id_: str, version: int = 1) -> Operation:
    return raw(id_, None, version)


async def stamps(destination: Destination, handle: IndexHandle) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    async for page in destination.stamps(handle):
        count = len(page.digests) // DIGEST_SIZE
        assert len(page.digests) == count * DIGEST_SIZE
        assert len(page.hashes) == count * HASH_SIZE
        for n in range(count):
            digest = page.digests[n * DIGEST_SIZE : (n + 1) * DIGEST_SIZE]
            assert digest not in found
            found[digest] = page.hashes[n * HASH_SIZE : (n + 1) * HASH_SIZE]
    return found


def kinds(failures: Mapping[int, Failure]) -> dict[int, FailureKind]:
    return {position: failure.kind for position, failure in failures.items()}


async def test_prepare_creates_once(destination: Destination) -> None:
    assert await destination.info("new") is None
    first = await destination.prepare(IndexSpec("new", language="en"))
    assert (first.name, bool(first.uuid), bool(first.fingerprint)) == ("new", True, True)
    assert await destination.prepare(IndexSpec("new")) == first
    assert await destination.info("new") == first


async def test_prepare_at_the_same_time_creates_once(destination: Destination) -> None:
    infos = await asyncio.gather(*(destination.prepare(IndexSpec("new")) for _ in range(5)))
    assert len({info.uuid for info in infos}) == 1


async def test_indices_are_listed(destination: Destination) -> None:
    for name in ("b", "a"):
        await destination.prepare(IndexSpec(name))
    assert {"a", "b"} <= set(await destination.indices())


async def test_a_write_is_there_when_it_returns(destination: Destination, handle: IndexHandle) -> None:
    operations = [put("a", title="Anna"), put("b", title="Berta", nested={"deep": [1, 2.5, None], "flag": True})]
    result = await destination.write(handle, operations)
    assert not result.failures
    found = await destination.fetch("things", ["b", "a", "missing"])
    assert found == {operation.id: operation.body for operation in operations}
    assert await destination.count("things") == 2


async def test_an_empty_batch_is_nothing(destination: Destination, handle: IndexHandle) -> None:
    assert not (await destination.write(handle, [])).failures


async def test_a_document_is_replaced_whole(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put("a", title="old", extra=1)])
    await destination.write(handle, [put("a", 2, title="new")])
    assert await destination.fetch("things", ["a"]) == {"a": b'{"title":"new"}'}
    assert (await destination.search("things", "old")).total == 0
    assert (await destination.search("things", "new")).total == 1


async def test_the_given_order_is_kept(destination: Destination, handle: IndexHandle) -> None:
    operations = [put("a", n=1), delete("a"), put("a", n=2), put("b", n=1), delete("b"), put("a", n=3)]
    assert not (await destination.write(handle, operations)).failures
    assert await destination.fetch("things", ["a", "b"]) == {"a": b'{"n":3}'}


async def test_an_older_write_or_delete_is_superseded(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put("a", 5, n=5), put("b", 5, n=5)])
    result = await destination.write(handle, [put("a", 4, n=4), delete("b", 4), put("c", 1, n=1)])
    assert kinds(result.failures) == {0: FailureKind.SUPERSEDED, 1: FailureKind.SUPERSEDED}
    assert len(await destination.fetch("things", ["a", "b", "c"])) == 3


async def test_the_same_version_again_is_accepted(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put("a", 5, n=1)])
    assert not (await destination.write(handle, [put("a", 5, n=1)])).failures
    assert not (await destination.write(handle, [delete("a", 5)])).failures


async def test_the_version_rule_holds_within_a_batch(destination: Destination, handle: IndexHandle) -> None:
    result = await destination.write(handle, [put("a", 2, n=2), put("a", 1, n=1), delete("a", 1)])
    assert kinds(result.failures) == {1: FailureKind.SUPERSEDED, 2: FailureKind.SUPERSEDED}
    assert await destination.fetch("things", ["a"]) == {"a": b'{"n":2}'}


async def test_deleting_what_is_not_there_is_acknowledged(destination: Destination, handle: IndexHandle) -> None:
    assert not (await destination.write(handle, [delete("a")])).failures


async def test_a_delete_leaves_its_version_behind(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put("a", 3, n=3), delete("a", 7), delete("never", 7)])
    result = await destination.write(handle, [put("a", 6, n=6), put("never", 6, n=6), delete("a", 6)])
    assert kinds(result.failures) == dict.fromkeys(range(3), FailureKind.SUPERSEDED)
    assert not (await destination.write(handle, [put("a", 7, n=7)])).failures
    assert kinds((await destination.write(handle, [put("a", 6, n=6)])).failures) == {0: FailureKind.SUPERSEDED}


async def test_what_can_never_be_stored_is_refused_alone(destination: Destination, handle: IndexHandle) -> None:
    result = await destination.write(
        handle, [put("a", n=1), raw("broken", b"{"), raw("list", b"[]"), put("no \udce9 text", n=1), put("b", n=1)]
    )
    assert kinds(result.failures) == dict.fromkeys((1, 2, 3), FailureKind.REFUSED)
    assert all(failure.reason for failure in result.failures.values())
    assert await destination.count("things") == 2


@pytest.mark.parametrize(
    "id_", ["", " ", "a/b?c#d", "ä", "e\u0301", "\U0001f600", "x" * 500, "a\nb", "nul\0nul", "%", '"']
)
async def test_any_text_is_an_id(destination: Destination, handle: IndexHandle, id_: str) -> None:
    operation = put(id_, n=1)
    assert not (await destination.write(handle, [operation])).failures
    assert not (await destination.write(handle, [put(id_, 2, n=2)])).failures
    assert await destination.fetch("things", [id_]) == {id_: b'{"n":2}'}
    assert await destination.find_ids(handle, [operation.digest]) == [(operation.digest, id_)]
    assert not (await destination.write(handle, [delete(id_, 2)])).failures
    assert await destination.count("things") == 0


async def test_another_index_of_the_same_name_is_noticed(
    adapter: Recreates, destination: Destination, handle: IndexHandle
) -> None:
    async def every_use() -> None:
        for use in (destination.write(handle, [put("a", n=1)]), destination.find_ids(handle, [b"x" * DIGEST_SIZE])):
            with pytest.raises(IndexChangedError):
                await use
        with pytest.raises(IndexChangedError):
            await stamps(destination, handle)

    await destination.write(handle, [put("a", 9, n=1)])
    async with adapter.recreate("things"):
        await every_use()
        assert await destination.count("things") == 0
    await every_use()
    info = await destination.info("things")
    assert info is not None
    assert info.uuid != handle.uuid
    assert not (await destination.write(replace(handle, uuid=info.uuid), [put("a", 1, n=1)])).failures


async def test_stamps_are_those_of_the_connector(destination: Destination, handle: IndexHandle) -> None:
    other = replace(handle, connector_id="two")
    mine = [put(f"a{n}", n=n) for n in range(25)]
    await destination.write(handle, mine)
    await destination.write(other, [put("b", n=1)])
    assert await stamps(destination, handle) == {operation.digest: operation.content_hash for operation in mine}
    assert len(await stamps(destination, other)) == 1
    assert await stamps(destination, replace(handle, connector_id="three")) == {}


async def test_stamps_follow_writes_and_deletes(destination: Destination, handle: IndexHandle) -> None:
    changed = put("b", 2, n=2)
    await destination.write(handle, [put("a", n=1), put("b", n=1)])
    await destination.write(handle, [delete("a", 2), changed])
    assert await stamps(destination, handle) == {changed.digest: changed.content_hash}


async def test_many_stamps_come_in_pages(destination: Destination, handle: IndexHandle) -> None:
    operations = [put(f"id {n}", n=n) for n in range(10_500)]
    assert not (await destination.write(handle, operations)).failures
    assert await stamps(destination, handle) == {operation.digest: operation.content_hash for operation in operations}


async def test_stamps_of_another_fingerprint_have_zero_hashes(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put("a", n=1), put("b", n=1)])
    renewed = replace(handle, fingerprint="another")
    fresh = put("b", 2, n=1)
    await destination.write(renewed, [fresh])
    zero = bytes(HASH_SIZE)
    assert await stamps(destination, renewed) == {put("a").digest: zero, fresh.digest: fresh.content_hash}
    assert await stamps(destination, handle) == {put("a").digest: put("a", n=1).content_hash, fresh.digest: zero}


async def test_ids_are_found_by_digest(destination: Destination, handle: IndexHandle) -> None:
    operations = [put(f"id {n}", n=n) for n in range(1200)]
    await destination.write(handle, operations)
    await destination.write(replace(handle, connector_id="two"), [put("foreign", n=1)])
    digests = [operation.digest for operation in operations]
    found = await destination.find_ids(handle, [*digests, put("foreign").digest, bytes(DIGEST_SIZE)])
    assert sorted(found) == sorted((operation.digest, operation.id) for operation in operations)
    assert await destination.find_ids(handle, []) == []


async def test_many_documents_are_fetched(destination: Destination, handle: IndexHandle) -> None:
    operations = [put(f"id {n}", n=n) for n in range(1200)]
    await destination.write(handle, operations)
    found = await destination.fetch("things", [operation.id for operation in operations])
    assert found == {operation.id: operation.body for operation in operations}


async def test_without_an_index_there_is_nothing(destination: Destination) -> None:
    assert await destination.fetch("none", ["a"]) == {}
    assert await destination.count("none") == 0
    assert await destination.count("none", "one") == 0
    assert await destination.purge("none", "one") == 0


async def test_a_document_belongs_to_its_last_writer(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put("a", n=1)])
    await destination.write(replace(handle, connector_id="two"), [put("a", n=1)])
    assert await destination.count("things", "one") == 0
    assert await destination.count("things", "two") == await destination.count("things") == 1
    pairs = [("none", "one"), ("things", "two"), ("things", "one"), ("_No name/", "two"), ("things", "two")]
    assert await destination.count_each(pairs) == [0, 1, 0, 0, 1]
    assert await destination.count_each([]) == []


async def test_purge_deletes_one_connectors_documents(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put(f"id {n}", 4, title="word") for n in range(1100)])
    await destination.write(replace(handle, connector_id="two"), [put("b", title="word")])
    assert await destination.purge("things", "one") == 1100
    assert await destination.count("things") == (await destination.search("things", "word")).total == 1
    assert await stamps(destination, handle) == {}
    late = await destination.write(handle, [put("id 7", 3, n=1)])
    assert kinds(late.failures) == {0: FailureKind.SUPERSEDED}


async def test_a_purge_ends_where_its_guard_says_so(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put("a"), put("b")])

    def guard() -> None:
        raise LeaseLostError("somebody else writes by now")

    with pytest.raises(LeaseLostError):
        await destination.purge("things", "one", guard=guard)
    assert await destination.count("things") == 2


async def test_indices_do_not_mix(destination: Destination, handle: IndexHandle) -> None:
    info = await destination.prepare(IndexSpec("others"))
    other = replace(handle, index="others", uuid=info.uuid)
    await destination.write(handle, [put("a", title="apple")])
    await destination.write(other, [put("a", title="pear"), delete("b", 9)])
    assert (await destination.search("things", "pear")).total == 0
    assert await destination.purge("others", "one") == 1
    assert await destination.count("things") == 1
    assert not (await destination.write(handle, [put("b", 1, n=1)])).failures


async def test_concurrent_batches_all_arrive(destination: Destination, handle: IndexHandle) -> None:
    batches = [[put(f"{batch}/{n}", n=n) for n in range(200)] for batch in range(6)]
    results = await asyncio.gather(*(destination.write(handle, batch) for batch in batches))
    assert not any(result.failures for result in results)
    assert await destination.count("things", "one") == 1200


async def test_housekeeping_changes_nothing_that_can_be_seen(destination: Destination, handle: IndexHandle) -> None:
    await destination.write(handle, [put("a", 2, title="word"), delete("b", 2)])
    await destination.maintain()
    assert await destination.count("things") == (await destination.search("things", "word")).total == 1
    assert kinds((await destination.write(handle, [put("b", 1, n=1)])).failures) == {0: FailureKind.SUPERSEDED}


async def test_close_may_be_called_twice(destination: Destination) -> None:
    await destination.close()
    await destination.close()
