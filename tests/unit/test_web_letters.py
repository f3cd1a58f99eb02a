"""Dead letters on the page: shown, sent again, dropped."""

from __future__ import annotations

import httpx
import orjson
import pytest

from connectors.logger import register_secrets
from tests.support.site import Site

ODD = "a/b?c=d&e#f é"


@pytest.fixture
async def site(site: Site) -> Site:
    await site.documents({"_id": "held", "title": "newer"})
    return site


async def left(site: Site) -> list[str]:
    return [letter.id for letter in await site.store.dead_letters("handbook")]


async def indexed(site: Site, document_id: str) -> dict[str, object] | None:
    body = (await site.destination.fetch("docs", [document_id])).get(document_id)
    return None if body is None else orjson.loads(body)


async def test_one_letter_is_shown_with_its_document(site: Site, client: httpx.AsyncClient) -> None:
    register_secrets(["tr0ub4dor-letters"])
    await site.dead_letter(ODD, "refused by tr0ub4dor-letters", document={"title": "<b>x</b>", "data": "A" * 5000})
    listed = (await client.get("/connectors/handbook")).text
    link = f"/dead-letters/letter?connector=handbook&amp;id={httpx.URL('', params={'x': ODD}).query.decode()[2:]}"
    assert link.replace("+", "%20") in listed
    page = await client.get("/dead-letters/letter", params={"connector": "handbook", "id": ODD})
    assert page.status_code == 200
    assert "refused by ***" in page.text
    assert "&lt;b&gt;x&lt;/b&gt;" in page.text
    assert "(5,000 characters)" in page.text
    assert "Send again" in page.text
    for query in ({}, {"connector": "handbook"}, {"connector": "handbook", "id": "x"}, {"connector": "x", "id": ODD}):
        assert (await client.get("/dead-letters/letter", params=query)).status_code == 404


async def test_one_is_sent_again(site: Site, client: httpx.AsyncClient) -> None:
    await site.dead_letter(ODD, "no", document={"title": "back"})
    await site.dead_letter("other", "no", document={"title": "other"})
    form = {"connector": "handbook", "id": ODD, "back": "/connectors/handbook"}
    answer = await client.post("/dead-letters/replay", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/connectors/handbook?done=replay")
    assert "Sent again, and off the list" in (await client.get(answer.headers["location"])).text
    assert await indexed(site, ODD) == {"title": "back"}
    assert await left(site) == ["other"]


async def test_all_are_sent_again_and_nothing_newer_is_overwritten(site: Site, client: httpx.AsyncClient) -> None:
    await site.dead_letter("a", "no", document={"title": "a"})
    await site.dead_letter("held", "no", document={"title": "old"}, version=0)
    await site.dead_letter("lost", "the file is broken")
    answer = await client.post("/dead-letters/replay", data={"connector": "handbook", "all": "1"})
    assert answer.headers["location"] == "/?done=replay-in-part"
    assert await left(site) == ["lost"]
    assert await indexed(site, "held") == {"title": "newer"}
    page = (await client.get("/dead-letters/letter", params={"connector": "handbook", "id": "lost"})).text
    assert "no document was kept" in page
    assert '"replay"' not in page


async def test_drop_one_or_after_a_question_all(site: Site, client: httpx.AsyncClient) -> None:
    for name in "abc":
        await site.dead_letter(name, "no")
    await client.post("/dead-letters/drop", data={"connector": "handbook", "id": "a"})
    assert await left(site) == ["b", "c"]
    question = await client.get("/dead-letters/drop", params={"connector": "handbook"})
    assert "Drop 2 dead letters of <bdi>Handbook</bdi>?" in question.text
    assert await left(site) == ["b", "c"]
    answer = await client.post("/dead-letters/drop", data={"connector": "handbook", "all": "1"})
    assert answer.headers["location"] == "/?done=drop"
    assert await left(site) == []


@pytest.mark.parametrize("action", ["replay", "drop"])
async def test_forms_that_name_none_or_another_site_sends_do_nothing(
    site: Site, client: httpx.AsyncClient, action: str
) -> None:
    await site.dead_letter("a", "no", document={"title": "a"})
    path = f"/dead-letters/{action}"
    assert (await client.post(path, data={"connector": "handbook"})).status_code == 400
    assert (await client.post(path, data={"connector": "handbook", "id": "a", "all": "1"})).status_code == 400
    assert (await client.post(path, data={"connector": "handbook", "id": "b"})).status_code == 404
    assert (await client.post(path, data={"connector": "nobody", "all": "1"})).status_code == 404
    forged = {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}
    assert (await client.post(path, data={"connector": "handbook", "all": "1"}, headers=forged)).status_code == 403
    if action == "replay":
        assert (await client.get(path)).status_code == 405
    async with site.client(token="correct-horse-battery") as stranger:
        assert (await stranger.post(path, data={"connector": "handbook", "all": "1"})).status_code in {303, 401}
        letter = await stranger.get("/dead-letters/letter", params={"connector": "handbook", "id": "a"})
        assert letter.status_code in {303, 401}
    assert await left(site) == ["a"]


async def test_while_a_sync_runs_it_says_so(site: Site, client: httpx.AsyncClient) -> None:
    await site.dead_letter("a", "no", document={"title": "a"})
    await site.store.acquire("handbook", "another", ttl=60, now=site.runtime.time())
    answer = await client.post("/dead-letters/replay", data={"connector": "handbook", "all": "1"})
    assert answer.status_code == 409
    assert "a sync of handbook is running" in answer.text
    assert await left(site) == ["a"]
