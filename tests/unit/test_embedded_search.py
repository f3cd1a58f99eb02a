"""The query language, the text of a document, and records' helpers, each for itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.backends.fulltext import MAX_OTHER, TextColumns, text_columns
from connectors.backends.query_language import MAX_QUERY_LENGTH, MAX_TERMS, Query, Term, parse_query
from connectors.backends.records import JobIds, apply_changes, encode, ended_at, storable

WORDS = Query(tuple((Term(word),) for word in ("http://x.org", "C:\\x", "12:30", "note:", "x")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two", Query(((Term("one"),), (Term("two"),)))),
        ('"one two" three*', Query(((Term("one two"),), (Term("three", prefix=True),)))),
        ('"one tw"*', Query(((Term("one tw", prefix=True),),))),
        ("title:one", Query(((Term("one", "title"),),))),
        ('a.b-c:"x y"', Query(((Term("x y", "a.b-c"),),))),
        ("one -two -title:three", Query(((Term("one"),),), (Term("two"), Term("three", "title")))),
        ("one OR two three", Query(((Term("one"), Term("two")), (Term("three"),)))),
        ("OR one AND two OR", Query(((Term("one"),), (Term("two"),)))),
        ("or and", Query(((Term("or"),), (Term("and"),)))),
        ('"OR"', Query(((Term("OR"),),))),
        ("http://x.org C:\\x 12:30 note: x", WORDS),
        ("e-mail a_b", Query(((Term("e-mail"),), (Term("a_b"),)))),
        ('open"quoted words', Query(((Term("open"),), (Term("quoted words"),)))),
        ("--x", Query((), (Term("-x"),))),
        ("- -- * \"\" '", Query()),
    ],
)  # fmt: skip
def test_queries_are_read(text: str, expected: Query) -> None:
    assert parse_query(text) == expected


def test_what_is_said_twice_counts_once() -> None:
    assert parse_query("x x " * 100) == Query(((Term("x"),),))
    assert parse_query("x OR x OR y -z -z") == Query(((Term("x"), Term("y")),), (Term("z"),))


def test_a_query_is_bounded() -> None:
    assert len(parse_query(" ".join(map(str, range(200)))).groups) == MAX_TERMS
    assert parse_query("y" * 5000).groups == ((Term("y" * MAX_QUERY_LENGTH),),)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, TextColumns("", "", "", "")),
        (
            {"title": "T", "name": "n.md", "path": "a/n.md", "url": "u", "body": "B"},
            TextColumns("T", "a/n.md\nn.md\nu", "B", ""),
        ),
        ({"name": "n.md"}, TextColumns("n.md", "n.md", "", "")),
        ({"title": ["a", {"b": "c"}], "body": None}, TextColumns("a\nc", "", "", "")),
        ({"x": "text", "n": 5, "f": 1.5, "t": True, "z": None, "_no": "no"}, TextColumns("", "", "", "text\n5\n1.5")),
        ({"x": {"deep": [["leaf"], {"_skip": 1, "y": 2}]}}, TextColumns("", "", "", "leaf\n2")),
        (
            {"at": "2026-11-24T05:50:29Z", "day": "2026-11-24", "s": "2026-11-24 05:50:29.123456+00:00"},
            TextColumns("", "", "", "2026-11-24"),
        ),
        ({"title": "a\x02b\x03c\0d"}, TextColumns("abcd", "", "", "")),
        ({"x": "y" * (MAX_OTHER + 10)}, TextColumns("", "", "", "y" * MAX_OTHER)),
    ],
)  # fmt: skip
def test_the_text_of_a_document(document: dict[str, Any], expected: TextColumns) -> None:
    assert text_columns(document) == expected


def test_ids_of_jobs_are_uuids_that_grow_even_when_the_clock_goes_back() -> None:
    ids = JobIds()
    times = [1000.0, 1000.0, 1000.001, 999.0, 1001.0]
    made = [ids.next(datetime.fromtimestamp(at, UTC)) for at in times for _ in range(3)]
    assert made == sorted(set(made))
    assert {len(each) for each in made} == {36}
    assert {each[14] for each in made} == {"7"}
    assert int(made[0].replace("-", "")[:12], 16) == 1_000_000  # milliseconds


def test_more_ids_than_the_counter_holds() -> None:
    ids = JobIds()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = [ids.next(now) for _ in range(5000)]
    assert made == sorted(set(made))


def test_records_are_json() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert apply_changes({"a": 1, "id": "x"}, {"at": moment, "a": [moment]}) == {
        "at": "2026-01-01T00:00:00.000000+00:00",
        "a": ["2026-01-01T00:00:00.000000+00:00"],
    }
    assert encode({"caf\udce9": ["\udce9", 1]}) == b'{"caf\\\\udce9":["\\\\udce9",1]}'
    with pytest.raises(TypeError, match="set"):
        encode({1, 2})
    assert storable("ä\udce9") == "ä\\udce9"


def test_when_a_job_ended() -> None:
    assert ended_at({}) is None
    assert ended_at({"created_at": "2026-01-01T00:00:00Z", "canceled_at": "2026-01-01T01:00:00+01:00"}) == (
        "2026-01-01T00:00:00.000000+00:00"
    )
