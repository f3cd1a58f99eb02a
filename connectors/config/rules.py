"""Sync rules in a file of their own, in the shape of a connector's `filtering:`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from connectors.config.document import DocumentError, MappingNode, Node, ScalarNode, SequenceNode, parse_document
from connectors.config.loader import read_text
from connectors.config.messages import explain
from connectors.config.models import FilteringConfig
from connectors.config.problems import ConfigError, KeyPath, Mark, Problem, dotted
from connectors.config.reader import Reading, read_document
from connectors.config.rule_values import plain_rules
from connectors.config.values import names_file
from connectors.logger import Masker

__all__ = ["WrittenRules", "read_rules", "read_rules_file"]

_SHAPE: Final = 'write "rules:" and "advanced:", as below filtering: in config.yml'


class WrittenRules:
    """Rules that somebody wrote, with what is wrong with their form.

    Attributes:
        rules: the basic rules as they are written; anything may stand there while `wrong` says so.
        name: of the file.
        advanced: the advanced ones; None: there are none.
        secrets: what came from files and secret variables.
    """

    def __init__(self, name: str, reading: Reading, *, lines: bool) -> None:
        self.name = name
        self._reading = reading
        self._lines = lines
        self._bad: set[KeyPath] = set()
        self._problems: list[tuple[KeyPath, Mark, str]] = list(reading.problems)
        self.rules: list[Any] = plain_rules(reading.data.get("rules"))
        self.advanced: Any = reading.data.get("advanced")
        self.secrets = frozenset(filter(None, reading.secrets))
        self._validate()

    def _validate(self) -> None:
        try:
            FilteringConfig.model_validate(self._reading.data)
        except ValidationError as error:
            for found in error.errors(include_url=False):
                self._bad.add(found["loc"])
                message = explain(found, FilteringConfig, hidden=found["loc"] in self._reading.hidden)
                self._add(found["loc"], message)

    def _add(self, path: KeyPath, message: str) -> None:
        if not any(path[:length] in self._reading.failed for length in range(1, len(path) + 1)):
            self._problems.append((path, self._reading.mark(path), message))

    def problems(self, more: Iterable[tuple[KeyPath, str]] = ()) -> list[Problem]:
        """Returns everything that is wrong, in the order of the file, without secrets.

        Args:
            more: what validators found: where it stands, and what it is; what the form says already is left out.
        """
        for path, message in more:
            if path not in self._bad:
                self._add(path, message)
        masker = Masker(self.secrets)
        told = [
            Problem(
                self.name,
                mark.line if self._lines else None,
                mark.column if self._lines else None,
                masker.mask(dotted(path)),
                masker.mask(message),
            )
            for path, mark, message in sorted(self._problems, key=lambda found: (found[1], dotted(found[0])))
        ]
        return list(dict.fromkeys(told))


def read_rules_file(path: Path, environ: Mapping[str, str] = os.environ) -> WrittenRules:
    """Reads a file, YAML or (by its suffix) JSON. Blocks on the disk.

    Raises:
        ConfigError: it cannot be read at all.
    """
    try:
        text = read_text(path)
        is_json = path.suffix.lower() == ".json"
        root = _root(_from_json(text) if is_json else text)
    except DocumentError as error:
        raise _refused(str(path), error) from None
    reading = Reading()
    read_document(root, FilteringConfig, path.absolute().parent, environ, reading)
    return WrittenRules(str(path), reading, lines=not is_json)


def read_rules(text: str, name: str) -> WrittenRules:
    """Reads YAML that came from elsewhere: it refers neither to variables nor to files.

    Raises:
        ConfigError: it is no YAML, or refers to them.
    """
    try:
        root = _root(text)
        _refuse_references(root)
    except DocumentError as error:
        raise _refused(name, error) from None
    reading = Reading()
    read_document(root, FilteringConfig, Path(), {}, reading)
    return WrittenRules(name, reading, lines=True)


def _refused(name: str, error: DocumentError) -> ConfigError:
    line, column = (error.mark.line, error.mark.column) if error.mark else (None, None)
    return ConfigError([Problem(name, line, column, "", error.message)])


def _from_json(text: str) -> str:
    """Returns JSON in the part of it that is YAML, too."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except RecursionError:
        raise DocumentError("the nesting is too deep") from None
    except json.JSONDecodeError as error:
        raise DocumentError(f"this is not JSON: {error.msg}", Mark(error.lineno, error.colno)) from None


def _root(text: str) -> MappingNode:
    root = parse_document(text)
    if root is None or (isinstance(root, ScalarNode) and root.is_null):
        raise DocumentError(f"there is nothing in it; {_SHAPE}")
    if not isinstance(root, MappingNode):
        raise DocumentError(f"there are no keys in it; {_SHAPE}", root.mark)
    if len(root.entries) == 1 and root.entries[0][0].text == "filtering":
        inside = root.entries[0][1]
        if not isinstance(inside, MappingNode):
            raise DocumentError(f"there are no keys in it; {_SHAPE}", inside.mark)
        return inside
    return root


def _refuse_references(root: Node) -> None:
    nodes: list[Node] = [root]
    while nodes:
        node = nodes.pop()
        if isinstance(node, MappingNode):
            nodes += [value for _, value in node.entries]
        elif isinstance(node, SequenceNode):
            nodes += node.items
        elif names_file(node.text) or "${" in node.text:
            raise DocumentError("rules that are pasted refer to no file: and no ${…}; write the text itself", node.mark)
