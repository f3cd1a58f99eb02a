"""A folder in parts, so that several processes can read them at the same time.

What lies near the top is counted, folder by folder, until there is enough to cut. A part is a span of the walk's own
order, not a list of names: what comes into being later belongs to one of them too.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

from connectors.sources.directory.paths import from_storable, to_storable
from connectors.sources.directory.walk import Root, Selection, Span

__all__ = ["span_from", "split_tree"]

#: Parts of a tree.
_PARTS: Final = 16
#: Files and folders that are counted for each of them.
_ENTRIES: Final = 16 * _PARTS
#: Folders that are looked into for that, at most.
_FOLDERS: Final = 500


def split_tree(root: Root, selection: Selection) -> list[Any]:
    """Returns the parts as JSON; an empty list for a tree too small to be divided. Blocks.

    Raises:
        SyncError: the root is gone or was replaced.
    """
    entries: list[list[str]] = []
    folders = deque([list[str]()])
    looked = 0
    while folders and len(entries) < _ENTRIES and looked < _FOLDERS:
        folder = folders.popleft()
        looked += 1
        with suppress(ValueError):
            entries.remove(folder)  # what is in it stands for it
        for name, is_folder in _list(root, folder):
            path = [*folder, name]
            if is_folder and selection.enters_folder("/".join(path)):
                folders.append(path)
                entries.append(path)
            elif not is_folder:
                entries.append(path)
    if not folders and len(entries) < _ENTRIES:
        return []  # all of it was seen, and it is little
    entries.sort()
    step = max(1, -(-len(entries) // _PARTS))
    cuts = ["/".join(path) for path in entries[step::step]]
    return [{"from": start, "to": end} for start, end in pairwise([None, *map(to_storable, cuts), None])]


def _list(root: Root, folder: list[str]) -> list[tuple[str, bool]]:
    """Returns the names in a folder, and which are folders; nothing of one that cannot be read: the walk tells."""
    try:
        descriptor = root.open_folder(folder)
    except OSError:
        return []
    try:
        with os.scandir(descriptor) as found:
            return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
    except OSError:
        return []
    finally:
        os.close(descriptor)


def span_from(partition: Mapping[str, Any] | None) -> Span:
    """Returns the span of a part; all of the tree for None."""
    if partition is None:
        return Span()
    start, end = partition["from"], partition["to"]
    return Span(
        None if start is None else from_storable(start).split("/"),
        None if end is None else from_storable(end).split("/"),
    )
