"""The directory source itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from connectors.filtering.validation import AdvancedRulesValidator, SyncRuleValidationResult
from connectors.source import (
    BaseDataSource,
    Checkpoint,
    ConfigurationError,
    Document,
    LazyDownload,
    Skipped,
    SourceItem,
    SyncError,
)
from connectors.sources.directory.documents import TreeDigest, document_of
from connectors.sources.directory.globs import GlobError, Globs
from connectors.sources.directory.paths import from_storable, shown, to_storable
from connectors.sources.directory.reading import FileReader
from connectors.sources.directory.split import span_from, split_tree
from connectors.sources.directory.walk import Found, FoundFile, Root, Selection, Unreadable, Walker
from connectors.utils import format_size

__all__ = ["DirectoryDataSource", "PatternsValidator"]

_BATCH = 500
"""Files for which there is one hop to a thread."""

_STEP = 25
"""Files after which there is a checkpoint: their texts may take longer than the listing of them."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What the last enumeration saw, if it was complete."""

    root: Root
    selection: Selection
    digest: bytes


class DirectoryDataSource(BaseDataSource):
    """Files of a local folder: their metadata, and their content for the text extraction."""

    name = "Local directory"
    service_type = "directory"
    advanced_rules_enabled = True
    resumable = True
    partitioned = True

    _snapshot: _Snapshot | None = None

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        """Returns the fields `directory`, `include`, `exclude` and `max_file_size`."""
        return {
            "directory": {
                "label": "Folder",
                "type": "str",
                "value": "",
                "order": 1,
                "tooltip": "A relative path counts from the folder of config.yml.",
            },
            "include": {
                "label": "Files to include",
                "type": "list",
                "value": None,
                "required": False,
                "default_value": ["**"],
                "order": 2,
                "tooltip": "Patterns as in a .gitignore: *.md, /docs/**, reports/20{25,26}/",
            },
            "exclude": {
                "label": "Files and folders to leave out",
                "type": "list",
                "value": None,
                "required": False,
                "default_value": [],
                "order": 3,
                "tooltip": "Patterns as in a .gitignore; a folder that is left out is not entered.",
            },
            "max_file_size": {
                "label": "Largest file whose content is read",
                "type": "int",
                "value": None,
                "required": False,
                "default_value": 10_000_000,
                "order": 4,
                "tooltip": "Bytes. Of larger files only the metadata is indexed.",
                "validations": [{"type": "greater_than", "constraint": -1}],
            },
        }

    # Configuration

    async def ping(self) -> None:
        """Looks at the folder; raises ConfigurationError when it is missing, no folder, or may not be read."""
        await asyncio.to_thread(self._root)

    async def validate_config(self) -> None:
        """Raises ConfigurationError for a missing or unreadable folder and for a malformed pattern."""
        self.configuration.check_valid()
        self._selection(None)
        await asyncio.to_thread(self._root)

    def advanced_rules_validators(self) -> Sequence[AdvancedRulesValidator]:
        """Returns the validator of `[{"pattern": "docs/**"}]`."""
        return [PatternsValidator()]

    def _root(self) -> Root:
        """Looks at the configured folder. Blocks."""
        given = self.configuration["directory"]
        if not given.strip():
            raise ConfigurationError("directory: write the path of the folder to sync", field="directory")
        path = self.framework_config.base_dir / Path(given).expanduser()
        try:
            return Root.at(str(path))
        except FileNotFoundError:
            problem = (
                "does not exist; create it, or mend the path (a relative one counts from the folder of config.yml)"
            )
        except NotADirectoryError:
            problem = "is not a folder; write the path of the folder that the file is in"
        except PermissionError:
            problem = "may not be read by this user; give the user who runs the daemon the rights to list and enter it"
        except (OSError, ValueError) as error:
            problem = f"cannot be read: {error}"
        raise ConfigurationError(f"directory: {path} {problem}", field="directory") from None

    def _selection(self, filtering: Any) -> Selection:
        """Returns what to index: the advanced rules, or else `include`, less `exclude`."""
        patterns = self.configuration["include"]
        if filtering is not None and filtering.has_advanced_rules():
            patterns = [rule["pattern"] for rule in filtering.get_advanced_rules()]
        include = self._globs("include", patterns)
        exclude = self._globs("exclude", self.configuration["exclude"])
        return Selection(
            wants_file=lambda path: include.match(path) and not exclude.match(path),
            enters_folder=lambda path: include.may_match_in(path) and not exclude.covers_folder(path),
        )

    @staticmethod
    def _globs(field: str, patterns: Iterable[Any]) -> Globs:
        try:
            return Globs(map(str, patterns))
        except GlobError as error:
            raise ConfigurationError(f"{field}: {error}", field=field) from None

    @property
    def _max_file_size(self) -> int:
        return min(int(self.configuration["max_file_size"]), self.framework_config.max_file_size)

    # Reading

    async def get_docs(
        self,
        filtering: Any = None,  # a connectors.byoc.Filter, which sources do not import
        *,
        checkpoint: Any = None,
        partition: Any = None,
    ) -> AsyncGenerator[SourceItem, None]:
        """Yields the files in the order of their paths, with a checkpoint after each few.

        A folder that cannot be read is yielded as `Skipped` without an id. A file that cannot be read is told by its
        download, so that it is counted once.
        """
        self._snapshot = None
        selection = self._selection(filtering)
        root = await asyncio.to_thread(self._root)
        after = from_storable(checkpoint["after"]) if checkpoint else None
        walker = Walker(root, selection, after, span_from(partition))
        reader = FileReader(root, self._max_file_size)
        digest = TreeDigest()
        complete = after is None and partition is None
        while not walker.done:
            items = await asyncio.to_thread(self._next_items, walker, digest, reader)
            last: str | None = None
            for number, item in enumerate(items, 1):
                if isinstance(item, Skipped):
                    complete = False
                    yield item
                else:
                    document, download, last = item
                    yield document, download
                if last is not None and (number % _STEP == 0 or number == len(items)):
                    yield Checkpoint({"after": to_storable(last)})
        self._report(walker)
        if complete and digest.trusted:
            self._snapshot = _Snapshot(root, selection, digest.digest())

    async def partitions(self, filtering: Any = None) -> list[Any]:
        """Returns parts of the tree that hold about the same number of files and folders near the top."""
        selection = self._selection(filtering)
        root = await asyncio.to_thread(self._root)
        return await asyncio.to_thread(split_tree, root, selection)

    async def changed(self) -> bool:
        """Compares path, size and times of all files with those of this object's last complete enumeration."""
        snapshot = self._snapshot
        if snapshot is None:
            return True
        try:
            return (
                await asyncio.to_thread(self._root) != snapshot.root
                or await self._digest_now(snapshot) != snapshot.digest
            )
        except (ConfigurationError, SyncError):
            return True  # the folder is gone: the sync that follows says so

    @staticmethod
    async def _digest_now(snapshot: _Snapshot) -> bytes | None:
        """Returns the digest of the files as they are, None when some cannot be known."""
        walker = Walker(snapshot.root, snapshot.selection)
        digest = TreeDigest()
        while not walker.done:
            found, met = await asyncio.to_thread(_next_batch, walker, 10 * _BATCH)
            files = [item for item in found if isinstance(item, FoundFile)]
            if len(files) < len(found):
                return None
            digest.add(files, met)
        return digest.digest()

    def _next_items(
        self, walker: Walker, digest: TreeDigest, reader: FileReader
    ) -> list[Skipped | tuple[Document, LazyDownload | None, str]]:
        """Returns the next files as documents. Blocks."""
        found, met = _next_batch(walker, _BATCH)
        digest.add([item for item in found if isinstance(item, FoundFile)], met)
        limit = self._max_file_size
        return [
            Skipped(f"{shown(item.path)}: cannot be listed: {item.reason}")
            if isinstance(item, Unreadable)
            else self._item(item, reader, limit)
            for item in found
        ]

    def _item(self, file: FoundFile, reader: FileReader, limit: int) -> tuple[Document, LazyDownload | None, str]:
        document = document_of(file, self.hash_id)
        size = file.stat.st_size
        if size > limit:
            document["content_skipped"] = f"larger than {format_size(limit)}"
            return document, None, file.path
        return document, partial(self._download, reader, file.path, size) if size else None, file.path

    async def _download(
        self,
        reader: FileReader,
        path: str,
        size: int,
        *,
        doit: bool = True,
        timestamp: Any = None,  # noqa: ARG002 - part of the contract
    ) -> Mapping[str, Any] | None:
        """Returns the file's content as `_attachment`, as bytes.

        Raises:
            SkippableError: it cannot be read; the version in the index stays.
        """
        return {"_attachment": await reader.read(path, size)} if doit else None

    def _report(self, walker: Walker) -> None:
        if walker.links_ignored or walker.special:
            self.logger.info(
                "left alone: %d symbolic links to folders, to nothing or to the outside; %d pipes, sockets and devices",
                walker.links_ignored,
                walker.special,
            )


