"""Nodes into plain data: dotted keys unfolded, references replaced, each key's place and each secret remembered.

The models guide the reading. Keys are split at dots only where a block of known keys is expected, for the dots of a
source's own query are its own; and where a text, a number or a duration is expected, the value is taken as it is
written, so that `language: no` is Norwegian.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_origin

from pydantic import BaseModel, SecretStr

from connectors.config.document import MappingNode, Node, ScalarNode, SequenceNode, scalar_value
from connectors.config.problems import KeyPath, Mark
from connectors.config.secrets import looks_secret, passwords_in_urls
from connectors.config.shape import bare, child, fields_of, model_of
from connectors.config.values import (
    FileSignature,
    UnresolvedError,
    names_file,
    read_secret_file,
    signature,
    substitute,
)

__all__ = ["Reading", "read_document"]

_MERGE: Final = "<<"
_Entry = tuple[ScalarNode, Node]


@dataclass(slots=True)
class Reading:
    """What a file says, and what was found on the way.

    Args:
        data: the values, as the models validate them.
        marks: place of each key and list item.
        problems: what is wrong with keys and references.
        failed: values that could not be had; something stands in for them, of which nobody must complain.
        hidden: values that no message may show.
        secrets: the secrets themselves.
        files: the secrets' files, with their signatures before they were read.
    """

    data: dict[str, Any] = field(default_factory=dict)
    marks: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[tuple[KeyPath, Mark, str]] = field(default_factory=list)
    failed: set[KeyPath] = field(default_factory=set)
    hidden: set[KeyPath] = field(default_factory=set)
    secrets: set[str] = field(default_factory=set)
    files: dict[Path, FileSignature] = field(default_factory=dict)

    def mark(self, path: KeyPath) -> Mark:
        """Returns the place of a key, or of the nearest block around it."""
        while path and path not in self.marks:
            path = path[:-1]
        return self.marks.get(path, Mark(1, 1))


def read_document(
    root: MappingNode, model: type[BaseModel], base_dir: Path, environ: Mapping[str, str], reading: Reading
) -> None:
    """Reads the whole document into `reading`.

    Args:
        root: the document.
        model: what it is meant to be.
        base_dir: folder that relative `file:` paths count from.
        environ: variables for `${VAR}`.
        reading: where everything goes, problems too.
    """
    reading.data = _Reader(base_dir, environ, reading).mapping(root, model, ())


class _Reader:
    def __init__(self, base_dir: Path, environ: Mapping[str, str], reading: Reading) -> None:
        self._base_dir = base_dir
        self._environ = environ
        self._out = reading

    def mapping(self, node: MappingNode, annotation: Any, path: KeyPath) -> dict[str, Any]:
        """Reads the keys of a block."""
        model = model_of(annotation)
        groups: dict[str, list[tuple[str | None, ScalarNode, Node]]] = {}
        for key, value in self._entries(node, model, path):
            head, rest = _split(key.text, model)
            groups.setdefault(head, []).append((rest, key, value))
        data: dict[str, Any] = {}
        for head, parts in groups.items():
            below = (*path, head)
            self._out.marks[below] = parts[0][1].mark
            united = self._unite(parts, below)
            if united is not None:
                data[head] = self._value(united, child(annotation, head), below)
        return data

    def _entries(self, node: MappingNode, model: type[BaseModel] | None, path: KeyPath) -> list[_Entry]:
        """Returns the entries of a block with those that `<<` merges in; the block's own win."""
        own: dict[str, _Entry] = {}
        merged: list[tuple[ScalarNode, Node]] = []
        for key, value in node.entries:
            if key.plain and key.text == _MERGE:
                merged.append((key, value))
            elif key.text in own:
                self._twice((*path, key.text), own[key.text][0].mark, key.mark)
            else:
                own[key.text] = (key, value)
        taken = {_split(name, model)[0] for name in own}
        entries = list(own.values())
        for key, value in merged:
            for source in value.items if isinstance(value, SequenceNode) else [value]:
                if not isinstance(source, MappingNode):
                    self._problem((*path, _MERGE), key.mark, "must name a block of keys by its anchor: <<: *name")
                    continue
                found = self._entries(source, model, path)
                entries += [entry for entry in found if _split(entry[0].text, model)[0] not in taken]
                taken |= {_split(entry[0].text, model)[0] for entry in found}
        return entries

    def _unite(self, parts: list[tuple[str | None, ScalarNode, Node]], path: KeyPath) -> Node | None:
        """Makes one value of a block and the dotted keys that lead into it. Returns None after a problem."""
        if len(parts) == 1 and parts[0][0] is None:
            return parts[0][2]
        first = parts[0][1]
        block = MappingNode(first.mark)
        for rest, key, value in parts:
            if rest is not None:
                block.entries.append((ScalarNode(rest, plain=False, mark=key.mark), value))
            elif isinstance(value, MappingNode):
                block.entries += value.entries
            elif not (isinstance(value, ScalarNode) and value.is_null):
                other = next(part[1] for part in parts if part[0] is not None)
                self._twice(path, *sorted((other.mark, key.mark)))
                self._out.failed.add(path)
                return None
        return block

    def _value(self, node: Node, annotation: Any, path: KeyPath) -> Any:
        if isinstance(node, MappingNode):
            return self.mapping(node, annotation, path)
        if isinstance(node, SequenceNode):
            items = []
            expected = child(annotation, 0)
            for position, item in enumerate(node.items):
                below = (*path, position)
                self._out.marks[below] = item.mark
                items.append(self._value(item, expected, below))
            return items
        if node.is_null:
            # A block whose lines are all commented out is an empty block.
            if model_of(annotation) or get_origin(bare(annotation)) is dict:
                return {}
            return [] if get_origin(bare(annotation)) is list else None
        try:
            return self._scalar(node, annotation, path)
        except UnresolvedError as problem:
            self._problem(path, self._out.mark(path), str(problem))
            self._out.failed.add(path)
            return ""

    def _scalar(self, node: ScalarNode, annotation: Any, path: KeyPath) -> Any:
        kind = bare(annotation)
        secret_key = kind in (Any, SecretStr) and any(isinstance(part, str) and looks_secret(part) for part in path)
        text, secrets = substitute(node.text, self._environ)
        if names_file(node.text):
            text = self._file(text)
            secrets = frozenset({text})
        elif secret_key and node.text.startswith("file://"):
            raise UnresolvedError(
                "a secret's file is written with one colon and no double slash: file:/run/secrets/name"
            )
        value: Any = text
        if kind is Any and node.plain and not names_file(node.text):
            value = scalar_value(text)
            # A secret is a text: a password of digits keeps its zeros.
            value = text if (secret_key or secrets) and not isinstance(value, bool | None) else value
        if secret_key and isinstance(value, str):
            secrets |= {text}
        secrets |= passwords_in_urls(text)
        if secrets:
            self._out.hidden.add(path)
        self._out.secrets |= {secret for secret in secrets if secret}
        return value

    def _file(self, text: str) -> str:
        path = self._base_dir / text.removeprefix("file:").strip()
        # Looked at before it is read: a change in between is seen at the next look.
        self._out.files[path] = signature(path)
        return read_secret_file(path)

    def _twice(self, path: KeyPath, first: Mark, second: Mark) -> None:
        self._problem(path, second, f"is given twice: here and in line {first.line}; keep one of them")

    def _problem(self, path: KeyPath, mark: Mark, message: str) -> None:
        self._out.problems.append((path, mark, message))


def _split(key: str, model: type[BaseModel] | None) -> tuple[str, str | None]:
    """Splits a dotted key where known keys are expected; a key with an empty part is left whole, to be refused."""
    if model is None or "." not in key or key in fields_of(model) or not all(key.split(".")):
        return key, None
    head, _, rest = key.partition(".")
    return head, rest
