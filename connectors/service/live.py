"""Source objects, which stay in memory between the syncs of their connectors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from connectors.byoc import Connector
from connectors.config import Config, ConnectorConfig
from connectors.errors import describe
from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.service.catalog import SourceCatalog, build_source
from connectors.service.registry import recorded_values
from connectors.source import BaseDataSource

__all__ = ["CleanRun", "LiveSource", "LiveSources"]

_logger = logging.getLogger("connectors.worker")

#: Seconds that a source may take to close.
_CLOSING: Final = 10.0


@dataclass(frozen=True, slots=True)
class CleanRun:
    """A content job that ran to its end without a failed document.

    Attributes:
        conditions: all that decided what became of the documents: configuration, rules, pipeline, extraction, index.
        epoch: of its claim; the next claim has the next one, unless somebody else had the connector in between.
    """

    conditions: tuple[Any, ...] = field(repr=False)  # rules may hold secrets
    epoch: int


@dataclass(slots=True)
class LiveSource:
    """A source object that stays in memory between the syncs of its connector.

    Attributes:
        made_of: what the object was made of; another one is made when that changes.
        build: makes another one of the kind; it pickles.
        clean_run: the connector's last content job, if this very object ran it and nothing failed; only then
            `changed()` is asked.
    """

    source: BaseDataSource
    made_of: tuple[Any, ...] = field(repr=False)  # secrets are part of it
    build: Callable[[], BaseDataSource] = field(repr=False)
    clean_run: CleanRun | None = None


class LiveSources:
    """The source objects of one worker."""

    def __init__(self, catalog: SourceCatalog, runtime: Runtime) -> None:
        self._catalog = catalog
        self._runtime = runtime
        self._live: dict[str, LiveSource] = {}

    async def get(self, connector: Connector, declared: ConnectorConfig | None, config: Config) -> LiveSource:
        """Returns the connector's source object, a new one when anything that it is made of changed.

        Args:
            declared: what `config.yml` says of it, secrets included; None: there is only the record.

        Raises:
            NotFoundError: there is no such source.
            ConfigurationError: it cannot be imported.
            Exception: whatever its constructor raises.
        """
        source_class = self._catalog.loaded(connector.service_type)
        if source_class is None:  # importing a source's library blocks for a while
            source_class = await self._runtime.in_thread(self._catalog.get, connector.service_type)
        values = declared.configuration if declared is not None else recorded_values(connector)
        max_file_size = config.extraction.max_file_size
        made_of = (source_class, values, connector.features, config.base_dir, max_file_size)
        live = self._live.get(connector.id)
        if live is not None and live.made_of == made_of:
            return live
        await self._close(connector.id)
        more: dict[str, Any] = {
            "features": connector.features,
            "base_dir": config.base_dir,
            "max_file_size": max_file_size,
        }
        source = self._catalog.build(connector.id, connector.service_type, values, **more)
        path = self._catalog.paths[connector.service_type]
        build = partial(build_source, path, connector.id, connector.service_type, values, **more)
        live = self._live[connector.id] = LiveSource(source, made_of, build)
        return live

    async def close(self, *, keep: Collection[str] = ()) -> None:
        """Closes the sources of all connectors but these."""
        await asyncio.gather(*(self._close(connector_id) for connector_id in self._live.keys() - set(keep)))

    async def _close(self, connector_id: str) -> None:
        live = self._live.pop(connector_id, None)
        if live is None:
            return
        try:
            async with asyncio.timeout(_CLOSING):
                await live.source.close()
        except Exception as error:  # noqa: BLE001 - a source that cannot be closed is given up: nobody can do more about it
            of = {"connector": connector_id}
            _logger.warning("%s: its source could not be closed: %s", connector_id, mask(describe(error)), extra=of)
