"""pydantic's errors in the words of the person who edits the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from connectors.config.problems import KeyPath
from connectors.config.shape import annotation_at, choices, fields_of, model_of
from connectors.utils import nearest, quoted

__all__ = ["explain", "shown", "unknown_key"]

_WANTED: Final[Mapping[str, str]] = {
    "int": "is not a whole number; write one such as 10",
    "float": "is not a number; write one such as 0.5",
    "bool": "is neither true nor false; write one of them",
    "string": "is not a text; write one, in quotes where it looks like something else",
    "path": "is not a path; write one such as data or /var/lib/connectors",
    "list": 'is not a list; write its items in lines that begin with "- "',
    "dict": 'is not a block of keys; write lines such as "key: value" below it, indented',
    "model": 'is not a block of keys; write lines such as "key: value" below it, indented',
}
_BOUNDS: Final[Mapping[str, tuple[str, str]]] = {
    "greater_than": ("gt", "must be more than"),
    "greater_than_equal": ("ge", "must be at least"),
    "less_than": ("lt", "must be less than"),
    "less_than_equal": ("le", "must be at most"),
}


def shown(value: Any) -> str:
    """Returns a value as a message quotes it: short, on one line."""
    if isinstance(value, Mapping):
        return "a block of keys"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value)


def unknown_key(name: str, known: list[str]) -> str:
    """Says that there is no such key, and which one may be meant."""
    near = nearest(name, known)
    hint = f'did you mean "{near}"?' if near else f"known here: {', '.join(known)}"
    return f"there is no such key; {hint}"


def explain(error: ErrorDetails, root: type[BaseModel], *, hidden: bool) -> str:
    """Returns what is wrong and what to write instead.

    Args:
        error: one error of a validation of `root`.
        root: the model that was validated.
        hidden: the value is a secret and is not shown.
    """
    kind, context, path = error["type"], error.get("ctx") or {}, error["loc"]
    value = "the value given" if hidden else shown(error["input"])
    if kind == "extra_forbidden":
        model = model_of(annotation_at(root, path[:-1])) or root
        return unknown_key(str(path[-1]), list(fields_of(model)))
    if kind == "missing":
        return f"is missing; it is required{_description(root, path)}"
    if kind == "value_error":
        # Our own validators; they speak of the value as `shown` does.
        text = str(context["error"])
        return text.replace(shown(error["input"]), value) if hidden and error["input"] else text
    if error["input"] is None:
        return "is empty; give it a value, or remove the line to have the default"
    if kind == "literal_error":
        return _choice(error["input"], value, choices(annotation_at(root, path)), hidden=hidden)
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"{value} is out of range; it {words} {context[name]:g}"
    if kind == "string_too_short":
        return "is empty; give it a value"
    wanted = next((words for prefix, words in _WANTED.items() if kind.startswith(prefix)), None)
    return f"{value} {wanted}" if wanted else f"{value} is not valid: {error['msg']}"


def _choice(given: Any, value: str, words: tuple[str, ...], *, hidden: bool) -> str:
    near = None if hidden else nearest(str(given), words)
    hint = f'did you mean "{near}"?' if near else f"write {' or '.join(words)}"
    return f"{value} is not one of {', '.join(words)}; {hint}"


def _description(root: type[BaseModel], path: KeyPath) -> str:
    """Returns the description of a key, as an aside."""
    model = model_of(annotation_at(root, path[:-1]))
    found = fields_of(model).get(str(path[-1])) if model else None
    return f" ({found.description.rstrip('.')})" if found is not None and found.description else ""
