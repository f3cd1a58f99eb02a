"""The composition root: builds the objects from the configuration. Nothing else knows which backend is in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from connectors.config import Config, ConfigFile, ConnectorConfig, load_config
from connectors.errors import ConfigurationError, NotFoundError
from connectors.runtime import Runtime
from connectors.service.catalog import SourceCatalog
from connectors.service.lease import own_name
from connectors.service.registry import Registry
from connectors.service.schedule import parse_schedule
from connectors.source import DataSourceConfiguration
from connectors.utils import nearest

if TYPE_CHECKING:
    from connectors.backends.ports import Destination, Store
    from connectors.processes import Channel, Child
    from connectors.service.crew import Crew
    from connectors.service.daemon import Daemon
    from connectors.service.member import Member
    from connectors.service.metrics import Metrics
    from connectors.service.operations import Operations
    from connectors.service.preview import Previewer
    from connectors.service.services import Services
    from connectors.service.web import WebServer
    from connectors.service.worker import Worker
    from connectors.sync.limits import FlightLimit

__all__ = [
    "App",
    "Application",
    "catalog_for",
    "config_file",
    "equip",
    "open_app",
    "open_application",
    "read_config",
    "read_config_with_rules",
]

#: Sources that come with the project: service type → module:Class.
BUILT_IN_SOURCES: Final[Mapping[str, str]] = {
    "directory": "connectors.sources.directory:DirectoryDataSource",
    "mongodb": "connectors.sources.mongodb:MongoDBDataSource",
    "mysql": "connectors.sources.mysql:MySQLDataSource",
    "postgresql": "connectors.sources.postgresql:PostgreSQLDataSource",
}
_ENTRY_POINTS: Final = "connectors.sources"
#: The embedded index writes one transaction after another: more requests would only wait in memory.
_EMBEDDED_REQUESTS: Final = 2


# Configuration


def catalog_for(declared: Mapping[str, str]) -> SourceCatalog:
    """Returns the sources: our own, those of installed packages, and those of `config.yml`, which go first."""
    return SourceCatalog({**BUILT_IN_SOURCES, **_installed_sources(), **declared})


@cache
def _installed_sources() -> Mapping[str, str]:
    """Sources of installed packages; looked for once, since that reads many files."""
    return {entry.name: entry.value for entry in entry_points(group=_ENTRY_POINTS)}


def read_config(path: str | Path) -> Config:
    """Reads and checks the whole configuration; raises ConfigError. Blocks on the disk."""
    return load_config(path, **_HOOKS)


def read_config_with_rules(path: str | Path) -> Config:
    """Does what `read_config` does, and judges the basic sync rules too, which a daemon does by itself."""
    return load_config(path, check_rules=_check_rules, **_HOOKS)


def config_file(path: str | Path) -> ConfigFile:
    """Returns the configuration as a file that is followed."""
    return ConfigFile(path, **_HOOKS)


def _check_schedule(text: str, timezone: str) -> None:
    parse_schedule(text, timezone)


def _check_connector(connector: ConnectorConfig, sources: Mapping[str, str]) -> list[tuple[tuple[str | int, ...], str]]:
    """Returns what is wrong with one connector, as the path below it and what to write instead."""
    try:
        source_class = catalog_for(sources).get(connector.service_type)
    except (NotFoundError, ConfigurationError) as error:
        return [(("service_type",), str(error))]
    defaults = source_class.get_default_configuration()
    problems: list[tuple[tuple[str | int, ...], str]] = []
    for name in connector.configuration:
        if defaults and name not in defaults:
            near = nearest(name, defaults)
            hint = f'; did you mean "{near}"?' if near else f"; the source knows {', '.join(defaults)}"
            problems.append((("configuration", name), f'"{connector.service_type}" has no setting of this name{hint}'))
    configuration = DataSourceConfiguration.merge(defaults, connector.configuration)
    for name, text in configuration.problems():
        problems.append((("configuration", name), text))
    scheduling = connector.scheduling
    if scheduling.incremental and not source_class.incremental_sync_enabled:
        problems.append(
            (("scheduling", "incremental"), f'"{connector.service_type}" has no incremental sync; remove this line')
        )
    if scheduling.access_control:
        problems.append((("scheduling", "access_control"), "access control syncs are not supported; remove this line"))
    if connector.filtering.advanced and not source_class.advanced_rules_enabled:
        text = f'"{connector.service_type}" has no advanced rules; write basic ones in `rules`'
        problems.append((("filtering", "advanced"), text))
    return problems


def _check_rules(
    service_type: str, sources: Mapping[str, str], rules: list[Any]
) -> list[tuple[tuple[str | int, ...], str]]:
    """Returns what the validators of a source say of basic rules, without reaching the source. Outside a loop only."""
    from connectors.filtering.validation import FilteringValidator
    from connectors.filtering.written import numbered, problems_by_place

    try:
        source_class = catalog_for(sources).get(service_type)
    except (NotFoundError, ConfigurationError):
        return []
    records = numbered(rules)
    validator = FilteringValidator(source_class.basic_rules_validators())
    return problems_by_place(records, asyncio.run(validator.validate(records)))


def _sensitive_values(connector: ConnectorConfig, sources: Mapping[str, str]) -> list[str]:
    try:
        source_class = catalog_for(sources).get(connector.service_type)
    except (NotFoundError, ConfigurationError):
        return []
    return DataSourceConfiguration.merge(source_class.get_default_configuration(), connector.configuration).secrets()


_HOOKS: Final[dict[str, Any]] = {
    "check_schedule": _check_schedule,
    "check_connector": _check_connector,
    "sensitive_values": _sensitive_values,
}


# Objects


@dataclass(slots=True)
class App:
    """What a command needs that looks or asks: backends, records, actions."""

    config: Config
    runtime: Runtime
    catalog: SourceCatalog
    store: Store
    destination: Destination
    registry: Registry
    operations: Operations
    worker_name: str

    def previewer(self, config: Callable[[], Config]) -> Previewer:
        """Returns what previews sync rules, on the configuration as it is when it is asked."""
        from connectors.service.preview import Previewer

        return Previewer(self.catalog, self.store, self.destination, self.runtime, config)

    def take_up(self, config: Config) -> None:
        """Takes the sources of an edited configuration."""
        self.catalog.replace(catalog_for(config.sources).paths)


@dataclass(slots=True)
class Application:
    """What a command needs that syncs: all of `App`, and the daemon."""

    app: App
    services: Services
    daemon: Daemon
    worker: Worker
    metrics: Metrics

    def crew(self, launch: Callable[[int], Child]) -> Crew:
        """Returns what looks after the workers that the configuration wants besides this process.

        Args:
            launch: starts the one with this number.
        """
        from connectors.service.crew import Crew

        service = self.app.config.service
        return Crew(
            service.workers - 1,
            launch,
            name=self.app.worker_name,
            worker=self.worker,
            metrics=self.metrics,
            runtime=self.app.runtime,
            drain_timeout=service.drain_timeout,
        )

    def member(self, file: ConfigFile, channel: Channel) -> Member:
        """Returns the work of a further worker, which this process is.

        Args:
            channel: to the first one.
        """
        from connectors.service.member import Member

        return Member(
            self.app.config,
            file,
            name=self.app.worker_name,
            store=self.app.store,
            worker=self.worker,
            metrics=self.metrics,
            runtime=self.app.runtime,
            channel=channel,
            on_config=self.app.take_up,
        )

    def page(self, crew: Crew) -> WebServer | None:
        """Returns the page's server, not started yet; None where the page is switched off."""
        from connectors.service.web import WebServer

        if not self.app.config.web.enabled:
            return None
        return WebServer(
            self.app.config.web,
            self.app.operations,
            self.metrics,
            runtime=self.app.runtime,
            config_error=lambda: self.daemon.config_error,
            ready=lambda: self.daemon.trouble() or crew.trouble(),
            previewer=self.app.previewer(lambda: self.daemon.config),
            workers=crew.workers,
        )


