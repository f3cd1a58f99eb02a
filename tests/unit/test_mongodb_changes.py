"""The MongoDB source without a server: its change stream, and what errors mean."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest
from bson import Timestamp
from pymongo import errors

from connectors.errors import ConfigurationError, ConnectorsError, FullSyncNeededError, RetryableError, SyncError
from connectors.sources.mongodb.failures import as_ours, translated
from connectors.sources.mongodb.stream import Changes, Stream, StreamUnavailableError, _reached
from tests.support.mongodb import Listing

# Changes


def test_the_last_event_of_a_document_counts() -> None:
    changes = Changes("t")
    for number, kind in enumerate(("insert", "update", "delete")):
        key = {"_id": 1 if number else 2}
        changes.add(
            {"operationType": kind, "ns": {"coll": "a"}, "documentKey": key, "clusterTime": Timestamp(number, 1)}
        )
    assert changes.touched == {"a": {"2": (2, False), "1": (1, True)}}
    assert (len(changes), changes.time) == (2, Timestamp(2, 1))


@pytest.mark.parametrize(
    ("token", "reached"),
    [
        ('{"_data": "8265A0000000000001"}', True),
        ('{"_data": "82659FFFFF00000001"}', False),
        ('{"_data": "00000001"}', True),
        ('{"other": 1}', True),
    ],
)
def test_a_stream_has_come_up_to_now_when_its_token_says_so(token: str, reached: bool) -> None:
    assert _reached(token, Timestamp(0x65A00000, 1)) is reached
    assert _reached(token, None)


def test_several_collections_are_followed_through_their_database() -> None:
    database: Any = Listing()
    (match, _) = Stream(database, ["a", "b"])._stages()
    assert match["$match"]["$or"][0] == {"ns.coll": {"$in": ["a", "b"]}}
    assert len(Stream(database, ["a"])._stages()) == 1


# Errors


def failure(code: int, *labels: str) -> errors.OperationFailure:
    return errors.OperationFailure("words, full error: {}", code, {"errorLabels": list(labels), "codeName": "Name"})


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (failure(18), ConfigurationError, "refuses the user or the password"),
        (failure(8000), ConfigurationError, "refuses the user or the password"),
        (failure(13), ConfigurationError, "grant the role read"),
        (failure(50), RetryableError, "query_timeout"),
        (failure(189), RetryableError, "words"),
        (failure(1, "RetryableReadError"), RetryableError, "words"),
        (failure(2), SyncError, r"words \(code 2\)"),
        (errors.AutoReconnect("gone"), RetryableError, "hung up: gone"),
        (errors.ServerSelectionTimeoutError("away, Timeout: 30s"), RetryableError, "away$"),
        (errors.NetworkTimeout("slow"), RetryableError, "slow"),
        (errors.AutoReconnect("[SSL: CERTIFICATE_VERIFY_FAILED] x"), ConfigurationError, "not trusted"),
        (errors.ConfigurationError("The DNS operation timed out"), RetryableError, "timed out"),
        (errors.ConfigurationError("The DNS query name does not exist"), ConfigurationError, "mend the address"),
        (errors.InvalidURI("bad"), ConfigurationError, "mend the address"),
        (errors.DocumentTooLarge("big"), SyncError, "big"),
    ],
)
def test_errors_say_what_to_do(error: errors.PyMongoError, kind: type[ConnectorsError], words: str) -> None:
    found = as_ours(error, "shop: reading")
    assert type(found) is kind
    assert str(found).startswith("shop: reading: ")
    with pytest.raises(kind, match=words):
        raise found


@pytest.mark.parametrize(
    ("code", "labels", "resuming", "kind"),
    [
        (286, (), True, FullSyncNeededError),
        (9, (), False, StreamUnavailableError),
        (238, (), False, StreamUnavailableError),
        (99, (), True, SyncError),
        (91, (), False, RetryableError),
        (260, (), True, FullSyncNeededError),
        (99, ("NonResumableChangeStreamError",), True, FullSyncNeededError),
        (40573, (), False, StreamUnavailableError),
        (40573, ("NonResumableChangeStreamError",), True, StreamUnavailableError),
        (13, (), True, StreamUnavailableError),
        (91, (), True, RetryableError),
    ],
)
def test_errors_of_the_stream(code: int, labels: tuple[str, ...], resuming: bool, kind: type[ConnectorsError]) -> None:
    database: Any = Listing()
    assert type(Stream(database, None)._failure(failure(code, *labels), resuming=resuming)) is kind


class EndlessStream:
    """A change stream that always has one more event, each a second later."""

    def __init__(self) -> None:
        self.second = 100

    @property
    def resume_token(self) -> dict[str, Any]:
        return {"_data": f"82{self.second:08X}00000001"}

    async def try_next(self) -> dict[str, Any]:
        self.second += 1
        time = Timestamp(self.second, 1)
        key = {"_id": self.second}
        return {"operationType": "insert", "ns": {"coll": "a"}, "documentKey": key, "clusterTime": time}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


async def test_a_busy_stream_is_read_up_to_the_time_at_which_we_began(monkeypatch: pytest.MonkeyPatch) -> None:
    async def opened(*_: Any) -> EndlessStream:
        return EndlessStream()

    async def now(_: Any) -> Timestamp:
        return Timestamp(700, 1)

    monkeypatch.setattr(Stream, "_open", opened)
    monkeypatch.setattr(Stream, "_now", now)
    database: Any = Listing()
    batches = [batch async for batch in Stream(database, ["a"]).batches("{}")]
    assert [len(batch) for batch in batches] == [500, 101]
    assert batches[-1].token == '{"_data": "82000002BD00000001"}'


async def test_a_cancellation_that_the_driver_drops_is_heeded() -> None:
    async def work() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            with translated("what"):
                pass
        return "went on"

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
