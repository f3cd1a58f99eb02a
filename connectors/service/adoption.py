"""Records that somebody else wrote: a connector that Kibana, or a bare request, made is taken up and looked after.

What the connector protocol expects of a service happens here: the fields of the source go into a record that has none,
its status follows what is known of it (created → needs_configuration → configured → connected, or error), the features
of the source are told, an edited draft of its rules is validated, and `last_seen` says that somebody is there.

A record is looked at when it changed. What needs the source itself, which may take long or hang, is not done in that
look but by `try_sources`, which the daemon runs beside it. A record whose service type is unknown here may belong to
another service: it is left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.backends.ports import Store
from connectors.byoc import Connector, ConnectorStatus
from connectors.config import Config, ConnectorConfig
from connectors.errors import ConflictError, NotFoundError, describe
from connectors.filtering.validation import FilteringValidationResult
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.service.catalog import SourceCatalog
from connectors.service.drafts import change_record, draft_to_settle, is_edited, settle_draft
from connectors.service.foreign import Verdict, judge
from connectors.service.registry import OWNER, declared_rules, is_declared, is_orphaned, recorded_values
from connectors.source import BaseDataSource
from connectors.utils import format_duration, truncate

__all__ = ["Adoption"]

_logger = logging.getLogger("connectors.records")

#: Seconds between two signs of life in a record, and between two tries of a source that failed.
_HEARTBEAT: Final = 300.0
#: Seconds that a source may take to answer and to close.
_PATIENCE: Final = 30.0
#: Sources that are tried at the same time.
_AT_ONCE: Final = 8
_LONGEST_ERROR: Final = 2000
#: All others, and what is no status at all, have not come so far.
_CONFIGURED: Final = (ConnectorStatus.CONFIGURED, ConnectorStatus.CONNECTED, ConnectorStatus.ERROR)


@dataclass(slots=True)
class _Known:
    """What is known of a record.

    Attributes:
        version: of the record when it was looked at; -1: it has to be looked at.
        settings: what decides whether its source works, when it was looked at; None: it never was.
        error: what we last found, which is ours to take out of the record again.
        mendable: whether the record was in no error but ours.
        tried: the settings with which its source failed last.
        retry_at: when that is tried again, on the event loop's clock.
    """

    version: int = -1
    settings: tuple[Any, ...] | None = field(default=None, repr=False)  # secrets are part of it
    error: str | None = None
    mendable: bool = True
    tried: tuple[Any, ...] | None = field(default=None, repr=False)
    retry_at: float = float("inf")


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of trying a source: what is wrong, None when it can be used; and the verdict on an edited draft."""

    error: str | None
    draft: FilteringValidationResult | None


