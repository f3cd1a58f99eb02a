"""Previews of sync rules on the page: what they show, how they end, and what they refuse."""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from connectors.byoc import Filter
from connectors.logger import register_secrets
from connectors.service.catalog import SourceCatalog
from connectors.service.web.security import MAX_BODY
from connectors.source import BaseDataSource
from tests.support.site import Site

SCRIPT = "<script>window.hit = 1</script>"
NO_DRAFTS = "rules: [{id: no-drafts, policy: exclude, field: path, rule: starts_with, value: drafts/}]"


class ShelfDataSource(BaseDataSource):
    """Yields what a test puts on the shelf; a number sleeps so many seconds, an event is set."""

    advanced_rules_enabled = True
    shelf: list[Any]
    closed: list[str]

    async def ping(self) -> None:
        return

    async def close(self) -> None:
        self.closed.append("closed")

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[Any]:
        for item in self.shelf:
            if isinstance(item, float):
                await asyncio.sleep(item)
            elif isinstance(item, asyncio.Event):
                item.set()
            elif isinstance(item, Exception):
                raise item
            else:
                yield dict(item), None
        if filtering.has_advanced_rules():
            yield {"_id": "advanced"}, None


@pytest.fixture
def shelf() -> list[Any]:
    return [{"_id": "1", "path": "plan.md"}, {"_id": "2", "path": "drafts/idea.md"}]


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.fixture
async def site(shelf: list[Any], closed: list[str]) -> AsyncIterator[Site]:
    site = Site()
    site.catalog = SourceCatalog({"directory": "tests.unit.test_web_previews:ShelfDataSource"})
    site.catalog._loaded["directory"] = type("Shelf", (ShelfDataSource,), {"shelf": shelf, "closed": closed})
    await site.connector()
    await site.documents(*({"_id": str(number), "path": "x"} for number in range(1, 4)))
    yield site
    await site.trials.close()


async def settled(site: Site, connector_id: str = "handbook") -> None:
    """Waits for the end of the preview."""
    if (task := site.trials._tasks.get(connector_id)) is not None:
        await asyncio.wait([task])
        await asyncio.sleep(0)


async def preview(site: Site, client: httpx.AsyncClient, **form: str) -> str:
    """Makes a preview, and returns the page with its result."""
    answer = await client.post("/connectors/handbook/preview", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/preview/handbook")
    await settled(site)
    page = await client.get(answer.headers["location"])
    assert page.status_code == 200
    return html.unescape(page.text)


def rules(*listed: Mapping[str, Any], advanced: Any = None, state: str = "valid") -> dict[str, Any]:
    return {**Filter.of([dict(each) for each in listed], advanced), "validation": {"state": state, "errors": []}}


DRAFTS = {"id": "drafts", "order": 1, "policy": "exclude", "field": "path", "rule": "starts_with", "value": "drafts/"}


async def test_looking_starts_nothing(site: Site, client: httpx.AsyncClient, closed: list[str]) -> None:
    page = await client.get("/preview/handbook")
    assert page.status_code == 200
    assert "What sync rules would keep" in page.text
    assert closed == []
    assert (await client.get("/connectors/handbook/preview")).status_code in {404, 405}
    assert "/preview/handbook" in (await client.get("/connectors/handbook")).text
    assert (await client.get("/preview/nobody")).status_code == 404
    assert (await client.post("/connectors/nobody/preview")).status_code == 404


async def test_pasted_rules(site: Site, client: httpx.AsyncClient, closed: list[str]) -> None:
    before = [dict(job.to_record()) for job in await site.store.jobs()]
    page = await preview(site, client, choice="pasted", rules=NO_DRAFTS)
    assert "The pasted rules" in page
    assert "Complete" in page
    assert "exclude path starts_with 'drafts/'" in page
    assert "no-drafts, order 1" in page
    assert "DEFAULT, last" in page
    assert "drafts/idea.md" in page
    assert '<dd id="dropped">1</dd>' in page
    assert NO_DRAFTS in page, "the text stays in the form"
    assert closed == ["closed"]
    assert [dict(job.to_record()) for job in await site.store.jobs()] == before


async def test_the_guard_is_foretold(site: Site, client: httpx.AsyncClient) -> None:
    await site.documents(*({"_id": f"x{number}"} for number in range(200)))
    page = await preview(site, client)
    assert "Deleting 201 of 203 documents is more than max_delete_ratio allows" in page
    assert "connectors sync handbook --allow-deletes 201" in page


async def test_draft_and_rules_in_force(site: Site, client: httpx.AsyncClient) -> None:
    filtering = [{"domain": "DEFAULT", "active": rules(), "draft": rules(DRAFTS, state="edited")}]
    await site.store.update_connector("handbook", {"filtering": filtering})
    page = await preview(site, client, choice="next")
    assert "The draft of its rules" in page
    assert "drafts, order 1" in page
    page = await preview(site, client, choice="active")
    assert "The rules in force" in page
    assert "drafts, order 1" not in page


async def test_pasted_rules_go_with_the_advanced_ones_in_use(site: Site, client: httpx.AsyncClient) -> None:
    filtering = [{"domain": "DEFAULT", "active": rules(advanced={"a": 1}), "draft": rules(advanced={"a": 1})}]
    await site.store.update_connector("handbook", {"filtering": filtering})
    assert "<bdi>advanced</bdi>" in await preview(site, client, choice="pasted", rules=NO_DRAFTS)
    page = await preview(site, client, choice="pasted", rules=f"{NO_DRAFTS}\nadvanced: {{a: SELECT 1}}")
    assert "only basic rules can be tried here" in page
    assert "<bdi>" not in page.partition('id="live"')[2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "there is nothing in it"),
        ("rules: [", "is not closed"),
        ("rules: [{policy: exlude, field: a, rule: equals, value: b}]", 'did you mean "exclude"'),
        ("rules: [{policy: exclude, field: a, rule: regex, value: '('}]", "rule rule-1: the regular expression"),
        ("rules: [{policy: exclude, field: a, rule: equals, value: 'file:/etc/hostname'}]", "refer to no file"),
        ("rules: [{policy: exclude, field: a, rule: equals, value: '${PATH}'}]", "refer to no file"),
        ("a: " + "[" * 5000, "deeper than 64 levels"),
    ],
)
async def test_wrong_rules_are_told_and_nothing_is_read(
    site: Site, client: httpx.AsyncClient, shelf: list[Any], text: str, words: str
) -> None:
    shelf[:] = [AssertionError("it was read")]
    page = await preview(site, client, choice="pasted", rules=text)
    assert "Not possible" in page
    assert words in page
    assert "it was read" not in page


