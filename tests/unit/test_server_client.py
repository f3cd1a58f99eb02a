"""The client port: what is sent, and what a fault means for the caller."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from connectors.backends.server import ELASTICSEARCH, OPENSEARCH
from connectors.backends.server.faults import reason_of, retry_after
from connectors.errors import ConfigurationError, RetryableError, SuspendSync
from tests.support.transport import answer, fake_client


def failure(kind: str = "some_exception", reason: str = "why", **more: Any) -> dict[str, Any]:
    return {"error": {"type": kind, "reason": reason, **more}, "status": 0}


async def ask(status: int, body: Any, **headers: str) -> int:
    client, _ = fake_client(ELASTICSEARCH, answer(status, body, **headers))
    return (await client.request("GET", "/")).status


@pytest.mark.parametrize("status", [400, 404, 405, 409, 413])
async def test_what_the_caller_understands_is_answered(status: int) -> None:
    assert await ask(status, failure()) == status


async def test_a_body_that_is_too_large_may_be_refused_by_a_proxy() -> None:
    assert await ask(413, b"<html>too large</html>") == 413


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_passes_can_be_tried_again(status: int) -> None:
    with pytest.raises(RetryableError, match=r"http://search.*why") as caught:
        await ask(status, failure(), retry_after="7")
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("body", [b"", b"<html>nginx</html>", b'"text"', b"[]"])
async def test_an_answer_that_is_not_the_servers_own_is_no_answer(body: bytes) -> None:
    with pytest.raises(RetryableError, match="something else between us"):
        await ask(404, body)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, failure("security_exception", "unable to authenticate"), "api_key"),
        (403, failure("security_exception", "action [x] is unauthorized"), "privileges"),
        (403, failure("cluster_block_exception", "index [i] blocked by: read-only"), "Take the block away"),
        (429, failure("cluster_block_exception", "flood-stage watermark"), "disk is full"),
        (400, failure("index_closed_exception", "closed"), "Open it"),
        (301, b"", "sends us elsewhere"),
        (403, b"<html>forbidden</html>", "privileges"),
        (410, failure("api_not_available_exception", "not in serverless mode"), "does not offer"),
    ],
)
async def test_what_a_person_has_to_mend_suspends(status: int, body: Any, words: str) -> None:
    with pytest.raises(SuspendSync, match=words):
        await ask(status, body)


async def test_a_cluster_without_a_master_is_waited_for() -> None:
    with pytest.raises(RetryableError, match="not ready"):
        await ask(503, failure("cluster_block_exception", "state not recovered"))


@pytest.mark.parametrize("body", [b"", b'{"took": 3, "errors": fal', b"nonsense"])
async def test_an_answer_that_is_cut_short(body: bytes) -> None:
    client, _ = fake_client(ELASTICSEARCH, answer(200, body))
    with pytest.raises(RetryableError, match="no JSON"):
        (await client.request("GET", "/")).json()


async def test_bytes_are_sent_as_they_are() -> None:
    client, transport = fake_client(ELASTICSEARCH, answer(), timeout=7.0)
    await client.request("POST", "/a%2Fb/_bulk", params={"x": "a b"}, body=b'{"a": 1}\n', content_type="application/x")
    (sent,) = transport.sent
    assert (sent.method, sent.target, sent.body, sent.timeout) == ("POST", "/a%2Fb/_bulk?x=a+b", b'{"a": 1}\n', 7.0)
    assert (sent.headers["content-type"], sent.headers["accept"]) == ("application/x", "application/json")
    await client.request("GET", "/", body={"a": [1]}, timeout=3)
    assert (transport.sent[1].body, transport.sent[1].timeout) == (b'{"a":[1]}', 3)


@pytest.mark.parametrize("size", [100, 5_000, 300_000])
async def test_larger_bodies_are_compressed_where_that_is_wanted(size: int) -> None:
    body = b"x" * size
    client, transport = fake_client(ELASTICSEARCH, answer(), compress=True)
    await client.request("POST", "/", body=body)
    (sent,) = transport.sent
    assert sent.body is not None
    if size == 100:
        assert (sent.body, "content-encoding" in sent.headers) == (body, False)
    else:
        assert sent.headers["content-encoding"] == "gzip"
        assert gzip.decompress(sent.body) == body


@pytest.mark.parametrize(
    ("value", "seconds"), [("", None), ("3", 3.0), ("soon", None), ("-1", None), ("Tue, 24 Nov 2020 12:00:00 GMT", 0.0)]
)
def test_retry_after(value: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": value}) == seconds


def test_retry_after_as_a_date() -> None:
    found = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)})
    assert found is not None
    assert 50 < found <= 60


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, ""),
        ("plain text", "plain text"),
        ({"type": "t", "reason": "r"}, "t: r"),
        ({"type": "t", "reason": "r", "caused_by": {"type": "c", "reason": "deeper"}}, "t: r (deeper)"),
        ({"type": "t", "reason": "r deeper", "caused_by": {"reason": "deeper"}}, "t: r deeper"),
        (
            {"type": "t", "reason": "all shards failed", "failed_shards": [{"reason": {"type": "x", "reason": "y"}}]},
            "x: y",
        ),
        ({"reason": None}, ""),
        ({"type": "t", "reason": "a\n b"}, "t: a b"),
    ],
)
def test_reasons(error: Any, reason: str) -> None:
    assert reason_of(error) == reason


def test_a_long_reason_is_cut() -> None:
    assert len(reason_of({"type": "t", "reason": "x" * 5000})) == 500


async def test_the_other_product_is_named() -> None:
    told = {"version": {"number": "2.19.1", "distribution": "opensearch"}}
    client, _ = fake_client(ELASTICSEARCH, answer(body=told))
    with pytest.raises(ConfigurationError, match="under opensearch:"):
        await client.server()
    client, _ = fake_client(OPENSEARCH, answer(body={"version": {"number": "9.1.0"}}))
    with pytest.raises(ConfigurationError, match="under elasticsearch:"):
        await client.server()


async def test_the_version_is_asked_once() -> None:
    told = {"version": {"number": "8.19.3-SNAPSHOT"}}
    client, transport = fake_client(ELASTICSEARCH, answer(body=told))
    assert (await client.server()).version == (await client.server()).version == (8, 19)
    assert len(transport.sent) == 1


async def test_who_may_not_ask_for_the_version_works_all_the_same() -> None:
    client, _ = fake_client(ELASTICSEARCH, answer(403, failure("security_exception")))
    assert (await client.server()).version == (0, 0)


async def test_a_refusal_that_nobody_foresaw_says_what_was_asked() -> None:
    client, _ = fake_client(ELASTICSEARCH, answer(400, failure("parsing_exception", "no [x]")))
    with pytest.raises(ConfigurationError, match=r"PUT /i \(400\): parsing_exception: no \[x\]"):
        await client.call("PUT", "/i")
