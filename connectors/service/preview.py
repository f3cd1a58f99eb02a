"""Previews of sync rules: which rules of a connector are tried, on its real source and against its index.

Nothing is written, and no lease is taken: a sync may run meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from connectors.backends.ports import Destination, IndexHandle, Store
from connectors.byoc import Connector, Filter
from connectors.config import Config, ConfigError, WrittenRules
from connectors.errors import ConnectorsError, InvalidFilteringError, NotFoundError, SyncError, describe
from connectors.filtering.written import numbered, problems_by_place
from connectors.runtime import Runtime
from connectors.service.catalog import SourceCatalog
from connectors.service.drafts import draft_is_in_force, rules_in_force
from connectors.service.subjects import Subject, declared_subject, opened_source, recorded_subject
from connectors.source import BaseDataSource
from connectors.sync.guard import Limits
from connectors.sync.preview import Counting, Preview

__all__ = ["Previewer", "TriedRules"]


@dataclass(frozen=True, slots=True)
class TriedRules:
    """The rules that a preview tries.

    Attributes:
        origin: where they come from, in words.
        written: they stand in a text of somebody, whose mistakes are told with their places.
    """

    rules: Filter = field(repr=False)
    origin: str
    written: WrittenRules | None = field(default=None, repr=False)

    @classmethod
    def of(cls, written: WrittenRules, origin: str, *, advanced: Filter | None = None) -> TriedRules:
        """Takes rules that somebody wrote; with `advanced`, the advanced rules are those of these."""
        snippet = written.advanced if advanced is None else advanced.advanced_or_none()
        return cls(Filter.of(numbered(written.rules), snippet), origin, written)


class Previewer:
    """Finds connectors and their rules, and runs previews.

    Args:
        config: returns the configuration as it is now.
    """

    def __init__(
        self,
        catalog: SourceCatalog,
        store: Store,
        destination: Destination,
        runtime: Runtime,
        config: Callable[[], Config],
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._destination = destination
        self._runtime = runtime
        self._config = config

    async def subject(self, name: str) -> Subject:
        """Returns a connector; NotFoundError where there is none."""
        config = self._config()
        for declared in config.connectors:
            if declared.id == name:
                return declared_subject(declared, self._catalog, config)
        return recorded_subject(await self._store.connector(name))

    async def rules(self, subject: Subject, *, active: bool = False) -> TriedRules:
        """Returns the rules that a connector's next sync would use if they are valid: those of `config.yml`, or the
        draft of a record, or else those in force.

        Args:
            active: those in force, whatever is edited.

        Raises:
            InvalidFilteringError: the ones in force held a secret, which is kept nowhere.
        """
        record = await self._record(subject.connector.id)
        if active:
            if record is None:
                return TriedRules(Filter(), "the rules in force: none, for it has never run")
            return TriedRules(rules_in_force(record, subject.declared), "the rules in force")
        if subject.declared is not None:
            return TriedRules(subject.rules, "the rules of config.yml")
        if record is not None and not draft_is_in_force(record):
            return TriedRules(record.draft_filter, "the draft of its rules")
        return TriedRules(subject.rules, "the rules in force")

    async def _record(self, name: str) -> Connector | None:
        try:
            return await self._store.connector(name)
        except NotFoundError:
            return None

    async def run(
        self,
        subject: Subject,
        tried: TriedRules,
        *,
        limit: int,
        count: bool,
        watch: Callable[[Preview], Coroutine[Any, Any, None]] | None = None,
    ) -> Preview:
        """Validates the rules, and previews them.

        Args:
            limit: documents to show.
            count: whether to read on to the end, and to count what a full sync would do to the index.
            watch: runs beside it, and is cancelled at its end.

        Raises:
            ConfigurationError: the rules are not valid, with all problems, or the source's settings are not; nothing
                was read then.
            ConnectorsError: source or index cannot be read.
        """
        name = subject.connector.id
        async with opened_source(self._catalog, self._config(), subject) as source:
            with _source_faults(name):
                await source.validate_config()
                await _check(source, subject, tried)
            counting = await self._counting(subject) if count else None
            preview = Preview(source, tried.rules, limit=limit, runtime=self._runtime, counting=counting)
            async with _beside(watch(preview) if watch is not None else None):
                with _source_faults(name):
                    await preview.run()
        return preview

    async def _counting(self, subject: Subject) -> Counting:
        connector, sync = subject.connector, self._config().sync
        name, ratio = connector.index_name, subject.max_delete_ratio
        info = await self._destination.info(name, connector.pipeline) if name else None
        handle = IndexHandle(name, info.uuid, connector.id, "", connector.pipeline) if info is not None else None
        limits = Limits(sync.max_delete_ratio if ratio is None else ratio, sync.min_documents_for_ratio)
        return Counting(self._destination, handle, limits)


@contextmanager
def _source_faults(name: str) -> Iterator[None]:
    """Makes whatever a source raises an error of the project."""
    try:
        yield
    except ConnectorsError:
        raise
    except Exception as error:
        raise SyncError(f"the source of {name} failed: {describe(error)}") from error


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None] | None) -> AsyncIterator[None]:
    """Runs something beside the block, and cancels it at its end; what it raises is raised."""
    if work is None:
        yield
        return
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _check(source: BaseDataSource, subject: Subject, tried: TriedRules) -> None:
    """Raises ConfigurationError with everything that is wrong with the rules."""
    verdict = await source.validate_filtering(tried.rules)
    if tried.written is not None:
        problems = tried.written.problems(problems_by_place(tried.rules.basic_rules, verdict))
        if problems:
            raise ConfigError(problems)
    elif not verdict.is_valid:
        raise InvalidFilteringError(f"the sync rules of {subject.connector.id} are not valid: {verdict}")
