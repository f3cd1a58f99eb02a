"""What the page does on request, and what it tells machines: actions, health, metrics, errors."""

from __future__ import annotations

import logging
import re

import httpx
import pytest

from connectors.byoc import Connector
from connectors.errors import RetryableError
from connectors.logger import register_secrets
from tests.support.site import TOKEN, Site


class TestActions:
    async def test_sync_now(self, site: Site, client: httpx.AsyncClient) -> None:
        answer = await client.post("/connectors/handbook/sync", data={"back": "/connectors"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/connectors?done=sync")
        (job,) = await site.store.jobs()
        assert (job.job_type, job.trigger_method, job.status) == ("full", "on_demand", "pending")
        page = (await client.get(answer.headers["location"])).text
        assert "The sync is queued" in page
        assert "Queued" in page
        assert "Sync now" not in page
        await client.post("/connectors/handbook/sync")
        assert len(await site.store.jobs()) == 1, "a second click queues no second sync"

    async def test_sync_changes(self, site: Site, client: httpx.AsyncClient) -> None:
        changes = {"features": {"incremental_sync": {"enabled": True}}, "last_synced": site.runtime.now()}
        await site.store.update_connector("handbook", changes)
        assert "Sync changes" in (await client.get("/connectors")).text
        answer = await client.post("/connectors/handbook/sync", data={"kind": "incremental"})
        assert answer.status_code == 303
        assert [job.job_type for job in await site.store.jobs()] == ["incremental"]

    async def test_a_suspended_sync_goes_on_at_once(self, site: Site, client: httpx.AsyncClient) -> None:
        job = await site.job(status="suspended", error="disk full", metadata={"resume_at": site.clock + 900})
        page = (await client.get("/connectors")).text
        assert "Go on now" in page
        assert "Sync now" not in page
        assert (await client.post("/connectors/handbook/sync", data={"kind": "full"})).status_code == 303
        (woken,) = await site.store.jobs()
        assert (woken.id, woken.metadata["resume_at"]) == (job.id, None)

    async def test_pause_and_resume(self, site: Site, client: httpx.AsyncClient) -> None:
        await client.post("/connectors/handbook/pause")
        assert (await site.store.connector("handbook")).paused
        page = (await client.get("/connectors")).text
        assert "Paused" in page
        assert "Resume" in page
        answer = await client.post("/connectors/handbook/resume", data={"back": "/connectors/handbook"})
        assert answer.headers["location"] == "/connectors/handbook?done=resume"
        assert not (await site.store.connector("handbook")).paused

    @pytest.mark.parametrize(
        ("status", "then"),
        [("pending", "canceled"), ("suspended", "canceled"), ("in_progress", "canceling"), ("canceling", "canceling")],
    )
    async def test_cancel(self, site: Site, client: httpx.AsyncClient, status: str, then: str) -> None:
        job = await site.job(status=status)
        assert (await client.post(f"/jobs/{job.id}/cancel")).status_code == 303
        assert (await site.store.job(job.id)).status == then

    async def test_cancel_comes_too_late(self, site: Site, client: httpx.AsyncClient) -> None:
        job = await site.job(status="completed")
        answer = await client.post(f"/jobs/{job.id}/cancel")
        assert answer.status_code == 409
        assert "has ended already" in answer.text

    @pytest.mark.parametrize("back", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", ""])
    async def test_it_leads_back_to_our_own_pages_only(self, client: httpx.AsyncClient, back: str) -> None:
        answer = await client.post("/connectors/handbook/pause", data={"back": back})
        assert answer.headers["location"] == "/?done=pause"

    async def test_a_notice_is_one_of_ours(self, client: httpx.AsyncClient) -> None:
        page = (await client.get("/?done=<b>you have won</b>")).text
        assert "you have won" not in page
        assert 'id="notice"' not in page


class TestHealth:
    async def test_well(self, client: httpx.AsyncClient) -> None:
        answer = await client.get("/health")
        assert answer.status_code == 200
        assert answer.json()["status"] == "ok"
        assert "problems" not in answer.json()

    async def test_the_work_stands_still(self, site: Site, client: httpx.AsyncClient) -> None:
        site.unready = "no look for work since 90 seconds"
        answer = await client.get("/health")
        assert answer.status_code == 503
        assert answer.json()["problems"] == {"work": "no look for work since 90 seconds"}

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (RetryableError("locked by tr0ub4dor-health"), "locked by ***"),
            (OSError("disk is gone"), "OSError: disk is gone"),
        ],
    )
    async def test_the_store_fails(
        self,
        site: Site,
        client: httpx.AsyncClient,
        monkeypatch: pytest.MonkeyPatch,
        error: Exception,
        told: str,
    ) -> None:
        register_secrets(["tr0ub4dor-health"])

        async def fail() -> list[Connector]:
            raise error

        monkeypatch.setattr(site.store, "connectors", fail)
        answer = await client.get("/health")
        assert answer.status_code == 503
        assert answer.json()["problems"] == {"store": told}

    async def test_the_store_does_not_answer(
        self, site: Site, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def hang() -> list[Connector]:
            await site.runtime.sleep(3600)
            return []

        monkeypatch.setattr(site.store, "connectors", hang)
        monkeypatch.setattr("connectors.service.web.views._HEALTH_TIMEOUT", 0.01)
        answer = await client.get("/health")
        assert answer.status_code == 503
        assert "no answer" in answer.json()["problems"]["store"]

    async def test_strangers_learn_what_but_not_why(self, site: Site) -> None:
        site.unready = "cannot write /srv/private/connectors.db"
        async with site.client(token=TOKEN) as client:
            assert (await client.get("/health")).json()["problems"] == ["work"]
            friend = await client.get("/health", headers={"Authorization": f"Bearer {TOKEN}"})
            assert friend.json()["problems"] == {"work": site.unready}


class TestOthers:
    async def test_metrics(self, site: Site, client: httpx.AsyncClient) -> None:
        site.metrics.documents("handbook", "indexed", 3)
        answer = await client.get("/metrics", headers={"Accept": "*/*"})
        assert answer.headers["content-type"].startswith("text/plain; version=")
        assert 'connectors_documents_total{connector="handbook",outcome="indexed"} 3.0' in answer.text

    async def test_a_broken_configuration_is_told_on_each_page(self, site: Site, client: httpx.AsyncClient) -> None:
        register_secrets(["pa55word-of-config"])
        site.config_error = 'config.yml:3:1: web.<b>: "pa55word-of-config" is wrong\nconfig.yml:4:1: more'
        for path in ("/", "/connectors", "/jobs", "/nothing"):
            page = (await client.get(path)).text
            assert 'role="alert"' in page
            assert "web.&lt;b&gt;: &#34;***&#34; is wrong\nconfig.yml:4:1: more" in page
        site.config_error = None
        assert 'role="alert"' not in (await client.get("/")).text

    async def test_strangers_do_not_see_the_configuration(self, site: Site) -> None:
        site.config_error = "config.yml:3:1: private"
        async with site.client(token=TOKEN) as client:
            assert "private" not in (await client.get("/login")).text

    @pytest.mark.parametrize("path", ["/nothing", "/live/nothing", "/connectors/", "/%00", "/<script>"])
    async def test_no_such_page(self, client: httpx.AsyncClient, path: str) -> None:
        answer = await client.get(path)
        assert answer.status_code == 404
        assert 'href="/connectors"' in answer.text
        assert "<script>" not in answer.text

    async def test_a_wrong_method(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/connectors")
        assert answer.status_code == 405
        assert "Method Not Allowed" in answer.text

    async def test_a_defect_is_logged_and_shown_without_details(
        self,
        site: Site,
        client: httpx.AsyncClient,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def fail() -> list[Connector]:
            raise ZeroDivisionError("inner detail")

        monkeypatch.setattr(site.store, "connectors", fail)
        with caplog.at_level(logging.ERROR, logger="connectors.web"):
            answer = await client.get("/connectors")
        assert answer.status_code == 500
        assert "inner detail" not in answer.text
        assert "ZeroDivisionError: inner detail" in caplog.text

    async def test_names_that_are_no_unicode_cost_nothing(self, site: Site, client: httpx.AsyncClient) -> None:
        site.config_error = "file \udcff.txt"
        assert (await client.get("/")).status_code == 200

    async def test_pages_for_eyes_and_ears(self, site: Site, client: httpx.AsyncClient) -> None:
        await site.documents({"_id": "1", "title": "word"})
        job = await site.job()
        for path in ("/?q=word", "/connectors", "/connectors/handbook", "/jobs", f"/jobs/{job.id}", "/nothing"):
            page = (await client.get(path)).text
            assert '<html lang="en">' in page
            assert page.count("<h1") == 1
            assert '<a class="skip" href="#content">' in page
            assert 'id="content"' in page
            assert 'aria-live="polite"' in page
            identifiers = re.findall(r' id="([^"]*)"', page)
            assert len(identifiers) == len(set(identifiers)), path
            for field in re.findall(r"<(?:input|select)[^>]*>", page):
                name = re.search(r' id="([^"]*)"', field)
                assert 'type="hidden"' in field or (name and f'for="{name[1]}"' in page)
