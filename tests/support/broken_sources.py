"""Sources that break rules about what is declared and what is yielded."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from connectors.source import Checkpoint, ConfigurationError, Discovered, Document, Skipped, SourceItem
from connectors.testing.shelf import Connection, Row, Shelf, ShelfDataSource, TopicsValidator
from tests.support.broken import Registry

__all__ = ["BROKEN"]

BROKEN = Registry()
breaks = BROKEN.breaks


# What a source declares, and its life


@breaks("test_it_says_what_it_is", found="`name` is empty")
class Nameless(ShelfDataSource):
    name = ""


@breaks("test_the_declared_fields_are_well_formed", found='"password" sounds like a secret')
class ShowsItsPassword(ShelfDataSource):
    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        fields = super().get_default_configuration()
        return {**fields, "password": {**fields["password"], "sensitive": False}}


@breaks("test_the_defaults_and_the_given_settings_are_valid", found='the default of "page_size" is refused')
class RefusesItsDefault(ShelfDataSource):
    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        fields = super().get_default_configuration()
        return {**fields, "page_size": {**fields["page_size"], "default_value": -1}}


@breaks("test_a_missing_setting_is_refused", found='without "shelf", validate_config\\(\\) found nothing wrong')
class TakesNothing(ShelfDataSource):
    async def validate_config(self) -> None:
        self.configuration["page_size"]


@breaks("test_a_setting_of_another_type_is_refused", found='"page_size", validate_config\\(\\) raised ValueError')
class ConvertsByItself(ShelfDataSource):
    async def validate_config(self) -> None:
        int(self.configuration.get_field("page_size").raw or 1)
        self.configuration.check_valid()


@breaks("test_making_one_opens_nothing", found="making a source opened the descriptor")
class OpensEagerly(ShelfDataSource):
    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self.file = Path(sys.executable).open("rb")  # noqa: SIM115 - that is what is wrong with it

    async def close(self) -> None:
        self.file.close()
        await super().close()


@breaks("test_close_may_be_called_at_any_time", found=r"close\(\) a second time, before the first use raised")
class ClosesOnce(ShelfDataSource):
    closed = False

    async def close(self) -> None:
        await super().close()
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


@breaks("test_forgetting_takes_no_documents", found="called twice, forget.. raised .*not there")
class ForgetsOnce(ShelfDataSource):
    forgotten = False

    async def forget(self) -> None:
        if self.forgotten:
            raise RuntimeError("the hook is not there")
        self.forgotten = True


@breaks("test_ping_reaches_the_backend", found="returned False")
class AnswersFalse(ShelfDataSource):
    async def ping(self) -> None:
        await super().ping()
        return False  # type: ignore[return-value]  # that is what is wrong with it


@breaks("test_a_wrong_configuration_is_told", found="found nothing wrong")
class PingsNobody(ShelfDataSource):
    async def ping(self) -> None:
        """Believes."""


@breaks("test_a_wrong_configuration_is_told", found="it raised RuntimeError")
class RefusesVaguely(ShelfDataSource):
    def connect(self) -> Connection:
        try:
            return super().connect()
        except ConfigurationError as error:
            raise RuntimeError("401") from error


@breaks("test_a_wrong_configuration_is_told", found="holds the value of a sensitive setting")
class TellsThePassword(ShelfDataSource):
    def connect(self) -> Connection:
        try:
            return super().connect()
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}, not {self.configuration['password']}") from error


@breaks("test_a_wrong_configuration_is_told", found="with password changed, it left 1 connections")
class KeepsWhatItOpened(ShelfDataSource):
    def connect(self) -> Connection:
        first = Connection(Shelf.find(self.configuration["shelf"]))
        connection = super().connect()
        first.close()
        return connection


@breaks("test_what_could_be_synced_is_listed_in_settings", found='it names the setting "shelves"')
class DiscoversWhatItCannotTake(ShelfDataSource):
    async def discover(self) -> list[Discovered]:
        return [Discovered("one", "a shelf", {"shelves": "one"})]


# What it yields


class Meddling(ShelfDataSource):
    """Changes the items of a full reading."""

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[SourceItem]:
        stream: Any = super().get_docs(filtering, checkpoint=checkpoint)
        try:
            async for item in stream:
                for each in self.meddle(item):
                    yield each
        finally:
            await stream.aclose()

    def meddle(self, item: Any) -> list[Any]:
        return [item]


@breaks("test_items_have_the_form_of_the_contract", found="has no `_id`")
class WithoutIds(Meddling):
    def meddle(self, item: Any) -> list[Any]:
        if isinstance(item, tuple):
            del item[0]["_id"]
        return [item]


@breaks("test_items_have_the_form_of_the_contract", found="is neither")
class YieldsDicts(Meddling):
    def meddle(self, item: Any) -> list[Any]:
        return [item[0]] if isinstance(item, tuple) else [item]


@breaks("test_items_have_the_form_of_the_contract", found="cannot be stored as JSON")
class OpaqueCheckpoints(Meddling):
    def meddle(self, item: Any) -> list[Any]:
        return [Checkpoint(object())] if isinstance(item, Checkpoint) else [item]


@breaks("test_items_have_the_form_of_the_contract", found="the class is not resumable")
class ForgetsToSaySo(ShelfDataSource):
    resumable = False


@breaks("test_items_have_the_form_of_the_contract", found="is no async generator")
class ReturnsAList(ShelfDataSource):
    def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> Any:
        return []


@breaks("test_documents_can_be_encoded", found="cannot be encoded")
class Unencodable(Meddling):
    def meddle(self, item: Any) -> list[Any]:
        if isinstance(item, tuple):
            item[0]["thing"] = object()
        return [item]


@breaks("test_ids_are_unique", found='"1" was yielded 2 times')
class RepeatsIds(Meddling):
    def meddle(self, item: Any) -> list[Any]:
        return [item, item] if isinstance(item, tuple) else [item]


@breaks("test_two_readings_are_equal", found="has other ids")
class CountsIds(Meddling):
    numbers = count()

    def meddle(self, item: Any) -> list[Any]:
        if isinstance(item, tuple):
            item[0]["_id"] = str(next(self.numbers))
        return [item]


@breaks("test_two_readings_are_equal", found="in a second reading by the same object")
class TellsTheTime(ShelfDataSource):
    def document(self, row: Row) -> Document:
        return {**super().document(row), "read_at": time.monotonic_ns()}


@breaks("test_downloads_bring_what_documents_can_take", found="no base64 text")
class DownloadsNonsense(ShelfDataSource):
    async def fetch(self, key: int, *, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any] | None:
        return {"_attachment": "nonsense!"} if doit else None


@breaks("test_downloads_bring_what_documents_can_take", found="no `_timestamp`")
class WithoutTimestamps(ShelfDataSource):
    def document(self, row: Row) -> Document:
        return {key: value for key, value in super().document(row).items() if key != "_timestamp"}


@breaks("test_downloads_can_be_let_go", found='of "1" it returned')
class DownloadsAlways(ShelfDataSource):
    async def fetch(self, key: int, *, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any] | None:
        return await super().fetch(key)


@breaks(
    "test_what_cannot_be_read_is_told",
    "test_what_cannot_be_read_stays_in_the_index",
    found='the document "3" could not be read, and nothing was said',
)
class LeavesOut(Meddling):
    def meddle(self, item: Any) -> list[Any]:
        return [] if isinstance(item, Skipped) else [item]


@breaks("test_the_event_loop_runs_on", found=r"could run for \d\d ms.*time.sleep", max_blocking=0.02)
class Sleeps(ShelfDataSource):
    async def changed(self) -> bool:
        time.sleep(0.09)  # noqa: ASYNC251 - that is what is wrong with it
        return await super().changed()


@breaks("test_the_event_loop_runs_on", found=r"could run for \d+ ms", max_blocking=0.02)
class Computes(ShelfDataSource):
    async def changed(self) -> bool:
        ends = time.thread_time() + 0.03
        while time.thread_time() < ends:
            pass
        return await super().changed()


# Advanced rules


class Judge(TopicsValidator):
    def __init__(self, judge: Callable[[Any], Any]) -> None:
        self.judge = judge

    def validate(self, advanced_rules: Any) -> Any:
        return self.judge(advanced_rules)


@breaks("test_good_advanced_rules_are_accepted", found="is refused")
class RefusesAll(ShelfDataSource):
    def advanced_rules_validators(self) -> list[Any]:
        return [Judge(lambda _: TopicsValidator().validate("nothing"))]


@breaks("test_bad_advanced_rules_are_refused", found="is accepted")
class HasNoValidator(ShelfDataSource):
    def advanced_rules_validators(self) -> list[Any]:
        return []


@breaks("test_validators_bear_any_nonsense", found="TypeError")
class TrustsItsOperator(ShelfDataSource):
    def advanced_rules_validators(self) -> list[Any]:
        return [Judge(lambda rules: [topic.upper for topic in rules] and TopicsValidator().validate(rules))]
