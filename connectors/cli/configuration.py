"""`connectors config`: validate, schema, show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from connectors.cli.exits import Exit
from connectors.cli.output import json_option, print_json, print_lines, print_verdict
from connectors.cli.settings import Settings
from connectors.cli.words import how_many
from connectors.logger import mask

if TYPE_CHECKING:
    from connectors.config import Config, ConnectorConfig

__all__ = ["config"]

_HIDDEN = "***"


@click.group(short_help="Look at the configuration file.")
def config() -> None:
    """Look at the configuration file: validate, schema, show."""


@config.command()
@json_option
@click.pass_obj
def validate(settings: Settings, *, as_json: bool) -> int:
    """Check the file: every problem with its line, its key and what to write instead."""
    from connectors.config import ConfigError

    try:
        found = settings.load(with_rules=True)
    except ConfigError as error:
        if not as_json:
            raise
        problems = [
            {"file": each.file, "line": each.line, "column": each.column, "key": each.key, "message": each.message}
            for each in error.problems
        ]
        print_json({"valid": False, "problems": problems})
        return Exit.CONFIGURATION
    if as_json:
        print_json({"valid": True, "problems": []})
    else:
        print_verdict(f"{settings.path}: {how_many(len(found.connectors), 'connector')}", good=True)
    return Exit.OK


@config.command()
def schema() -> None:
    """Print the file's JSON Schema, for editors."""
    from connectors.config import config_schema

    print_json(config_schema())


@config.command()
@json_option
@click.pass_obj
def show(settings: Settings, *, as_json: bool) -> None:
    """Print the configuration in force, defaults included and secrets masked."""
    effective = _effective(settings.load())
    if as_json:
        print_json(effective)
        return
    import yaml

    text = yaml.safe_dump(effective, sort_keys=False, allow_unicode=True, width=120)
    print_lines(*text.rstrip().split("\n"))


def _effective(found: Config) -> dict[str, Any]:
    """Returns the whole configuration as plain data, with `***` in place of each secret."""
    data: dict[str, Any] = found.model_dump(mode="json")
    data["web"]["token"] = _HIDDEN if found.web.token else None
    data["embedded"]["path"] = str(found.embedded_path)
    for shown, declared in zip(data["connectors"], found.connectors, strict=True):
        hidden = _sensitive(found, declared)
        shown["configuration"] = {
            name: _HIDDEN if name in hidden and value not in (None, "") else value
            for name, value in shown["configuration"].items()
        }
    masked: dict[str, Any] = _masked(data)
    return masked


def _sensitive(found: Config, declared: ConnectorConfig) -> set[str]:
    """Returns the settings of a connector that are secret: by its source's word, or by their name."""
    from connectors.app import catalog_for
    from connectors.config import looks_secret
    from connectors.source import DataSourceConfiguration

    names = set(filter(looks_secret, declared.configuration))
    source_class = catalog_for(found.sources).get(declared.service_type)
    fields = DataSourceConfiguration(source_class.get_default_configuration()).get_fields()
    return names | {field.name for field in fields if field.sensitive}


def _masked(value: Any) -> Any:
    """Hides secrets that stand inside longer texts, such as a password in a URL."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {name: _masked(item) for name, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value
