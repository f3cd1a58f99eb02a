"""Commands for who sets a connector up: check, discover, sources."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from connectors.cli.checks import check_config
from connectors.cli.exits import Exit
from connectors.cli.output import json_option, print_json, print_lines, print_table, print_verdict
from connectors.cli.settings import Settings
from connectors.cli.subjects import open_source, subject, subjects
from connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.service.catalog import SourceCatalog
    from connectors.source import Discovered, Field

__all__ = ["check", "discover", "sources"]


@click.command(short_help="Try everything that a sync needs.")
@json_option
@click.pass_obj
def check(settings: Settings, *, as_json: bool) -> int:
    """Try everything that a sync needs: the file, each source's access and rules, the index."""
    checks, code = check_config(settings)
    if as_json:
        shapes = [{"subject": each.subject, "ok": each.good, "message": each.message} for each in checks]
        print_json({"ok": code == Exit.OK, "checks": shapes})
        return code
    for each in checks:
        print_verdict(f"{each.subject}: {each.message}", good=each.good)
    return code


# discover


@click.command(short_help="List what sources could sync.")
@click.argument("name", required=False)
@json_option
@click.pass_obj
def discover(settings: Settings, *, name: str | None, as_json: bool) -> None:
    """List what the source of one connector, or of all, could sync with its credentials."""

    async def work(app: App) -> dict[str, list[Discovered]]:
        chosen = [await subject(app, name)] if name is not None else await subjects(app)
        result: dict[str, list[Discovered]] = {}
        for each in chosen:
            async with open_source(app, each) as source:
                await source.validate_config()
                result[each.connector.id] = list(await source.discover())
        return result

    found = settings.run(work)
    if as_json:
        print_json({
            "connectors": [
                {
                    "connector": connector,
                    "found": [
                        {"name": each.name, "description": each.description, "configuration": dict(each.configuration)}
                        for each in listed
                    ],
                }
                for connector, listed in found.items()
            ]
        })  # fmt: skip
        return
    rows = (
        (connector, each.name, each.description, _settings_in_words(each.configuration))
        for connector, listed in found.items()
        for each in listed
    )
    print_table(("connector", "name", "what it is", "configuration"), rows, empty="the sources list nothing to choose")


def _settings_in_words(configuration: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in configuration.items())


# sources


@click.command(short_help="List the sources and their settings.")
@click.argument("service_type", required=False)
@json_option
@click.pass_obj
def sources(settings: Settings, *, service_type: str | None, as_json: bool) -> None:
    """List the sources that connectors can use, with their settings."""
    catalog = _catalog(settings)
    names = [service_type] if service_type is not None else catalog.service_types()
    if service_type is not None:
        catalog.get(service_type)
    found = [_source_shape(catalog, each) for each in names]
    if as_json:
        print_json({"sources": found})
        return
    for each in found:
        print_lines(f"{each['service_type']}  {each['name']}  ({each['class']})")
        if each["error"]:
            print_verdict(each["error"], good=False)
            continue
        capable = [words for key, words in _CAPABILITIES.items() if each[key]]
        print_lines(f"  can: {', '.join(['full syncs', *capable])}")
        headers = ("  setting", "type", "default", "what it is")
        print_table(headers, map(_setting_row, each["settings"]), empty="  it declares no settings")
        print_lines("")


_CAPABILITIES: Mapping[str, str] = {
    "incremental_sync": "incremental syncs",
    "resumable": "going on in the middle",
    "advanced_rules": "advanced rules",
}


def _catalog(settings: Settings) -> SourceCatalog:
    """Returns the sources; without those of the file where there is none yet, or it is being mended."""
    from connectors.app import catalog_for
    from connectors.config import ConfigError

    declared: Mapping[str, str] = {}
    if settings.path.exists():
        try:
            declared = settings.load().sources
        except ConfigError:
            print(
                f"{settings.path} has problems, so that the sources it declares are left out; see them with: "
                "connectors config validate",
                file=sys.stderr,
            )
    return catalog_for(declared)


def _source_shape(catalog: SourceCatalog, service_type: str) -> dict[str, Any]:
    from connectors.source import DataSourceConfiguration

    shape: dict[str, Any] = {"service_type": service_type, "class": catalog.paths[service_type], "error": None}
    try:
        source_class = catalog.get(service_type)
    except ConfigurationError as error:  # a library is missing, say: that is worth knowing, and the others work
        return {
            **shape,
            "name": service_type,
            "error": str(error),
            "settings": [],
            **dict.fromkeys(_CAPABILITIES, False),
        }
    fields = DataSourceConfiguration(source_class.get_default_configuration()).get_fields()
    return {
        **shape,
        "name": source_class.name or service_type,
        "incremental_sync": source_class.incremental_sync_enabled,
        "resumable": source_class.resumable,
        "advanced_rules": source_class.advanced_rules_enabled,
        "settings": [_setting_shape(field) for field in fields],
    }


def _setting_shape(field: Field) -> dict[str, Any]:
    default = field.default_value if field.raw in (None, "", []) else field.raw
    return {
        "name": field.name,
        "label": field.label,
        "type": field.type,
        "required": field.required and field.is_empty,
        "default": None if field.sensitive else default,
        "secret": field.sensitive,
        "options": [option.get("value") for option in field.options],
        "depends_on": [dict(dependency) for dependency in field.depends_on],
        "help": field.extra.get("tooltip"),
    }


def _setting_row(setting: Mapping[str, Any]) -> tuple[str, ...]:
    notes = [str(setting["label"])]
    if setting["help"]:
        notes.append(str(setting["help"]))
    if setting["options"]:
        notes.append(f"one of {', '.join(map(str, setting['options']))}")
    notes += [f"only with {item.get('field')}: {item.get('value')}" for item in setting["depends_on"]]
    kind = f"{setting['type']}, secret" if setting["secret"] else str(setting["type"])
    default = "required" if setting["required"] else _default_in_words(setting["default"])
    return f"  {setting['name']}", kind, default, "; ".join(notes)


def _default_in_words(value: Any) -> str:
    if value in (None, "", []):
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
