"""Compares an index with its source, outside a job: nothing is written, and no sync of the connector runs meanwhile."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from connectors.backends.ports import ConnectorState, IndexInfo, Lease
from connectors.byoc import Connector, Filter, SyncJob
from connectors.errors import ConfigurationError, InvalidFilteringError, NotFoundError
from connectors.logger import ConnectorLogger
from connectors.service.hold import hold
from connectors.service.registry import configuration_fingerprint
from connectors.service.services import Services
from connectors.source import BaseDataSource
from connectors.sync.compare import Comparison, compare
from connectors.sync.context import Observer, SyncContext
from connectors.sync.ledger import carry_ledger_over

__all__ = ["reconcile"]

#: Seconds for which the end of a running sync is waited for.
_PATIENCE: Final = 30.0


async def reconcile(
    services: Services,
    connector: Connector,
    source: BaseDataSource,
    rules: Filter,
    *,
    deep: bool,
    limit: int,
    stop: asyncio.Event,
    observer: Observer | None = None,
) -> Comparison:
    """Compares what the index holds of a connector with what its source has now; see `compare`.

    Args:
        rules: the sync rules in force, secrets included.
        stop: ends it early when it is set.

    Raises:
        NotFoundError: there is no index yet.
        ConflictError: a sync of the connector runs, and did not end soon.
        ConfigurationError: settings or rules are wrong, or contents cannot be compared.
        Exception: what the source raised.
    """
    if deep and (connector.pipeline or {}).get("name"):
        raise ConfigurationError(
            f"the ingest pipeline of {connector.id} changes its documents on their way into the index, so that their "
            "contents cannot be compared with the source; leave out --deep"
        )
    await source.validate_config()
    verdict = await source.validate_filtering(rules)
    if not verdict.is_valid:
        raise InvalidFilteringError(f"the sync rules of {connector.id} are not valid: {verdict}")
    await source.ping()
    runtime = services.runtime
    async with hold(services.store, connector.id, services.worker, runtime, patience=_PATIENCE) as lease:
        index = await services.destination.info(connector.index_name, connector.pipeline)
        if index is None:
            raise NotFoundError(
                f"{connector.id} has no index yet; its first sync makes it: connectors sync {connector.id}"
            )
        epoch, folder = lease().epoch, await runtime.in_thread(_folder, services.data_dir)
        try:
            context = _context(services, connector, source, rules, index=index, lease=lease, folder=folder, stop=stop)
            context.observer = observer
            return await compare(context, folder=folder, deep=deep, limit=limit)
        finally:
            await runtime.in_thread(shutil.rmtree, folder, ignore_errors=True)
            # Nothing was written under this epoch, so the ledger of before is true for the next one.
            await runtime.in_thread(carry_ledger_over, services.folder(connector.id), epoch - 1, epoch)


def _folder(data_dir: Path) -> Path:
    data_dir.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="reconcile-", dir=data_dir))


def _context(
    services: Services,
    connector: Connector,
    source: BaseDataSource,
    rules: Filter,
    *,
    index: IndexInfo,
    lease: Callable[[], Lease],
    folder: Path,
    stop: asyncio.Event,
) -> SyncContext:
    return SyncContext(
        connector=connector,
        job=SyncJob(id="comparison"),
        source=source,
        filtering=rules,
        destination=services.destination,
        store=services.store,
        index=index,
        lease=lease,
        state=ConnectorState(connector.id),
        config=services.sync,
        runtime=services.runtime,
        folder=folder,
        stop=stop,
        limit=services.limit,
        logger=ConnectorLogger(logging.getLogger("connectors.sync"), connector.id, "comparison"),
        configuration_fingerprint=configuration_fingerprint(connector),
        max_delete_ratio=1.0,
        drain_timeout=services.service.drain_timeout,
        extractor=services.extractor,
    )
