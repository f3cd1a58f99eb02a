"""What documents meet on a real server: indices that others own, delete or block, pipelines, and foreign documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import orjson
import pytest

from connectors.backends.ports import FailureKind, IndexHandle, IndexSpec, Operation
from connectors.backends.server import ServerBackend
from connectors.backends.server.names import write_alias
from connectors.errors import ConfigurationError, IndexChangedError, RetryableError, SuspendSync
from tests.servers.fixtures import SearchServers
from tests.support.backends import RECORDS, open_backend

pytestmark = pytest.mark.server


@pytest.fixture(params=["es8", "os2"])
async def backend(request: pytest.FixtureRequest, search_servers: SearchServers) -> AsyncIterator[ServerBackend]:
    async with open_backend(search_servers.get(request.param)) as opened:
        yield opened


@pytest.fixture
async def scratch(backend: ServerBackend) -> AsyncIterator[ServerBackend]:
    """Gives the backend, and removes what a test made beside our own indices."""
    yield backend
    for path in (
        "/own,own-1,own-2,own-t?ignore_unavailable=true",
        "/_index_template/own-template",
        "/_ingest/pipeline/own-outer",
        "/_ingest/pipeline/own-inner",
    ):
        await backend.client.request("DELETE", path)


def op(id_: str, version: int = 1, /, **fields: Any) -> Operation:
    return raw(id_, orjson.dumps(fields), version)


def raw(id_: str, body: bytes | None, version: int = 1) -> Operation:
    return Operation(id_, blake2b(id_.encode(), digest_size=16).digest(), b"12345678", version, body)


async def prepared(backend: ServerBackend, spec: IndexSpec | str, connector: str = "one") -> IndexHandle:
    spec = IndexSpec(spec) if isinstance(spec, str) else spec
    info = await backend.destination.prepare(spec)
    return IndexHandle(spec.name, info.uuid, connector, info.fingerprint, spec.pipeline)


async def digests(backend: ServerBackend, handle: IndexHandle) -> bytes:
    return b"".join([page.digests async for page in backend.destination.stamps(handle)])


# Deleted in mid-sync


@pytest.mark.parametrize("operation", [op("a", 2, n=1), raw("a", None, 2)], ids=["write", "delete"])
async def test_an_index_that_is_deleted_in_mid_sync_is_not_created_again(
    scratch: ServerBackend, operation: Operation
) -> None:
    handle = await prepared(scratch, "own")
    await scratch.destination.write(handle, [op("a", n=1)])
    await scratch.client.call("DELETE", "/own")
    with pytest.raises(IndexChangedError, match="own"):
        await scratch.destination.write(handle, [operation])
    everything = await scratch.client.request("GET", "/_cat/indices", params={"expand_wildcards": "all", "h": "index"})
    assert b"own" not in everything.body


async def test_an_index_that_was_created_again_takes_nothing_of_the_old_sync(scratch: ServerBackend) -> None:
    old = await prepared(scratch, "own")
    await scratch.client.call("DELETE", "/own")
    new = await prepared(scratch, "own")
    assert new.uuid != old.uuid
    with pytest.raises(IndexChangedError):
        await scratch.destination.write(old, [op("a", n=1)])
    assert await scratch.destination.count("own") == 0


async def test_our_alias_is_put_back_when_somebody_takes_it_away(scratch: ServerBackend) -> None:
    handle = await prepared(scratch, "own")
    remove = {"remove": {"index": "own", "alias": write_alias("own", handle.uuid)}}
    await scratch.client.call("POST", "/_aliases", body={"actions": [remove]})
    assert not (await scratch.destination.write(handle, [op("a", n=1)])).failures
    await scratch.client.call("POST", "/_aliases", body={"actions": [remove]})
    assert len(await scratch.destination.find_ids(handle, [op("a").digest])) == 1
    await scratch.client.call("POST", "/_aliases", body={"actions": [remove]})
    with pytest.raises(RetryableError):  # and the second try finds it there
        await digests(scratch, handle)
    assert len(await digests(scratch, handle)) == 16


# Indices of others


async def test_documents_of_other_writers_are_left_alone(scratch: ServerBackend) -> None:
    await scratch.client.call("PUT", "/own", body={"mappings": {"properties": {"n": {"type": "integer"}}}})
    await scratch.client.call("PUT", "/own/_doc/foreign", body={"n": 7}, params={"refresh": "true"})
    handle = await prepared(scratch, "own")
    await scratch.destination.write(handle, [op("a", n=1)])
    assert await scratch.destination.count("own") == 2
    assert await scratch.destination.count("own", "one") == 1
    assert await digests(scratch, handle) == op("a").digest
    assert await scratch.destination.purge("own", "one") == 1
    assert await scratch.destination.fetch("own", ["foreign", "a"]) == {"foreign": b'{"n":7}'}


@pytest.mark.parametrize("dynamic", [True, False, "strict"])
async def test_an_index_of_the_operators_own_keeps_its_mapping(scratch: ServerBackend, dynamic: object) -> None:
    mapping = {"dynamic": dynamic, "properties": {"n": {"type": "integer"}}}
    await scratch.client.call("PUT", "/own", body={"mappings": mapping})
    handle = await prepared(scratch, "own")
    assert not (await scratch.destination.write(handle, [op("a", n=1)])).failures
    assert len(await digests(scratch, handle)) == 16
    described = await scratch.client.call("GET", "/own")
    assert described["own"]["mappings"]["properties"]["n"] == {"type": "integer"}
    assert described["own"]["settings"]["index"]["gc_deletes"] == "1h"


async def test_an_index_template_of_the_operators_says_what_fields_are(scratch: ServerBackend) -> None:
    template = {"mappings": {"dynamic": False, "properties": {"n": {"type": "integer"}}}}
    await scratch.client.call(
        "PUT", "/_index_template/own-template", body={"index_patterns": ["own-t*"], "template": template}
    )
    await prepared(scratch, "own-t")
    mappings = (await scratch.client.call("GET", "/own-t"))["own-t"]["mappings"]
    assert (mappings["dynamic"], set(mappings["properties"])) == ("false", {"n", "_sync"})


async def test_a_field_of_the_stamps_name_that_is_something_else(scratch: ServerBackend) -> None:
    await scratch.client.call("PUT", "/own", body={"mappings": {"properties": {"_sync": {"type": "text"}}}})
    with pytest.raises(ConfigurationError, match="stamp"):
        await prepared(scratch, "own")


async def test_an_alias_is_followed_to_the_index_it_writes_to(scratch: ServerBackend) -> None:
    for name in ("own-1", "own-2"):
        await scratch.client.call("PUT", f"/{name}")
    adds = [{"add": {"index": name, "alias": "own", "is_write_index": name == "own-2"}} for name in ("own-1", "own-2")]
    await scratch.client.call("POST", "/_aliases", body={"actions": adds})
    handle = await prepared(scratch, "own")
    await scratch.destination.write(handle, [op("a", n=1)])
    assert await scratch.destination.count("own", "one") == 1
    assert (await scratch.destination.count("own-1"), await scratch.destination.count("own-2")) == (0, 1)
    assert await scratch.destination.fetch("own", ["a"]) == {"a": b'{"n":1}'}
    assert {"own", "own-2"} <= set(await scratch.destination.indices())
    neither = [{"add": {"index": name, "alias": "own", "is_write_index": False}} for name in ("own-1", "own-2")]
    await scratch.client.call("POST", "/_aliases", body={"actions": neither})
    with pytest.raises(ConfigurationError, match="own-1, own-2"):
        await prepared(scratch, "own")


async def test_an_index_of_records_takes_no_documents(scratch: ServerBackend) -> None:
    await scratch.store.connectors()
    alias = {"index": RECORDS["connectors_index"], "alias": "theirs"}
    await scratch.client.call("POST", "/_aliases", body={"actions": [{"add": alias}]})
    for name in (*RECORDS.values(), "theirs"):
        with pytest.raises(ConfigurationError, match="holds the records of connectors and jobs"):
            await scratch.destination.prepare(IndexSpec(name))
    await scratch.client.call("POST", "/_aliases", body={"actions": [{"remove": alias}]})
    assert await scratch.store.connectors() == []


async def test_a_data_stream_is_refused(scratch: ServerBackend) -> None:
    await scratch.client.call(
        "PUT", "/_index_template/own-template", body={"index_patterns": ["own-stream*"], "data_stream": {}}
    )
    with pytest.raises(ConfigurationError, match="data stream"):
        await prepared(scratch, "own-stream")


# What a write can meet


async def test_a_document_that_does_not_fit_the_mapping_is_refused_alone(scratch: ServerBackend) -> None:
    handle = await prepared(scratch, "own")
    await scratch.destination.write(handle, [op("a", owner={"name": "Kim"})])
    result = await scratch.destination.write(handle, [op("b", owner="Kim"), op("c", n=1), op("d" * 600, n=1)])
    assert {at: failure.kind for at, failure in result.failures.items()} == dict.fromkeys((0, 2), FailureKind.REFUSED)
    assert "owner" in result.failures[0].reason
    assert "512 bytes" in result.failures[2].reason
    assert await scratch.destination.count("own") == 2


@pytest.mark.parametrize("block", ["read_only", "write", "read_only_allow_delete"])
async def test_a_blocked_index_suspends(scratch: ServerBackend, block: str) -> None:
    handle = await prepared(scratch, "own")
    await scratch.client.call("PUT", "/own/_settings", body={"index": {"blocks": {block: True}}})
    with pytest.raises(SuspendSync, match=r"block"):
        await scratch.destination.write(handle, [op("a", n=1)])
    await scratch.client.call("PUT", "/own/_settings", body={"index": {"blocks": {block: None}}})
    assert not (await scratch.destination.write(handle, [op("a", n=1)])).failures


async def test_a_closed_index_suspends(scratch: ServerBackend) -> None:
    handle = await prepared(scratch, "own")
    await scratch.client.call("POST", "/own/_close")
    with pytest.raises(SuspendSync, match="Open it"):
        await scratch.destination.write(handle, [op("a", n=1)])


async def test_white_space_and_line_breaks_in_a_document_are_no_harm(scratch: ServerBackend) -> None:
    handle = await prepared(scratch, "own")
    given = [raw("a", b'{\n "n": 1,\r\n "t": "x"}'), raw("b", b"{ }"), raw("c", b"{}"), op("d", n=2**63, f=1.0)]
    assert not (await scratch.destination.write(handle, given)).failures
    assert await scratch.destination.fetch("own", ["a", "b", "c", "d"]) == {
        "a": b'{"n":1,"t":"x"}', "b": b"{}", "c": b"{}", "d": given[3].body,
    }  # fmt: skip


async def test_numbers_come_back_with_all_their_digits(scratch: ServerBackend) -> None:
    body = b'{"n":1.10,"big":123456789012345678901234567890,"text":",\\"_source\\":{"}'
    await scratch.client.call("PUT", "/own", body={"mappings": {"dynamic": False}})
    handle = await prepared(scratch, "own")
    await scratch.destination.write(handle, [raw(',"_source":{"', body), raw("b", body)])
    assert await scratch.destination.fetch("own", [',"_source":{"', "b"]) == {',"_source":{"': body, "b": body}


# Fingerprint and pipelines


async def test_new_fields_of_documents_do_not_change_the_fingerprint(scratch: ServerBackend) -> None:
    handle = await prepared(scratch, "own")
    document = {"title": "t", "n": 1, "f": 1.5, "flag": True, "at": "2026-11-24T12:00:00Z", "deep": {"er": ["x"]}}
    await scratch.destination.write(handle, [op("a", **document)])
    assert (await prepared(scratch, "own")).fingerprint == handle.fingerprint
    assert await scratch.destination.info("own") == await scratch.destination.prepare(IndexSpec("own"))
    await scratch.client.call("PUT", "/own/_mapping", body={"properties": {"code": {"type": "keyword"}}})
    assert (await prepared(scratch, "own")).fingerprint != handle.fingerprint


async def test_documents_pass_the_ingest_pipeline_with_its_flags(scratch: ServerBackend) -> None:
    outer = {"processors": [{"pipeline": {"name": "own-inner"}}]}
    await put_pipeline(scratch, "own-inner", {"processors": [{"set": {"field": "seen", "value": "once"}}]})
    await put_pipeline(scratch, "own-outer", outer)
    pipeline = {"name": "own-outer", "extract_binary_content": True, "run_ml_inference": False}
    handle = await prepared(scratch, IndexSpec("own", pipeline=pipeline))
    assert not (await scratch.destination.write(handle, [op("a", n=1)])).failures
    stored = orjson.loads((await scratch.destination.fetch("own", ["a"]))["a"])
    assert stored == {
        "_extract_binary_content": True,
        "_reduce_whitespace": False,
        "_run_ml_inference": False,
        "n": 1,
        "seen": "once",
    }
    await put_pipeline(scratch, "own-inner", {"processors": [{"set": {"field": "seen", "value": "twice"}}]})
    assert (await prepared(scratch, IndexSpec("own", pipeline=pipeline))).fingerprint != handle.fingerprint
    info = await scratch.destination.info("own", pipeline)
    assert info == await scratch.destination.prepare(IndexSpec("own", pipeline=pipeline))


async def put_pipeline(backend: ServerBackend, name: str, definition: dict[str, Any]) -> None:
    await backend.client.call("PUT", f"/_ingest/pipeline/{name}", body=definition)


async def test_a_pipeline_that_is_not_there(scratch: ServerBackend) -> None:
    assert await scratch.destination.info("own") is None
    with pytest.raises(ConfigurationError, match="own-outer"):  # so that `check` tells it before the first sync
        await scratch.destination.info("own", {"name": "own-outer"})
    with pytest.raises(ConfigurationError, match="own-outer"):
        await prepared(scratch, IndexSpec("own", pipeline={"name": "own-outer"}))
    handle = replace(await prepared(scratch, "own"), pipeline={"name": "own-outer"})
    with pytest.raises(SuspendSync, match="own-outer"):
        await scratch.destination.write(handle, [op("a", n=1)])


@pytest.mark.parametrize("named", [True, False], ids=["named by the connector", "the index's own"])
async def test_what_a_pipeline_refuses_or_drops_is_told_of_the_right_document(
    scratch: ServerBackend, named: bool
) -> None:
    processors = [{"drop": {"if": "ctx.n % 5 == 2"}}, {"fail": {"if": "ctx.n % 7 == 3", "message": "no"}}]
    await put_pipeline(scratch, "own-outer", {"processors": processors})
    if not named:
        await scratch.client.call("PUT", "/own", body={"settings": {"index": {"final_pipeline": "own-outer"}}})
    handle = await prepared(scratch, IndexSpec("own", pipeline={"name": "own-outer"} if named else None))
    numbers = [*range(60), *range(10)]
    operations = [op(str(n), at, n=n) for at, n in enumerate(numbers)]
    result = await scratch.destination.write(handle, operations)
    assert {numbers[at] for at in result.failures} == {n for n in range(60) if n % 5 == 2 or n % 7 == 3}
    assert {failure.kind for failure in result.failures.values()} == {FailureKind.REFUSED}
    dropped = {numbers[at] for at, failure in result.failures.items() if "dropped" in failure.reason}
    assert dropped == {n for n in range(60) if n % 5 == 2}
    found = await scratch.destination.fetch("own", [str(n) for n in range(60)])
    assert set(found) == {str(n) for n in numbers if n % 5 != 2 and n % 7 != 3}


# Reading


async def test_stamps_of_several_shards_are_read_once_each(scratch: ServerBackend) -> None:
    await scratch.client.call("PUT", "/own", body={"settings": {"number_of_shards": 3}})
    handle = await prepared(scratch, "own")
    other = replace(handle, connector_id="two")
    operations = [op(f"{n}", n=n) for n in range(45_000)]
    for start in range(0, len(operations), 5000):
        await scratch.destination.write(other if start % 20_000 == 0 else handle, operations[start : start + 5000])
    ours = sorted(operation.digest for at, operation in enumerate(operations) if at % 20_000 >= 5000)
    read = await digests(scratch, handle)
    assert sorted(read[at : at + 16] for at in range(0, len(read), 16)) == ours


async def test_the_point_in_time_is_closed_when_the_reader_stops(scratch: ServerBackend) -> None:
    handle = await prepared(scratch, "own")
    await scratch.destination.write(handle, [op(f"{n}", n=n) for n in range(10_001)])
    pages = scratch.destination.stamps(handle)
    async for _ in pages:
        break
    await pages.aclose()  # type: ignore[attr-defined]  # an async generator
    stats = await scratch.client.call("GET", "/own/_stats/search")
    assert stats["_all"]["total"]["search"]["open_contexts"] == 0


@pytest.mark.parametrize(("language", "text", "query", "found"), [
    ("en", "two gardens", "garden", 1), ("de", "Häuser am Fluss", "haus", 1), ("fr", "l'école", "ecole", 1),
    ("ja", "東京都庁", "東京", 1), (None, "two gardens", "garden", 0), ("en-GB", "running", "run", 1),
])  # fmt: skip
async def test_texts_are_found_by_their_language(
    scratch: ServerBackend, language: str | None, text: str, query: str, found: int
) -> None:
    handle = await prepared(scratch, IndexSpec("own", language=language))
    await scratch.destination.write(handle, [op("a", body=text)])
    page = await scratch.destination.search("own", query)
    assert page.total == found
    if found:
        assert "\x02" in page.hits[0].highlights["body"][0]


async def test_an_unknown_language(scratch: ServerBackend) -> None:
    with pytest.raises(ConfigurationError, match="klingon"):
        await prepared(scratch, IndexSpec("own", language="klingon"))
