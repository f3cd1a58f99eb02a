"""Edited rules in each store: an invalid draft shows why in record, page and `check`; a valid one comes into force."""

from __future__ import annotations

import html
from typing import Any

import pytest

from connectors.backends.ports import Destination, Store
from connectors.byoc import Connector
from connectors.cli.checks import _check_draft
from connectors.errors import ConfigurationError
from connectors.service.drafts import draft_problems, draft_to_settle, rules_in_force, settle_draft
from connectors.source import DataSourceConfiguration
from connectors.sources.directory import DirectoryDataSource
from tests.support.site import Site

GOOD = {"id": "good", "order": 1, "policy": "exclude", "field": "path", "rule": "starts_with", "value": "drafts/"}
WRONG = {**GOOD, "id": "wrong", "rule": "resembles"}
MESSAGE = "rule wrong: `rule` is 'resembles', which is not known"


def rules(*records: dict[str, Any], state: str) -> dict[str, Any]:
    return {
        "rules": list(records),
        "advanced_snippet": {"value": {}},
        "validation": {"state": state, "errors": []},
    }


async def edited(store: Store, *records: dict[str, Any]) -> Connector:
    """Edits the draft, as another tool does, and lets it be validated, as the daemon does."""
    held = await store.connector("x")
    domain = {**held.filtering[0], "draft": rules(*records, state="edited")}
    held = await store.update_connector("x", {"filtering": [domain]})
    draft = draft_to_settle(held, None)
    assert draft is not None
    source = DirectoryDataSource(DataSourceConfiguration())
    return await settle_draft(store, held, await source.validate_filtering(draft))


async def test_an_invalid_draft_is_shown_and_a_valid_one_comes_into_force(
    store: Store, destination: Destination
) -> None:
    filtering = [{"domain": "DEFAULT", "active": rules(state="valid"), "draft": rules(state="valid")}]
    record = {"service_type": "directory", "index_name": "docs", "filtering": filtering}
    await store.put_connector(Connector.from_record("x", record))
    site, source = Site(store, destination), DirectoryDataSource(DataSourceConfiguration())

    await edited(store, WRONG)
    held = await store.connector("x")
    assert held.draft_validation["state"] == "invalid"
    assert held.draft_validation["errors"][0]["ids"] == ["wrong"]
    assert draft_problems(held)[0].startswith(MESSAGE)
    assert rules_in_force(held, None).basic_rules == []
    with pytest.raises(ConfigurationError, match=f"those before stay in force: {MESSAGE}"):
        await _check_draft(source, held)
    async with site.client() as page:
        assert MESSAGE in html.unescape((await page.get("/connectors/x")).text)

    await edited(store, GOOD)
    held = await store.connector("x")
    assert held.draft_validation["state"] == "valid"
    assert [rule["id"] for rule in rules_in_force(held, None).basic_rules] == ["good"]
    await _check_draft(source, held)
    async with site.client() as page:
        text = html.unescape((await page.get("/connectors/x")).text)
    assert "not valid" not in text
    assert "drafts/" in text
