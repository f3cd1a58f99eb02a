"""Finds the connector that a command names: in `config.yml`, or among the records."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from connectors.byoc import Connector
from connectors.errors import NotFoundError
from connectors.utils import nearest, quoted

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.service.subjects import Subject
    from connectors.source import BaseDataSource

__all__ = ["known_connector", "open_source", "subject", "subjects"]


async def subjects(app: App) -> list[Subject]:
    """Returns every connector that would run: those of the file, then those that exist only as records."""
    from connectors.service.registry import OWNER
    from connectors.service.subjects import declared_subject, recorded_subject

    declared = [declared_subject(item, app.catalog, app.config) for item in app.config.connectors]
    names = {item.connector.id for item in declared}
    records = [item for item in await app.store.connectors() if item.id not in names and OWNER not in item.extra]
    return [*declared, *(recorded_subject(item) for item in records)]


async def subject(app: App, name: str) -> Subject:
    """Returns one connector; NotFoundError names the nearest id."""
    from connectors.service.subjects import declared_subject, recorded_subject

    for declared in app.config.connectors:
        if declared.id == name:
            return declared_subject(declared, app.catalog, app.config)
    return recorded_subject(await known_connector(app, name))


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
    from connectors.service.subjects import opened_source

    async with opened_source(app.catalog, app.config, found) as source:
        yield source
