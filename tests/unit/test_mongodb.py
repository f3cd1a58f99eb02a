"""The MongoDB source without a server: settings, rules, errors, positions."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import bson
import pytest
from bson import ObjectId, Timestamp
from bson.code import Code
from bson.son import SON
from pymongo import errors

from connectors.byoc import Filter
from connectors.errors import ConfigurationError, ConnectorsError, FullSyncNeededError, RetryableError, SyncError
from connectors.source import DataSourceConfiguration, Skipped
from connectors.sources.mongo import MongoDBDataSource
from connectors.sources.mongodb.connection import CollectionInfo, Connection
from connectors.sources.mongodb.database import Database, Plan
from connectors.sources.mongodb.documents import DocumentMaker
from connectors.sources.mongodb.failures import as_ours, translated
from connectors.sources.mongodb.rules import MongoRulesValidator, problems_of, selections_of
from connectors.sources.mongodb.settings import chosen_collections, client_options, server_address
from connectors.sources.mongodb.stream import Changes, Stream, StreamUnavailableError, _reached

GIVEN = {"host": "mongodb://db.example.com", "database": "shop"}


def settings(**given: Any) -> DataSourceConfiguration:
    return DataSourceConfiguration.merge(MongoDBDataSource.get_default_configuration(), {**GIVEN, **given})


# Settings


def test_the_driver_is_loaded_by_use_only() -> None:
    code = (
        "import sys; from connectors.sources.mongodb import MongoDBDataSource as M; M.get_default_configuration(); "
        "sys.exit('pymongo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("connectors.sources.mongodb.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pymongo", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'connectors\[mongodb\]'"):
        await MongoDBDataSource(settings()).validate_config()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("localhost:27018", "mongodb://localhost:27018"),
        ("mongodb://a,b,c/?replicaSet=rs0", "mongodb://a,b,c/?replicaSet=rs0"),
        (" mongodb+srv://cluster0.example.net ", "mongodb+srv://cluster0.example.net"),
    ],
)
def test_addresses(host: str, address: str) -> None:
    assert server_address(settings(host=host)) == address


@pytest.mark.parametrize("host", ["", "http://localhost", "postgresql://x"])
def test_other_addresses_are_refused(host: str) -> None:
    with pytest.raises(ConfigurationError) as info:
        server_address(settings(host=host))
    assert info.value.field == "host"


async def test_a_malformed_address_is_refused_without_a_server() -> None:
    for host in ("mongodb://[::1", "mongodb://a:port", "mongodb://a/?directConnection=true&replicaSet=&tls=perhaps"):
        source = MongoDBDataSource(settings(host=host))
        with pytest.raises(ConfigurationError):
            await source.validate_config()
        await source.close()


def test_what_the_address_says_goes_first() -> None:
    options = client_options(settings(host="mongodb://a/?socketTimeoutMS=5"), Path(), None)
    assert "socketTimeoutMS" not in options
    assert options["serverSelectionTimeoutMS"] == 10_000
    options = client_options(settings(query_timeout=60, user="u", password="p", direct_connection=True), Path(), None)
    assert options["socketTimeoutMS"] == 90_000
    assert (options["username"], options["password"], options["directConnection"]) == ("u", "p", True)
    assert "tls" not in options


def test_tls_options(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("x")
    given = settings(ssl_enabled=True, ssl_ca="ca.pem", tls_insecure=True)
    options = client_options(given, tmp_path, None)
    assert (options["tls"], options["tlsCAFile"], options["tlsInsecure"]) == (True, str(tmp_path / "ca.pem"), True)
    with pytest.raises(ConfigurationError, match="there is no file") as info:
        client_options(settings(ssl_enabled=True, ssl_client_certificate="none.pem"), tmp_path, None)
    assert info.value.field == "ssl_client_certificate"


async def test_the_text_of_a_certificate_lies_in_a_file_that_goes_with_the_connection(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Connection(settings(ssl_enabled=True, ssl_ca="-----BEGIN CERTIFICATE-----\nnonsense"), tmp_path)


def test_collections() -> None:
    assert chosen_collections(settings()) is None
    assert chosen_collections(settings(collection="*")) is None
    assert chosen_collections(settings(collection="b, a, b")) == ["a", "b"]
    for wrong in ("*, a", "system.users", "a$b"):
        with pytest.raises(ConfigurationError) as info:
            chosen_collections(settings(collection=wrong))
        assert info.value.field == "collection"


# Rules


@pytest.mark.parametrize(
    "rule",
    [
        {"find": {}},
        {"find": {"filter": {"when": {"$gt": {"$date": "2026-01-01T00:00:00Z"}}}, "projection": {"a": 1}}},
        {"find": {"sort": [["a", 1], ["b", -1]], "skip": 1, "limit": 2, "hint": "a_1"}},
        {"aggregate": {"pipeline": [{"$match": {}}, {"$group": {"_id": "$a"}}], "allowDiskUse": True}},
        [{"collection": "orders", "find": {}}],
    ],
)
def test_good_rules(rule: Any) -> None:
    assert MongoRulesValidator(["orders"]).validate(rule) == []


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("x", "is no rule"),
        ([1], "is no rule"),
        ({}, "is no rule"),
        ({"find": {}, "aggregate": {}}, "either find or aggregate"),
        ({"fnd": {}}, 'did you mean "find"'),
        ({"find": []}, "is a mapping"),
        ({"find": {"filters": {}}}, 'did you mean "filter"'),
        ({"find": {"limit": True}}, "limit is a whole number"),
        ({"find": {"skip": -1}}, "not negative"),
        ({"find": {"projection": {"_id": 0}}}, "must keep _id"),
        ({"find": {"sort": {"a": "up"}}}, "sort is"),
        ({"find": {"sort": ["a"]}}, "sort is"),
        ({"find": {"filter": {"_id": {"$oid": "no"}}}}, "no extended JSON"),
        ({"aggregate": {}}, "write the stages"),
        ({"aggregate": {"pipeline": ["$match"]}}, "stage 1"),
        ({"aggregate": {"pipeline": [{"$out": "x"}]}}, "$out would write"),
        ({"aggregate": {"pipeline": [{"$facet": {"a": [{"$merge": {"into": "x"}}]}}]}}, "$merge would write"),
        ({"collection": "oders", "find": {}}, 'did you mean "orders"'),
        ([{"find": {}}, {"collection": "orders", "find": {}}], "several rules"),
    ],
)
def test_bad_rules_are_told_in_words(rule: Any, words: str) -> None:
    assert any(words in problem for problem in problems_of(rule, ["orders"])), problems_of(rule, ["orders"])
    with pytest.raises(ConfigurationError, match="advanced rules"):
        selections_of(rule, ["orders"])


def test_a_rule_names_its_collection_where_there_are_several() -> None:
    assert "say which collection" in problems_of({"find": {}}, None)[0]
    assert problems_of({"collection": "any", "find": {}}, None) == []


@pytest.mark.parametrize(
    ("rule", "one_by_one", "steady"),
    [
        ({"find": {"filter": {"a": 1}, "sort": {"a": 1}}}, True, True),
        ({"find": {"limit": 5}}, False, True),
        ({"find": {"filter": {"$where": "true"}}}, False, False),
        ({"find": {"filter": {"$expr": {"$lt": ["$a", "$$NOW"]}}}}, False, False),
        ({"find": {"collation": {"locale": "en"}}}, False, True),
        ({"find": {"filter": {"place": {"$near": [1, 2]}}}}, False, True),
        ({"aggregate": {"pipeline": [{"$match": {"a": 1}}, {"$set": {"b": "$a"}}, {"$unset": "c"}]}}, True, True),
        ({"aggregate": {"pipeline": [{"$project": {"_id": 1, "a": 1}}]}}, True, True),
        ({"aggregate": {"pipeline": [{"$project": {"_id": "$a"}}]}}, False, True),
        ({"aggregate": {"pipeline": [{"$set": {"_id": 1}}]}}, False, True),
        ({"aggregate": {"pipeline": [{"$set": {"_id.part": 1}}]}}, False, True),
        ({"aggregate": {"pipeline": [{"$unset": ["a", "_id"]}]}}, False, True),
        ({"aggregate": {"pipeline": [{"$group": {"_id": "$a"}}]}}, False, True),
        ({"aggregate": {"pipeline": [{"$unwind": "$lines"}]}}, False, True),
        ({"aggregate": {"pipeline": [{"$lookup": {"from": "b", "as": "b"}}]}}, False, False),
        ({"aggregate": {"pipeline": [{"$sample": {"size": 1}}]}}, False, False),
    ],
)
def test_what_can_be_resumed_and_followed(rule: Any, one_by_one: bool, steady: bool) -> None:
    (selection,) = selections_of(rule, ["orders"])
    assert (selection.one_by_one, selection.steady) == (one_by_one, steady)


def test_rules_are_extended_json() -> None:
    (selection,) = selections_of({"find": {"filter": {"_id": {"$oid": "65a000000000000000000001"}}}}, ["orders"])
    assert selection.filter == {"_id": ObjectId("65a000000000000000000001")}


def test_a_limit_has_an_order() -> None:
    (selection,) = selections_of({"find": {"sort": {"a": -1}, "limit": 3}}, ["orders"])
    assert selection.window == {"sort": [("a", -1), ("_id", 1)], "skip": 0, "limit": 3}


def test_a_position_belongs_to_what_is_read() -> None:
    plans = [
        Plan(settings(), None),
        Plan(settings(database="other"), None),
        Plan(settings(collection="a"), None),
        Plan(settings(collection="a, b"), None),
        Plan(settings(collection="a"), Filter.of(advanced={"find": {"filter": {"x": 1}}})),
    ]
    assert len({plan.fingerprint for plan in plans}) == len(plans)
    assert Plan(settings(), None).fingerprint == plans[0].fingerprint


# Documents


def test_a_broken_document_is_skipped_with_its_id() -> None:
    raw = bson.encode({"_id": 7, "part": {"text": "abcd"}})
    # The length of a text within a part: what is around it can still be read.
    within = raw.replace(b"\x05\0\0\0abcd", b"\x55\0\0\0abcd")
    made = DocumentMaker("orders", many=True).make(within)
    assert isinstance(made, Skipped)
    assert made.id == "orders/7"
    assert "BSON is broken" in made.reason
    made = DocumentMaker("orders", many=True).make(raw[:-1] + b"\x01")
    assert isinstance(made, Skipped)
    assert made.id is None


def test_names_and_ids_cannot_be_mistaken_for_one_another() -> None:
    assert DocumentMaker("a/b", many=True).id("c") == "a%2Fb/c"
    assert DocumentMaker("a", many=True).id("b/c") == "a/b/c"
    assert DocumentMaker("a", many=False).id(SON([("x", 1)])) == 'bson:{"x":1}'
    with pytest.raises(SyncError, match="JavaScript"):
        DocumentMaker("a", many=False).id(Code("1"))


# Views and time series


class Listing:
    """A connection that lists what a test says."""

    name = "shop"

    def __init__(self, **kinds: str) -> None:
        self.kinds = kinds
        self.database = self.client = None

    async def inventory(self) -> dict[str, CollectionInfo]:
        return {name: CollectionInfo(name, kind, None) for name, kind in sorted(self.kinds.items())}

    expect = Connection.expect


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def info(self, text: str, *values: Any) -> None:
        self.lines.append(text % values)


async def test_views_are_read_when_named_and_cannot_be_followed() -> None:
    log = Log()
    listing: Any = Listing(orders="collection", recent="view", ticks="timeseries")
    database = Database(settings(), listing, log)
    assert [info.name for _, info in await database.choose(Plan(settings(), None))] == ["orders"]
    assert log.lines == ["left alone, since * means collections, not views or time series: recent, ticks"]
    plan = Plan(settings(collection="recent"), None)
    chosen = await database.choose(plan)
    assert await database.position(plan, chosen) is None
    assert "no change streams of views" in log.lines[-1]
    with pytest.raises(ConfigurationError, match="no change streams of views"):
        await anext(database.read_changes(plan, None, None))
    with pytest.raises(ConfigurationError, match="time series"):
        await database.choose(Plan(settings(collection="ticks"), None))
    empty: Any = Listing()
    with pytest.raises(ConfigurationError, match="no collection that this user may read"):
        await Database(settings(), empty, log).choose(Plan(settings(), None))


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
        (286, (), False, SyncError),
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
