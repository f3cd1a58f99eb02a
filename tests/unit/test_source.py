"""The contract of a source: what `BaseDataSource`, or `with_defaults`, gives to a class."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import connectors.source
from connectors.errors import ConfigurationError
from connectors.filtering.validation import FilterValidationState
from connectors.source import (
    AdvancedRulesValidator,
    BaseDataSource,
    BasicRuleValidator,
    Checkpoint,
    DataSourceConfiguration,
    Filter,
    FrameworkConfig,
    IncrementalItem,
    Skipped,
    SourceItem,
    SyncRuleValidationResult,
    with_defaults,
)


class Notes(BaseDataSource):
    name = "Notes"
    service_type = "notes"
    incremental_sync_enabled = True

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        return {"url": {"label": "Address", "value": ""}}

    async def ping(self) -> None:
        return

    async def get_docs(self, filtering: Filter | None = None, *, checkpoint: Any = None) -> AsyncIterator[SourceItem]:
        yield {"_id": "1"}, None
        yield Checkpoint({"at": 1})
        yield Skipped("unreadable", "2")


class Few(BaseDataSource):
    """Takes no more than it needs, and a strict type checker has nothing against it."""

    async def ping(self) -> None:
        return

    async def get_docs(self, filtering: Filter | None = None) -> AsyncIterator[SourceItem]:
        yield {"_id": "1"}, None

    async def get_docs_incrementally(
        self, sync_cursor: Any, filtering: Filter | None = None
    ) -> AsyncIterator[IncrementalItem]:
        yield {"_id": "1"}, None, "delete"


class Parted(Few):
    async def get_docs(
        self, filtering: Filter | None = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncIterator[SourceItem]:
        yield {"_id": str(partition)}, None


async def test_a_source_takes_no_more_arguments_than_it_needs() -> None:
    few = Few(DataSourceConfiguration({}))
    assert [item async for item in few.get_docs()] == [({"_id": "1"}, None)]
    assert [item async for item in few.get_docs_incrementally(None)] == [({"_id": "1"}, None, "delete")]
    parted = Parted(DataSourceConfiguration({}))
    assert [item async for item in parted.get_docs(partition=7)] == [({"_id": "7"}, None)]


def test_all_that_an_author_annotates_with_is_exported() -> None:
    public = {
        name
        for name, value in vars(connectors.source).items()
        if getattr(value, "__module__", "") == "connectors.source"
    }
    assert public <= set(connectors.source.__all__)
    assert set(connectors.source.__all__) >= {"Filter", "IncrementalItem", "Operation", "AdvancedRulesValidator"}
    assert all(hasattr(connectors.source, name) for name in connectors.source.__all__)


async def test_a_source_of_a_few_lines_has_all_members() -> None:
    source = Notes(DataSourceConfiguration({"url": "x"}))
    await source.ping()
    await source.validate_config()
    assert [item async for item in source.get_docs()] == [
        ({"_id": "1"}, None),
        Checkpoint({"at": 1}),
        Skipped("unreadable", "2"),
    ]
    assert await source.changed() is True
    assert source.sync_cursor() is None
    assert (list(await source.discover()), list(await source.partitions())) == ([], [])
    assert source.serialize({"a": 1}) == {"a": 1}
    options: dict[str, Any] = {}
    source.tweak_bulk_options(options)
    assert options == {}
    await source.close()
    await source.close()


async def test_the_configuration_is_checked_in_words() -> None:
    source = Notes(DataSourceConfiguration.merge(Notes.get_default_configuration(), {}))
    with pytest.raises(ConfigurationError, match='"Address" is required'):
        await source.validate_config()


async def test_what_a_source_must_have_is_not_there_by_default() -> None:
    source = BaseDataSource(DataSourceConfiguration())
    with pytest.raises(NotImplementedError):
        await source.ping()
    for read in (source.get_docs, source.get_access_control):
        with pytest.raises(NotImplementedError):
            read()
    with pytest.raises(NotImplementedError):
        source.get_docs_incrementally(None)
    with pytest.raises(NotImplementedError):
        source.access_control_query([])
    assert BaseDataSource.get_default_configuration() == {}


def test_features_follow_the_class_attributes() -> None:
    assert Notes.features() == {
        "document_level_security": {"enabled": False},
        "incremental_sync": {"enabled": True},
        "sync_rules": {"basic": {"enabled": True}, "advanced": {"enabled": False}},
    }


def test_a_long_id_is_hashed_to_the_same_short_one() -> None:
    long = "ü" * 10_000 + "\ud800"
    assert Notes.hash_id(long) == Notes.hash_id(long) != Notes.hash_id(long + "x")
    assert len(Notes.hash_id(long).encode()) <= 64


def test_the_framework_hands_over_its_things(tmp_path: Path) -> None:
    source = Notes(DataSourceConfiguration())
    logger, framework = logging.getLogger("notes"), FrameworkConfig(base_dir=tmp_path)
    source.set_logger(logger)
    source.set_features({"x": 1})
    source.set_framework_config(framework)
    assert (source.logger, source._features, source.framework_config) == (logger, {"x": 1}, framework)
    assert Notes(DataSourceConfiguration()).logger is not logger, "another source has its own"


def test_what_a_source_yields_between_documents_is_a_value() -> None:
    assert Checkpoint(1) == Checkpoint(1) != Checkpoint(2)
    assert Skipped("why").id is None
    assert Skipped("why", _id="7").id == "7"


# A class without the base class


class Plain:
    """Has the methods of a source, knows nothing of ours, and never calls our `__init__`."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        self.config = configuration

    async def ping(self) -> None:
        return

    async def get_docs(self, filtering: Any = None) -> AsyncIterator[Any]:
        yield {"_id": self.config["word"]}, None


