"""The queries that the documentation shows run as they stand there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.byoc import Filter
from tests.servers.mariadb import MariaDBServer
from tests.support.mysql import documents_of, empty_shop, opened, read_all, server

pytestmark = pytest.mark.server
DOCS = Path(__file__).parents[2] / "docs"
__all__ = ["server"]  # the fixture is found by its name here


def documented() -> dict[str, Any]:
    """Returns the advanced rules of both pages."""
    mysql = (DOCS / "sources/MYSQL.md").read_text("utf-8").partition("## Advanced sync rules")[2]
    by_table, joined = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", mysql, re.DOTALL))
    rules = (DOCS / "SYNC_RULES.md").read_text("utf-8").partition("## Advanced rules")[2]
    block = re.findall(r"```yaml\n(.*?)```", rules, re.DOTALL)[0]
    return {"by table": by_table, "joined": joined, "sync rules": yaml.safe_load(block)["filtering"]["advanced"]}


async def test_the_rules_of_the_documentation(server: MariaDBServer) -> None:
    shop = empty_shop(server)
    await shop.aexecute(
        "CREATE TABLE shop.customers (id INT PRIMARY KEY, name VARCHAR(20))",
        "CREATE TABLE shop.orders (id INT PRIMARY KEY, customer INT, total INT, state VARCHAR(20), created DATE)",
        "INSERT INTO shop.customers VALUES (1, 'Ann'), (2, 'Bob')",
        "INSERT INTO shop.orders VALUES (1, 1, 5, 'draft', '2023-05-01'), (2, 2, 6, 'paid', '2023-05-01'), "
        "(3, 2, 7, 'paid', '2024-05-01')",
    )
    wanted = {
        "by table": {"shop.orders/2", "shop.orders/3"},
        "sync rules": {"shop.orders/3"},
        "joined": {"shop.orders+shop.customers/1", "shop.orders+shop.customers/2", "shop.orders+shop.customers/3"},
    }
    found: dict[str, set[str]] = {}
    async with opened(shop) as source:
        for name, advanced in documented().items():
            rules = Filter.of(advanced=advanced)
            assert (await source.validate_filtering(rules)).is_valid
            documents = documents_of(await read_all(source, rules))
            found[name] = set(documents)
            if name == "joined":
                assert {document["name"] for document in documents.values()} == {"Ann", "Bob"}
    assert found == wanted
