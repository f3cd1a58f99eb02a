"""The JSON Schema of `config.yml`, for editors."""

from __future__ import annotations

from typing import Any, Final

from connectors.config.models import Config

__all__ = ["config_schema"]

_REFERENCE: Final = {"type": "string", "pattern": r"\$\{|^file:", "description": "${VAR}, ${VAR:-default} or file:path"}
_RESTRICTIONS: Final = frozenset({"pattern", "enum", "const", "maxLength"})
_CONTAINERS: Final = frozenset({"object", "array"})


def config_schema() -> dict[str, Any]:
    """Returns the JSON Schema (draft 2020-12) of the nested form of the file.

    Where a number, a word of a choice or a name of a certain form is expected, `${VAR}` is accepted too.
    """
    schema = Config.model_json_schema()
    for definition in (schema, *schema["$defs"].values()):
        definition["properties"] = {name: _open(prop) for name, prop in definition["properties"].items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "config.yml of connectors",
        "description": "What connectors syncs, when, and how. Keys may also be written dotted (web.port: 8321), which "
        "this schema leaves out.",
    }


def _open(prop: dict[str, Any]) -> dict[str, Any]:
    """Lets a reference stand where the value itself is restricted."""
    if prop.get("type") in _CONTAINERS or "$ref" in prop or "allOf" in prop:
        return prop
    about: dict[str, Any] = {key: prop[key] for key in ("title", "description", "default") if key in prop}
    rule = {key: value for key, value in prop.items() if key not in about}
    branches = rule.get("anyOf", [rule])
    if not rule or any(_takes_any_text(branch) for branch in branches):
        return prop
    return {"anyOf": [*branches, _REFERENCE], **about}


def _takes_any_text(branch: dict[str, Any]) -> bool:
    return not branch or (branch.get("type") == "string" and _RESTRICTIONS.isdisjoint(branch))
