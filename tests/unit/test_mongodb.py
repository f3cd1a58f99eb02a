"""The MongoDB source without a server: settings, rules, documents, positions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId
from bson.code import Code
from bson.son import SON

from connectors.byoc import Filter
from connectors.errors import ConfigurationError, SyncError
from connectors.source import Skipped
from connectors.sources.mongo import MongoDBDataSource
from connectors.sources.mongodb.connection import Connection
from connectors.sources.mongodb.database import Database, Plan
from connectors.sources.mongodb.documents import DocumentMaker
from connectors.sources.mongodb.rules import MongoRulesValidator, problems_of, selections_of
from connectors.sources.mongodb.settings import chosen_collections, client_options, server_address
from tests.support.mongodb import Listing, settings

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