class _Backend(Protocol):
    """A destination and a store, closed together."""

    @property
    def destination(self) -> Destination: ...

    @property
    def store(self) -> Store: ...

    async def close(self) -> None: ...


async def _open_backend(config: Config) -> _Backend:
    """Opens the backend whose block the configuration has; the embedded one where it has none.

    Raises:
        ConfigurationError: there are several, or the client library of the one is not installed.
    """
    if config.elasticsearch is not None and config.opensearch is not None:
        raise ConfigurationError("documents go to one place: keep one of the blocks elasticsearch and opensearch")
    try:
        if config.elasticsearch is not None:
            from connectors.backends.elasticsearch import open_elasticsearch

            return open_elasticsearch(config.elasticsearch)
        if config.opensearch is not None:
            from connectors.backends.opensearch import open_opensearch

            return open_opensearch(config.opensearch)
    except ModuleNotFoundError as error:
        name = "elasticsearch" if config.elasticsearch is not None else "opensearch"
        raise ConfigurationError(
            f"the client library of {name} is not installed ({error.name} is missing): pip install "
            f"'connectors[{name}]'",
            field=name,
        ) from error
    from connectors.backends.embedded import EmbeddedBackend

    return await EmbeddedBackend.open(config.embedded_path)


@asynccontextmanager
async def open_app(config: Config, runtime: Runtime | None = None) -> AsyncIterator[App]:
    """Opens the backends and closes them at the end."""
    from connectors.service.operations import Operations

    runtime = runtime or Runtime()
    backend = await _open_backend(config)
    try:
        catalog = catalog_for(config.sources)
        worker = own_name(config.service.worker_name)
        yield App(
            config=config,
            runtime=runtime,
            catalog=catalog,
            store=backend.store,
            destination=backend.destination,
            registry=Registry(backend.store, catalog),
            operations=Operations(backend.store, backend.destination, runtime, worker),
            worker_name=worker,
        )
    finally:
        await backend.close()


