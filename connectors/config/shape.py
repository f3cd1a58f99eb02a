"""What the models expect at a place of the file: a block, a list, a text, or anything at all."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from connectors.config.problems import KeyPath

__all__ = ["annotation_at", "bare", "child", "choices", "fields_of", "model_of"]

_UNIONS: Final = (Union, types.UnionType)


def bare(annotation: Any) -> Any:
    """Returns the type itself, without `Annotated` and without `| None`; Any for a choice of several types."""
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation = get_args(annotation)[0]
        elif origin in _UNIONS:
            rest = [part for part in get_args(annotation) if part is not type(None)]
            annotation = rest[0] if len(rest) == 1 else Any
        else:
            return annotation


def model_of(annotation: Any) -> type[BaseModel] | None:
    """Returns the model of a block; None where no block with known keys is expected."""
    kind = bare(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def fields_of(model: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """Returns the known keys of a block."""
    return model.model_fields


def child(annotation: Any, part: str | int) -> Any:
    """Returns what is expected at one key or position below; Any where nothing particular is."""
    kind = bare(annotation)
    if model := model_of(kind):
        field = fields_of(model).get(str(part))
        return field.annotation if field is not None else Any
    arguments = get_args(kind)
    origin = get_origin(kind)
    if origin is list and isinstance(part, int):
        return arguments[0]
    return arguments[1] if origin is dict else Any


def annotation_at(model: type[BaseModel], path: KeyPath) -> Any:
    """Returns what is expected at a path."""
    annotation: Any = model
    for part in path:
        annotation = child(annotation, part)
    return annotation


def choices(annotation: Any) -> tuple[str, ...]:
    """Returns the words among which a value is chosen; nothing where any value may stand."""
    kind = bare(annotation)
    return get_args(kind) if get_origin(kind) is Literal else ()
