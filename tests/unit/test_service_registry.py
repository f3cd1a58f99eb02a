"""`config.yml` owns its connectors: their records say what it says, keep what syncs wrote, and hold no secret."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.byoc import Connector
from connectors.errors import ConfigurationError, NotFoundError
from connectors.service.catalog import SourceCatalog
from connectors.service.registry import (
    Registry,
    configuration_fingerprint,
    declared_record,
    is_declared,
    is_orphaned,
)
from connectors.source import BaseDataSource
from connectors.testing.shelf import ShelfDataSource
from tests.support.service import Service, connector, play

PASSWORD = "correct'horse\\battery"  # with characters that a repr escapes
TOKEN = "t0k3n-of-the-site"


async def everything(service: Service) -> str:
    """All that the store holds, as text."""
    connectors = [record.to_record() for record in await service.store.connectors()]
    jobs = [job.to_record() for job in await service.jobs()]
    states = [dict((await service.store.state(record.id)).data) for record in await service.store.connectors()]
    return orjson.dumps([connectors, jobs, states]).decode() + f"{connectors}{jobs}{states}"


@pytest.mark.parametrize(
    "where",
    [
        {"configuration": {"password": PASSWORD}},
        {"configuration": {"url": f"https://joe:{PASSWORD}@example.org/{TOKEN}"}},
        {"configuration": {"tags": ["plain", f"x{PASSWORD}y", {"deep": [TOKEN]}]}},
        {"configuration": {"undeclared": {"header": f"Bearer {TOKEN}"}}},
        {"description": f"the site of {PASSWORD}"},
        {"filtering": {"rules": [{"policy": "include", "field": "f", "rule": "equals", "value": TOKEN}]}},
        {"filtering": {"advanced": {"query": f"where token = '{TOKEN}'"}}},
    ],
)
def test_no_record_holds_a_secret(tmp_path: Path, where: dict[str, Any]) -> None:
    async def scenario(service: Service) -> None:
        service.source_class.advanced_rules_enabled = True
        await service.sync("a")
        text = await everything(service)
        for secret in (PASSWORD, TOKEN, "battery", "correct"):
            assert secret not in text
        (source,) = service.site.made
        for name, value in where.get("configuration", {}).items():
            assert source.configuration[name] == value  # the source itself has it whole

    play(scenario, tmp_path, connector("a", **where), secrets=frozenset({PASSWORD, TOKEN}))


def test_a_number_that_is_a_secret_is_in_no_record(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        record = await service.record("a")
        assert record.configuration["pin"]["value"] is None
        assert record.configuration["port"]["value"] == 8321
        assert record.configuration["on"]["value"] is True

    settings = {"pin": 48151623, "port": 8321, "on": True}
    play(scenario, tmp_path, connector("a", configuration=settings), secrets=frozenset({"48151623"}))


def test_rules_with_secrets_work_though_the_record_lacks_them(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = [({"_id": "1", "owner": TOKEN}, None), ({"_id": "2", "owner": "joe"}, None)]
        await service.sync("a")
        assert set(service.indexed()) == {"2"}

    rule = {"policy": "exclude", "field": "owner", "rule": "equals", "value": TOKEN}
    play(scenario, tmp_path, connector("a", filtering={"rules": [rule]}), secrets=frozenset({TOKEN}))


def test_the_fingerprint_knows_the_part_of_a_value_that_is_no_secret(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        found = set()
        for host in ("one", "two"):
            await service.apply(
                connector("a", configuration={"url": f"https://{TOKEN}@{host}"}), secrets=frozenset({TOKEN})
            )
            found.add(configuration_fingerprint(await service.record("a")))
        await service.apply(
            connector("a", configuration={"url": f"https://{PASSWORD}@two"}), secrets=frozenset({PASSWORD})
        )
        found.add(configuration_fingerprint(await service.record("a")))
        assert len(found) == 2  # another secret reads the same documents

    play(scenario, tmp_path)


def test_applying_again_writes_nothing(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        version = (await service.record("a")).version
        for _ in range(3):
            await service.apply()
        assert (await service.record("a")).version == version

    play(scenario, tmp_path, connector("a", configuration={"tags": ["x", "y"]}, description=None))


def test_an_edit_of_the_file_keeps_what_syncs_wrote(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        before = (await service.record("a")).to_record()
        await service.apply(connector("a", full="every 1h", name="The shelf", index="other"))
        after = (await service.record("a")).to_record()
        changed = {key for key in after if after[key] != before.get(key)}
        assert changed == {"scheduling", "name", "index_name", "declared_digest"}
        assert after["last_synced"]

    with caplog.at_level(logging.WARNING, "connectors.registry"):
        play(scenario, tmp_path, connector("a"))
    assert not caplog.messages  # an edit of the file is nobody's fault


def test_a_foreign_edit_is_undone_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(service: Service) -> None:
        before = (await service.record("a")).to_record()
        await service.store.update_connector("a", {"index_name": "elsewhere", "filtering": [], "error": "mine"})
        await service.apply()
        after = (await service.record("a")).to_record()
        assert {key for key in after if after[key] != before[key]} == {"error"}

    with caplog.at_level(logging.WARNING, "connectors.registry"):
        play(scenario, tmp_path, connector("a"))
    (message,) = caplog.messages
    assert "somebody changed filtering, index_name" in message


def test_a_foreign_edit_is_told_after_a_restart_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from connectors.service.registry import Registry

    async def scenario(service: Service) -> None:
        await service.store.update_connector("a", {"index_name": "elsewhere"})
        await Registry(service.store, service.catalog).apply(service.config)
        assert (await service.record("a")).index_name == "shelf"

    with caplog.at_level(logging.WARNING, "connectors.registry"):
        play(scenario, tmp_path, connector("a"))
    assert "somebody changed index_name" in caplog.text


def test_a_removed_record_comes_back(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.store.remove_connector("a")
        await service.apply()
        assert is_declared(await service.record("a"))

    play(scenario, tmp_path, connector("a"))


def test_a_pause_of_the_operator_survives_until_the_file_speaks(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def paused() -> bool:
            return (await service.record("a")).paused

        await service.operations.pause("a")
        await service.apply()
        await service.apply(connector("a", full="every 2m"))
        assert await paused()
        await service.apply(connector("a", paused=True))
        assert await paused()
        await service.operations.pause("a", paused=False)
        await service.apply(connector("a", paused=True, name="another edit"))
        assert not await paused()
        await service.apply(connector("a", paused=False))
        assert not await paused()
        await service.apply(connector("a", paused=True))
        assert await paused()

    play(scenario, tmp_path, connector("a"))


def test_a_connector_leaves_the_file_and_returns(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        synced = (await service.record("a")).last_synced
        await service.apply(connector("b"))
        record = await service.record("a")
        assert is_orphaned(record)
        assert len(service.indexed()) == 3
        with pytest.raises(ConfigurationError, match=r"no longer in config\.yml"):
            await service.operations.sync_now("a")
        await service.apply(connector("a"), connector("b"))
        record = await service.record("a")
        assert is_declared(record)
        assert record.last_synced == synced
        assert (await service.sync("a")).metadata["counters"]["unchanged"] == 3

    play(scenario, tmp_path, connector("a"))


def test_a_record_of_another_tool_becomes_the_files_own(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        other = {"service_type": "other", "index_name": "x", "custom": {"kept": 1}}
        await service.store.put_connector(Connector.from_record("a", other))
        await service.apply(connector("a"))
        record = await service.record("a")
        assert is_declared(record)
        assert (record.index_name, record.extra["custom"]) == ("shelf", {"kept": 1})

    play(scenario, tmp_path)


def test_two_workers_declare_the_same_at_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        async def give_way() -> None:
            await asyncio.sleep(0)

        service.store.before = lambda _: give_way()
        service.config = service.configured(*(connector(f"c{number}") for number in range(10)))
        await asyncio.gather(*(service.registry.apply(service.config) for _ in range(4)))
        assert len(await service.store.connectors()) == 10

    play(scenario, tmp_path)


def test_what_cannot_be_kept_is_a_configuration_error() -> None:
    class Odd(BaseDataSource):
        @classmethod
        def get_default_configuration(cls) -> dict[str, Any]:
            return {"folder": {"type": "str", "value": Path("folder")}}

    from connectors.config import ConnectorConfig

    declared = ConnectorConfig.model_validate({"id": "a", "service_type": "odd", "index": "i"})
    with pytest.raises(ConfigurationError, match="a \\(odd\\) cannot be kept as a record"):
        declared_record(declared, Odd, ())


# Sources by name


PLAIN = """
class Plain:
    def __init__(self, configuration):
        self.configuration = configuration

    async def ping(self):
        pass

    async def get_docs(self, filtering=None):
        yield {"_id": "1"}, None
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("get_docs(", "docs("), r"\(odd_source:Plain\) has no method get_docs\(\); see docs/SOURCES.md"),
        (("ping(", "pong("), r"has no method ping\(\)"),
        (("def __init__", "incremental_sync_enabled = True\n    def __init__"), "and says incremental_sync_enabled"),
        (
            ("async def ping", "def get_default_configuration(self): ...\n    async def ping"),
            "a class method .* 'self'",
        ),
        (
            ("async def ping", "get_default_configuration = lambda: None\n    async def ping"),
            "that returns a dict of dicts",
        ),
        (("async def ping", "get_default_configuration = lambda: {'a': 'b'}\n    async def ping"), "a dict of dicts"),
    ],
)
def test_a_class_that_is_no_source_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], words: str
) -> None:
    text = PLAIN.replace(*change)
    assert text != PLAIN
    (tmp_path / "odd_source.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "odd_source", raising=False)
    with pytest.raises(ConfigurationError, match=words):
        SourceCatalog({"odd": "odd_source:Plain"}).get("odd")
    sys.modules.pop("odd_source", None)


def test_the_catalog_gives_a_plain_class_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plain_source.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    catalog = SourceCatalog({"plain": "plain_source:Plain"})
    assert issubclass(catalog.get("plain"), BaseDataSource)
    assert catalog.get("plain") is catalog.get("plain")
    assert catalog.service_types() == ["plain"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_module_at_all:Thing", "cannot be imported"),
        ("connectors.source:NoSuchClass", "has no class NoSuchClass"),
        ("connectors.source:dataclass", "has no class dataclass"),
    ],
)
def test_a_source_that_cannot_be_loaded_says_so(path: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        SourceCatalog({"x": path}).get("x")


def test_a_module_that_fails_while_it_is_imported_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_source.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
        SourceCatalog({"x": "failing_source:Thing"}).get("x")


def test_an_unknown_service_type_names_the_nearest() -> None:
    with pytest.raises(NotFoundError, match='did you mean "directory"'):
        SourceCatalog({"directory": "a:B"}).get("directry")
    with pytest.raises(NotFoundError, match="there are directory"):
        SourceCatalog({"directory": "a:B"}).get("zebra")


def test_replacing_the_catalog_reloads_only_what_moved() -> None:
    first = "connectors.sources.directory:DirectoryDataSource"
    catalog = SourceCatalog({"one": first, "two": first})
    kept = catalog.get("one"), catalog.get("two")
    catalog.replace({"one": first, "two": "connectors.testing.shelf:ShelfDataSource"})
    assert catalog.get("one") is kept[0]
    assert catalog.get("two") is ShelfDataSource
    assert set(catalog.paths) == {"one", "two"}


def test_a_source_whose_import_outlasts_its_declaration_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    first = "connectors.sources.directory:DirectoryDataSource"
    catalog = SourceCatalog({"one": first})

    def slow(path: str) -> object:
        catalog.replace({})  # an edit of the file comes while a thread imports
        return import_module(path)

    monkeypatch.setattr(importlib, "import_module", slow)
    assert catalog.get("one").service_type == "directory"
    catalog.replace({"one": "connectors.testing.shelf:ShelfDataSource"})
    assert catalog.get("one") is ShelfDataSource


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([connector("b")], "that lacks it"),
        ([connector("a", index="elsewhere"), connector("b")], "that says something else of it"),
    ],
)
def test_two_files_on_one_store_are_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, others: list[dict[str, Any]], words: str
) -> None:
    async def scenario(service: Service) -> None:
        other, theirs = Registry(service.store, service.catalog), service.configured(*others)
        for _ in range(4):
            await service.registry.apply(service.config)
            await other.apply(theirs)
        told = [line for line in caplog.messages if "the two undo each other" in line]
        assert words in next(line for line in told if line.startswith("a: "))
        assert len(told) <= 3, "once of each connector by each daemon"

    play(scenario, tmp_path, connector("a"))


def test_an_edit_that_one_daemon_sees_before_another_is_no_fight(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(service: Service) -> None:
        other = Registry(service.store, service.catalog)
        for index in ("one", "two", "three", "four"):
            edited = service.configured(connector("a", index=index))
            await service.registry.apply(edited)
            await other.apply(service.config)
            service.config = edited
            await other.apply(edited)
            await service.registry.apply(edited)
        assert "undo each other" not in caplog.text

    play(scenario, tmp_path, connector("a"))
