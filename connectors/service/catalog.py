"""The sources that can be used, and how a connector's own is made of its class, here and in other processes.

A process that reads for another one imports this before it begins: so it needs little.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from connectors.errors import ConfigurationError, NotFoundError, describe
from connectors.logger import ConnectorLogger, register_secrets
from connectors.source import BaseDataSource, DataSourceConfiguration, Field, FrameworkConfig, with_defaults
from connectors.utils import nearest

__all__ = ["SourceCatalog", "build_source"]


#: Methods of the contract without a default → the attribute that says that a source has them.
_NEEDED: Final = {"get_docs": None, "ping": None, "get_docs_incrementally": "incremental_sync_enabled"}


def _lack(source_class: type[BaseDataSource]) -> str | None:
    """Returns what a class lacks to be a source, None when it has what can be seen without making one."""
    for name, attribute in _NEEDED.items():
        wanted = attribute is None or getattr(source_class, attribute)
        if wanted and getattr(source_class, name) is getattr(BaseDataSource, name):
            return f"has no method {name}()" + (f", and says {attribute}" if attribute else "")
    try:
        fields = source_class.get_default_configuration()
        for name, field in fields.items():
            Field.from_record(name, field)
    except Exception as error:  # noqa: BLE001 - the code is the author's, and may do anything
        return (
            f"does not say what its settings are: get_default_configuration() is to be a class method that returns a "
            f"dict of dicts, and failed: {describe(error)}"
        )
    return None


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
            ConfigurationError: its module cannot be imported or has no such class, or the class is no source.
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
        source_class = with_defaults(found)
        if (problem := _lack(source_class)) is not None:
            raise ConfigurationError(f'the source "{service_type}" ({path}) {problem}; see docs/SOURCES.md')
        return source_class

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