async def test_a_class_without_the_base_class_gets_the_defaults() -> None:
    completed: Any = with_defaults(Plain)
    source = completed({"word": "a"})
    assert [item async for item in source.get_docs()] == [({"_id": "a"}, None)]
    assert await source.changed() is True
    await source.validate_config()
    await source.close()
    assert completed.features()["incremental_sync"] == {"enabled": False}
    assert (completed.__name__, completed.__module__) == ("Plain", Plain.__module__)
    assert with_defaults(Notes) is Notes


# Sync rules


class NoTitles(BasicRuleValidator):
    def validate(self, rule: Mapping[str, Any]) -> SyncRuleValidationResult:
        wrong = rule.get("field") == "title"
        return SyncRuleValidationResult(str(rule.get("id")), not wrong, "write name" if wrong else "")


class NoTables(AdvancedRulesValidator):
    def validate(self, advanced_rules: Any) -> list[SyncRuleValidationResult]:
        return [
            SyncRuleValidationResult(
                SyncRuleValidationResult.ADVANCED_RULES, is_valid=False, validation_message=f"no {name}"
            )
            for name in advanced_rules
        ]


class RuledNotes(Notes):
    advanced_rules_enabled = True

    @classmethod
    def basic_rules_validators(cls) -> list[Any]:
        return [*super().basic_rules_validators(), NoTitles]

    def advanced_rules_validators(self) -> list[Any]:
        return [NoTables()]


def rule(**changes: Any) -> dict[str, Any]:
    return {"id": "1", "order": 1, "policy": "exclude", "field": "a", "rule": "equals", "value": "x", **changes}


async def test_a_source_validates_with_the_default_validators_and_its_own() -> None:
    source = RuledNotes(DataSourceConfiguration())
    result = await source.validate_filtering(Filter.of([rule(field="title", value="")], {"t1": "", "t2": ""}))
    assert [message for error in result.errors for message in error.messages] == ["write name", "no t1", "no t2"]
    assert (await source.validate_filtering(Filter.of([rule()]))).is_valid
    assert (await source.validate_filtering(Filter())).is_valid
    result = await source.validate_filtering(Filter.of([rule(rule="regex", value=".*")]))
    assert result.state == FilterValidationState.INVALID
    assert list(RuledNotes.basic_rule_validators())[-1] is NoTitles


async def test_a_source_that_takes_no_advanced_rules_says_so() -> None:
    source = Notes(DataSourceConfiguration())
    result = await source.validate_filtering(Filter.of([rule(policy="x")], {"orders": "SELECT 1"}))
    assert result.state == FilterValidationState.INVALID
    assert [list(error.ids) for error in result.errors] == [["1"], ["advanced_snippet"]]
    assert "the source Notes takes no advanced rules: remove them" in str(result)
