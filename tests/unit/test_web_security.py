"""The page's rules: who may reach it, who may act, what it gives away. Each rule has a request that breaks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import httpx
import pytest

from connectors.config import WebConfig
from connectors.runtime import Runtime
from connectors.service.web.security import COOKIE, MAX_BODY, TokenGate, TooManyAttemptsError, host_names, local_path
from tests.support.site import TOKEN, Site

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here
ORIGIN = {"Origin": "http://127.0.0.1:8321"}


@pytest.fixture
async def site(site: Site) -> Site:
    await site.documents({"_id": "a", "title": "Backup"})
    return site


@pytest.fixture
async def open_page(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client() as client:
        yield client


@pytest.fixture
async def guarded_page(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client(token=TOKEN) as client:
        yield client


def gate(runtime: Runtime | None = None, penalty: float = 0.0) -> TokenGate:
    return TokenGate(TOKEN, runtime or Runtime(), penalty=penalty)


class TestHost:
    @pytest.mark.parametrize(
        "host", ["127.0.0.1:8321", "localhost:8321", "LOCALHOST", "[::1]:8321", "app.localhost:80", "127.0.0.1"]
    )
    async def test_own_names_are_served(self, open_page: httpx.AsyncClient, host: str) -> None:
        assert (await open_page.get("/", headers={"Host": host})).status_code == 200

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example", "localhost.evil.example:8321", "127.0.0.1.evil.example", "evil.example:127.0.0.1", "",
            "127.0.0.1:8321@evil.example", "localhost/evil.example", "10.0.0.1", "[::2]", "localhost:x",
        ],
    )  # fmt: skip
    async def test_other_names_are_refused(self, open_page: httpx.AsyncClient, host: str) -> None:
        for path in ("/", "/health", "/static/page.css"):
            answer = await open_page.get(path, headers={"Host": host})
            assert answer.status_code == 400
            assert "allowed_hosts" in answer.text

    async def test_two_host_headers_are_refused(self, open_page: httpx.AsyncClient) -> None:
        answer = await open_page.get("/", headers=[("Host", "127.0.0.1:8321"), ("Host", "127.0.0.1:8321")])
        assert answer.status_code == 400

    async def test_configured_names_are_served(self, site: Site) -> None:
        names = ["Search.example.org", "other.example:8080"]
        async with site.client(host=EVERYWHERE, token=TOKEN, allowed_hosts=names) as client:
            for host, status in [
                ("search.example.org", 200),
                ("search.example.org:444", 200),
                ("other.example:8080", 200),
                ("other.example:81", 400),
                (EVERYWHERE, 400),
                ("x.search.example.org", 400),
            ]:
                assert (await client.get("/health", headers={"Host": host})).status_code == status, host

    async def test_the_address_that_the_visitor_connected_to_is_served(self, site: Site) -> None:
        transport = httpx.ASGITransport(site.app(host=EVERYWHERE, token=TOKEN))
        # httpx gives the host of the address as the server's own.
        async with httpx.AsyncClient(transport=transport, base_url="http://10.1.2.3:8321") as client:
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/health", headers={"Host": "10.1.2.4:8321"})).status_code == 400

    def test_a_wildcard_is_no_name(self) -> None:
        assert host_names(WebConfig(host=EVERYWHERE, token=TOKEN)) == frozenset()
        assert host_names(WebConfig(host="::1")) == {"::1"}
        assert host_names(WebConfig(allowed_hosts=["[2001:db8::1]"])) >= {"2001:db8::1"}


class TestForgedRequests:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Origin": ""},
            {"Origin": "http://127.0.0.1:9999"},
            {"Origin": "http://[bad"},
            {"Origin": "http://127.0.0.1:8321.evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site", **ORIGIN},
            {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
        ],
    )
    async def test_a_foreign_page_changes_nothing(
        self, site: Site, open_page: httpx.AsyncClient, headers: Mapping[str, str]
    ) -> None:
        job = await site.job(status="in_progress")
        for path in ("/connectors/handbook/sync", "/connectors/handbook/pause", f"/jobs/{job.id}/cancel", "/logout"):
            assert (await open_page.post(path, headers=dict(headers))).status_code == 403
        assert (await site.store.job(job.id)).status == "in_progress"
        assert len(await site.store.jobs()) == 1
        assert not (await site.store.connector("handbook")).paused

    @pytest.mark.parametrize("headers", [ORIGIN, {"Sec-Fetch-Site": "same-origin", **ORIGIN}, {}])
    async def test_our_own_page_and_programs_act(
        self, site: Site, open_page: httpx.AsyncClient, headers: Mapping[str, str]
    ) -> None:
        answer = await open_page.post("/connectors/handbook/sync", headers=dict(headers))
        assert answer.status_code == 303
        assert len(await site.store.jobs()) == 1

    @pytest.mark.parametrize("path", ["/connectors/handbook/sync", "/connectors/handbook/pause", "/logout"])
    async def test_a_link_or_picture_changes_nothing(self, site: Site, open_page: httpx.AsyncClient, path: str) -> None:
        assert (await open_page.get(path)).status_code in {404, 405}
        assert not await site.store.jobs()

    async def test_every_method_but_the_safe_ones_is_checked(self, open_page: httpx.AsyncClient) -> None:
        for method in ("PUT", "DELETE", "PATCH", "POST"):
            answer = await open_page.request(method, "/connectors/handbook", headers={"Origin": "http://evil.example"})
            assert answer.status_code == 403


class TestToken:
    @pytest.mark.parametrize("path", ["/", "/connectors", "/connectors/handbook", "/?q=backup", "/connectors/a%20b"])
    async def test_pages_ask_for_it(self, guarded_page: httpx.AsyncClient, path: str) -> None:
        answer = await guarded_page.get(path)
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/login?next={quote(path, safe='')}"
        assert "Handbook" not in answer.text

    @pytest.mark.parametrize(
        "path",
        ["/health%3f", "/health/", "/login%23", "//health", "/Health", "/jobs/..%2f..%2fhealth", "/static"],
    )
    async def test_no_other_way_of_writing_opens_anything(self, guarded_page: httpx.AsyncClient, path: str) -> None:
        assert (await guarded_page.get(httpx.URL(f"http://127.0.0.1:8321{path}"))).status_code == 303

    @pytest.mark.parametrize("path", ["/metrics", "/live/summary", "/live/connectors"])
    async def test_what_programs_read_asks_for_it_by_status(self, guarded_page: httpx.AsyncClient, path: str) -> None:
        answer = await guarded_page.get(path)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")

    async def test_actions_need_it(self, site: Site, guarded_page: httpx.AsyncClient) -> None:
        assert (await guarded_page.post("/connectors/handbook/sync", headers=ORIGIN)).status_code == 401
        assert not await site.store.jobs()

    async def test_what_stays_open(self, guarded_page: httpx.AsyncClient) -> None:
        for path in ("/health", "/login", "/static/page.css", "/static/page.js", "/static/logo.svg"):
            assert (await guarded_page.get(path)).status_code == 200

    async def test_bearer(self, site: Site, guarded_page: httpx.AsyncClient) -> None:
        allowed = {"Authorization": f"Bearer {TOKEN}"}
        for path in ("/metrics", "/", "/live/connectors"):
            assert (await guarded_page.get(path, headers=allowed)).status_code == 200
        assert (await guarded_page.post("/connectors/handbook/sync", headers=allowed)).status_code == 303
        assert len(await site.store.jobs()) == 1

    @pytest.mark.parametrize("credentials", ["Basic abc", f"bearer {TOKEN[:-1]}", f"{TOKEN}", "Bearer", "Bearer ü"])
    async def test_wrong_credentials(
        self, guarded_page: httpx.AsyncClient, credentials: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Runtime, "sleep", _no_sleep)
        answer = await guarded_page.get("/metrics", headers={b"Authorization": credentials.encode()})
        assert answer.status_code == 401

    async def test_a_wrong_bearer_is_refused_even_where_none_is_needed(
        self, guarded_page: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Runtime, "sleep", _no_sleep)
        assert (await guarded_page.get("/health", headers={"Authorization": "Bearer wrong"})).status_code == 401

    async def test_login_gives_a_cookie_that_is_not_the_token(
        self, site: Site, guarded_page: httpx.AsyncClient
    ) -> None:
        form = {"token": f" {TOKEN}\n", "next": "/connectors"}
        answer = await guarded_page.post("/login", data=form, headers=ORIGIN)
        assert (answer.status_code, answer.headers["location"]) == (303, "/connectors")
        cookie = answer.headers["set-cookie"]
        assert TOKEN not in cookie
        assert "httponly" in cookie.lower()
        assert "samesite=strict" in cookie.lower()
        assert "secure" not in cookie.lower()
        assert "Handbook" in (await guarded_page.get("/connectors")).text
        assert (await guarded_page.get("/login")).headers["location"] == "/"
        out = await guarded_page.post("/logout", headers=ORIGIN)
        assert out.headers["location"] == "/login"
        assert (await guarded_page.get("/connectors")).status_code == 303

    async def test_the_cookie_of_an_https_page_is_secure(self, guarded_page: httpx.AsyncClient) -> None:
        headers = {"Origin": "https://127.0.0.1:8321"}
        answer = await guarded_page.post("/login", data={"token": TOKEN}, headers=headers)
        assert "secure" in answer.headers["set-cookie"].lower()

    async def test_a_wrong_token_gives_none(
        self, guarded_page: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Runtime, "sleep", _no_sleep)
        for form in ({"token": "wrong"}, {"token": ""}, {}):
            answer = await guarded_page.post("/login", data=form, headers=ORIGIN)
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
            assert "web.token" in answer.text

    async def test_login_from_a_foreign_page_is_refused(self, guarded_page: httpx.AsyncClient) -> None:
        headers = {"Origin": "http://evil.example"}
        assert (await guarded_page.post("/login", data={"token": TOKEN}, headers=headers)).status_code == 403

    @pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/\\evil.example", "evil", "/a\nb"])
    async def test_login_leads_nowhere_else(self, guarded_page: httpx.AsyncClient, target: str) -> None:
        answer = await guarded_page.post("/login", data={"token": TOKEN, "next": target}, headers=ORIGIN)
        assert answer.headers["location"] == "/"
        assert target not in (await guarded_page.get("/login", params={"next": target})).text

    async def test_no_token_no_login(self, open_page: httpx.AsyncClient) -> None:
        assert (await open_page.get("/login")).headers["location"] == "/"
        assert "Log out" not in (await open_page.get("/")).text

    def test_local_paths(self) -> None:
        assert local_path("/jobs?connector=a") == "/jobs?connector=a"
        assert local_path("/ä") == "/"
        assert local_path("") == "/"


class TestSessions:
    @pytest.mark.parametrize("forged", ["", ".", "9999999999.", "9999999999.abc", "x.y", "\u00e9.\u00e9", "1e9.0"])
    def test_forged_ones_are_refused(self, forged: str) -> None:
        assert not gate().knows(forged)

    def test_a_changed_one_is_refused(self) -> None:
        session = gate().new_session()
        expires, _, digest = session.partition(".")
        assert gate().knows(session), "another process with the same token knows it"
        assert not gate().knows(f"{int(expires) + 1}.{digest}")
        assert not TokenGate("another-token", Runtime()).knows(session)

    def test_it_ends(self) -> None:
        now = 1_000_000.0
        keeper = gate(Runtime(wall=lambda: now))
        session = keeper.new_session()
        now += 29 * 86_400
        assert keeper.knows(session)
        now += 86_400
        assert not keeper.knows(session)

    def test_it_does_not_hold_the_token(self) -> None:
        assert TOKEN not in gate().new_session()
        assert TOKEN not in repr(vars(gate()))

    async def test_a_forged_cookie_opens_nothing(self, guarded_page: httpx.AsyncClient) -> None:
        guarded_page.cookies.set(COOKIE, "9999999999.0000")
        assert (await guarded_page.get("/connectors")).status_code == 303


class TestGuessing:
    async def test_wrong_tokens_wait_for_each_other(self) -> None:
        slow = gate(penalty=0.03)
        began = time.monotonic()
        assert await asyncio.gather(*(slow.admits("wrong") for _ in range(4))) == [False] * 4
        assert time.monotonic() - began >= 0.12

    async def test_the_right_one_waits_for_nobody(self) -> None:
        slow = gate(penalty=3600.0)
        guess = asyncio.create_task(slow.admits("wrong"))
        await asyncio.sleep(0)
        assert await asyncio.wait_for(slow.admits(TOKEN), 5)
        guess.cancel()

    async def test_only_some_may_wait(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        slow = gate(penalty=3600.0)
        guesses = [asyncio.create_task(slow.admits("wrong")) for _ in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyAttemptsError):
            await slow.admits("wrong")
        for guess in guesses:
            guess.cancel()
        await asyncio.gather(*guesses, return_exceptions=True)
        # The places are free again.
        monkeypatch.setattr(Runtime, "sleep", _no_sleep)
        assert not await slow.admits("wrong")

    async def test_the_page_says_so(self, guarded_page: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("connectors.service.web.security._MAX_WAITING", 0)
        answer = await guarded_page.post("/login", data={"token": "wrong"}, headers=ORIGIN)
        assert answer.status_code == 429
        answer = await guarded_page.get("/metrics", headers={"Authorization": "Bearer wrong"})
        assert answer.status_code == 429
        assert (await guarded_page.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})).status_code == 200


class TestSizes:
    async def test_large_bodies_are_refused(self, open_page: httpx.AsyncClient) -> None:
        form = b"back=" + b"x" * MAX_BODY
        assert (await open_page.post("/connectors/handbook/sync", content=form)).status_code == 413

    @pytest.mark.parametrize("length", ["-1", "1e3", "", "\u00b2", "9" * 5000])
    async def test_lengths_that_are_none_are_refused(self, open_page: httpx.AsyncClient, length: str) -> None:
        headers = {b"Content-Length": length.encode()}
        assert (await open_page.post("/connectors/handbook/sync", headers=headers)).status_code == 413

    async def test_a_body_says_its_length(self, open_page: httpx.AsyncClient) -> None:
        async def endless() -> AsyncIterator[bytes]:
            yield b"x"

        assert (await open_page.post("/connectors/handbook/sync", content=endless())).status_code == 411

    async def test_many_fields_are_refused(self, site: Site, open_page: httpx.AsyncClient) -> None:
        form = "&".join(f"a{number}=1" for number in range(30))
        answer = await open_page.post("/connectors/handbook/sync", content=form)
        assert answer.status_code == 400
        assert not await site.store.jobs()

    async def test_a_long_query_is_cut(self, site: Site, open_page: httpx.AsyncClient) -> None:
        assert (await open_page.get("/", params={"q": "x" * 5000})).status_code == 200
        assert len(site.marking.asked[0][0]) == 500


class TestHeaders:
    @pytest.mark.parametrize(
        ("path", "status"),
        [("/", 200), ("/connectors", 200), ("/nothing", 404), ("/health", 200), ("/metrics", 200), ("/jobs/none", 404)],
    )
    async def test_every_answer_has_them(self, open_page: httpx.AsyncClient, path: str, status: int) -> None:
        answer = await open_page.get(path)
        assert answer.status_code == status
        policy = answer.headers["content-security-policy"]
        for part in (
            "default-src 'none'", "style-src 'self'", "script-src 'self'", "connect-src 'self'", "form-action 'self'",
            "frame-ancestors 'none'", "base-uri 'none'",
        ):  # fmt: skip
            assert part in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"

    async def test_refusals_have_them_too(self, open_page: httpx.AsyncClient) -> None:
        answer = await open_page.get("/", headers={"Host": "evil.example"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].startswith("text/plain")

    async def test_pages_keep_to_their_policy(self, site: Site, open_page: httpx.AsyncClient) -> None:
        await site.job()
        for path in ("/", "/?q=backup", "/connectors", "/connectors/handbook", "/jobs", "/nothing"):
            text = (await open_page.get(path)).text
            for forbidden in ("style=", "<style", " onclick", " onerror", "javascript:", "<script>", "http://"):
                assert forbidden not in text, (path, forbidden)

    async def test_static_files_are_kept_by_their_content(self, open_page: httpx.AsyncClient) -> None:
        page = (await open_page.get("/")).text
        address = page.split('rel="stylesheet" href="')[1].split('"')[0]
        answer = await open_page.get(address)
        assert answer.headers["content-type"].startswith("text/css")
        assert "immutable" in answer.headers["cache-control"]
        assert (await open_page.get("/static/page.css?v=old")).headers["cache-control"] == "no-cache"

    @pytest.mark.parametrize("name", ["../server.py", "%2e%2e/server.py", "..%2fserver.py", "none.css", ""])
    async def test_nothing_else_is_served_as_one(self, open_page: httpx.AsyncClient, name: str) -> None:
        assert (await open_page.get(f"/static/{name}")).status_code == 404


async def _no_sleep(runtime: Runtime, seconds: float) -> None:
    await asyncio.sleep(0)
