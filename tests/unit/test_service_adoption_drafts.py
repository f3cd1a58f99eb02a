"""Edited sync rules: a valid draft comes into force, an invalid one leaves those before in force and is shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import Connector
from connectors.config import Config
from connectors.service.drafts import draft_problems
from tests.support.foreign import READY, daemon_runs, edit, write_connector, write_job
from tests.support.service import Service, connector, play
from tests.support.site import Site

TOKEN = "t0k3n-of-the-site"
DEFAULT = {"id": "DEFAULT", "policy": "include", "field": "_", "rule": "regex", "value": ".*", "order": 0}
DROP_2 = {"id": "r", "policy": "exclude", "field": "_id", "rule": "equals", "value": "2", "order": 1}
DROP_1 = {**DROP_2, "value": "1"}
WRONG = {**DROP_2, "rule": "resembles"}
VALID = {"state": "valid", "errors": []}


def rules(*records: Mapping[str, Any], state: str | None = "valid") -> dict[str, Any]:
    """Returns rules as another tool writes them."""
    stamps = {"created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z"}
    validation = {} if state is None else {"validation": {"state": state, "errors": []}}
    return {
        "rules": [{**record, **stamps} for record in records],
        "advanced_snippet": {**stamps, "value": {}},
    } | validation


def domain(active: Any, draft: Any) -> list[dict[str, Any]]:
    return [{"domain": "DEFAULT", "active": active, "draft": draft}]


def filtering(*records: Mapping[str, Any]) -> dict[str, Any]:
    """Returns rules as they stand in `config.yml`."""
    return {"filtering": {"rules": [dict(record) for record in records]}}


class Edits:
    """Stands for the config file: gives each edit once."""

    def __init__(self) -> None:
        self.waiting: list[Config] = []

    def poll(self) -> Config | None:
        return self.waiting.pop(0) if self.waiting else None


def scripted(service: Service, name: str) -> None:
    service.site.scripts[name] = [({"_id": id_, "n": 1}, None) for id_ in "123"]


# Records of other tools


def test_an_edited_draft_that_is_valid_becomes_active(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        scripted(service, "x")
        before = rules({**DEFAULT, "order": 5})
        await write_connector(service, "x", {**READY, "filtering": domain(before, before)})
        async with daemon_runs(service):
            await asyncio.sleep(5)
            draft = rules(DROP_2, {**DEFAULT, "order": 5}, state="edited")
            await edit(service, "x", filtering=domain(before, draft))
            await asyncio.sleep(5)
            (found,) = (await service.record("x")).filtering
            assert found["active"] == found["draft"] == {**draft, "validation": VALID}
            await write_job(service, "j")
            await asyncio.sleep(10)
            assert set(service.indexed("foreign")) == {"1", "3"}
            version = (await service.record("x")).version
            await asyncio.sleep(100)
            assert (await service.record("x")).version == version

    with caplog.at_level(logging.INFO, "connectors.rules"):
        play(scenario, tmp_path)
    assert caplog.messages == ["x: its edited sync rules are valid and in force from now on"]


def test_an_edited_draft_that_is_invalid_leaves_the_active_rules_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        scripted(service, "x")
        active = rules(DROP_1)
        await write_connector(service, "x", {**READY, "filtering": domain(active, rules(WRONG, state="edited"))})
        await write_job(service, "j")
        async with daemon_runs(service):
            await asyncio.sleep(100)
        record = await service.record("x")
        (found,) = record.filtering
        assert found["active"] == active
        assert found["draft"]["validation"]["state"] == "invalid"
        (problem,) = found["draft"]["validation"]["errors"]
        assert problem["ids"] == ["r"]
        assert "resembles" in problem["messages"][0]
        assert draft_problems(record) == [f"rule r: {problem['messages'][0]}"]
        assert set(service.indexed("foreign")) == {"2", "3"}
        assert (record.status, record.error) == ("connected", None)

    with caplog.at_level(logging.INFO, "connectors.rules"):
        play(scenario, tmp_path)
    assert len(caplog.messages) == 1
    assert "so those before stay in force: rule r: " in caplog.messages[0]


@pytest.mark.parametrize("state", [None, "valid", "invalid", "odd", 5])
def test_only_what_says_that_it_was_edited_is_judged(tmp_path: Path, state: Any) -> None:
    async def scenario(service: Service) -> None:
        written = domain(rules(DROP_1), rules(DROP_2, state=state))
        await write_connector(service, "x", {**READY, "filtering": written})
        await write_job(service, "j")
        async with daemon_runs(service):
            await asyncio.sleep(20)
        assert (await service.record("x")).filtering == written
        assert await service.statuses() == ["completed"]

    play(scenario, tmp_path)


def test_a_draft_that_is_edited_while_it_is_judged_is_judged_anew(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        judged: list[Any] = []
        validate = service.source_class.validate_filtering

        async def slow(self: Any, rules_: Any) -> Any:
            judged.append([rule["value"] for rule in rules_.basic_rules])
            if len(judged) == 1:
                await edit(service, "x", filtering=domain(rules(), rules(DROP_1, state="edited")))
            return await validate(self, rules_)

        service.source_class.validate_filtering = slow  # type: ignore[assignment,method-assign]  # another source
        await write_connector(service, "x", {**READY, "filtering": domain(rules(), rules(WRONG, state="edited"))})
        async with daemon_runs(service):
            await asyncio.sleep(10)
        assert judged == [["2"], ["1"]]
        assert [rule["value"] for rule in (await service.record("x")).active_filter.basic_rules] == ["1"]

    play(scenario, tmp_path)


@pytest.mark.parametrize(
    "written",
    [
        domain("all", None),
        domain({"rules": "all"}, None),
        domain({"rules": ["all"]}, None),
        domain({"rules": {"id": "r"}}, None),
        domain({"advanced_snippet": {"value": "SELECT"}}, None),
        "all",
        ["all"],
    ],
)
def test_rules_that_are_none_let_no_sync_run(tmp_path: Path, written: Any) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", {**READY, "filtering": written})
        await write_job(service, "j")
        async with daemon_runs(service):
            await asyncio.sleep(10)
        (job,) = await service.jobs()
        assert (job.status, "the sync rules of x are not valid" in (job.error or "")) == ("error", True)
        assert service.written() == []
        assert (await service.record("x")).to_record()["filtering"] == written

    play(scenario, tmp_path)


# Rules of config.yml


def test_a_wrong_edit_of_the_file_leaves_the_rules_before_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        scripted(service, "a")
        await service.sync("a")
        assert set(service.indexed()) == {"1", "3"}
        await service.apply(connector("a", **filtering(WRONG)))
        for _ in range(2):  # after a restart too
            assert (await service.sync("a")).status == "completed"
            assert set(service.indexed()) == {"1", "3"}
            await service.stop()
        record = await service.record("a")
        assert [rule["value"] for rule in record.active_filter.basic_rules] == ["2"]
        assert "resembles" in draft_problems(record)[0]
        version = record.version
        await service.apply()
        assert (await service.record("a")).version == version
        await service.apply(connector("a", **filtering(DROP_1)))
        assert (await service.sync("a", allow_deletes=3)).status == "completed"
        assert set(service.indexed()) == {"2", "3"}
        record = await service.record("a")
        assert record.filtering[0]["active"] == record.filtering[0]["draft"]
        assert draft_problems(record) == []

    with caplog.at_level(logging.INFO, "connectors.rules"):
        play(scenario, tmp_path, connector("a", **filtering(DROP_2)))
    assert [("not valid" in line, "in force from now on" in line) for line in caplog.messages] == [
        (True, False),
        (False, True),
    ]


def test_the_daemon_judges_an_edit_of_the_file_without_a_sync(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        edits = Edits()
        async with daemon_runs(service, service.daemon(edits)):
            await asyncio.sleep(5)
            edits.waiting = [service.configured(connector("a", full=None, **filtering(WRONG)))]
            await asyncio.sleep(5)
            assert (await service.record("a")).draft_validation["state"] == "invalid"
            edits.waiting = [service.configured(connector("a", full=None, **filtering(DROP_1)))]
            await asyncio.sleep(5)
            record = await service.record("a")
            assert [rule["value"] for rule in record.active_filter.basic_rules] == ["1"]
        assert service.site.pings == []

    play(scenario, tmp_path, connector("a", full=None, **filtering(DROP_2)))


def test_wrong_rules_of_a_new_connector_let_no_sync_run_until_they_are_mended(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        scripted(service, "a")
        for _ in range(2):
            job = await service.sync("a")
            assert (job.status, "the sync rules of a are not valid" in (job.error or "")) == ("error", True)
        assert service.written() == []
        await service.apply(connector("a", **filtering(DROP_2)))
        assert (await service.sync("a")).status == "completed"
        assert set(service.indexed()) == {"1", "3"}

    play(scenario, tmp_path, connector("a", **filtering(WRONG)))


def test_rules_that_a_validator_refused_in_passing_are_judged_again(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        class Fails:
            broken = True

            async def validate(self, advanced: Any) -> list[Any]:
                if self.broken:
                    raise OSError("no answer")
                return []

        validator = Fails()
        service.source_class.advanced_rules_enabled = True
        service.source_class.advanced_rules_validators = lambda _: [validator]  # type: ignore[assignment,method-assign]  # another source
        await service.apply(connector("a", filtering={"advanced": {"t": "x"}}))
        assert (await service.sync("a")).status == "error"
        validator.broken = False
        assert (await service.sync("a")).status == "completed"
        assert (await service.record("a")).draft_validation == VALID

    play(scenario, tmp_path)


def test_rules_before_that_held_a_secret_are_not_guessed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        await service.apply(connector("a", **filtering(WRONG)), secrets=frozenset({TOKEN}))
        job = await service.sync("a")
        assert job.status == "error"
        assert "held a secret" in (job.error or "")
        assert "resembles" in (job.error or "")
        await service.apply(connector("a", **filtering({**DROP_2, "value": TOKEN})), secrets=frozenset({TOKEN}))
        assert (await service.sync("a")).status == "completed"

    secret = {**DROP_2, "value": TOKEN}
    play(scenario, tmp_path, connector("a", **filtering(secret)), secrets=frozenset({TOKEN}))


def test_without_rules_in_the_file_there_is_nothing_to_judge(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        await service.apply(connector("a"))
        (found,) = (await service.record("a")).filtering
        assert found["active"] == found["draft"]
        assert found["draft"]["validation"] == VALID
        assert not found["draft"]["rules"]

    play(scenario, tmp_path, connector("a", **filtering(DROP_2)))


@pytest.mark.parametrize("part", ["active", "draft"])
def test_a_foreign_edit_of_rules_of_the_file_is_undone(
    tmp_path: Path, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        scripted(service, "a")
        await service.sync("a")
        (found,) = (await service.record("a")).filtering
        await edit(service, "a", filtering=[{**found, part: rules(DROP_1, state="edited")}])
        await service.apply()
        await service.sync("a")
        (after,) = (await service.record("a")).filtering
        assert [rule["value"] for name in ("active", "draft") for rule in after[name]["rules"]] == ["2", "2"]
        assert set(service.indexed()) == {"1", "3"}

    with caplog.at_level(logging.WARNING, "connectors.registry"):
        play(scenario, tmp_path, connector("a", **filtering(DROP_2)))
    assert ["somebody changed filtering" in line for line in caplog.messages] == [True]


# Where it is shown


async def test_the_page_shows_what_is_wrong_with_a_draft() -> None:
    site = Site()
    errors = [{"ids": ["r"], "messages": ["write <b> otherwise"]}]
    draft = {**rules(WRONG), "validation": {"state": "invalid", "errors": errors}}
    record = {**READY, "filtering": domain(rules(DROP_1), draft), "status": "needs_configuration"}
    await site.store.put_connector(Connector.from_record("x", record))
    async with site.client() as page:
        text = (await page.get("/connectors/x")).text
    assert "The edited rules are not valid; those below stay in force." in text
    assert "rule r: write &lt;b&gt; otherwise" in text
    assert "Needs configuration" in text
