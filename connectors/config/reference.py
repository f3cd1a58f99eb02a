"""The tables of `docs/CONFIGURATION.md`, made from the models.

`python -m connectors.config.reference docs/CONFIGURATION.md` writes them anew between their markers.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from connectors.config.fields import DURATION, SIZE
from connectors.config.models import Config
from connectors.config.shape import bare, choices, fields_of, model_of
from connectors.utils import format_duration

__all__ = ["blocks", "default_words", "table", "update"]

_MARKED: Final = re.compile(r"(<!-- table: (?P<key>\S+) -->\n).*?(\n<!-- end -->)", re.DOTALL)
_UNITS: Final = (("GiB", 2**30), ("MiB", 2**20), ("GB", 10**9), ("MB", 10**6), ("kB", 1000))
_KINDS: Final[dict[Any, str]] = {
    bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path", SecretStr: "secret text",
    Any: "anything",
}  # fmt: skip


def blocks(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields each block of keys with its dotted name; the top of the file is called `top`."""
    yield prefix or "top", model
    for name, field in fields_of(model).items():
        key = f"{prefix}.{name}" if prefix else name
        kind = bare(field.annotation)
        if below := model_of(kind):
            yield from blocks(below, key)
        elif get_origin(kind) is list and (item := model_of(get_args(kind)[0])):
            yield from blocks(item, f"{key}[]")


def table(model: type[BaseModel]) -> str:
    """Returns the Markdown table of one block's keys."""
    rows = [
        f"| `{name}` | {_kind_words(field)} | {default_words(field)} | {field.description} |"
        for name, field in fields_of(model).items()
    ]
    return "\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows])


def _kind_words(field: FieldInfo) -> str:
    for kind in (DURATION, SIZE):
        if kind in field.metadata:
            return kind.name
    annotation = bare(field.annotation)
    if words := choices(annotation):
        return " or ".join(f"`{word}`" for word in words)
    if model_of(annotation):
        return "block"
    origin = get_origin(annotation)
    if origin is list:
        return "list of blocks" if model_of(get_args(annotation)[0]) else "list"
    return "block" if origin is dict else _KINDS[annotation]


def default_words(field: FieldInfo) -> str:
    """Returns a default as it would be written in the file."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "none"
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, list | dict):
        return "empty"
    if DURATION in field.metadata:
        return f"`{format_duration(value)}`"
    if SIZE in field.metadata:
        unit, size = next((unit, size) for unit, size in _UNITS if value % size == 0)
        return f"`{value // size}{unit}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def update(text: str) -> str:
    """Returns the document with every marked table made anew.

    Raises:
        KeyError: a marker names a block that is not there.
    """
    known = dict(blocks())
    return _MARKED.sub(lambda found: f"{found[1]}\n{table(known[found['key']])}\n{found[3]}", text)


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(update(document.read_text("utf-8")), "utf-8")
