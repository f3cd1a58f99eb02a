"""YAML text into nodes that know their place.

PyYAML's safe parser gives the events; the nodes are built here, so that depth and size are bounded, tags are refused,
and no message repeats a text of the file, which may be a secret.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from connectors.config.problems import Mark

__all__ = ["DocumentError", "MappingNode", "Node", "ScalarNode", "SequenceNode", "parse_document", "scalar_value"]

MAX_DEPTH: Final = 64
MAX_EXPANDED: Final = 100_000

# The parser in C where PyYAML was built with it: some ten times faster, with the same events.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NOT_YAML: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|(?<!^)\ufeff")
_NULL: Final = "tag:yaml.org,2002:null"
_BOOL: Final = "tag:yaml.org,2002:bool"
_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"


class DocumentError(Exception):
    """The text is not YAML as we accept it."""

    def __init__(self, message: str, mark: Mark | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark


@dataclass(slots=True)
class ScalarNode:
    """A single value. `plain` ones, without quotes, are read as numbers, booleans or null where they look like it."""

    text: str
    plain: bool
    mark: Mark
    size: int = 1
    height: int = 0

    @property
    def is_null(self) -> bool:
        """Whether the value is left empty, or is a plain `null` or `~`."""
        return self.plain and self.text in {"", "~", "null", "Null", "NULL"}


@dataclass(slots=True)
class SequenceNode:
    """A list. `size` counts the values in it with their aliases expanded, `height` the levels below it."""

    mark: Mark
    items: list[Node] = field(default_factory=list)
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class MappingNode:
    """Keys and values in the order of the file; a key may stand there twice."""

    mark: Mark
    entries: list[tuple[ScalarNode, Node]] = field(default_factory=list)
    size: int = 1
    height: int = 0
    key: ScalarNode | None = None  # while the mapping is built: the key whose value comes next


Node: TypeAlias = ScalarNode | SequenceNode | MappingNode


def parse_document(text: str) -> Node | None:
    """Returns the root of the only document in the text; None when there is nothing in it.

    Raises:
        DocumentError: it is no YAML, or uses what a configuration has no need of: tags, several documents, nesting
            deeper than 64 levels, anchors that expand to more than 100,000 values.
    """
    if found := _NOT_YAML.search(text):
        before = text[: found.start()]
        mark = Mark(before.count("\n") + 1, found.start() - (before.rfind("\n") + 1) + 1)
        raise DocumentError(f"the character U+{ord(found[0]):04X} is not allowed in YAML; remove it", mark)
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise DocumentError(_yaml_words(error, text), _mark(error.problem_mark or error.context_mark)) from None
    except yaml.YAMLError:
        raise DocumentError("this is not YAML") from None
    return builder.root


def _mark(mark: Any) -> Mark:
    return Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)


class _Builder:
    """Builds the nodes from the events, without recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[SequenceNode | MappingNode] = []
        self._anchor_of: list[str | None] = []
        self._anchors: dict[str, Node] = {}
        self._expanded = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        """Adds one event of the parser."""
        mark = _mark(event.start_mark)
        if isinstance(event, yaml.NodeEvent):
            self._take_node(event, mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            node, anchor = self._open.pop(), self._anchor_of.pop()
            self._add(node, anchor)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise DocumentError('a second document begins here; remove the line "---"', mark)

    def _take_node(self, event: yaml.NodeEvent, mark: Mark) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._add(self._target(event, mark), None)
            return
        if getattr(event, "tag", None) is not None:
            raise DocumentError("a YAML tag is not allowed; a text that begins with ! needs quotes", mark)
        if isinstance(event, yaml.ScalarEvent):
            self._add(ScalarNode(event.value, event.implicit[0], mark), event.anchor)
            return
        if len(self._open) >= MAX_DEPTH:
            raise DocumentError(f"the nesting is deeper than {MAX_DEPTH} levels", mark)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        self._open.append(MappingNode(mark) if is_mapping else SequenceNode(mark))
        self._anchor_of.append(event.anchor)

    def _target(self, event: yaml.AliasEvent, mark: Mark) -> Node:
        node = self._anchors.get(str(event.anchor))
        if node is None:
            raise DocumentError(
                "there is no anchor (&) of this name above; a text that begins with * needs quotes", mark
            )
        self._expanded += node.size
        if self._expanded > MAX_EXPANDED:
            raise DocumentError(f"the anchors expand to more than {MAX_EXPANDED} values; write them out", mark)
        if len(self._open) + node.height >= MAX_DEPTH:
            raise DocumentError(f"with this anchor the nesting is deeper than {MAX_DEPTH} levels", mark)
        return node

    def _add(self, node: Node, anchor: str | None) -> None:
        """Puts a finished node into the one that is open."""
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        parent = self._open[-1]
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if isinstance(parent, SequenceNode):
            parent.items.append(node)
        elif parent.key is not None:
            parent.entries.append((parent.key, node))
            parent.key = None
        elif isinstance(node, ScalarNode):
            parent.key = node
        else:
            raise DocumentError("a key must be a single word; a value that begins with { or [ needs quotes", node.mark)


def _yaml_words(error: yaml.MarkedYAMLError, text: str) -> str:
    """Returns the parser's complaint in plain words, without quoting the file."""
    problem = error.problem or ""
    mark = error.problem_mark
    lines = text.split("\n")
    char = lines[mark.line][mark.column : mark.column + 1] if mark and mark.line < len(lines) else ""
    if "cannot start any token" in problem:
        if char == "\t":
            return "a tab cannot indent; use spaces"
        return f"a text cannot begin with {char}; put it in quotes" if char else "a text cannot begin so; quote it"
    if "mapping values are not allowed" in problem:
        return 'a ":" where no key can be; indent keys of one block alike, and put a text that contains ": " in quotes'
    if "flow" in (error.context or ""):
        return "a { or [ is not closed, or ${…} stands in it without quotes"
    if "end of stream" in problem:
        return "a quote is not closed"
    if "escape character" in problem:
        return "in double quotes a backslash is written \\\\; or use single quotes"
    if "block" in (error.context or ""):
        return "the indentation does not fit; indent keys and items of one block alike"
    # What remains is worded by the parser; anything it quotes from the file is left out.
    return f"this is not YAML: {re.sub(chr(39) + '[^' + chr(39) + ']*' + chr(39), '…', problem) or 'it cannot be read'}"


_RESOLVER: Final = Resolver()
_CONSTRUCTOR: Final = SafeConstructor()


def scalar_value(text: str) -> Any:
    """Returns a plain YAML scalar as None, bool, int, float or str.

    What JSON has no type for (times, infinity, numbers in base 60 such as `12:30`) stays text.
    """
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]  # untyped in the stubs
    if tag == _NULL:
        return None
    if len(text) > 100 or ":" in text or tag not in {_BOOL, _INT, _FLOAT}:
        return text
    node = yaml.ScalarNode(tag, text)
    try:
        if tag == _BOOL:
            return _CONSTRUCTOR.construct_yaml_bool(node)
        value = _CONSTRUCTOR.construct_yaml_int(node) if tag == _INT else _CONSTRUCTOR.construct_yaml_float(node)
    except ValueError:  # such as "0x_", which the resolver takes for a number
        return text
    return value if math.isfinite(value) else text
