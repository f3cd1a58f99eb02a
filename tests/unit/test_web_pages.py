"""What the pages show: search, connectors, jobs."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from connectors.backends.ports import SearchPage
from connectors.byoc import Connector
from connectors.errors import RetryableError
from connectors.logger import register_secrets
from tests.support.site import Site


def plain(page: str) -> str:
    """Returns the words of a page."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]).split())


class TestSearch:
    async def test_hits(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.documents(
            {
                "_id": "1",
                "title": "Restore a backup",
                "path": "ops/backup.md",
                "size": 4200,
                "body": "A backup a day.",
            },
            {"_id": "2", "title": "Other", "url": "https://example.org/b", "body": "A Backup is a copy."},
            {"_id": "3", "title": "Unrelated"},
        )
        page = (await client.get("/?q=backup")).text
        assert "<mark>backup</mark>" in page
        assert "A <mark>backup</mark> a day." in page
        assert "ops/<mark>backup</mark>.md" in page
        assert 'href="https://example.org/b" rel="noreferrer noopener"' in page
        words = plain(page)
        assert "2 hits in docs" in words
        assert "4.2 kB" in words
        assert "score 1.00" in words
        assert "Unrelated" not in words
        assert words.index("Restore a") < words.index("Other"), "the better hit comes first"

    async def test_hostile_documents_are_text(self, site: Site, client: httpx.AsyncClient) -> None:
        script = "<script>alert('word')</script><img src=x onerror=alert(1)>"
        await site.documents(
            {"_id": script, "title": script, "path": script, "body": f"word {script} \x02 \x03 \u202e"},
            {"_id": "link", "title": "word", "url": "javascript:alert(1)"},
        )
        page = (await client.get("/", params={"q": "word"})).text
        body = page.partition("<main")[2]
        assert "<script" not in body
        assert "<img" not in body
        assert "&lt;img src=x onerror=alert(1)&gt;" in body
        assert 'href="javascript:' not in body
        for hidden in ("\x02", "\x03", "\u202e"):
            assert hidden not in page

    async def test_hostile_queries_are_text(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.documents({"_id": "1", "title": "word"})
        for query in ('"><script>x</script>', "' onfocus=x", "\x00\x02a", "{{ 7*7 }}", "\ud83d"):
            page = (await client.get("/?" + httpx.QueryParams({"q": "a"}).__str__().replace("a", _quote(query)))).text
            assert "<script>" not in page
            assert '"><' not in page.partition('name="q"')[2][:60]
            assert "\x00" not in page
            assert "49" not in page.partition('name="q"')[2][:60]

    async def test_pages(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.documents(*({"_id": f"{n:02}", "title": "word", "path": f"p{n:02}.md"} for n in range(25)))
        first, last = (await client.get("/?q=word")).text, (await client.get("/?q=word&page=3")).text
        assert 'rel="next" href="/?q=word&amp;index=docs&amp;page=2"' in first
        assert 'rel="prev"' not in first
        assert 'rel="next"' not in last
        assert 'rel="prev" href="/?q=word&amp;index=docs&amp;page=2"' in last
        assert '<ol class="hits" start="21">' in last
        assert [asked[2] for asked in site.marking.asked] == [0, 20]

    @pytest.mark.parametrize(
        ("page", "offset"), [("0", 0), ("-1", 0), ("x", 0), ("", 0), ("²", 0), ("9" * 30, 0), ("999999", 9990)]
    )
    async def test_odd_pages(self, site: Site, client: httpx.AsyncClient, page: str, offset: int) -> None:
        await site.documents({"_id": "1", "title": "word"})
        assert (await client.get("/", params={"q": "word", "page": page})).status_code == 200
        assert site.marking.asked[-1][2] == offset

    async def test_a_page_behind_the_last_leads_back(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.documents({"_id": "1", "title": "word"})
        assert "Back to the first ones" in (await client.get("/?q=word&page=9")).text

    async def test_many_hits(self, site: Site, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        async def many(index: str, query: str, *, limit: int = 10, offset: int = 0) -> SearchPage:
            return SearchPage(10_000, ())

        await site.documents({"_id": "1", "title": "word"})
        monkeypatch.setattr(site.destination, "search", many)
        assert "10,000 hits or more" in plain((await client.get("/?q=word")).text)

    async def test_the_index_is_chosen_where_there_are_several(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.documents({"_id": "1", "title": "word"})
        assert "<select" not in (await client.get("/")).text
        await site.documents({"_id": "2", "title": "word two"}, index="others")
        page = (await client.get("/?q=word&index=others")).text
        assert "<option selected>others</option>" in page
        assert "1 hit in others" in plain(page)

    async def test_an_index_that_does_not_exist(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.documents({"_id": "1", "title": "word"})
        answer = await client.get("/?q=word&index=dogs")
        assert answer.status_code == 404
        assert "did you mean &#34;docs&#34;" in answer.text

    async def test_empty_states_explain(self, site: Site, client: httpx.AsyncClient) -> None:
        assert "There is no index yet" in (await client.get("/")).text
        await site.documents({"_id": "1", "title": "word"})
        assert "Type a word to search" in (await client.get("/")).text
        assert "Nothing matches “zebra”" in (await client.get("/?q=zebra")).text
        assert site.marking.asked == [("zebra", 10, 0)]

    async def test_a_failing_backend_is_told(self, site: Site, client: httpx.AsyncClient) -> None:
        register_secrets(["pa55word-of-web"])
        await site.documents({"_id": "1", "title": "word"})
        site.marking.failure = RetryableError("the index does not answer at //user:pa55word-of-web@host")
        answer = await client.get("/?q=word")
        assert answer.status_code == 503
        assert "the index does not answer at //user:***@host" in answer.text


def _quote(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


class TestConnectors:
    async def test_what_is_told(self, site: Site, client: httpx.AsyncClient) -> None:
        now = site.runtime.now()
        times = {"last_synced": now - timedelta(minutes=3), "last_sync_scheduled_at": now}
        await site.store.update_connector("handbook", times)
        await site.documents({"_id": "1"}, {"_id": "2"})
        await site.job(metadata={"counters": {"read": 3, "indexed": 2, "filtered": 1}})
        await site.dead_letter("bad.pdf", "it cannot be read")
        for path in ("/connectors", "/live/connectors"):
            words = plain("<main" + (await client.get(path)).text)
            for expected in (
                "Handbook", "directory", "docs", "Up to date, with gaps", "Documents 2", "Dead letters 1",
                "3 minutes ago", "Next sync in 15 minutes", "3 documents read: 2 indexed, 1 left out by the sync rules",
                "Sync now", "Pause",
            ):  # fmt: skip
                assert expected in words

    async def test_progress(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.job(metadata={"counters": {"read": 400, "indexed": 400}})
        await site.job(status="in_progress", metadata={"counters": {"read": 120, "unchanged": 100}})
        for path in ("/", "/connectors", "/connectors/handbook", "/live/summary"):
            page = (await client.get(path)).text
            assert 'max="400" value="120"' in page
            assert "120 of about 400 read: 100 unchanged" in page
            assert "data-busy" in page
        words = plain((await client.get("/connectors/handbook")).text)
        assert "Cancel" in words
        assert "Sync now" not in words
        assert re.search(r"unchanged 100 under way 20 read in all 120", words)

    async def test_an_error_is_told_with_what_to_do(self, site: Site, client: httpx.AsyncClient) -> None:
        register_secrets(["pa55word-of-error"])
        error = "login as x:pa55word-of-error failed; mend <b>configuration.password</b>"
        await site.store.update_connector("handbook", {"status": "error", "error": error})
        await site.job(status="error", error=error)
        for path in ("/", "/connectors", "/connectors/handbook", "/jobs"):
            page = (await client.get(path)).text
            assert "login as x:*** failed; mend &lt;b&gt;configuration.password&lt;/b&gt;" in page
            assert "pa55word-of-error" not in page
        assert (await client.get("/connectors/handbook")).text.count('class="message bad">login') == 1

    async def test_one_connector(self, site: Site, client: httpx.AsyncClient) -> None:
        rule = {"id": "r", "order": 1, "policy": "exclude", "field": "path", "rule": "ends_with", "value": ".tmp"}
        await site.connector(
            "wiki",
            description="All <pages>",
            configuration={
                "url": {"label": "Address", "value": "https://wiki"},
                "password": {"label": "Password", "value": "abcd1234", "sensitive": True},
            },
            scheduling={"full": {"enabled": True, "interval": "0 0 2 ? * *"}, "timezone": "Europe/Berlin"},
            filtering=[{"domain": "DEFAULT", "active": {"rules": [rule], "advanced_snippet": {"value": {"a": 1}}}}],
        )
        await site.job("wiki", metadata={"counters": {"read": 1, "deleted": 1, "vanished": 2}})
        page = (await client.get("/connectors/wiki")).text
        words = plain(page)
        for expected in (
            "All &lt;pages&gt;", "Address https://wiki", "Password •••", "every day at 02:00 (Europe/Berlin)",
            "Exclude documents whose path ends with “.tmp”.", "Everything else is included.",
            "deleted 1 read in all 1", "2 documents had vanished from the source and were removed", "&#34;a&#34;: 1",
        ):  # fmt: skip
            assert expected in words
        assert "abcd1234" not in page

    async def test_the_sync_with_news_is_told_in_full(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.job(metadata={"counters": {"read": 7, "indexed": 7}})
        for _ in range(3):
            await site.job(metadata={"unchanged": True})
        words = plain((await client.get("/connectors/handbook")).text)
        assert "The last sync that read documents" in words
        assert "read in all 7" in words
        assert "Nothing changed at the source, nor in 2 syncs before" in words

    async def test_dead_letters_are_listed_in_pages(self, site: Site, client: httpx.AsyncClient) -> None:
        for number in range(60):
            await site.dead_letter(f"doc-{number:02}<i>", f"reason {number}")
        first = (await client.get("/connectors/handbook")).text
        assert "60 documents are kept" in plain(first)
        assert "doc-49&lt;i&gt;" in first
        assert "doc-50" not in first
        address = re.search(r'href="([^"]*after=[^"#]*)#dead-letters"', first)
        assert address is not None
        second = (await client.get(address[1])).text
        assert "reason 49" not in second
        assert "reason 59" in second
        live = re.search(r'data-live="([^"]*)"', second)
        assert live is not None
        assert "reason 59" in (await client.get(live[1])).text, "what is followed live stays on its page"

    async def test_names_of_other_tools(self, site: Site, client: httpx.AsyncClient) -> None:
        odd = 'a/b c?"><script>x</script>'
        await site.store.put_connector(Connector(id=odd))
        await site.job(odd)
        page = (await client.get("/connectors")).text
        assert "<script>x" not in page
        address = re.search(r'<article[^>]*>\s*<header>\s*<div>\s*<h2><a href="(/connectors/a%2F[^"]*)"', page)
        assert address is not None
        answer = await client.get(address[1])
        assert answer.status_code == 200
        assert "no source yet" in page
        assert "none; it syncs only by hand" in answer.text
        assert (await client.post(f"{address[1]}/pause")).status_code == 303
        assert (await site.store.connector(odd)).paused

    async def test_one_that_left_the_file(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.store.update_connector("handbook", {"managed_by": "removed from config.yml"})
        words = plain((await client.get("/connectors/handbook")).text)
        assert "connectors purge handbook" in words
        assert "Sync now" not in words
        assert (await client.post("/connectors/handbook/sync")).status_code == 409

    async def test_none_yet(self) -> None:
        async with Site().client() as client:
            assert "There are no connectors yet" in (await client.get("/connectors")).text
            assert "Declare one in" in (await client.get("/")).text

    async def test_an_unknown_one(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/connectors/handbok")
        assert answer.status_code == 404
        assert "did you mean &#34;handbook&#34;" in answer.text
        assert (await client.post("/connectors/handbok/sync")).status_code == 404


class TestJobs:
    async def test_history(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.connector("wiki")
        await site.job(metadata={"unchanged": True})
        await site.job("wiki", status="error", error="no <way>")
        page = (await client.get("/jobs")).text
        words = plain(page)
        assert "Nothing changed at the source" in words
        assert "no &lt;way&gt;" in page
        assert words.index("Wiki Full sync") < words.index("Handbook Full sync"), "the newest comes first"
        only = plain((await client.get("/live/jobs?connector=wiki")).text)
        assert "Nothing changed" not in only
        assert (await client.get("/jobs?connector=nobody")).status_code == 404

    async def test_none_yet(self, client: httpx.AsyncClient) -> None:
        assert "No sync yet" in (await client.get("/jobs")).text

    async def test_one(self, site: Site, client: httpx.AsyncClient) -> None:
        counters = {"read": 9, "indexed": 5, "unchanged": 2, "duplicate": 1, "superseded": 1, "bytes": 2048}
        metadata = {"counters": counters, "incomplete": ["/srv/secret is unreadable"]}
        job = await site.job(metadata=metadata, total_document_count=7, worker_hostname="host-a:12")
        words = plain((await client.get(f"/jobs/{job.id}")).text)
        for expected in (
            "Full sync of Handbook", "Completed with gaps", "indexed 5 unchanged 2 listed more than once 1 superseded",
            "read in all 9", "2 kB written", "then held 7 documents", "by schedule", "host-a:12", "Took 10s",
            "Not everything could be read, so nothing was deleted: /srv/secret is unreadable",
            "Started 2026-11-02 09:59:00 UTC",
        ):  # fmt: skip
            assert expected in words

    @pytest.mark.parametrize(
        ("status", "fields", "expected"),
        [
            ("pending", {}, "It waits for its turn."),
            ("completed", {}, "No document was read."),
            (
                "suspended",
                {"error": "disk full", "metadata": {"resume_at": 1793613660}},
                "It is tried again in 1 minute",
            ),
        ],
    )
    async def test_other_states(
        self, site: Site, client: httpx.AsyncClient, status: str, fields: dict[str, Any], expected: str
    ) -> None:
        job = await site.job(status=status, **fields)
        assert expected in plain((await client.get(f"/live/jobs/{job.id}")).text.replace("<div", "<main", 1))

    async def test_one_that_hangs_says_where(self, site: Site, client: httpx.AsyncClient) -> None:
        hangs = "no progress for 5m: waiting for the next document of the source <wiki>"
        job = await site.job(status="in_progress", stalled=hangs)
        for address in (f"/jobs/{job.id}", "/connectors/handbook"):
            assert (
                "no progress for 5m: waiting for the next document of the source &lt;wiki&gt;"
                in (await client.get(address)).text
            )

    async def test_an_unknown_one(self, client: httpx.AsyncClient) -> None:
        assert (await client.get("/jobs/none")).status_code == 404
        assert (await client.post("/jobs/none/cancel")).status_code == 404