@asynccontextmanager
async def open_application(
    config: Config, file: ConfigFile | None = None, runtime: Runtime | None = None, *, number: int = 1, of: int = 1
) -> AsyncIterator[Application]:
    """Opens everything that a daemon consists of, and closes it at the end; see `equip`."""
    async with open_app(config, runtime) as app, equip(app, file, number=number, of=of) as application:
        yield application


@asynccontextmanager
async def equip(
    app: App, file: ConfigFile | None = None, *, number: int = 1, of: int = 1
) -> AsyncIterator[Application]:
    """Adds to opened backends what it takes to sync, and closes that at the end.

    Args:
        number: of this process, from 1 on; it gets its part of the limits.
        of: processes that share them.
    """
    from connectors.extraction import TextExtractor
    from connectors.service.daemon import Daemon
    from connectors.service.metrics import Metrics
    from connectors.service.reporting import ProgressReporter
    from connectors.service.services import Services
    from connectors.service.worker import Worker

    config = app.config
    extraction = config.extraction
    extractor = TextExtractor(
        workers=_part(extraction.workers, number, of),
        timeout=extraction.timeout,
        memory=extraction.memory,
        max_text_chars=extraction.max_text_chars,
    )
    limit = _flight_limit(app, number, of)
    metrics = Metrics(wall=app.runtime.wall)
    metrics.pace(limit.reading)
    services = Services(
        destination=app.destination,
        store=app.store,
        service=config.service,
        sync=config.sync,
        runtime=app.runtime,
        limit=limit,
        data_dir=config.service.data_dir,
        worker=app.worker_name,
        extractor=extractor if extraction.enabled else None,
        observer=ProgressReporter(metrics, app.runtime),
    )
    worker = Worker(services, app.catalog, config, metrics)
    daemon = Daemon(
        config,
        file,
        store=app.store,
        destination=app.destination,
        registry=app.registry,
        worker=worker,
        operations=app.operations,
        metrics=metrics,
        runtime=app.runtime,
        on_config=app.take_up,
    )
    try:
        if extraction.enabled:
            await extractor.start()
        yield Application(app, services, daemon, worker, metrics)
    finally:
        await extractor.close()


def _flight_limit(app: App, number: int, of: int) -> FlightLimit:
    """Returns what this process may have under way to the destination."""
    from connectors.sync.limits import FlightLimit

    config = app.config
    requests = _part(config.sync.writes_in_flight, number, of)
    if config.elasticsearch is None and config.opensearch is None:
        requests = min(requests, _EMBEDDED_REQUESTS)
    size = _part(config.sync.bytes_in_flight, number, of)
    return FlightLimit(requests, size, body=config.sync.batch_bytes, clock=app.runtime.monotonic)


def _part(total: int, number: int, of: int) -> int:
    """Returns one process's part of a limit: the parts add up to it, unless there are more processes than that."""
    return max(1, total // of + (number <= total % of))
