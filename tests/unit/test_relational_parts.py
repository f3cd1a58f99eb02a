"""Values, ids, rules, settings, growth, the pool and the bounds of relational sources."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from connectors.errors import ConfigurationError, InvalidFilteringError, RetryableError
from connectors.sources.relational import Column, Session
from connectors.sources.relational.growth import Growth
from connectors.sources.relational.pool import Pool
from connectors.sources.relational.rules import QueryRulesValidator, parse_rules, query_problem
from connectors.sources.relational.settings import parse_id_columns
from connectors.sources.relational.throttle import BatchSize, Throttle
from connectors.sources.relational.values import document_maker, encode_values, id_maker
from tests.support.relational import SqliteSession, table

# Values


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((7,), "t/7"),
        (("a/b%",), "t/a%2Fb%25"),
        ((None, ""), "t/%N/"),
        ((b"\x00\xff", True), "t/00ff/True"),
        ((Decimal("1.50"), Decimal("1E+3")), "t/1.50/1000"),
        ((datetime(2024, 2, 29, 1, tzinfo=UTC), date(2024, 1, 2)), "t/2024-02-29T01:00:00+00:00/2024-01-02"),
        ((time(1, 2), UUID(int=1)), "t/01:02:00/00000000-0000-0000-0000-000000000001"),
    ],
)
def test_ids_are_readable_and_stay_the_same(key: tuple[Any, ...], expected: str) -> None:
    assert id_maker("t", range(len(key)))(key) == expected


def test_documents_have_every_column_and_what_is_fixed() -> None:
    columns = [Column("id"), Column("_id"), Column("flag", convert=bool), Column("table")]
    make = document_maker(columns, {"table": "t", "database": "d"}, id_maker("t", [0]))
    assert make((1, "x", 0, "own")) == {
        "_id": "t/1",
        "id": 1,
        "_id_": "x",
        "flag": False,
        "table": "own",
        "database": "d",
    }
    assert make((1, "x", None, "own"))["flag"] is None


def test_a_value_without_an_order_is_no_key() -> None:
    with pytest.raises(TypeError, match="of the type dict"):
        encode_values([{}])


# Rules

QUERY = "SELECT * FROM orders"


@pytest.mark.parametrize(
    "query",
    [
        QUERY,
        f"  ({QUERY});",
        "with x as (select 1) select * from x",
        "SELECT ';', '-- ', 'it''s', `;`, \"a;b\" FROM t -- ; DROP TABLE t",
        "SELECT 1 /* ; into outfile */",
        "SELECT $$ ; $$, $x$ ; $$ ; $x$",
    ],
)
def test_queries_that_read_are_taken(query: str) -> None:
    assert query_problem(query, backslash_escapes=False) is None


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("DELETE FROM orders", "does not begin with SELECT"),
        ("", "does not begin with SELECT"),
        ("-- SELECT\nDROP TABLE orders", "does not begin with SELECT"),
        (f"{QUERY}; DROP TABLE orders", "more than one statement"),
        (f"{QUERY} INTO  OUTFILE '/tmp/x'", "writes its result elsewhere"),
        (f"{QUERY} FOR UPDATE", "locks rows"),
        (f"{QUERY} LOCK IN SHARE MODE", "locks rows"),
        (f"{QUERY} /*! INTO OUTFILE 'x' */", "comment that the server would run"),
    ],
)
def test_queries_that_do_more_are_refused(query: str, words: str) -> None:
    assert words in str(query_problem(query, backslash_escapes=True))


def test_a_backslash_hides_a_quotation_mark_only_where_the_server_says_so() -> None:
    query = r"SELECT '\'; DROP TABLE t; -- '"
    assert query_problem(query, backslash_escapes=True) is None
    assert "more than one" in str(query_problem(query, backslash_escapes=False))


def test_both_forms_of_rules_are_read() -> None:
    by_table = parse_rules({"shop": {"a": QUERY, "b": f"{QUERY};"}}, ["shop"], backslash_escapes=True)
    assert [(rule.title, rule.query) for rule in by_table] == [("rule 1 (shop.a)", QUERY), ("rule 2 (shop.b)", QUERY)]
    (joined,) = parse_rules(
        [{"tables": ["a", "shop.b"], "query": QUERY, "id_columns": ["x"]}], ["shop"], backslash_escapes=True
    )
    assert (joined.title, joined.id_columns) == ("rule 1 (shop.a, shop.b)", ("x",))


@pytest.mark.parametrize(
    ("advanced", "words"),
    [
        ("SELECT 1", 'these are no queries: write {"database"'),
        ({"shop": QUERY}, '"shop" has no tables'),
        ({"shop": {"a": 1}}, 'what stands at "shop.a" is no query'),
        ([QUERY], "is no rule"),
        ([{"table": ["a"], "query": QUERY}], 'no "table" in a rule; did you mean "tables"'),
        ([{"query": QUERY}], '"tables" must list'),
        ([{"tables": "a", "query": QUERY}], '"tables" must list'),
        ([{"tables": ["a"]}], '"query" must be'),
        ([{"tables": ["a"], "query": QUERY, "id_columns": "x"}], '"id_columns" must list'),
        ([{"tables": ["a"], "query": QUERY}], "write which one of shop, annex it is in"),
        ([{"tables": ["shop.a"], "query": "UPDATE a"}], 'the query "UPDATE a" cannot be run'),
    ],
)
def test_rules_of_another_form_are_refused_in_words(advanced: Any, words: str) -> None:
    spaces = ["shop", "annex"]
    (result,) = QueryRulesValidator(spaces, backslash_escapes=True).validate(advanced)
    assert words in result.validation_message
    with pytest.raises(InvalidFilteringError):
        parse_rules(advanced, spaces, backslash_escapes=True)


# Settings and growth


def test_id_columns_are_read_as_a_list_and_as_text() -> None:
    expected = {"shop.a": ("x", "y"), "b": ("z",)}
    assert parse_id_columns(["shop.a(x, y)", "b(z)"]) == expected
    assert parse_id_columns(["shop.a(x", " y)", " b(z)"]) == expected
    for wrong in (["a"], ["a()"], ["a(x"], ["(x)"], ["a(x) b(y)"], ["a(x,,y)"]):
        with pytest.raises(ConfigurationError, match="id_columns"):
            parse_id_columns(wrong)


@pytest.mark.parametrize(
    ("newest", "start"),
    [
        (datetime(2024, 1, 1, 0, 5, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
        (date(2024, 1, 2), date(2024, 1, 1)),
        (100, 90),
        (Decimal("100.5"), Decimal("90.5")),
        (100.5, 90.5),
        (None, None),
        (date.min, None),
        ("0000-00-00", None),
    ],
)
def test_reading_starts_below_the_position(newest: Any, start: Any) -> None:
    grown = table("t", "id", "id", growth="id")
    growth = Growth(["nr", "ID"], lookback=300, count=10)
    column = growth.column(grown)
    assert column is not None
    assert growth.start(grown, {"main.t": Growth.entry(column, newest)}) == start
    assert growth.start(grown, {"main.t": ["other", 100]}) is None
    assert growth.start(grown, {}) is None


# Bounds


async def test_the_throttle_keeps_below_the_rate_without_saving_up() -> None:
    now, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    throttle = Throttle(100, clock=lambda: now, sleep=sleep)
    await throttle.spent(50)
    await throttle.spent(50)
    now += 60  # idle: nothing is saved up
    await throttle.spent(200)
    assert slept == pytest.approx([0.5, 0.5, 2.0])
    await Throttle(0, sleep=sleep).spent(10**9)
    assert len(slept) == 3


def test_batches_get_small_where_rows_are_wide() -> None:
    size = BatchSize(1000)
    for _ in range(3):
        size.saw([(1, "narrow")] * size.rows)
    assert size.rows == 1000
    size.saw([(1, "x" * 1_000_000, b"y" * 1_000_000)] * size.rows)
    assert size.rows == 2
    size.saw([])
    assert size.rows == 2
    assert BatchSize(3).rows == 3


# The pool


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class _Sessions:
    """Opens sessions and remembers them."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        self.opened: list[SqliteSession] = []

    async def __call__(self) -> Session:
        self.opened.append(SqliteSession(self.database, [], []))
        return self.opened[-1]


