"""What change data capture leaves on a PostgreSQL server is removed when its connector is purged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import SyncError
from tests.servers.postgres import PostgresServer
from tests.support.postgres import READER, Shop, everything, server
from tests.support.workspace import Workspace

pytestmark = pytest.mark.server
__all__ = ["server"]  # the fixture is found by its name here


@pytest.fixture
def shop(server: PostgresServer) -> Iterator[Shop]:
    shop = Shop(server)
    shop.run("CREATE TABLE notes (id int PRIMARY KEY)", "INSERT INTO notes VALUES (1), (2)")
    shop.give("notes")
    yield shop
    shop.drop()


def _left(shop: Shop) -> tuple[int, int]:
    """Returns how many slots and publications there are."""
    slots = "SELECT count(*) FROM pg_replication_slots WHERE database = 'shop'"
    ((number,),) = shop.run(slots)
    ((publications,),) = shop.run("SELECT count(*) FROM pg_publication")
    return number, publications


async def test_slot_and_publication_go(shop: Shop) -> None:
    async with shop.source(change_data_capture=True) as source:
        await everything(source)
        assert _left(shop) == (1, 1)
        await source.forget()
        assert _left(shop) == (0, 0)
        await everything(source)  # which makes them anew
        assert _left(shop) == (1, 1)
    async with shop.source() as source:  # it was switched off since
        await source.forget()
        assert _left(shop) == (0, 0)


async def test_what_others_may_need_stays(shop: Shop) -> None:
    for slot in ("mine", "another"):
        async with shop.source(change_data_capture=True, slot=slot) as source:
            await everything(source)
    async with shop.source(change_data_capture=True, slot="mine") as source:
        await source.forget()
    found = shop.slot()
    assert found is not None
    assert found[0] == "another"
    assert _left(shop) == (1, 1), "the publication is followed by another connector"
    shop.run("ALTER PUBLICATION connectors OWNER TO postgres")
    async with shop.source(change_data_capture=True, slot="another") as source:
        await source.forget()
    assert _left(shop) == (0, 1), "it is somebody else's"


async def test_a_slot_of_another_kind_stays(shop: Shop) -> None:
    shop.run("SELECT pg_create_physical_replication_slot('standby')")
    async with shop.source(change_data_capture=True, slot="standby") as source:
        await source.forget()
    dropped = shop.run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
    assert len(dropped) == 1


async def test_what_cannot_be_removed_is_told_with_what_to_run(shop: Shop) -> None:
    async with shop.source(password="wrong", slot="mine") as source:
        with pytest.raises(SyncError, match=r"password.*pg_drop_replication_slot\('mine'\)"):
            await source.forget()


def _connector(workspace: Workspace, shop: Shop) -> dict[str, Any]:
    configuration = shop.settings(change_data_capture=True, password="${SHOP_PASSWORD}")
    return workspace.connector(service_type="postgresql", configuration=configuration)


def test_the_command_removes_them(shop: Shop, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.configure(connectors=[_connector(workspace, shop)])
    password = {"SHOP_PASSWORD": shop.settings()["password"]}
    assert workspace.run("sync", "docs", **password).code == 0
    assert _left(shop) == (1, 1)
    done = workspace.run("purge", "docs", "--yes", "--json", **password)
    assert done.json == {"connector": "docs", "documents": 2, "left": None}
    assert _left(shop) == (0, 0)


def test_the_command_says_what_it_could_not_remove(shop: Shop, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.configure(connectors=[_connector(workspace, shop)])
    assert workspace.run("sync", "docs", SHOP_PASSWORD=shop.settings()["password"]).code == 0
    workspace.configure(connectors=[])  # and with it the password is gone
    done = workspace.run("purge", "docs", "--yes", "--json")
    assert done.json["documents"] == 2
    slot = shop.slot()
    assert slot is not None
    assert f"pg_drop_replication_slot('{slot[0]}')" in done.json["left"]
    shop.run(f"DROP OWNED BY {READER}")
