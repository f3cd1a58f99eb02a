"""What searching promises to people, whatever the backend."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest

from connectors.backends.ports import Destination, IndexHandle, Operation
from connectors.errors import NotFoundError

DOCUMENTS: Final[dict[str, dict[str, Any]]] = {
    "coffee": {"title": "Café hours", "path": "staff/kitchen.md", "body": "The kitchen opens at nine.", "size": 120},
    "plan": {
        "title": "Annual plan",
        "path": "board/annual_plan.docx",
        "body": "We plan a new kitchen and a garden for the staff.",
        "author": {"name": "Kim Müller"},
        "tags": ["Budget", "next year"],
        "draft": True,
    },
    "garden": {
        "title": "Garden",
        "path": "staff/garden.md",
        "body": "Annual flowers, then a plan.",
        "size": 1200,
        "note": "a back\\slash, 50%",
        "ratio": 0.5,
    },
}


@pytest.fixture(autouse=True)
async def documents(destination: Destination, handle: IndexHandle) -> None:
    operations = [
        Operation(id_, id_.encode().ljust(16), b"12345678", 1, orjson.dumps(document))
        for id_, document in DOCUMENTS.items()
    ]
    await destination.write(handle, operations)


async def ids(destination: Destination, query: str) -> set[str]:
    page = await destination.search("things", query)
    assert page.total == len(page.hits)
    return {hit.id for hit in page.hits}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("kitchen", {"coffee", "plan"}),
        ("KITCHEN nine", {"coffee"}),
        ("cafe", {"coffee"}),
        ("CAFÉ", {"coffee"}),
        ("kitchen tree", set()),
        ('"annual plan"', {"plan"}),
        ('"plan annual"', set()),
        ('"annual plan', {"plan"}),
        ("“annual plan”", {"plan"}),
        ("flow", set()),
        ("flow*", {"garden"}),
        ('"annual fl"*', {"garden"}),
        ("title:garden", {"garden"}),
        ("body:garden", {"plan"}),
        ("title:gar*", {"garden"}),
        ('title:"annual plan"', {"plan"}),
        ("path:staff", {"coffee", "garden"}),
        ("annual_plan.docx", {"plan"}),
        ("annual -flowers", {"plan"}),
        ('kitchen -"opens at"', {"plan"}),
        ("annual -title:plan", {"garden"}),
        ("nine OR flowers", {"coffee", "garden"}),
        ("kitchen nine OR garden", {"coffee", "plan"}),
        ("OR kitchen OR", {"coffee", "plan"}),
        ("kitchen AND nine", {"coffee"}),
        ("author.name:kim", {"plan"}),
        ('author.name:"kim mü"', {"plan"}),
        ("author:müller", {"plan"}),
        ("tags:budget", {"plan"}),
        ('tags:"next y"', {"plan"}),
        ("size:120", {"coffee"}),
        ("size:12", set()),
        ("note:back\\slash", {"garden"}),
        ('note:"50%"', {"garden"}),
        ("note:50_", set()),
        ("ratio:0.5", {"garden"}),
        ("draft:true", {"plan"}),
        ("draft:false", set()),
        ("kitchen size:120", {"coffee"}),
        ("kitchen -draft:true", {"coffee"}),
        ("size:120 OR draft:true", {"coffee", "plan"}),
        ("flowers OR draft:true", {"garden", "plan"}),
        ("size:1200 -flowers", set()),
        ("nowhere:anything", set()),
        ("budget", {"plan"}),
        ("1200", {"garden"}),
    ],
)
async def test_queries(destination: Destination, query: str, expected: set[str]) -> None:
    assert await ids(destination, query) == expected


@pytest.mark.parametrize(
    "query", ["", "   ", "-kitchen", "--", '"', '""', "*", "OR", "&&& ...", "title:", "-", "(", "😀"]
)
async def test_what_asks_for_nothing_finds_nothing(destination: Destination, query: str) -> None:
    assert await ids(destination, query) == set()


@pytest.mark.parametrize(
    "query",
    ["kitchen)", "(kitchen", "kitchen^2", "kitchen\x00", "NEAR(kitchen nine)", "kitchen;--", "{title}:x", "a" * 5000,
     "x " * 1000, "http://example.org/a", "C:\\temp", "\udce9", "\x02x\x03", "% _", "a.b.c:d", '-"', '"*', "title:*"],
)  # fmt: skip
async def test_any_text_is_a_query(destination: Destination, query: str) -> None:
    await destination.search("things", query)


async def test_a_title_counts_more_than_the_text(destination: Destination) -> None:
    page = await destination.search("things", "garden")
    assert [hit.id for hit in page.hits] == ["garden", "plan"]
    assert page.hits[0].score > page.hits[1].score


async def test_pages_follow_one_another(destination: Destination, handle: IndexHandle) -> None:
    operations = [
        Operation(f"n{n}", n.to_bytes(16), b"12345678", 1, orjson.dumps({"title": "same"})) for n in range(45)
    ]
    await destination.write(handle, operations)
    seen: list[str] = []
    for offset in range(0, 60, 10):
        page = await destination.search("things", "same", limit=10, offset=offset)
        assert page.total == 45
        seen += [hit.id for hit in page.hits]
    assert sorted(seen) == sorted(operation.id for operation in operations)


async def test_a_page_far_behind_the_end_is_empty(destination: Destination) -> None:
    page = await destination.search("things", "kitchen", limit=10**30, offset=10**30)
    assert (page.total, list(page.hits)) == (2, [])
    assert len((await destination.search("things", "kitchen", limit=10**30)).hits) == 2


async def test_a_large_page(destination: Destination, handle: IndexHandle) -> None:
    operations = [
        Operation(f"n{n}", n.to_bytes(16), b"12345678", 1, orjson.dumps({"title": "same"})) for n in range(1100)
    ]
    await destination.write(handle, operations)
    assert len({hit.id for hit in (await destination.search("things", "same", limit=2000)).hits}) == 1100


async def test_a_hit_is_the_document_with_a_short_body(destination: Destination, handle: IndexHandle) -> None:
    document = {"title": "Long", "body": "word ä " * 5000, "deep": {"n": [1, 2.5]}, "big": 2**53 + 1}
    await destination.write(handle, [Operation("long", b"l" * 16, b"12345678", 1, orjson.dumps(document))])
    (hit,) = (await destination.search("things", "long")).hits
    assert hit.source == {**document, "body": str(document["body"])[:300]}


async def test_search_without_an_index(destination: Destination) -> None:
    with pytest.raises(NotFoundError, match="none"):
        await destination.search("none", "x")
