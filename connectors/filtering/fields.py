"""Finding a rule's field in a document.

`a.b.c` is looked for as it is written first, then as `c` inside `a.b`, then inside `a` and so on: the longest key
first at each level. The first spelling that leads to a value other than null is taken. A list on the way is
traversed, and all its objects that have the rest of the path contribute their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from connectors.filtering.coercion import elements

__all__ = ["DEEPEST_FIELD", "Lookup", "compile_lookup"]

Lookup: TypeAlias = Callable[[Mapping[str, Any]], Any]

#: Parts that a field's path may have at most.
DEEPEST_FIELD: Final = 32


def compile_lookup(field: str) -> Lookup:
    """Returns the function document → value of `field`; None where it is missing or null.

    Raises ValueError for a path of more than `DEEPEST_FIELD` parts.
    """
    parts = field.split(".")
    size = len(parts)
    if size == 1:
        return lambda document: document.get(field)
    if size > DEEPEST_FIELD:
        raise ValueError(f"the field has {size} parts: name one that is at most {DEEPEST_FIELD} levels deep")
    # For each part of the path that a key may start with: (key, part that follows it), the longest key first.
    spellings = [[(".".join(parts[start:stop]), stop) for stop in range(size, start, -1)] for start in range(size)]

    def look(mapping: Mapping[str, Any], start: int) -> Any:
        for key, stop in spellings[start]:
            value = mapping.get(key)
            if value is None:
                continue
            if stop < size:
                value = look_inside(value, stop)
                if value is None:
                    continue
            return value
        return None

    def look_inside(value: Any, start: int) -> Any:
        if isinstance(value, dict):
            return look(value, start)
        if isinstance(value, list | tuple):
            objects = (item for item in elements(value) if isinstance(item, dict))
            return [found for item in objects if (found := look(item, start)) is not None] or None
        return None

    return lambda document: look(document, 0)