async def test_sessions_are_used_again_replaced_when_old_and_tried_when_idle() -> None:
    sessions, clock = _Sessions(), _Clock()
    pool = Pool(sessions, size=1, lifetime=100, clock=clock)

    async def lease() -> SqliteSession:
        async with pool.lease() as session:
            assert isinstance(session, SqliteSession)
            return session

    first = await lease()
    assert await lease() is first
    clock.now = 50
    assert await lease() is first
    assert first._log == ["SELECT 1"]
    clock.now = 150
    second = await lease()
    assert (second is not first, first.closed) == (True, 1)
    clock.now = 200
    second._database = sqlite3.connect(":memory:")
    second._database.close()
    second._execute = _fail  # type: ignore[method-assign]  # the firewall dropped it
    third = await lease()
    assert (third is not second, second.closed) == (True, 1)
    third.usable = False
    assert await lease() is not third
    await pool.close()
    await pool.close()
    assert all(session.closed == 1 for session in sessions.opened if session is not third)
    sessions.database.close()


def _fail(statement: Any) -> Any:
    raise RetryableError("gone")


async def test_no_more_sessions_than_allowed_and_none_survives_the_closing() -> None:
    sessions = _Sessions()
    pool = Pool(sessions, size=2, lifetime=100)
    most = running = 0

    async def use() -> None:
        nonlocal most, running
        async with pool.lease():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(use() for _ in range(10)))
    assert most == 2
    async with pool.lease() as lent:
        await pool.close()
        assert isinstance(lent, SqliteSession)
        assert lent.closed == 0
    assert all(session.closed == 1 for session in sessions.opened)
    sessions.database.close()
