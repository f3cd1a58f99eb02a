"""What a document's values become on the wire."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from ipaddress import ip_address, ip_network
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from connectors.errors import SkippableError
from connectors.sync.encode import content_hash, decode, encode, id_digest


@pytest.mark.parametrize(
    ("value", "json"),
    [
        (Decimal("12345678901234567890.10"), "12345678901234567890.10"),
        (Decimal("NaN"), "null"),
        (float("nan"), "null"),
        (float("-inf"), "null"),
        (b"text", '"dGV4dA=="'),
        (memoryview(b"text"), '"dGV4dA=="'),
        ({"b", "a"}, '["a","b"]'),
        (frozenset({2, 1}), "[1,2]"),
        (timedelta(minutes=1.5), "90.0"),
        (PurePosixPath("a/b"), '"a/b"'),
        (ip_address("::1"), '"::1"'),
        (ip_network("10.0.0.0/8"), '"10.0.0.0/8"'),
        (MappingProxyType({"x": 1}), '{"x":1}'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (date(2026, 1, 2), '"2026-01-02"'),
        (datetime(2026, 1, 2, 3, 4), '"2026-01-02T03:04:00Z"'),  # noqa: DTZ001 - a naive one counts as UTC
        (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), '"2026-01-02T03:04:00Z"'),
        # What needs the slow way:
        ({7: {None: date(2026, 1, 2)}}, '{"7":{"null":"2026-01-02"}}'),
        ("broken \udcff name", '"broken ? name"'),
        ({"key \udcff": ["\udcff", ("\udcff",), {"\udcff"}]}, '{"key ?":["?",["?"],["?"]]}'),
        (2**70, str(2**70)),
        ([2**70, float("inf"), True, -(2**63)], f"[{2**70},null,true,{-(2**63)}]"),
    ],
)
def test_values_have_their_form(value: Any, json: str) -> None:
    assert encode({"v": value}).decode() == f'{{"v":{json}}}'


def test_the_same_document_has_the_same_bytes_and_hash() -> None:
    assert content_hash(encode({"a": {"y", "x", "z"}})) == content_hash(encode({"a": {"z", "x", "y"}}))
    assert (len(content_hash(b"")), len(id_digest(""))) == (8, 16)


@pytest.mark.parametrize("value", [object(), {"deep": object()}, ["\udcff", object()]])
def test_what_has_no_form_costs_the_document(value: Any) -> None:
    with pytest.raises(SkippableError, match="cannot be encoded"):
        encode({"v": value})


def test_a_document_that_is_nested_without_end_costs_only_itself() -> None:
    loop: list[Any] = ["\udcff"]
    loop.append(loop)
    with pytest.raises(SkippableError, match="cannot be encoded"):
        encode({"v": loop})
    deep: Any = 1
    for _ in range(250):
        deep = [deep]
    with pytest.raises(SkippableError, match="cannot be encoded"):
        encode({"v": ["\udcff", deep]})


def test_what_waits_to_be_written_holds_no_more_than_its_bytes() -> None:
    text = "words of a page. " * 500
    quickly: dict[str, Any] = {"text": text}
    slowly: dict[Any, Any] = {"text": text, 7: text}
    for given in (quickly, slowly):
        encode(given)
        tracemalloc.start()
        try:
            bodies = [encode(given) for _ in range(100)]
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert held < 1.1 * sum(map(len, bodies))


def test_a_document_is_read_back_to_the_digit() -> None:
    document = {
        "a": Decimal("1E+400"), "b": Decimal("9" * 5000), "c": 2**70, "d": Decimal("-0.10"), "e": -7, "f": [1.5, None],
    }  # fmt: skip
    body = encode(document)
    assert encode(decode(body)) == body
    assert decode(body) == {**document, "f": [Decimal("1.5"), None]}
    with pytest.raises(ValueError, match="Expecting"):
        decode(b"{")