async def test_a_source_that_fails(site: Site, client: httpx.AsyncClient, shelf: list[Any], closed: list[str]) -> None:
    shelf.append(OSError(f"no route {SCRIPT}"))
    answer = await client.post("/connectors/handbook/preview")
    await settled(site)
    text = (await client.get(answer.headers["location"])).text
    assert "the source of handbook failed: OSError: no route &lt;script&gt;" in text
    assert SCRIPT not in text
    assert closed == ["closed"]


async def test_hostile_and_long_values(site: Site, client: httpx.AsyncClient, shelf: list[Any]) -> None:
    shelf[:] = [{"_id": f"a{SCRIPT}\x1b[31m\u202e", "path": f"{SCRIPT}{'x' * 10_000}"}]
    await client.post(
        "/connectors/handbook/preview",
        data={
            "choice": "pasted",
            "rules": f'rules: [{{id: "{SCRIPT}", policy: exclude, field: path, rule: contains, value: "{SCRIPT}"}}]',
        },
    )
    await settled(site)
    text = (await client.get("/preview/handbook")).text
    assert "Dropped" in text
    assert SCRIPT not in text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "x" * 100 not in text


async def test_secrets_stay_hidden(site: Site, client: httpx.AsyncClient, shelf: list[Any]) -> None:
    register_secrets(["swordfish-4711"])
    shelf[:] = [{"_id": "1", "path": "the swordfish-4711 of old"}]
    text = "rules: [{id: a, policy: exclude, field: path, rule: contains, value: old}]"
    assert "swordfish" not in (page := await preview(site, client, choice="pasted", rules=text))
    assert "the *** of old" in page


async def test_it_is_followed_and_cancelled(
    site: Site, client: httpx.AsyncClient, shelf: list[Any], closed: list[str]
) -> None:
    reading = asyncio.Event()
    shelf += [reading, 3600.0]
    await client.post("/connectors/handbook/preview")
    await asyncio.wait_for(reading.wait(), 10)
    live = (await client.get("/live/preview/handbook")).text
    assert "2 documents read" in live
    assert "data-busy" in live
    assert "Reading" in live
    again = await client.post("/connectors/handbook/preview")
    assert again.status_code == 409
    assert "is running" in again.text
    answer = await client.post("/connectors/handbook/preview/cancel")
    assert answer.headers["location"] == "/preview/handbook"
    live = (await client.get("/live/preview/handbook")).text
    assert "It was cancelled." in live
    assert "data-busy" not in live
    assert closed == ["closed"]
    assert (await client.post("/connectors/handbook/preview/cancel")).status_code == 303


async def test_it_takes_no_longer_than_it_may(site: Site, shelf: list[Any], closed: list[str]) -> None:
    shelf.append(3600.0)
    site.seconds = 0.05
    async with site.client() as client:
        page = await preview(site, client)
    assert "It took more than 50ms" in page
    assert "connectors preview handbook" in page
    assert "drafts/idea.md" not in page  # no rule looked at it
    assert "<bdi>2</bdi>" in page
    assert closed == ["closed"]


async def test_only_some_run_at_the_same_time_and_all_end_with_the_page(
    site: Site, client: httpx.AsyncClient, shelf: list[Any], closed: list[str]
) -> None:
    shelf.append(3600.0)
    for name in ("b", "c"):
        await site.connector(name)
    statuses = [(await client.post(f"/connectors/{name}/preview")).status_code for name in ("handbook", "b", "c")]
    assert statuses == [303, 303, 409]
    await asyncio.sleep(0.05)
    await site.trials.close()
    assert closed == ["closed", "closed"]
    assert not site.trials._tasks
    assert (await client.post("/connectors/c/preview")).status_code == 303
    await site.trials.cancel("c")  # before it began
    assert "It was cancelled." in (await client.get("/preview/c")).text
    assert not site.trials._tasks


async def test_results_of_many_connectors_do_not_pile_up(site: Site, client: httpx.AsyncClient) -> None:
    for number in range(30):
        await site.connector(f"c{number}")
        await client.post(f"/connectors/c{number}/preview")
        await settled(site, f"c{number}")
    assert len(site.trials._trials) <= 21
    assert site.trials.get("c29") is not None


async def test_forged_and_large_requests_are_refused(site: Site, client: httpx.AsyncClient) -> None:
    for path in ("/connectors/handbook/preview", "/connectors/handbook/preview/cancel"):
        answer = await client.post(path, headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403
    answer = await client.post("/connectors/handbook/preview", data={"rules": "x" * MAX_BODY})
    assert answer.status_code == 413
    assert site.trials.get("handbook") is None
