"""A connector that another tool wrote is taken up, completed and tried, and its status follows."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.byoc import Connector
from connectors.errors import ConfigurationError, RetryableError
from tests.support.foreign import READY, daemon_runs, edit, write_connector, write_job
from tests.support.service import Service, connector, play

SECRET = "s3cret-of-another-tool"
EVERY_MINUTE = {"full": {"enabled": True, "interval": "0 * * * * ?"}}


async def status(service: Service, connector_id: str = "x") -> tuple[str, str | None]:
    record = await service.record(connector_id)
    return record.status, record.error


def test_a_record_goes_from_created_to_connected(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(
            service, "x", {**READY, "configuration": {}, "features": None, "scheduling": EVERY_MINUTE}
        )
        async with daemon_runs(service):
            await asyncio.sleep(3)
            record = await service.record("x")
            assert (record.status, record.error) == ("needs_configuration", None)
            assert record.configuration["name"] | {"value": ""} == record.configuration["name"]
            assert record.configuration["password"]["sensitive"] is True
            assert record.features == service.source_class.features()
            assert record.last_seen is not None
            assert await service.jobs() == [], "nothing is synced that lacks its configuration"
            configuration = record.configuration
            configuration["name"]["value"] = "x"
            await edit(service, "x", configuration=configuration)
            await asyncio.sleep(1.5)
            assert (await service.record("x")).status in {"configured", "connected"}
            await asyncio.sleep(3)
            assert await status(service) == ("connected", None)
            await asyncio.sleep(60)
            assert set(await service.statuses("x")) == {"completed"}
            assert len(service.indexed("foreign")) == 3

    play(scenario, tmp_path)


def test_a_successful_ping_alone_connects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", READY)
        async with daemon_runs(service):
            await asyncio.sleep(30)
            assert await status(service) == ("connected", None)
            assert service.site.pings == ["x"]
            await edit(service, "x", status="configured")  # as another tool does when it edits the configuration
            await asyncio.sleep(30)
            assert await status(service) == ("connected", None)
        assert await service.jobs() == []

    with caplog.at_level(logging.INFO, "connectors.records"):
        play(scenario, tmp_path)
    assert caplog.messages == ["x: its source can be reached"] * 2


def test_an_invalid_value_is_one_message_until_it_is_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        def declared(cls: type) -> dict[str, Any]:
            return {"name": {"type": "str"}, "port": {"type": "int", "label": "Port", "value": 1}}

        service.source_class.get_default_configuration = classmethod(declared)  # type: ignore[assignment,method-assign]  # another source
        values = {"name": {"value": "x"}, "port": {"value": "many"}}
        await write_connector(service, "x", {**READY, "configuration": values})
        async with daemon_runs(service):
            await asyncio.sleep(3)
            version = (await service.record("x")).version
            await asyncio.sleep(200)
            record = await service.record("x")
            assert (record.status, record.version) == ("error", version)
            assert record.error == "\"Port\" must be a whole number, not 'many'"
            assert service.site.pings == []
            await edit(service, "x", configuration={**record.configuration, "port": {"value": "21"}})
            await asyncio.sleep(5)
            assert await status(service) == ("connected", None)
            assert (await service.record("x")).configuration["port"]["value"] == "21", (
                "values stay as they were written"
            )

    with caplog.at_level(logging.WARNING, "connectors"):
        play(scenario, tmp_path)
    assert caplog.messages == ["x: \"Port\" must be a whole number, not 'many'"]


def test_a_source_that_cannot_be_reached_is_tried_again_every_five_minutes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["x"] = RetryableError("the wiki does not answer")
        await write_connector(service, "x", READY)
        async with daemon_runs(service):
            await asyncio.sleep(320)
            assert await status(service) == ("error", "the wiki does not answer")
            assert len(service.site.pings) == 2
            service.site.ping_errors.clear()
            await asyncio.sleep(300)
            assert await status(service) == ("connected", None)

    with caplog.at_level(logging.WARNING, "connectors"):
        play(scenario, tmp_path)
    assert caplog.messages == ["x: the wiki does not answer"]


def test_a_source_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def hang(self: Any) -> None:
            if self.name_of_connector.startswith("slow"):
                await asyncio.sleep(100_000)

        service.source_class.ping = hang  # type: ignore[method-assign]  # another source
        for name in ("slow1", "slow2", "quick"):
            await write_connector(service, name, {**READY, "configuration": {"name": {"value": name}}})
        async with daemon_runs(service):
            await asyncio.sleep(3)
            assert await status(service, "quick") == ("connected", None)
            await asyncio.sleep(40)
            assert await status(service, "slow1") == ("error", "the source did not answer within 30s")

    play(scenario, tmp_path)


@pytest.mark.parametrize("kind", [None, "", "of-another-service", 5])
def test_a_source_that_is_not_known_is_left_alone_with_its_jobs(
    tmp_path: Path, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", {**READY, "service_type": kind, "scheduling": EVERY_MINUTE})
        for status in ("pending", "canceling", "suspended"):
            await write_job(service, status, status=status)
        async with daemon_runs(service):
            await asyncio.sleep(320)
        assert (await service.record("x")).version == 1
        assert {job.id: job.version for job in await service.jobs()} == {"pending": 1, "canceling": 1, "suspended": 1}

    with caplog.at_level(logging.INFO, "connectors"):
        play(scenario, tmp_path)
    assert len([line for line in caplog.messages if "x: its record is left alone" in line]) == 1


def test_a_record_without_an_index_waits_with_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", {**READY, "index_name": None, "scheduling": EVERY_MINUTE})
        await write_job(service, "j")
        async with daemon_runs(service):
            await asyncio.sleep(70)
            assert (await status(service))[0] == "needs_configuration"
            assert "names no index" in ((await status(service))[1] or "")
            (job,) = await service.jobs()
            assert (job.status, "names no index" in (job.error or "")) == ("error", True)
            await edit(service, "x", index_name="foreign")
            await asyncio.sleep(70)
            assert await status(service) == ("connected", None)
            assert "completed" in await service.statuses()

    with caplog.at_level(logging.WARNING, "connectors.records"):
        play(scenario, tmp_path)
    assert len([line for line in caplog.messages if line.startswith("x: its record names no index")]) == 1


def test_a_sign_of_life_every_five_minutes_and_no_other_write(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", READY)
        async with daemon_runs(service), daemon_runs(service):
            await asyncio.sleep(10)
            before = {name: (await service.record(name)).version for name in ("a", "x")}
            await asyncio.sleep(900)
            for name in ("a", "x"):
                record = await service.record(name)
                assert record.version - before[name] == 3
                assert record.last_seen is not None
                assert (service.runtime.now() - record.last_seen).total_seconds() <= 301

    play(scenario, tmp_path, connector("a", full=None))


def test_what_the_record_has_is_kept_and_what_it_lacks_is_added(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        features = {"native_connector_api_keys": {"enabled": True}, "sync_rules": "yes"}
        configuration = {
            "name": {"value": "x", "label": "Mine", "tooltip": None, "odd": [1]}, "url": "bare", "password": SECRET,
            "more": {"value": 1, "x": 2},
        }  # fmt: skip
        record = {
            **READY, "configuration": configuration, "features": features, "is_native": "true", "sync_now": True,
            "custom": {"a": [1]}, "language": None, "last_indexed_document_count": "12",
            "last_deleted_document_count": "lots", "last_synced": "2024-01-01T00:00",
            "last_sync_scheduled_at": "1717156800000", "name": 7,
        }  # fmt: skip
        await write_connector(service, "x", record)
        async with daemon_runs(service):
            await asyncio.sleep(10)
        found = await service.record("x")
        written = found.to_record()
        assert found.status == "connected"
        assert found.configuration["name"] == {
            **found.configuration["name"], "value": "x", "label": "Mine", "tooltip": None, "odd": [1], "type": "str",
        }  # fmt: skip
        assert found.configuration["url"]["value"] == "bare"
        assert found.configuration["password"] | {"value": SECRET, "sensitive": True} == found.configuration["password"]
        assert found.configuration["more"] == configuration["more"]
        assert found.features == {**features, **service.source_class.features()}
        assert (written["custom"], written["sync_now"], written["name"]) == ({"a": [1]}, True, 7)
        assert written["last_deleted_document_count"] == "lots", "what cannot be read stays as it was written"
        assert (found.is_native, found.last_indexed_document_count, found.name) == (True, 12, "")
        assert found.last_synced is not None
        assert await service.jobs() == [], "sync_now of older versions starts nothing"

    play(scenario, tmp_path)


def test_the_schedule_of_older_versions_is_followed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        old = EVERY_MINUTE["full"]
        await write_connector(service, "x", {**READY, "scheduling": old})
        await write_connector(service, "y", {**READY, "scheduling": {**old, "enabled": False}})
        async with daemon_runs(service):
            await asyncio.sleep(130)
        assert await service.statuses("x") == ["completed"] * 3
        assert await service.jobs("y") == []

    play(scenario, tmp_path)


def test_the_error_of_a_sync_is_taken_out_by_a_sync_or_an_edit_alone(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await write_connector(service, "x", READY)
        service.site.scripts["x"] = [ValueError("a broken page")]
        async with daemon_runs(service):
            await asyncio.sleep(5)
            await write_job(service, "1")
            await asyncio.sleep(400)
            assert (await status(service))[0] == "error"
            assert "a broken page" in ((await status(service))[1] or "")
        async with daemon_runs(service):  # after a restart too
            await asyncio.sleep(400)
            assert (await status(service))[0] == "error"
            configuration = (await service.record("x")).configuration
            await edit(service, "x", configuration={**configuration, "url": {"value": "another"}})
            await asyncio.sleep(5)
            assert await status(service) == ("connected", None)

    play(scenario, tmp_path)


def test_an_error_of_ours_is_taken_out_after_a_restart(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["x"] = ConfigurationError("the token is wrong")
        await write_connector(service, "x", READY)
        async with daemon_runs(service):
            await asyncio.sleep(5)
            assert await status(service) == ("error", "the token is wrong")
        service.site.ping_errors.clear()
        async with daemon_runs(service):
            await asyncio.sleep(5)
            assert await status(service) == ("connected", None)

    play(scenario, tmp_path)


@pytest.mark.parametrize("field", ["password", "api_token"])
def test_a_secret_of_a_record_is_copied_nowhere(tmp_path: Path, field: str, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        service.site.ping_errors["x"] = ConfigurationError(f"the server refuses {SECRET}")
        configuration = {"name": {"value": "x"}, field: {"value": SECRET}}
        await write_connector(service, "x", {**READY, "configuration": configuration, "scheduling": EVERY_MINUTE})
        async with daemon_runs(service):
            await asyncio.sleep(5)
            assert await status(service) == ("error", "the server refuses ***")
            await service.operations.sync_now("x")
            await asyncio.sleep(120)
            service.site.ping_errors.clear()
            await asyncio.sleep(120)
            assert "completed" in await service.statuses()
        assert service.site.made[-1].settings[field] == SECRET, "the source itself has it"
        jobs = [job.to_record() for job in await service.jobs()]
        states = [dict((await service.store.state("x")).data)]
        assert SECRET not in orjson.dumps([jobs, states]).decode()
        record = await service.record("x")
        assert SECRET not in repr(record)
        assert orjson.dumps(record.to_record()).decode().count(SECRET) == 1

    with caplog.at_level(logging.DEBUG):
        play(scenario, tmp_path)
    assert SECRET not in caplog.text


def test_a_record_that_is_edited_while_its_source_is_tried_keeps_the_edit(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def ping(self: Any) -> None:
            if self.configuration["url"] != "good":
                await edit(service, "x", configuration={"name": {"value": "x"}, "url": {"value": "good"}})
                raise ConfigurationError("the address is wrong")

        service.source_class.ping = ping  # type: ignore[method-assign]  # another source
        await write_connector(service, "x", READY)
        async with daemon_runs(service):
            await asyncio.sleep(10)
            record = await service.record("x")
            assert (record.status, record.error, record.configuration["url"]["value"]) == ("connected", None, "good")

    play(scenario, tmp_path)


def test_a_source_that_declares_nonsense_is_an_error_of_its_records_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        def fail(cls: type) -> dict[str, Any]:
            raise ZeroDivisionError

        broken = type("Broken", (service.source_class,), {"get_default_configuration": classmethod(fail)})
        service.catalog.replace({**service.catalog.paths, "broken": "m:Broken", "gone": "no_such_module_here:X"})
        service.catalog._loaded["broken"] = broken
        await write_connector(service, "x", READY)
        await write_connector(service, "b", {**READY, "service_type": "broken"})
        await write_connector(service, "g", {**READY, "service_type": "gone"})
        await write_connector(service, "c", {**READY, "configuration": "host=db"})
        async with daemon_runs(service):
            await asyncio.sleep(100)
            assert await status(service, "b") == ("error", "ZeroDivisionError")
            assert "cannot be imported" in ((await status(service, "g"))[1] or "")
            assert "its configuration in the record is none" in ((await status(service, "c"))[1] or "")
            assert (await service.record("c")).to_record()["configuration"] == "host=db"
            assert await status(service) == ("connected", None)

    with caplog.at_level(logging.WARNING, "connectors"):
        play(scenario, tmp_path)
    told = [line.partition(":")[0] for line in caplog.messages]
    assert sorted(told) == ["b", "c", "c", "g"], caplog.messages  # of c also that its field cannot be read


@pytest.mark.parametrize("name", ["../../up", "a/b", ".", "..", "", "x" * 300, "ä", "a\x00b", "\udcff"])
def test_an_id_leads_out_of_no_folder(tmp_path: Path, name: str) -> None:
    async def scenario(service: Service) -> None:
        folder = service.services("one").folder(name)
        assert folder.parent == tmp_path / "one" / "ledgers"
        assert folder.name not in {"", ".", ".."}
        assert folder != service.services("one").folder(f"{name}-")

    play(scenario, tmp_path)


def test_records_and_jobs_know_what_they_could_not_read() -> None:
    record = Connector.from_record("x", {"status": 5, "name": "n", "filtering": "all", "last_synced": True})
    assert record.unreadable == ["filtering", "last_synced", "status"]
    assert record.active_filter.basic_rules == ["all"], "no rule, so that no sync runs without it"
    assert record.with_(status="configured").to_record()["status"] == "configured"
    assert record.with_(name="m").to_record()["status"] == 5