class PatternsValidator(AdvancedRulesValidator):
    """Advanced rules of this source are a list of `{"pattern": glob}`, which take the place of `include`."""

    def validate(self, advanced_rules: Any) -> list[SyncRuleValidationResult]:
        """Returns one result for each problem; an empty list when there is none."""
        if not isinstance(advanced_rules, list):
            return [_problem('write a list of patterns, such as [{"pattern": "docs/**"}]')]
        return [
            _problem(f"rule {number}: {text}")
            for number, rule in enumerate(advanced_rules, 1)
            if (text := self._judge(rule)) is not None
        ]

    @staticmethod
    def _judge(rule: Any) -> str | None:
        if not isinstance(rule, dict) or set(rule) != {"pattern"} or not isinstance(rule["pattern"], str):
            return f'{str(rule)[:200]} is no pattern: write {{"pattern": "docs/**"}}'
        try:
            Globs([rule["pattern"]])
        except GlobError as error:
            return str(error)
        return None


def _problem(message: str) -> SyncRuleValidationResult:
    return SyncRuleValidationResult(SyncRuleValidationResult.ADVANCED_RULES, is_valid=False, validation_message=message)


def _next_batch(walker: Walker, limit: int) -> tuple[list[Found], int]:
    """Returns the next batch, and the time at which it was begun, in nanoseconds since the epoch. Blocks."""
    met = time.time_ns()
    return walker.next_batch(limit), met
