"""What a connector's record needs that somebody else wrote, by what stands in it and what its source declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from connectors.backends.records import apply_changes
from connectors.byoc import Connector, ConnectorStatus
from connectors.config import check_index_name
from connectors.errors import ConfigurationError
from connectors.logger import mask, register_secrets
from connectors.service.registry import recorded_values
from connectors.source import BaseDataSource, DataSourceConfiguration

__all__ = ["Verdict", "index_problem", "judge"]

_NO_INDEX: Final = "its record names no index: write an `index_name`, then it can be synced"
_NO_CONFIGURATION: Final = 'its configuration in the record is none: write an object, {"field": {"value": …}}'


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a record needs.

    Attributes:
        changes: fields to be written, its status apart.
        status: as it should be; configured also stands for connected, for the source has not been asked.
        error: what a person has to mend.
        sound: whether the configuration is complete and valid, so that the source can be tried.
    """

    changes: Mapping[str, Any]
    status: ConnectorStatus
    error: str | None
    sound: bool


def judge(connector: Connector, source_class: type[BaseDataSource]) -> Verdict:
    """Returns what a record needs. Its secrets are hidden from then on.

    Raises:
        ConfigurationError: the configuration is none, or the source declares what no record can keep.
        Exception: whatever the declarations of a source raise.
    """
    if "configuration" in connector.unreadable:
        raise ConfigurationError(_NO_CONFIGURATION)
    declared = DataSourceConfiguration.merge(source_class.get_default_configuration(), {})
    try:
        fields = apply_changes({}, _completed(declared.to_dict(), connector.configuration))
        features = apply_changes({}, {**connector.features, **source_class.features()})
    except TypeError as error:
        raise ConfigurationError(
            f'the source "{connector.service_type}" cannot be kept as a record: {error}'
        ) from error
    changes: dict[str, Any] = {}
    if fields != connector.configuration:
        changes["configuration"] = fields
    if features != connector.features:
        changes["features"] = features
    given = DataSourceConfiguration.merge(declared.to_dict(), recorded_values(connector.with_(configuration=fields)))
    register_secrets(given.secrets())
    missing = {
        item.name for item in given.get_fields() if item.required and item.is_empty and given.is_active(item.name)
    }
    wrong = [mask(text) for name, text in given.problems() if name not in missing]
    if connector.index_name and (problem := index_problem(connector.index_name)) is not None:
        wrong.append(problem)
    if wrong:
        return Verdict(changes, ConnectorStatus.ERROR, "; ".join(wrong), sound=False)
    if missing or (fields and not connector.configuration):  # the defaults are there for somebody to look at
        return Verdict(changes, ConnectorStatus.NEEDS_CONFIGURATION, None, sound=False)
    if not connector.index_name:
        return Verdict(changes, ConnectorStatus.NEEDS_CONFIGURATION, _NO_INDEX, sound=True)
    return Verdict(changes, ConnectorStatus.CONFIGURED, None, sound=True)


def index_problem(name: str) -> str | None:
    """Returns what is wrong with the name of an index, None when nothing is: a pattern would mean others besides."""
    try:
        check_index_name(name.lower())  # the name of an alias may have capitals
    except ValueError as error:
        return f"index_name: {error}"
    return None


def _completed(declared: Mapping[str, dict[str, Any]], recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the configuration with what the source declares wherever the record lacks it; values stay as they are."""
    fields = dict(recorded)
    for name, declaration in declared.items():
        held = recorded.get(name)
        if held is None:
            fields[name] = declaration
        elif isinstance(held, Mapping):
            sensitive = declaration["sensitive"] or held.get("sensitive", False)
            fields[name] = {**declaration, **held, "sensitive": sensitive}
        else:
            fields[name] = {**declaration, "value": held}
    return fields
