"""Connectors as `config.yml` declares them, kept as records.

`config.yml` owns its connectors: an edit of their record by anybody else is reported and undone. A connector that left
the file stays as a record, with its documents, and runs no more; one that exists only as a record is run too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson
from xxhash import xxh3_64_hexdigest

from connectors.backends.ports import Store
from connectors.backends.records import apply_changes
from connectors.byoc import Connector, ConnectorStatus, Filter
from connectors.config import Config, ConnectorConfig, looks_secret
from connectors.errors import ConfigurationError, ConflictError, NotFoundError
from connectors.filtering.written import numbered
from connectors.service.catalog import SourceCatalog
from connectors.service.drafts import HIDDEN, DeclaredRules, recorded_filtering
from connectors.source import BaseDataSource, DataSourceConfiguration

__all__ = [
    "OWNER",
    "Registry",
    "configuration_fingerprint",
    "declared_filter",
    "declared_record",
    "declared_rules",
    "fingerprints",
    "is_declared",
    "is_orphaned",
    "recorded_values",
]

_logger = logging.getLogger("connectors.registry")

#: Marks records that `config.yml` owns, and those that it no longer declares.
OWNER: Final = "managed_by"
_FILE: Final = "config.yml"
_REMOVED: Final = "removed from config.yml"
#: Digest of what the file declared when the record was written: tells an edit of the file from one of the record.
_DIGEST: Final = "declared_digest"
#: How often a record is changed back by somebody else's file until that is told.
_SURE: Final = 2


def declared_record(
    declared: ConnectorConfig, source_class: type[BaseDataSource], secrets: Iterable[str]
) -> dict[str, Any]:
    """Returns those parts of a connector's record that `config.yml` owns, without any secret.

    Raises:
        ConfigurationError: the source declares, or the file holds, what no record can keep.
    """
    configuration = DataSourceConfiguration.merge(source_class.get_default_configuration(), declared.configuration)
    hidden = _longest_first(secrets)
    fields: dict[str, Any] = {}
    for item in configuration.get_fields():
        record = item.to_record()
        if item.sensitive:
            record["value"] = record["default_value"] = None
        record["value"] = _without_secrets(record["value"], hidden)
        fields[item.name] = record
    scheduling = declared.scheduling
    active = _without_secrets(dict(declared_filter(declared)), hidden)
    owned = {
        "service_type": declared.service_type,
        "index_name": declared.index,
        "name": _without_secrets(declared.name or declared.id, hidden),
        "description": _without_secrets(declared.description, hidden),
        "language": declared.language,
        "configuration": fields,
        "scheduling": {
            kind: {"enabled": (text := getattr(scheduling, kind)) is not None, "interval": text}
            for kind in ("full", "incremental", "access_control")
        }
        | {"timezone": scheduling.timezone},
        "filtering": [{"domain": "DEFAULT", "active": active, "draft": active}],
        "pipeline": declared.pipeline.model_dump(),
        "features": source_class.features(),
    }
    try:
        return apply_changes({}, owned)  # in the record's form, so that it can be compared with what is stored
    except TypeError as error:
        raise ConfigurationError(
            f"{declared.id} ({declared.service_type}) cannot be kept as a record: {error}"
        ) from error


def declared_filter(declared: ConnectorConfig) -> Filter:
    """Returns the sync rules of the file, with what secrets there are in them."""
    rules = numbered(rule.model_dump(exclude_none=True) for rule in declared.filtering.rules)
    return Filter.of(rules, declared.filtering.advanced)


def declared_rules(declared: ConnectorConfig, secrets: Iterable[str]) -> DeclaredRules:
    """Returns the sync rules of the file, with their secrets and as a record has them."""
    rules = declared_filter(declared)
    return DeclaredRules(rules, Filter(_without_secrets(dict(rules), _longest_first(secrets))))


def recorded_values(connector: Connector) -> dict[str, Any]:
    """Returns the settings of a source as a record has them, also one that another tool wrote: field → its record with
    what matters of it, or the bare value."""
    found: dict[str, Any] = {}
    for name, item in connector.configuration.items():
        secret = looks_secret(name)
        if isinstance(item, Mapping):
            known = {"label": name, "type": str(item.get("type") or "str"), "required": False}
            found[name] = {**known, "value": item.get("value"), "sensitive": secret or bool(item.get("sensitive"))}
        else:
            found[name] = {"value": item, "sensitive": True} if secret and isinstance(item, str) else item
    return found


def _longest_first(secrets: Iterable[str]) -> list[str]:
    """One that begins like a shorter one is hidden whole."""
    return sorted(filter(None, secrets), key=len, reverse=True)


def _without_secrets(value: Any, secrets: Sequence[str]) -> Any:
    """Returns a value of the file with `***` in place of each secret, wherever it stands in it."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
        return value
    if isinstance(value, Mapping):
        return {key: _without_secrets(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(item, secrets) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return None if is_number and any(secret in str(value) for secret in secrets) else value


def is_declared(connector: Connector) -> bool:
    """Whether `config.yml` owns the record."""
    return connector.extra.get(OWNER) == _FILE


def is_orphaned(connector: Connector) -> bool:
    """Whether `config.yml` declared the connector once and does so no more: it runs no more."""
    return OWNER in connector.extra and not is_declared(connector)


def configuration_fingerprint(connector: Connector) -> str:
    """Returns what changes when configuration or rules change in a way that may change the documents."""
    active = connector.active_filter
    parts = [connector.service_type, _values(connector), Filter.of(active.basic_rules, active.advanced_or_none())]
    return _lenient_digest(parts)


def fingerprints(connector: Connector) -> dict[str, str]:
    """Returns what the documents are made with, part by part: see `SyncContext.made_with`."""
    active = connector.active_filter
    return {
        "settings": _lenient_digest([connector.service_type, _values(connector)]),
        "basic_rules": _lenient_digest(active.basic_rules),
        "advanced_rules": _lenient_digest(active.advanced_or_none() or None),
    }


def _values(connector: Connector) -> dict[str, Any]:
    return {
        name: record.get("value") if isinstance(record, Mapping) else record
        for name, record in connector.configuration.items()
    }


class Registry:
    """Writes what `config.yml` declares into the store."""

    def __init__(self, store: Store, catalog: SourceCatalog) -> None:
        self._store = store
        self.catalog = catalog
        self._written: dict[str, str] = {}
        self._undone: dict[str, int] = {}

    async def apply(self, config: Config) -> None:
        """Brings the records in line with the file; cheap when they are."""
        records = {connector.id: connector for connector in await self._store.connectors()}
        for declared in config.connectors:
            await self._declare(declared, records.get(declared.id), config.secrets)
            await asyncio.sleep(0)  # hundreds of them would hold up the loop
        names = {declared.id for declared in config.connectors}
        for connector in records.values():
            if is_declared(connector) and connector.id not in names:
                _logger.info(
                    "%s left config.yml and runs no more; its documents stay (remove them: connectors purge %s)",
                    connector.id,
                    connector.id,
                    extra={"connector": connector.id},
                )
                await self.disown(connector)

    async def declare(self, config: Config, connector_id: str) -> None:
        """Brings one record in line with the file, if the file declares it."""
        declared = next((item for item in config.connectors if item.id == connector_id), None)
        if declared is not None:
            await self._declare(declared, await self._read(connector_id), config.secrets)

    async def disown(self, connector: Connector) -> None:
        """Notes that the file no longer declares a connector that it declared before."""
        if is_declared(connector):
            await self._store.update_connector(connector.id, {OWNER: _REMOVED, _DIGEST: None})

    async def _declare(self, declared: ConnectorConfig, record: Connector | None, secrets: Iterable[str]) -> None:
        owned = declared_record(declared, self.catalog.get(declared.service_type), secrets)
        mark = {OWNER: _FILE, _DIGEST: _digest(owned)}
        owned["filtering"] = recorded_filtering(
            owned["filtering"][0]["draft"],
            record if record is not None and OWNER in record.extra else None,
            edited=record is None or record.extra.get(_DIGEST) != mark[_DIGEST],
        )
        paused = {"paused": declared.paused, "declared_paused": declared.paused}
        if record is None:
            new = {**owned, **mark, **paused, "status": ConnectorStatus.CONFIGURED}
            try:
                await self._store.put_connector(Connector.from_record(declared.id, new))
            except ConflictError:  # another worker was faster
                await self._declare(declared, await self._store.connector(declared.id), secrets)
            return
        current = record.to_record()
        self._tell_of_another_file(record, mark[_DIGEST])
        self._written[declared.id] = mark[_DIGEST]
        changes = {key: value for key, value in owned.items() if _digest(current.get(key)) != _digest(value)}
        if changes and is_declared(record) and current.get(_DIGEST) == mark[_DIGEST]:
            _logger.warning(
                "%s: somebody changed %s of its record; config.yml owns this connector, so that is undone",
                declared.id,
                ", ".join(sorted(changes)),
                extra={"connector": declared.id},
            )
        elif "index_name" in changes and record.index_name:
            _logger.info(
                "%s writes to %s from now on; its documents in %s stay (remove them: connectors purge %s --index %s)",
                *(declared.id, declared.index, record.index_name, declared.id, record.index_name),
                extra={"connector": declared.id},
            )
        # What an operator paused or resumed stays so, until the file says something else than it did.
        if current.get("declared_paused") != declared.paused:
            changes |= paused
        changes |= {key: value for key, value in mark.items() if current.get(key) != value}
        if changes:
            await self._store.update_connector(declared.id, changes)

    def _tell_of_another_file(self, record: Connector, digest: str) -> None:
        """Tells once when what this process wrote of a connector is undone again and again by a daemon whose file says
        something else, or nothing. Once is no sign: a file that several follow is not read by all at the same moment.
        """
        if self._written.get(record.id) != digest:
            self._undone.pop(record.id, None)  # our own file says something new
            return
        if record.extra.get(_DIGEST) == digest:
            return
        self._undone[record.id] = self._undone.get(record.id, 0) + 1
        if self._undone[record.id] == _SURE:
            _logger.warning(
                "%s: another daemon on the same records has a configuration file that %s, and the two undo each other: "
                "give all of them the same file, or each its own records (docs/OPERATIONS.md, several daemons)",
                record.id,
                "says something else of it" if is_declared(record) else "lacks it",
                extra={"connector": record.id},
            )

    async def _read(self, connector_id: str) -> Connector | None:
        try:
            return await self._store.connector(connector_id)
        except NotFoundError:
            return None


def _digest(value: Any) -> str:
    return xxh3_64_hexdigest(orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


def _lenient_digest(value: Any) -> str:
    """Does what `_digest` does for a record that another tool may have written."""
    return xxh3_64_hexdigest(orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS))
