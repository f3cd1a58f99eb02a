"""Bulk bodies, and what the answers mean."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest

from connectors.backends.ports import Failure, FailureKind, IndexHandle, Operation
from connectors.backends.server import ELASTICSEARCH, OPENSEARCH, Response
from connectors.backends.server.bulk import IndexMissingError, build, outcome
from connectors.backends.server.destination import ServerDestination
from connectors.errors import IndexChangedError, RetryableError, SuspendSync
from tests.support.transport import FakeTransport, Sent, answer, fake_client

DIGEST: Final = bytes(range(16))
HASH: Final = b"\xff" * 8
HANDLE: Final = IndexHandle("things", "UUID", 'o"ne', "fp")
STAMP: Final = {"connector": 'o"ne', "id": DIGEST.hex(), "hash": "ff" * 8, "fingerprint": "fp"}


def op(id_: str, body: bytes | None, version: int = 3) -> Operation:
    return Operation(id_, DIGEST, HASH, version, body)


def lines(body: bytes) -> list[Any]:
    assert body.endswith(b"\n")
    return [orjson.loads(line) for line in body.splitlines()]


def test_a_document_is_stamped_in_front_of_its_own_bytes() -> None:
    failures: dict[int, Failure] = {}
    body, positions = build(HANDLE, [op("a/b", b'{"n":1.10,"b":[]}'), op("", None)], 5, failures)
    assert (positions, failures) == ([5, 6], {})
    assert lines(body) == [
        {"index": {"_id": "a/b", "version": 3, "version_type": "external_gte"}},
        {"_sync": STAMP, "n": 1.10, "b": []},
        {"delete": {"_id": "\0", "version": 3, "version_type": "external_gte"}},
    ]
    assert body.splitlines()[1].endswith(b',"n":1.10,"b":[]}')


def test_the_flags_go_into_the_document_where_a_pipeline_is_named() -> None:
    named = HANDLE.__class__("things", "UUID", "one", "fp", {"name": "p", "reduce_whitespace": True})
    unnamed = HANDLE.__class__("things", "UUID", "one", "fp", {"name": None, "reduce_whitespace": True})
    (_, with_flags) = lines(build(named, [op("a", b"{}")], 0, {})[0])
    (_, without) = lines(build(unnamed, [op("a", b"{}")], 0, {})[0])
    assert {key: value for key, value in with_flags.items() if key != "_sync"} == {
        "_extract_binary_content": False, "_reduce_whitespace": True, "_run_ml_inference": False,
    }  # fmt: skip
    assert set(without) == {"_sync"}


@pytest.mark.parametrize(
    "operation",
    [op("a", b"{"), op("a", b"[]"), op("a", b""), op("\udce9", b"{}"), op("x" * 513, b"{}"), op("ä" * 257, None),
     op("a", b"{}", -1), op("a", b"{}", 2**63)],
)  # fmt: skip
def test_what_would_spoil_the_whole_request_stays_out(operation: Operation) -> None:
    failures: dict[int, Failure] = {}
    body, positions = build(HANDLE, [op("ok", b"{}"), operation, op("ok", None)], 0, failures)
    assert positions == [0, 2]
    assert len(lines(body)) == 3
    assert failures[1].kind is FailureKind.REFUSED


def item(status: int, kind: str = "x_exception", reason: str = "why") -> dict[str, Any]:
    return {"index": {"status": status, "error": {"type": kind, "reason": reason}}}


@pytest.mark.parametrize(
    ("answered", "kind"),
    [
        (item(409, "version_conflict_engine_exception"), FailureKind.SUPERSEDED),
        (item(429, "es_rejected_execution_exception"), FailureKind.OVERLOADED),
        (item(503, "unavailable_shards_exception"), FailureKind.OVERLOADED),
        (item(503, "cluster_block_exception"), FailureKind.OVERLOADED),
        (item(400, "document_parsing_exception"), FailureKind.REFUSED),
        (
            item(400, "illegal_argument_exception", "Limit of total fields [1000]"),
            FailureKind.REFUSED,
        ),
        (item(500, "script_exception"), FailureKind.REFUSED),
    ],
)
def test_outcomes(answered: dict[str, Any], kind: FailureKind) -> None:
    failure = outcome(answered, "there")
    assert failure is not None
    assert (failure.kind, failure.reason.startswith(answered["index"]["error"]["type"])) == (kind, True)


def test_a_delete_of_what_is_not_there_is_acknowledged() -> None:
    assert outcome({"delete": {"status": 404}}, "there") is None


@pytest.mark.parametrize(
    ("answered", "error"),
    [
        (item(403, "cluster_block_exception"), SuspendSync),
        (item(429, "cluster_block_exception"), SuspendSync),
        (item(403, "security_exception"), SuspendSync),
        (item(400, "index_closed_exception"), SuspendSync),
        (item(400, "illegal_argument_exception", "pipeline with id [p] does not exist"), SuspendSync),
        (item(404, "index_not_found_exception"), IndexMissingError),
        (item(400, "invalid_index_name_exception"), IndexMissingError),
    ],
)
def test_what_is_not_about_the_document(answered: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        outcome(answered, "there")


# One write


async def released() -> None:
    pass


def destination(limit: int = 10**9) -> tuple[ServerDestination, FakeTransport]:
    """Returns a destination on a server that takes bodies up to `limit` bytes and acknowledges all."""

    def bulk(sent: Sent) -> Response:
        assert sent.body is not None
        if len(sent.body) > limit:
            return answer(413, b"<html>Request Entity Too Large</html>")
        count = sum(line.startswith((b'{"index"', b'{"delete"')) for line in sent.body.splitlines())
        return answer(body={"errors": False, "items": [{"index": {"status": 201}}] * count})

    client, transport = fake_client(ELASTICSEARCH, bulk)
    return ServerDestination(client, release=released), transport


async def test_a_body_that_is_too_large_is_sent_in_parts_in_order() -> None:
    to, transport = destination(limit=1500)
    operations = [op(str(n), b'{"n":"%b"}' % (b"x" * 100)) for n in range(20)]
    result = await to.write(HANDLE, operations)
    assert not result.failures
    assert result.too_large is not None
    assert 1500 < result.too_large < 4000
    taken = [sent for sent in transport.sent if len(sent.body or b"") <= 1500]
    ids = [line["index"]["_id"] for sent in taken for line in lines(sent.body or b"")[::2]]
    assert ids == [str(n) for n in range(20)]


async def test_a_document_that_is_too_large_alone_is_refused_alone() -> None:
    to, _ = destination(limit=1500)
    operations = [op("a", b"{}"), op("b", b'{"n":"%b"}' % (b"x" * 2000)), op("c", b"{}")]
    result = await to.write(HANDLE, operations)
    assert {at: failure.kind for at, failure in result.failures.items()} == {1: FailureKind.REFUSED}


async def test_nothing_is_sent_for_nothing() -> None:
    to, transport = destination()
    assert not (await to.write(HANDLE, [])).failures
    assert (await to.write(HANDLE, [op("\udce9", b"{}")])).failures
    assert not transport.sent


async def test_the_request_names_our_alias_and_asks_for_little() -> None:
    to, transport = destination()
    await to.write(HANDLE, [op("a", b"{}")])
    (sent,) = transport.sent
    assert sent.target.startswith("/things%40Connectors-UUID/_bulk?require_alias=true&filter_path=errors%2C")
    assert sent.headers["content-type"] == "application/x-ndjson"


@pytest.mark.parametrize("body", [{}, {"errors": False}, {"errors": False, "items": []}, [1]])
async def test_an_answer_that_leaves_items_out_is_none(body: Any) -> None:
    client, _ = fake_client(ELASTICSEARCH, answer(body=body))
    with pytest.raises(RetryableError, match="item by item"):
        await ServerDestination(client, release=released).write(HANDLE, [op("a", b"{}")])


@pytest.mark.parametrize(("status", "wait"), [(429, 7.0), (503, 7.0), (400, None)])
async def test_when_to_come_back_with_single_documents(status: int, wait: float | None) -> None:
    body = {"errors": True, "items": [{"index": {"status": 201}}, item(status, "some_exception")]}
    client, _ = fake_client(ELASTICSEARCH, answer(body=body, retry_after="7"))
    result = await ServerDestination(client, release=released).write(HANDLE, [op("a", b"{}"), op("b", b"{}")])
    assert (list(result.failures), result.retry_after) == ([1], wait)


def answered(ids: str, refused: str = "", dropped: str = "") -> Response:
    """Answers for these ids, in this order."""
    items = [
        {"index": {"_id": id_, "status": 400, "error": {"type": "x"}}} if id_ in refused
        else {"index": {"_id": id_, "status": 200, "result": "noop" if id_ in dropped else "created"}}
        for id_ in ids
    ]  # fmt: skip
    return answer(body={"errors": bool(refused), "items": items})


async def test_items_in_another_order_are_told_by_their_ids() -> None:
    client, transport = fake_client(OPENSEARCH, answered("adbc", refused="d", dropped="b"))
    handle = HANDLE.__class__("things", "UUID", "one", "fp", {"name": "p"})
    result = await ServerDestination(client, release=released).write(handle, [op(id_, b"{}") for id_ in "abcd"])
    assert {at: failure.reason[:7] for at, failure in result.failures.items()} == {1: "the ing", 3: "x:"}
    assert "pipeline=p" in transport.sent[0].target
    assert "_id" in transport.sent[0].target


async def test_an_id_stands_once_in_a_request_whose_items_are_told_by_their_ids() -> None:
    replies = iter([answered("ba", refused="b"), answered("ba", dropped="b"), answered("a")])
    client, transport = fake_client(OPENSEARCH, lambda _: next(replies))
    handle = HANDLE.__class__("things", "UUID", "one", "fp", {"name": "p"})
    result = await ServerDestination(client, release=released).write(handle, [op(id_, b"{}") for id_ in "ababa"])
    assert sorted(result.failures) == [1, 3]
    assert len(transport.sent) == 3


async def test_an_index_that_is_gone_ends_the_sync() -> None:
    def gone(sent: Sent) -> Response:
        if "_bulk" in sent.target:
            return answer(body={"errors": True, "items": [item(404, "index_not_found_exception")]})
        return answer(404, {"error": {"type": "index_not_found_exception", "reason": "gone"}})

    client, _ = fake_client(ELASTICSEARCH, gone)
    with pytest.raises(IndexChangedError, match="things"):
        await ServerDestination(client, release=released).write(HANDLE, [op("a", b"{}")])


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [(403, "security_exception", SuspendSync), (503, "no_shard_available_action_exception", RetryableError)],
)
async def test_an_index_that_cannot_be_counted_is_told_as_it_is(status: int, kind: str, error: type[Exception]) -> None:
    good = {"status": 200, "hits": {"total": {"value": 1}}}
    bad = {"status": status, "error": {"type": kind, "reason": "no"}}
    client, transport = fake_client(ELASTICSEARCH, answer(body={"responses": [good, bad]}))
    with pytest.raises(error, match=r"(?s)others.*no"):
        await ServerDestination(client, release=released).count_each([("things", "a"), ("others", "b")])
    assert [sent.target.partition("?")[0] for sent in transport.sent] == ["/_msearch"]
    assert [line.get("index") for line in lines(transport.sent[0].body or b"")] == ["things", None, "others", None]
