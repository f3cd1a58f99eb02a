"""The daemon on the embedded index takes up what others write into its tables; `connectors check` shows drafts."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from connectors.app import open_app, open_application
from connectors.byoc import Connector
from connectors.cli.checks import _check_connector
from connectors.cli.subjects import subjects
from connectors.config import Config

WRONG = {"id": "r", "policy": "exclude", "field": "path", "rule": "resembles", "value": "x", "order": 1}


def configured(folder: Path) -> Config:
    (folder / "docs").mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / "docs" / name).write_text(f"the text of {name}")
    service = {"data_dir": str(folder / "data"), "poll_interval": "0.1s"}
    return Config.model_validate({"service": service, "extraction": {"enabled": False}, "connectors": []})


def foreign(folder: Path, **more: Any) -> dict[str, Any]:
    values = {"directory": {"value": str(folder / "docs")}}
    return {"service_type": "directory", "index_name": "docs", "configuration": values, **more}


def insert_job(path: Path, job_id: str, record: dict[str, Any]) -> None:
    """Writes a row as a foreign program does."""
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        database.execute(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, NULL, 1, ?)",
            (job_id, record["connector"]["id"], "full", record["status"], orjson.dumps(record)),
        )


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await condition():  # noqa: ASYNC110 - what is waited for stands in a file
            await asyncio.sleep(0.05)


async def test_a_connector_and_a_job_written_from_outside_run(tmp_path: Path) -> None:
    config = configured(tmp_path)
    async with open_application(config) as application:
        store = application.app.store
        stop = asyncio.Event()
        running = asyncio.create_task(application.daemon.run(stop))

        async def connected() -> bool:
            return (await store.connector("x")).status == "connected"

        async def ended() -> bool:
            return (await store.job("by-hand")).ended

        await store.put_connector(Connector.from_record("junk", {"service_type": "directory", "last_synced": "never"}))
        await store.put_connector(Connector.from_record("x", foreign(tmp_path)))
        await until(connected)
        record = {"connector": {"id": "x"}, "job_type": "full", "status": "pending", "trigger_method": "on_demand"}
        insert_job(config.embedded_path, "by-hand", record)
        await until(ended)
        job = await store.job("by-hand")
        assert (job.status, job.error, job.total_document_count) == ("completed", None, 2)
        assert (await store.connector("x")).configuration["include"]["default_value"] == ["**"]
        assert (await store.connector("junk")).status == "needs_configuration"
        stop.set()
        await running


async def test_check_shows_an_invalid_draft(tmp_path: Path) -> None:
    async with open_app(configured(tmp_path)) as app:
        for name, state in (("edited", "edited"), ("judged", "invalid"), ("settled", "valid")):
            errors = [{"ids": ["r"], "messages": ["it resembles nothing"]}] if state == "invalid" else []
            draft = {"rules": [WRONG], "validation": {"state": state, "errors": errors}}
            domain = {"domain": "DEFAULT", "active": {"rules": []}, "draft": draft}
            await app.store.put_connector(Connector.from_record(name, foreign(tmp_path, filtering=[domain])))
        checks = {found.connector.id: await _check_connector(app, found) for found in await subjects(app)}
    assert {name: check.good for name, check in checks.items()} == {"edited": False, "judged": False, "settled": True}
    before = "its edited sync rules are not valid, so those before stay in force: rule r: "
    assert checks["edited"].message.startswith(f"{before}`rule` is 'resembles'")
    assert checks["judged"].message == f"{before}it resembles nothing"
