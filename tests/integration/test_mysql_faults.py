# ruff: noqa: S608 - tables and values of the tests' own
"""The MySQL source on a real server that fails in the middle of a sync, and behind TLS."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trustme

from connectors.byoc import Filter
from connectors.errors import ConfigurationError, RetryableError
from connectors.source import Checkpoint, Skipped
from connectors.sources.mysql import MySQLDataSource
from connectors.sources.relational import SlowQueryError, TableDeniedError
from tests.servers.mariadb import MariaDBServer, MySQLServer
from tests.support.mysql import (
    READER,
    SECRET,
    documents_of,
    fill,
    in_pieces,
    no_connection,
    opened,
    read_all,
    server,
    shop,
)

pytestmark = pytest.mark.server
__all__ = ["server", "shop"]  # the fixtures are found by their names here


# What goes wrong in the middle


async def _read(source: MySQLDataSource, seen: list[Any], *, at: int, then: Callable[[], Awaitable[Any]]) -> None:
    """Reads everything into `seen`, and does something when `at` items are there."""
    async with aclosing(source.get_docs()) as stream:
        async for item in stream:
            seen.append(item)
            if len(seen) == at:
                await then()


async def test_a_cut_connection_is_replaced_without_a_gap(shop: MariaDBServer) -> None:
    await fill(shop, 50)
    seen: list[str] = []
    async with in_pieces(shop) as source, aclosing(source.get_docs()) as stream:
        async for item in stream:
            if isinstance(item, tuple):
                seen.append(item[0]["_id"])
                if len(seen) % 20 == 10:
                    await shop.cut(READER)
    assert seen == [f"shop.orders/{number}" for number in range(1, 51)]


async def test_a_killed_server_ends_the_sync_and_the_next_one_goes_on(shop: MariaDBServer) -> None:
    if not shop.is_ours:
        pytest.skip("the server is not ours to kill")
    await fill(shop, 60)
    seen: list[Any] = []
    async with in_pieces(shop) as source:
        with pytest.raises(RetryableError, match="connection was lost"):
            await _read(source, seen, at=25, then=lambda: asyncio.to_thread(shop.kill))
    await asyncio.to_thread(shop.start_again)
    state = next(item.state for item in reversed(seen) if isinstance(item, Checkpoint))
    async with in_pieces(shop) as source:
        seen += await read_all(source, checkpoint=state)
    found = [item[0]["_id"] for item in seen if isinstance(item, tuple)]
    assert list(dict.fromkeys(found)) == [f"shop.orders/{number}" for number in range(1, 61)]
    assert len(found) < 60 + 5, "no more is read again than one page"


async def test_a_table_dropped_in_the_middle_is_told_and_the_others_are_read(shop: MariaDBServer) -> None:
    for name in ("a", "b", "c"):
        await fill(shop, 30, f"shop.{name}")
    items: list[Any] = []
    async with in_pieces(shop) as source:
        await _read(source, items, at=20, then=lambda: shop.aexecute("DROP TABLE shop.a, shop.b"))
        assert [item.id for item in items if isinstance(item, Skipped)] == [None, None]
        assert sum(key.startswith("shop.c/") for key in documents_of(items)) == 30
        assert await source.changed()
        state = next(item.state for item in items if isinstance(item, Checkpoint))
        resumed = await read_all(source, checkpoint=state)
        assert [item.id for item in resumed if isinstance(item, Skipped)] == [None, None]
        assert not any(isinstance(item, Skipped) for item in await read_all(source)), (
            "the next sync knows nothing of them"
        )


async def test_a_revoked_grant_suspends_and_hides_nothing(shop: MariaDBServer) -> None:
    for name in ("a", "b"):
        await fill(shop, 30, f"shop.{name}")
    await shop.aexecute(f"REVOKE SELECT ON shop.* FROM {READER}")
    for name in ("a", "b"):
        await shop.aexecute(f"GRANT SELECT ON shop.{name} TO {READER}")
    seen: list[Any] = []
    async with in_pieces(shop) as source:
        revoke = f"REVOKE SELECT ON shop.a FROM {READER}"
        with pytest.raises(TableDeniedError, match="grant the user SELECT"):
            await _read(source, seen, at=20, then=lambda: shop.aexecute(revoke))
        state = next(item.state for item in reversed(seen) if isinstance(item, Checkpoint))
        with pytest.raises(TableDeniedError):  # it goes on, but not past the table that it cannot see
            await read_all(source, checkpoint=state)
        with pytest.raises(TableDeniedError):  # nor does a fresh sync take the table for dropped
            await read_all(source)
        await shop.aexecute(f"GRANT SELECT ON shop.a TO {READER}")
        rest = await read_all(source, checkpoint=state)
        assert len(documents_of(seen) | documents_of(rest)) == 60


async def test_a_slow_query_is_given_up_in_words_and_stopped_on_the_server(shop: MariaDBServer) -> None:
    await fill(shop, 3)
    rule = Filter.of(advanced={"shop": {"orders": "SELECT id, SLEEP(30) FROM orders"}})
    async with opened(shop, query_timeout=1) as source:
        with pytest.raises(SlowQueryError, match=r"rule 1 \(shop.orders\): MySQL sent no row for 1 s"):
            await read_all(source, rule)
        assert await no_connection(shop), "the query does not run on"


async def test_a_slow_reader_does_not_fill_the_memory(shop: MariaDBServer) -> None:
    await shop.aexecute("CREATE TABLE shop.wide (id INT PRIMARY KEY, note LONGTEXT)")
    for at in range(0, 200, 20):
        rows = ", ".join(f"({number}, REPEAT('x', 200000))" for number in range(at, at + 20))
        await shop.aexecute(f"INSERT INTO shop.wide VALUES {rows}")
    tracemalloc.start()
    try:
        async with opened(shop) as source, aclosing(source.get_docs()) as stream:
            await anext(stream)
            for _ in range(20):
                await asyncio.sleep(0.02)  # the server would have sent all 40 MB by now
            assert sum(1 for item in [item async for item in stream] if isinstance(item, tuple)) == 199
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 90_000_000  # the list above holds 40 MB of it


# TLS


@pytest.mark.parametrize("kind", [MariaDBServer, MySQLServer], ids=lambda kind: kind.title)
async def test_tls_checks_both_sides(tmp_path: Path, kind: type[MariaDBServer]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="connectors-tls-"))
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "client.pem")
    )
    for path in (folder, folder / "ca.pem", folder / "server.pem"):
        path.chmod(0o755)  # the server may be another user
    files = {name: str(folder / f"{name}.pem") for name in ("ca", "server")}
    tls = {"ssl_enabled": True, "ssl_ca": files["ca"]}
    try:
        with kind.or_skip(ssl_ca=files["ca"], ssl_cert=files["server"], ssl_key=files["server"]) as server:
            await server.aexecute(
                f"CREATE USER {READER} IDENTIFIED BY '{SECRET}' REQUIRE X509", "CREATE DATABASE shop",
                f"GRANT SELECT ON shop.* TO {READER}",
            )  # fmt: skip
            await fill(server, 10)
            pair = {"ssl_certificate": str(tmp_path / "client.pem")}
            async with opened(server, **tls, **pair) as source:
                assert len(documents_of(await read_all(source))) == 10
            for wrong in (tls, {**pair}, {**tls, **pair, "ssl_ca": str(tmp_path / "other.pem")}):
                async with opened(server, **wrong) as source:
                    with pytest.raises(ConfigurationError):
                        await source.ping()
            unchecked = {**tls, **pair, "ssl_ca": "", "ssl_verify": False}
            async with opened(server, **unchecked) as source:
                await source.ping()
    finally:
        shutil.rmtree(folder)