class Adoption:
    """Looks after the records of one store.

    Args:
        catalog: the sources that there are here.
    """

    def __init__(self, store: Store, catalog: SourceCatalog, runtime: Runtime, config: Config) -> None:
        self._store = store
        self._catalog = catalog
        self._runtime = runtime
        self._config = config
        self._known: dict[str, _Known] = {}
        self._told: dict[tuple[str, str], str] = {}
        self._wanted: dict[str, None] = {}

    def configure(self, config: Config) -> None:
        """Takes a new configuration, which may know other sources."""
        self._config = config
        for known in self._known.values():
            known.version = -1

    # Looking

    async def tick(self, connectors: Sequence[Connector]) -> list[Connector]:
        """Looks at the records that changed, and returns those that this service runs, as they are then.

        Args:
            connectors: all records, as they were just read. One that changes meanwhile is left out, till the next look.
        """
        served: list[Connector] = []
        for connector in connectors:
            if is_orphaned(connector) or not self._serves(connector):
                continue
            try:
                served.append(await self._attend(connector, self._known.setdefault(connector.id, _Known())))
            except (ConflictError, NotFoundError):
                continue  # somebody changed or removed it
        self._forget({connector.id for connector in connectors})
        return served

    def _serves(self, connector: Connector) -> bool:
        if OWNER in connector.extra or connector.service_type in self._catalog.paths:
            return True
        kind = connector.service_type
        words = f'no source "{kind}" is known here, it may belong to another service' if kind else "it names no source"
        self._tell(connector.id, "service", f"its record is left alone: {words}", logging.INFO)
        return False

    async def _attend(self, connector: Connector, known: _Known) -> Connector:
        """Looks at one record, if it changed, and writes what it needs."""
        now = self._runtime.now()
        stale = connector.last_seen is None or abs((now - connector.last_seen).total_seconds()) >= _HEARTBEAT
        changes: dict[str, Any] = {"last_seen": now} if stale else {}
        if connector.version != known.version and not is_declared(connector):
            changes |= await self._look(connector, known)
        elif connector.version != known.version and is_edited(connector):
            self._wanted[connector.id] = None
        if self._runtime.monotonic() >= known.retry_at:
            self._wanted[connector.id] = None
        if changes:
            connector = await self._store.put_connector(connector.with_(**changes))
        known.version = connector.version
        return connector

    async def _look(self, connector: Connector, known: _Known) -> dict[str, Any]:
        """Returns what has to be written into a record that another tool made; notes whether its source is tried."""
        try:
            # Importing a source's library blocks for a while.
            source_class = await self._runtime.in_thread(self._catalog.get, connector.service_type)
            verdict = judge(connector, source_class)
        except Exception as error:  # noqa: BLE001 - a source's declarations may raise anything; it becomes the record's error
            verdict = Verdict({}, ConnectorStatus.ERROR, _words(error), sound=False)
        settings = _settings(connector.with_(**verdict.changes))
        known.mendable = _is_mendable(connector, known, settings)
        known.settings = settings
        strange = ", ".join(connector.unreadable)
        self._tell(
            connector.id, "fields", strange and f"what its record has in {strange} cannot be read: mend it there"
        )
        changes = dict(verdict.changes)
        if verdict.error is not None:
            known.error = verdict.error
            changes |= _differing(connector, verdict.status, verdict.error)
        elif verdict.status is ConnectorStatus.NEEDS_CONFIGURATION and known.mendable:
            changes |= _differing(connector, verdict.status, None)
        elif connector.status not in _CONFIGURED:
            changes |= {"status": verdict.status, "error": None}
        self._tell(connector.id, "record", verdict.error)
        if not verdict.sound or connector.status == ConnectorStatus.CONNECTED:
            known.tried, known.retry_at = None, float("inf")
        unproven = verdict.status is ConnectorStatus.CONFIGURED and connector.status != ConnectorStatus.CONNECTED
        if verdict.sound and (is_edited(connector) or (unproven and known.mendable and known.tried != settings)):
            self._wanted[connector.id] = None
        return changes

    # Trying

    async def try_sources(self) -> None:
        """Asks the sources of records that are new or changed whether they can be used, several at the same time.

        Raises ConnectorsError when the store fails; what could not be stored is tried again with the next call.
        """
        wanted, self._wanted = list(self._wanted), {}
        gate = asyncio.Semaphore(_AT_ONCE)
        results = await asyncio.gather(*(self._try(each, gate) for each in wanted), return_exceptions=True)
        failures: list[BaseException] = []
        for connector_id, result in zip(wanted, results, strict=True):
            if isinstance(result, BaseException) and not isinstance(result, NotFoundError):  # it was removed
                self._wanted[connector_id] = None
                failures.append(result)
        if failures:
            raise failures[0]

    async def _try(self, connector_id: str, gate: asyncio.Semaphore) -> None:
        async with gate:
            connector = await self._store.connector(connector_id)
            if is_orphaned(connector):
                return
            declared = next((item for item in self._config.connectors if item.id == connector_id), None)
            answer = await self._ask(connector, declared)
            if answer.draft is not None:
                await settle_draft(self._store, connector, answer.draft)
            known = self._known.setdefault(connector_id, _Known())
            failed = answer.error is not None
            known.tried = _settings(connector) if failed else None
            known.retry_at = self._runtime.monotonic() + _HEARTBEAT if failed else float("inf")
            if declared is None and connector.index_name:
                await self._report(connector, known, answer.error)

    async def _ask(self, connector: Connector, declared: ConnectorConfig | None) -> _Answer:
        rules = declared_rules(declared, self._config.secrets) if declared is not None else None
        edited = draft_to_settle(connector, rules)
        verdict: FilteringValidationResult | None = None
        patience = asyncio.timeout(_PATIENCE)
        try:
            async with patience, self._source(connector, declared) as source:
                await source.validate_config()
                if edited is not None:
                    verdict = await source.validate_filtering(edited)
                if declared is None:  # that of a declared one is pinged by its syncs
                    await source.ping()
        except TimeoutError as error:
            if patience.expired():
                return _Answer(f"the source did not answer within {format_duration(_PATIENCE)}", verdict)
            return _Answer(_words(error), verdict)
        except Exception as error:  # noqa: BLE001 - whatever a source raises is what was to be found out
            return _Answer(_words(error), verdict)
        return _Answer(None, verdict)

    @asynccontextmanager
    async def _source(self, connector: Connector, declared: ConnectorConfig | None) -> AsyncIterator[BaseDataSource]:
        """Makes a source of its own, so that the one that syncs is not disturbed, and closes it."""
        source = self._catalog.build(
            connector.id,
            connector.service_type,
            declared.configuration if declared is not None else recorded_values(connector),
            features=connector.features,
            base_dir=self._config.base_dir,
            max_file_size=self._config.extraction.max_file_size,
        )
        try:
            yield source
        finally:
            await source.close()

    async def _report(self, connector: Connector, known: _Known, error: str | None) -> None:
        """Writes into the record what came of trying its source, unless somebody changed its settings meanwhile."""
        settings = _settings(connector)

        def found(held: Connector) -> Mapping[str, Any] | None:
            if _settings(held) != settings:
                return None
            if error is not None:
                return _differing(held, ConnectorStatus.ERROR, error) or None
            same = (held.status, held.error) == (connector.status, connector.error)
            if not same or not known.mendable or held.status == ConnectorStatus.CONNECTED:
                return None
            return {"status": ConnectorStatus.CONNECTED, "error": None}

        known.error = error
        self._tell(connector.id, "source", error)
        if (await change_record(self._store, connector.id, found))[1] and error is None:
            _logger.info("%s: its source can be reached", connector.id, extra={"connector": connector.id})

    # Telling

    def _tell(self, connector_id: str, topic: str, message: str | None, level: int = logging.WARNING) -> None:
        """Says something of a record once, as long as it stays like that."""
        key = connector_id, topic
        if message and self._told.get(key) != message:
            self._told[key] = message
            _logger.log(level, "%s: %s", connector_id, message)
        elif not message:
            self._told.pop(key, None)

    def _forget(self, present: Collection[str]) -> None:
        """Forgets the records that were removed."""
        self._known = {key: known for key, known in self._known.items() if key in present}
        self._told = {key: message for key, message in self._told.items() if key[0] in present}


def _words(error: Exception) -> str:
    return truncate(mask(describe(error)), _LONGEST_ERROR)


def _settings(connector: Connector) -> tuple[Any, ...]:
    """Returns what decides whether a connector's source works."""
    return connector.service_type, bool(connector.index_name), recorded_values(connector)


def _differing(connector: Connector, status: ConnectorStatus, error: str | None) -> dict[str, Any]:
    differs = (connector.status, connector.error) != (status, error)
    return {"status": status, "error": error} if differs else {}


def _is_mendable(connector: Connector, known: _Known, settings: tuple[Any, ...]) -> bool:
    """Whether the record is in no error that we may not take out: that of a sync, unless its cause may be gone."""
    if connector.status != ConnectorStatus.ERROR:
        return True
    if known.settings is None:  # after a restart nobody knows whose error it is, but for that of the last sync
        return connector.error is None or connector.error != connector.last_sync_error
    return connector.error == known.error or settings != known.settings
