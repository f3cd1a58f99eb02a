"""Who we are and whom we trust: credentials, privileges, certificates."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from connectors.backends.ports import IndexHandle, IndexSpec, Operation
from connectors.backends.server import ServerBackend
from connectors.errors import ConfigurationError, ConnectorsError, SuspendSync
from tests.servers.fixtures import PASSWORD, SearchServers
from tests.servers.search import SearchServer
from tests.servers.tls import Certificates, TlsProxy
from tests.support.backends import RECORDS, backend_on, open_backend

pytestmark = pytest.mark.server

DOCUMENT = Operation("a", b"d" * 16, b"12345678", 1, b"{}")


@asynccontextmanager
async def client_of(server: SearchServer, **settings: Any) -> AsyncIterator[ServerBackend]:
    """Opens a backend with these settings alone."""
    backend = backend_on(server, **settings)
    try:
        yield backend
    finally:
        await backend.close()


# TLS


@pytest.fixture(params=["es8", "os2"])
def server(request: pytest.FixtureRequest, search_servers: SearchServers) -> SearchServer:
    return search_servers.get(request.param)


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "right")


@pytest.fixture
def others(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "wrong")


async def test_a_certificate_of_an_authority_that_we_trust(server: SearchServer, certificates: Certificates) -> None:
    async with (
        TlsProxy(server.url, certificates) as proxy,
        open_backend(server, url=proxy.url, ca_certs=certificates.ca) as backend,
    ):
        info = await backend.destination.prepare(IndexSpec("things"))
        handle = IndexHandle("things", info.uuid, "one", info.fingerprint)
        assert not (await backend.destination.write(handle, [DOCUMENT])).failures


async def test_a_certificate_that_is_pinned_needs_no_authority(
    server: SearchServer, certificates: Certificates
) -> None:
    async with (
        TlsProxy(server.url, certificates) as proxy,
        client_of(server, url=proxy.url, ssl_assert_fingerprint=certificates.fingerprint.upper()) as backend,
    ):
        assert await backend.destination.info("nothing") is None


async def test_without_any_check_any_certificate_will_do(server: SearchServer, certificates: Certificates) -> None:
    async with (
        TlsProxy(server.url, certificates) as proxy,
        client_of(server, url=proxy.url, verify_certs=False) as backend,
    ):
        assert await backend.destination.info("nothing") is None


async def test_a_server_that_asks_for_our_certificate(server: SearchServer, certificates: Certificates) -> None:
    ours = {"client_cert": certificates.client_certificate, "client_key": certificates.client_key}
    async with (
        TlsProxy(server.url, certificates, demand_client=True) as proxy,
        client_of(server, url=proxy.url, ca_certs=certificates.ca, **ours) as backend,
    ):
        assert await backend.destination.info("nothing") is None


@pytest.mark.parametrize("trusted", ["another authority", "nobody", "another certificate"])
async def test_a_certificate_that_is_not_trusted_suspends(
    server: SearchServer, certificates: Certificates, others: Certificates, trusted: str
) -> None:
    settings: dict[str, dict[str, Any]] = {
        "another authority": {"ca_certs": others.ca},
        "nobody": {},
        "another certificate": {"ssl_assert_fingerprint": others.fingerprint},
    }
    async with (
        TlsProxy(server.url, certificates) as proxy,
        client_of(server, url=proxy.url, **settings[trusted]) as backend,
    ):
        with pytest.raises(SuspendSync, match="Check ca_certs"):
            await backend.destination.info("nothing")


async def test_a_certificate_that_has_ended_suspends(server: SearchServer, tmp_path: Path) -> None:
    ended = Certificates(tmp_path / "ended", expires=datetime.now(UTC) - timedelta(days=1))
    async with TlsProxy(server.url, ended) as proxy, client_of(server, url=proxy.url, ca_certs=ended.ca) as backend:
        with pytest.raises(SuspendSync, match="expired"):
            await backend.destination.info("nothing")


async def test_files_that_are_not_there(server: SearchServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no file") as caught:
        backend_on(server, url="https://localhost:1", ca_certs=tmp_path / "none.pem")
    assert caught.value.field == "ca_certs"


# Credentials


@pytest.fixture(params=["es8", "os2"])
def secured(request: pytest.FixtureRequest, search_servers: SearchServers) -> SearchServer:
    return search_servers.get(request.param, secured=True)


@asynccontextmanager
async def as_superuser(server: SearchServer) -> AsyncIterator[ServerBackend]:
    async with client_of(server, username=server.user, password=server.password) as backend:
        yield backend


async def api_key(server: SearchServer, privileges: dict[str, Any] | None = None) -> dict[str, str]:
    async with as_superuser(server) as backend:
        roles = {} if privileges is None else {"role": privileges}
        made: dict[str, str] = await backend.client.call(
            "POST", "/_security/api_key", body={"name": "test", "role_descriptors": roles}
        )
        return made


async def who_may(server: SearchServer, privileges: dict[str, Any]) -> dict[str, str]:
    """Makes somebody with these privileges alone, and returns the settings that say who it is."""
    if server.flavour.product == "elasticsearch":
        key = await api_key(server, privileges)
        return {"api_key": f"{key['id']}:{key['api_key']}"}
    async with as_superuser(server) as backend:
        for path, body in (
            ("roles/limited", privileges),
            ("internalusers/limited", {"password": PASSWORD}),
            ("rolesmapping/limited", {"users": ["limited"]}),
        ):
            await backend.client.call("PUT", f"/_plugins/_security/api/{path}", body=body)
    return {"username": "limited", "password": PASSWORD}


#: What somebody who only looks may do, and what docs/ELASTICSEARCH.md asks for.
LOOK: Final[dict[str, dict[str, Any]]] = {
    "elasticsearch": {
        "cluster": ["monitor"],
        "index": [{"names": ["things*"], "privileges": ["read", "view_index_metadata"]}],
    },
    "opensearch": {
        "cluster_permissions": ["cluster_composite_ops", "cluster_monitor"],
        "index_permissions": [{"index_patterns": ["things*"], "allowed_actions": ["read", "indices:admin/get"]}],
    },
}
ENOUGH: Final[dict[str, dict[str, Any]]] = {
    "elasticsearch": {
        "cluster": ["monitor", "read_pipeline"],
        "index": [{"names": ["things*", "contract-*"], "privileges": ["manage", "read", "write"]}],
    },
    "opensearch": {
        "cluster_permissions": ["cluster_composite_ops", "cluster_monitor", "cluster:admin/ingest/pipeline/get"],
        "index_permissions": [{"index_patterns": ["things*", "contract-*"], "allowed_actions": ["crud", "manage"]}],
    },
}


async def test_user_and_password(secured: SearchServer) -> None:
    async with as_superuser(secured) as backend:
        assert await backend.destination.info("nothing") is None
        assert await backend.store.connectors() == []


async def test_user_and_password_over_tls(secured: SearchServer, certificates: Certificates) -> None:
    who = {"username": secured.user, "password": secured.password, "ca_certs": certificates.ca}
    async with (
        TlsProxy(secured.url, certificates) as proxy,
        client_of(secured, url=proxy.url, **who) as backend,
    ):
        assert await backend.destination.info("nothing") is None


async def test_an_api_key_in_both_forms(search_servers: SearchServers) -> None:
    server = search_servers.get("es8", secured=True)
    key = await api_key(server)
    for form in (f"{key['id']}:{key['api_key']}", base64.b64encode(f"{key['id']}:{key['api_key']}".encode()).decode()):
        async with client_of(server, api_key=form) as backend:
            assert await backend.destination.info("nothing") is None


@pytest.mark.parametrize(
    "settings",
    [{}, {"username": "elastic", "password": "wrong"}, {"api_key": "x:y"}, {"bearer_token": "nonsense"}],
    ids=["none", "password", "key", "token"],
)
async def test_wrong_credentials_suspend(secured: SearchServer, settings: dict[str, str]) -> None:
    async with client_of(secured, **settings) as backend:
        for call in (backend.destination.info("nothing"), backend.store.connectors()):
            with pytest.raises(SuspendSync, match="does not accept our credentials") as caught:
                await call
            assert "wrong" not in str(caught.value)
            assert "nonsense" not in str(caught.value)


async def test_a_missing_privilege_suspends_and_says_which(secured: SearchServer) -> None:
    who = await who_may(secured, LOOK[secured.flavour.product])
    async with client_of(secured, **who) as backend:
        with pytest.raises(SuspendSync, match=r"indices:admin/create.*docs/ELASTICSEARCH\.md"):
            await backend.destination.prepare(IndexSpec("things"))


async def test_the_privileges_of_the_documentation_are_enough(secured: SearchServer) -> None:
    who = await who_may(secured, ENOUGH[secured.flavour.product])
    try:
        async with client_of(secured, **who) as backend:
            info = await backend.destination.prepare(IndexSpec("things"))
            handle = IndexHandle("things", info.uuid, "one", info.fingerprint)
            assert not (await backend.destination.write(handle, [DOCUMENT])).failures
            assert len([page async for page in backend.destination.stamps(handle)]) == 1
            assert (await backend.destination.search("things", "a")).total == 0
            assert await backend.destination.indices() == ["things"]
            assert await backend.store.acquire("one", "w", ttl=1, now=1) is not None
            assert await backend.destination.purge("things", "one") == 1
            with pytest.raises(ConnectorsError):
                await backend.destination.prepare(IndexSpec("elsewhere"))
    finally:
        async with as_superuser(secured) as backend:
            names = ",".join(("things", *RECORDS.values()))  # wildcards do not delete, unless the server is told so
            await backend.client.call("DELETE", f"/{names}", params={"ignore_unavailable": "true"})
