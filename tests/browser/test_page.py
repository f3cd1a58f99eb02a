"""The page in Chromium: what people see and do. Every test also fails on a script error or a request to elsewhere."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from connectors.backends.embedded import EmbeddedBackend
from connectors.service.web.security import COOKIE
from tests.support.site import TOKEN, Site

# One browser, in one event loop, for all tests.
pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SCRIPT = "<script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"

#: Serves a site and opens a page on it; options are those of a browser context.
Visit: TypeAlias = Callable[..., AbstractAsyncContextManager[Page]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        message = f"no browser is installed ({', '.join(NAMES)}); on Debian: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
def visit(browser: Browser) -> Visit:
    @asynccontextmanager
    async def visit(
        site: Site, path: str = "", *, config: dict[str, Any] | None = None, may_fail: bool = False, **options: Any
    ) -> AsyncIterator[Page]:
        server = site.server(**(config or {}))
        url = await server.start()
        serving = asyncio.create_task(server.serve())
        context = await browser.new_context(base_url=url, **options)
        context.set_default_timeout(15_000)
        troubles = watch(context, url)
        try:
            page = await context.new_page()
            await page.goto(path)
            yield page
            assert may_fail or not troubles
        finally:
            await context.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await server.close()

    return visit


def watch(context: BrowserContext, url: str) -> list[str]:
    """Returns a list that fills with script errors, complaints of the browser, and requests to elsewhere."""
    troubles: list[str] = []
    context.on("weberror", lambda error: troubles.append(f"script: {error.error}"))
    context.on("console", lambda line: troubles.append(line.text) if line.type in {"error", "warning"} else None)
    context.on("request", lambda sent: None if sent.url.startswith(url) else troubles.append(f"request to {sent.url}"))
    return troubles


@pytest_asyncio.fixture(loop_scope="module")
async def site() -> Site:
    site = Site()
    await site.connector(last_synced=(site.runtime.now() - timedelta(minutes=3)).isoformat())
    await site.documents(
        {"_id": "1", "title": "Restore a backup", "path": "ops/backup.md", "size": 4200, "body": "A backup a day."},
        {"_id": "2", "title": "Other", "url": "https://example.org/b", "body": "A backup is a copy."},
        {"_id": "3", "title": f"hostile {SCRIPT}", "path": SCRIPT, "body": f"backup {SCRIPT}"},
    )
    return site


async def color(page: Page, selector: str, name: str = "color") -> str:
    found: str = await page.locator(selector).first.evaluate(f"item => getComputedStyle(item).{name}")
    return found


class TestSearch:
    async def test_marked_hits(self, site: Site, visit: Visit) -> None:
        async with visit(site) as page:
            await page.get_by_role("searchbox", name="Words to look for").fill("backup")
            await page.get_by_role("button", name="Search").click()
            await expect(page.get_by_text("3 hits in docs")).to_be_visible()
            hits = page.get_by_role("main").get_by_role("listitem")
            await expect(hits).to_have_count(3)
            await expect(hits.first.locator("mark")).to_have_text(["backup", "backup", "backup"])
            assert await color(page, "mark", "backgroundColor") != await color(page, ".card", "backgroundColor")
            await expect(page.get_by_role("link", name="Other")).to_have_attribute("href", "https://example.org/b")
            await expect(page).to_have_title("backup · Search · Connectors")
            await expect(page.get_by_role("complementary")).to_contain_text("Handbook")

    async def test_hostile_documents_do_nothing(self, site: Site, visit: Visit) -> None:
        await site.dead_letter(SCRIPT, SCRIPT)
        await site.store.update_connector("handbook", {"name": SCRIPT, "error": SCRIPT, "status": "error"})
        async with visit(site, "?q=hostile") as page:
            await expect(page.get_by_text("hostile <script>")).to_be_visible()
            for path in ("/connectors", "/connectors/handbook", "/jobs"):
                await page.goto(path)
                assert await page.evaluate("window.hit") is None
                assert await page.locator("main script, main img").count() == 0

    async def test_the_embedded_index(self, tmp_path: Path, visit: Visit) -> None:
        backend = await EmbeddedBackend.open(tmp_path / "connectors.db")
        try:
            site = Site(backend.store, backend.destination)
            await site.connector()
            body = "Wir prüfen die Größe. " * 20 + "Ein Café nebenan."
            await site.documents({"_id": "1", "title": "Café <b>", "path": "a/cafe.md", "body": body})
            async with visit(site, "?q=cafe") as page:
                await expect(page.locator("h2 mark")).to_have_text("Café")
                await expect(page.locator(".place mark")).to_have_text("cafe")
                await expect(page.locator(".snippet mark")).to_have_text("Café")
        finally:
            await backend.close()


class TestKeyboard:
    async def test_search(self, site: Site, visit: Visit) -> None:
        async with visit(site, "connectors/handbook") as page:
            await page.keyboard.press("Tab")
            skip = page.get_by_role("link", name="Skip to the content")
            await expect(skip).to_be_focused()
            await expect(skip).to_be_in_viewport()
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("main")).to_be_focused()
            await page.keyboard.press("/")
            await page.wait_for_url("**/")
            await expect(page.locator("#q")).to_be_focused()
            await page.keyboard.type("other/backup")
            await expect(page.locator("#q")).to_have_value("other/backup")
            await page.locator("#q").fill("backup")
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("3 hits")).to_be_visible()
            await page.keyboard.press("/")
            await expect(page.locator("#q")).to_be_focused()
            await page.keyboard.press("Tab")
            await page.keyboard.press("Tab")
            await expect(page.get_by_role("link", name="Other")).to_be_focused()
            assert await color(page, "*:focus-visible", "outlineStyle") == "solid"

    async def test_acting(self, site: Site, visit: Visit) -> None:
        async with visit(site, "connectors") as page:
            sync = page.get_by_role("button", name="Sync now")
            for _ in range(20):
                await page.keyboard.press("Tab")
                if await sync.evaluate("item => item === document.activeElement"):
                    break
            await expect(sync).to_be_focused()
            assert await color(page, "button:focus-visible", "outlineStyle") == "solid"
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("The sync is queued")).to_be_visible()
            assert "done=" not in page.url, "reloading does not tell it again"
        assert [job.status for job in await site.store.jobs()] == ["pending"]


class TestLooks:
    #: The contrast of each text with what lies behind it, as WCAG 2.2 computes it.
    CONTRAST = """() => {
        const channels = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
        const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
            .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
            .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
        const behind = (item) => {
            for (let at = item; at; at = at.parentElement) {
                const found = channels(getComputedStyle(at).backgroundColor);
                if (found.length === 3) return found;
            }
            return [255, 255, 255];
        };
        const poor = [];
        for (const item of document.body.querySelectorAll("*")) {
            const own = [...item.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
            if (!own || !item.checkVisibility() || item.closest(".unseen, .skip, [hidden]")) continue;
            const pair = [light(channels(getComputedStyle(item).color)), light(behind(item))].sort((a, b) => b - a);
            const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
            if (ratio < 4.5) poor.push(`${item.className || item.nodeName}: ${ratio.toFixed(2)}`);
        }
        return poor;
    }"""

    async def test_dark_and_light_differ_and_can_be_read(self, site: Site, visit: Visit) -> None:
        await site.connector("wiki", status="error", error="mend it")
        await site.connector("paused", paused=True)
        await site.connector("gone", managed_by="removed from config.yml")
        await site.dead_letter("a", "no")
        await site.job(metadata={"counters": {"read": 2, "indexed": 1, "dead_lettered": 1}, "incomplete": ["x"]})
        await site.job("paused", status="in_progress")
        site.config_error = "config.yml:1:1: wrong"
        seen = []
        for scheme in ("light", "dark"):
            async with visit(site, color_scheme=scheme) as page:
                seen.append((await color(page, "body", "backgroundColor"), await color(page, "body")))
                for path in (
                    "/?q=backup",
                    "/?q=zebra",
                    "/connectors",
                    "/connectors/handbook",
                    "/connectors/gone",
                    "/jobs",
                ):
                    await page.goto(path)
                    assert await page.evaluate(self.CONTRAST) == [], (scheme, path)
        assert seen[0][0] != seen[1][0]
        assert seen[0][1] != seen[1][1]

    async def test_narrow_screens_need_no_sideways_scrolling(self, site: Site, visit: Visit) -> None:
        long = "averylongnamewithoutanyblank" * 8
        await site.connector("wiki", name=long, error=long, status="error", index_name="docs")
        await site.documents({"_id": "long", "title": long, "path": f"{long}/{long}", "body": f"long {long}"})
        await site.dead_letter(long, long)
        await site.job("wiki", status="error", error=long)
        async with visit(site, viewport={"width": 340, "height": 700}) as page:
            for path in ("/?q=long", "/connectors", "/connectors/wiki", "/connectors/handbook", "/jobs"):
                await page.goto(path)
                width = await page.evaluate("document.documentElement.scrollWidth")
                assert width <= 340, path


class TestWithoutScript:
    async def test_reading_and_acting(self, site: Site, visit: Visit) -> None:
        async with visit(site, java_script_enabled=False) as page:
            await page.locator("#q").fill("backup")
            await page.locator("#q").press("Enter")
            await expect(page.locator("mark").first).to_be_visible()
            await page.get_by_role("link", name="Connectors", exact=True).nth(1).click()
            await expect(page.get_by_role("heading", name="Handbook")).to_be_visible()
            await page.get_by_role("button", name="Sync now").click()
            await expect(page.get_by_text("The sync is queued")).to_be_visible()
            await page.get_by_role("button", name="Cancel").click()
            await expect(page.get_by_text("The sync is being stopped")).to_be_visible()
            await page.get_by_role("button", name="Pause").click()
            await expect(page.get_by_role("button", name="Resume")).to_be_visible()
            await page.get_by_role("link", name="Jobs").click()
            await expect(page.get_by_role("row").nth(1)).to_contain_text("Cancelled")
        assert (await site.store.connector("handbook")).paused
        assert [job.status for job in await site.store.jobs()] == ["canceled"]


class TestLive:
    async def test_progress_without_reloading(self, site: Site, visit: Visit) -> None:
        job = await site.job(status="in_progress", metadata={"counters": {"read": 10, "indexed": 10}})
        async with visit(site, "connectors") as page:
            await page.evaluate("window.sameDocument = true")
            cancel = page.get_by_role("button", name="Cancel")
            await cancel.focus()
            await expect(page.get_by_text("10 read: 10 indexed")).to_be_visible()
            changes = {"metadata": {"counters": {"read": 25, "indexed": 20}}}
            await site.store.update_job(job.id, changes, statuses=["in_progress"])
            await expect(page.get_by_text("25 read: 20 indexed")).to_be_visible()
            await expect(cancel).to_be_focused()
            await site.store.update_job(
                job.id,
                {"status": "completed", "metadata": {"counters": {"read": 30, "indexed": 30}}},
                statuses=["in_progress"],
            )
            await expect(page.get_by_text("30 documents read: 30 indexed")).to_be_visible()
            await expect(page.locator("#announcer")).to_have_text("Handbook: Up to date")
            await expect(page.get_by_role("button", name="Sync now")).to_be_visible()
            assert await page.evaluate("window.sameDocument")

    async def test_every_page_follows(self, site: Site, visit: Visit) -> None:
        job = await site.job(status="in_progress", metadata={"counters": {"read": 1}})
        for number, path in enumerate(("", "connectors/handbook", "jobs", f"jobs/{job.id}"), start=100):
            async with visit(site, path) as page:
                await page.evaluate("window.sameDocument = true")
                counters = {"read": number, "indexed": number}
                await site.store.update_job(job.id, {"metadata": {"counters": counters}}, statuses=["in_progress"])
                await expect(page.locator("#live").get_by_text(f"{number} indexed").first).to_be_visible()
                assert await page.evaluate("window.sameDocument")

    async def test_a_daemon_that_does_not_answer_is_told(self, site: Site, visit: Visit) -> None:
        await site.job(status="in_progress")
        async with visit(site, "connectors", may_fail=True) as page:
            await expect(page.locator("#offline")).to_be_hidden()
            await page.context.set_offline(True)
            await expect(page.locator("#offline")).to_be_visible()
            await page.context.set_offline(False)
            await expect(page.locator("#offline")).to_be_hidden()


class TestToken:
    async def test_login_acting_and_logout(self, site: Site, visit: Visit) -> None:
        async with visit(site, "connectors", config={"token": TOKEN}) as page:
            await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
            await expect(page.get_by_label("Token")).to_be_focused()
            await page.keyboard.type(TOKEN)
            await page.keyboard.press("Enter")
            await page.wait_for_url("**/connectors")
            (cookie,) = await page.context.cookies()
            assert cookie["name"] == COOKIE
            assert cookie["httpOnly"]
            assert cookie["sameSite"] == "Strict"
            assert await page.evaluate("document.cookie") == ""
            await page.get_by_role("button", name="Sync now").click()
            await expect(page.get_by_text("The sync is queued")).to_be_visible()
            await page.get_by_role("button", name="Log out").click()
            await page.wait_for_url("**/login")
            await page.goto("/jobs")
            await expect(page.get_by_role("heading", name="Log in")).to_be_visible()


class TestDeadLetters:
    async def test_looked_at_sent_again_and_dropped(self, site: Site, visit: Visit) -> None:
        document = {"title": f"Plan {SCRIPT}", "lines": ["one", "two"], "data": "QUJD" * 3000}
        await site.dead_letter("plans/a b?.md", "mapper_parsing_exception: failed to parse field", document=document)
        await site.dead_letter("broken.pdf", "broken.pdf: the PDF cannot be read")
        await site.dead_letter("third", "no")
        async with visit(site, "connectors/handbook") as page:
            await page.get_by_role("link", name="plans/a b?.md").click()
            await expect(page.get_by_role("heading", name="plans/a b?.md")).to_be_visible()
            shown = page.locator("pre")
            await expect(shown).to_contain_text('"title": "Plan <script>')
            await expect(shown).to_contain_text("(12,000 characters)")
            assert await page.evaluate("window.hit") is None
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            await page.get_by_role("button", name="Send again").click()
            await expect(page.get_by_text("Sent again, and off the list")).to_be_visible()
            await expect(page.locator(".letters > li")).to_have_count(2)
            await page.get_by_role("button", name="Send all again").click()
            await expect(page.get_by_text("What is still on the list was not taken")).to_be_visible()
            await page.get_by_role("link", name="broken.pdf").click()
            await expect(page.get_by_role("button", name="Send again")).to_have_count(0)
            await page.get_by_role("button", name="Drop").click()
            await expect(page.locator(".letters > li")).to_have_count(1)
            await page.get_by_role("link", name="Drop all…").click()
            await expect(page.get_by_role("heading", name="Drop 1 dead letter of Handbook?")).to_be_visible()
            await page.get_by_role("button", name="Drop all").click()
            await expect(page.get_by_text("None.")).to_be_visible()
        assert (await site.destination.fetch("docs", ["plans/a b?.md"]))["plans/a b?.md"]


class TestPreview:
    RULES = "rules:\n  - {id: no-ops, policy: exclude, field: path, rule: starts_with, value: ops/}"

    @staticmethod
    async def folder(site: Site, folder: Path) -> None:
        for name in ("ops/backup.md", f"ops/{'long' * 40}.txt", "plan.md", "<img src=x onerror='window.hit = 1'>.txt"):
            path = folder / name
            await site.runtime.in_thread(path.parent.mkdir, parents=True, exist_ok=True)
            await site.runtime.in_thread(path.write_text, "a text", "utf-8")
        settings = {"directory": {"value": str(folder), "type": "str"}}
        await site.store.update_connector("handbook", {"configuration": settings})

    async def test_pasting_rules(self, site: Site, visit: Visit, tmp_path: Path) -> None:
        await self.folder(site, tmp_path)
        async with visit(site, "connectors/handbook") as page:
            await page.get_by_role("link", name="preview").click()
            await page.get_by_label("These rules").check()
            await page.get_by_label("Rules to try").fill(self.RULES)
            await page.get_by_role("button", name="Preview").click()
            await expect(page.get_by_text("Complete", exact=True)).to_be_visible()
            documents = page.get_by_role("region", name="Documents")
            await expect(documents.get_by_role("row")).to_have_count(5)
            row = documents.get_by_role("row").filter(has_text="ops/backup.md")
            await expect(row).to_contain_text("Dropped")
            await expect(row).to_contain_text("no-ops, order 1")
            await expect(page.get_by_label("Rules to try")).to_have_value(self.RULES)
            assert await page.evaluate("window.hit") is None
            assert await page.evaluate(TestLooks.CONTRAST) == []
        async with visit(site, "preview/handbook", viewport={"width": 340, "height": 700}) as page:
            assert await page.evaluate("document.documentElement.scrollWidth") <= 340

    async def test_without_script(self, site: Site, visit: Visit, tmp_path: Path) -> None:
        await self.folder(site, tmp_path)
        async with visit(site, "preview/handbook", java_script_enabled=False) as page:
            await page.get_by_role("button", name="Preview").click()
            await page.wait_for_url("**/preview/handbook")
            async with asyncio.timeout(15):
                while not await page.get_by_text("Complete", exact=True).is_visible():
                    await page.reload()
            await expect(page.get_by_text("DEFAULT, last").first).to_be_visible()
