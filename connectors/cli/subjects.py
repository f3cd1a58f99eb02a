"""Finds the connector that a command names: in `config.yml`, or among the records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectors.byoc import Connector, Filter
from connectors.errors import NotFoundError
from connectors.utils import nearest, quoted

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.config import ConnectorConfig
    from connectors.source import BaseDataSource

__all__ = ["Subject", "known_connector", "open_source", "subject", "subjects"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A connector that need not have a record yet.

    Attributes:
        values: settings of its source, secrets included: for the source alone.
        rules: the sync rules in force, with what secrets there are in them.
    """

    connector: Connector
    values: Mapping[str, Any]
    rules: Filter


async def subjects(app: App) -> list[Subject]:
    """Returns every connector that would run: those of the file, then those that exist only as records."""
    from connectors.service.registry import OWNER

    declared = [_declared(app, item) for item in app.config.connectors]
    names = {item.connector.id for item in declared}
    records = [item for item in await app.store.connectors() if item.id not in names and OWNER not in item.extra]
    return [*declared, *(_recorded(item) for item in records)]


async def subject(app: App, name: str) -> Subject:
    """Returns one connector; NotFoundError names the nearest id."""
    for declared in app.config.connectors:
        if declared.id == name:
            return _declared(app, declared)
    return _recorded(await known_connector(app, name))


def _declared(app: App, declared: ConnectorConfig) -> Subject:
    from connectors.service.registry import declared_filter, declared_record

    record = declared_record(declared, app.catalog.get(declared.service_type), app.config.secrets)
    return Subject(Connector.from_record(declared.id, record), declared.configuration, declared_filter(declared))


def _recorded(connector: Connector) -> Subject:
    from connectors.service.registry import recorded_values

    return Subject(connector, recorded_values(connector), connector.active_filter)


async def known_connector(app: App, name: str) -> Connector:
    """Returns the record of a connector, brought in line with the file where the file declares it.

    NotFoundError names the nearest id.
    """
    await app.registry.declare(app.config, name)
    try:
        return await app.store.connector(name)
    except NotFoundError:
        declared = {item.id for item in app.config.connectors}
        known = sorted(declared | {item.id for item in await app.store.connectors()})
        near = nearest(name, known)
        hint = f'did you mean "{near}"?' if near else f"there are {', '.join(known) or 'none yet'}"
        raise NotFoundError(f"there is no connector {quoted(name)}; {hint}") from None


@asynccontextmanager
async def open_source(app: App, found: Subject) -> AsyncIterator[BaseDataSource]:
    """Makes the connector's source, and closes it at the end."""
    source = app.catalog.build(
        found.connector.id,
        found.connector.service_type,
        found.values,
        features=found.connector.features,
        base_dir=app.config.base_dir,
        max_file_size=app.config.extraction.max_file_size,
    )
    try:
        yield source
    finally:
        await source.close()
