"""The PostgreSQL source over TLS, with client certificates, and by the name of its host."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from connectors.errors import ConfigurationError, RetryableError
from tests.servers.docker import engine_answers
from tests.servers.postgres import PostgresServer
from tests.support.postgres import Shop, everything, following

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def certificates() -> Iterator[Path]:
    """A folder with `ca.pem`, `other.pem`, the server's and a client's certificate, where the server may read."""
    if engine_answers():
        pytest.skip("a server in a container does not see the certificates")
    folder = Path(tempfile.mkdtemp(prefix="connectors-tls-"))
    folder.chmod(0o755)
    authority = trustme.CA()
    server, client = authority.issue_cert("localhost", "127.0.0.1"), authority.issue_cert("client@example.com")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    for name, issued in (("server", server), ("client", client)):
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        (folder / f"{name}.key").chmod(0o600)
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    if os.geteuid() == 0:
        os.chown(folder / "server.key", 65534, 65534)
    (folder / "hba.conf").write_text(
        "host all postgres 127.0.0.1/32 scram-sha-256\n"
        "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
    )
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(certificates: Path) -> Iterator[PostgresServer]:
    files = {
        "ssl_ca_file": "ca.pem",
        "ssl_cert_file": "server.pem",
        "ssl_key_file": "server.key",
        "hba_file": "hba.conf",
    }
    with PostgresServer.or_skip(ssl="on", **{name: str(certificates / file) for name, file in files.items()}) as server:
        yield server


@pytest.fixture
def shop(server: PostgresServer) -> Iterator[Shop]:
    shop = Shop(server)
    shop.run("CREATE TABLE notes (id int PRIMARY KEY)", "INSERT INTO notes VALUES (1)")
    shop.give("notes")
    yield shop
    shop.drop()


def _tls(certificates: Path, **more: Any) -> dict[str, Any]:
    given = {"ssl_ca": "ca.pem", "ssl_certificate": "client.pem", "ssl_key": "client.key", **more}
    return {"ssl_enabled": True, **{key: str(certificates / file) for key, file in given.items()}}


async def test_both_sides_show_certificates(shop: Shop, certificates: Path) -> None:
    async with shop.source(**_tls(certificates), change_data_capture=True) as source:
        found, _ = await everything(source)
        assert set(found) == {"public.notes/1"}
        shop.run("INSERT INTO notes VALUES (2)")
        changed, _ = await following(source, source.sync_cursor())  # the log is read over TLS, too
        assert set(changed) == {"public.notes/2"}
        secured = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'reader'"
        assert shop.run(secured) == [(True,)]


async def test_another_authority_is_refused(shop: Shop, certificates: Path) -> None:
    async with shop.source(**_tls(certificates, ssl_ca="other.pem")) as source:
        with pytest.raises(ConfigurationError, match="certificate"):
            await source.ping()
    async with shop.source(**_tls(certificates, ssl_ca="other.pem") | {"ssl_verify": False, "ssl_ca": ""}) as source:
        await source.ping()


async def test_a_missing_client_certificate_is_said(shop: Shop, certificates: Path) -> None:
    async with shop.source(ssl_enabled=True, ssl_ca=str(certificates / "ca.pem")) as source:
        with pytest.raises(ConfigurationError, match="certificate"):
            await source.ping()


async def test_hosts_have_names(shop: Shop, certificates: Path) -> None:
    async with shop.source(**_tls(certificates), host="localhost") as source:
        await source.ping()
    async with shop.source(**_tls(certificates), host="nowhere.invalid") as source:
        with pytest.raises(RetryableError, match=r"nowhere\.invalid is not known"):
            await source.ping()
