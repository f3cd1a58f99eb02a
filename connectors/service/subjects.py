"""A connector as it would run, whether or not it has a record yet, and its source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from connectors.byoc import Connector, Filter
from connectors.config import Config, ConnectorConfig
from connectors.service.catalog import SourceCatalog
from connectors.service.drafts import DeclaredRules
from connectors.service.registry import (
    declared_filter,
    declared_record,
    declared_rules,
    recorded_values,
)
from connectors.source import BaseDataSource

__all__ = ["Subject", "declared_subject", "opened_source", "recorded_subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A connector that need not have a record yet.

    Attributes:
        values: settings of its source, secrets included: for the source alone.
        rules: the sync rules in force, or those of `config.yml`, with what secrets there are in them.
        declared: those of `config.yml`; None: there is only the record.
        max_delete_ratio: what `config.yml` says of this connector alone.
    """

    connector: Connector
    values: Mapping[str, Any] = field(repr=False)
    rules: Filter = field(repr=False)
    declared: DeclaredRules | None = None
    max_delete_ratio: float | None = None


def declared_subject(declared: ConnectorConfig, catalog: SourceCatalog, config: Config) -> Subject:
    """Returns a connector of `config.yml`."""
    record = declared_record(declared, catalog.get(declared.service_type), config.secrets)
    return Subject(
        Connector.from_record(declared.id, record),
        declared.configuration,
        declared_filter(declared),
        declared_rules(declared, config.secrets),
        declared.max_delete_ratio,
    )


def recorded_subject(connector: Connector) -> Subject:
    """Returns a connector that exists only as a record."""
    return Subject(connector, recorded_values(connector), connector.active_filter)


@asynccontextmanager
async def opened_source(catalog: SourceCatalog, config: Config, subject: Subject) -> AsyncIterator[BaseDataSource]:
    """Makes the connector's source, and closes it at the end."""
    connector = subject.connector
    source = catalog.build(
        connector.id,
        connector.service_type,
        subject.values,
        features=connector.features,
        base_dir=config.base_dir,
        max_file_size=config.extraction.max_file_size,
    )
    try:
        yield source
    finally:
        await source.close()
