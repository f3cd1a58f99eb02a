"""The sources that can be used, and how a connector's own is made of its class, here and in other processes.

A process that reads for another one imports this before it begins: so it needs little.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.errors import ConfigurationError, NotFoundError, describe
from connectors.logger import ConnectorLogger, register_secrets
from connectors.source import BaseDataSource, DataSourceConfiguration, FrameworkConfig, with_defaults
from connectors.utils import nearest

__all__ = ["SourceCatalog", "build_source"]


class SourceCatalog:
    """The sources that can be used: service type → class, loaded on first use.

    Args:
        paths: service type → `module:Class`.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)
        self._loaded: dict[str, type[BaseDataSource]] = {}

    def replace(self, paths: Mapping[str, str]) -> None:
        """Takes another set of sources; what is loaded already stays loaded."""
        self._loaded = {name: loaded for name, loaded in self._loaded.items() if paths.get(name) == self._paths[name]}
        self._paths = dict(paths)

    def service_types(self) -> list[str]:
        """Returns all service types, sorted."""
        return sorted(self._paths)

    @property
    def paths(self) -> Mapping[str, str]:
        """Service type → `module:Class`."""
        return self._paths

    def loaded(self, service_type: str) -> type[BaseDataSource] | None:
        """Returns the class if it is loaded already."""
        return self._loaded.get(service_type)

    def get(self, service_type: str) -> type[BaseDataSource]:
        """Returns the class.

        Raises:
            NotFoundError: there is no such service type.
            ConfigurationError: its module cannot be imported or has no such class.
        """
        loaded = self._loaded  # `replace` begins another one, perhaps while a thread imports the module
        if service_type not in loaded:
            loaded[service_type] = self._load(service_type)
        return loaded[service_type]

    def _load(self, service_type: str) -> type[BaseDataSource]:
        from importlib import import_module

        if service_type not in self._paths:
            near = nearest(service_type, self._paths)
            hint = f'; did you mean "{near}"?' if near else f"; there are {', '.join(self.service_types())}"
            raise NotFoundError(f'there is no source of service type "{service_type}"{hint}')
        path = self._paths[service_type]
        module, _, name = path.partition(":")
        try:
            found = getattr(import_module(module), name, None)
        except Exception as error:  # a module may do anything while it is imported
            raise ConfigurationError(
                f'the source "{service_type}" ({path}) cannot be imported: {describe(error)}; install or mend it'
            ) from error
        if not isinstance(found, type):
            raise ConfigurationError(f'the source "{service_type}": {module} has no class {name}; mend `sources:`')
        return with_defaults(found)

    def build(
        self,
        connector_id: str,
        service_type: str,
        values: Mapping[str, Any],
        *,
        features: Mapping[str, Any],
        base_dir: Path,
        max_file_size: int,
    ) -> BaseDataSource:
        """Makes a connector's source, ready to be used; its secrets are hidden from then on.

        Args:
            values: settings of the source.
            features: those that are switched on.
            base_dir: folder of the config file.
            max_file_size: bytes beyond which a file's content is not wanted.

        Raises:
            NotFoundError: there is no such source.
            ConfigurationError: it cannot be imported.
        """
        source_class = self.get(service_type)
        configuration = DataSourceConfiguration.merge(source_class.get_default_configuration(), values)
        register_secrets(configuration.secrets())
        source = source_class(configuration)
        source.set_logger(ConnectorLogger(logging.getLogger("connectors.source"), connector_id))
        source.set_features(features)
        source.set_framework_config(FrameworkConfig(base_dir=base_dir, max_file_size=max_file_size))
        return source


def build_source(
    path: str, connector_id: str, service_type: str, values: Mapping[str, Any], **more: Any
) -> BaseDataSource:
    """Makes a connector's source in another process; see `SourceCatalog.build`.

    Args:
        path: `module:Class`.
    """
    return SourceCatalog({service_type: path}).build(connector_id, service_type, values, **more)
