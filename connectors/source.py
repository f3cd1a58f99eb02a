"""The contract of a source: everything that a source author imports.

A source reads one backend and yields documents. It needs no base class as long as it has the methods;
`BaseDataSource` gives each of them a default, and `with_defaults` adds them to a class that has none::

    class NotesDataSource(BaseDataSource):
        name = "Notes"
        service_type = "notes"

        @classmethod
        def get_default_configuration(cls):
            return {"url": {"label": "Address", "type": "str", "value": ""}}

        async def ping(self):
            await self.client.get(self.configuration["url"])

        async def get_docs(self, filtering=None):
            async for note in self.client.notes():
                yield {"_id": note.id, "_timestamp": note.changed, "text": note.text}, None

Obligations of a source:

- Each document is a dict with an `_id` that is the same in every sync. `_timestamp`, when given, changes whenever the
  document or its file does.
- Raise when the enumeration cannot be finished; never end early, for the framework deletes what a complete enumeration
  did not list. For a part that cannot be read, yield `Skipped(reason)`.
- Between two documents let the event loop run: await I/O, and put blocking calls into threads.
- Release everything in `close()`, which may be called at any time, also twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

from connectors.byoc import Filter
from connectors.errors import (
    ConfigurationError,
    ConnectorsError,
    FullSyncNeededError,
    InvalidFilteringError,
    RetryableError,
    SkippableError,
    SuspendSync,
    SyncError,
)
from connectors.filtering.validation import (
    AdvancedRulesValidator,
    BasicRulesSetValidator,
    BasicRuleValidator,
    FilteringValidationResult,
    FilteringValidator,
    SyncRuleValidationResult,
    rejected,
)
from connectors.source_configuration import DataSourceConfiguration, Field

__all__ = [
    "AdvancedRulesValidator",
    "BaseDataSource",
    "BasicRuleValidator",
    "BasicRulesSetValidator",
    "Checkpoint",
    "ConfigurationError",
    "ConnectorsError",
    "DataSourceConfiguration",
    "Discovered",
    "Document",
    "Field",
    "Filter",
    "FilteringValidationResult",
    "FrameworkConfig",
    "FullSyncNeededError",
    "IncrementalItem",
    "InvalidFilteringError",
    "LazyDownload",
    "Operation",
    "RetryableError",
    "SkippableError",
    "Skipped",
    "SourceItem",
    "SuspendSync",
    "SyncError",
    "SyncRuleValidationResult",
    "with_defaults",
]

Document: TypeAlias = dict[str, Any]
Operation: TypeAlias = Literal["index", "update", "delete"]


class LazyDownload(Protocol):
    """Fetches what belongs to a document only when it is needed.

    Returns a dict that is merged into the document: `body` with text, or `_attachment` with the file's content, as
    base64 text or as bytes, from which the framework takes the text. None: there is nothing to add.
    Raises SkippableError when this document's file cannot be read: the document becomes a dead letter and the version
    in the index stays.
    """

    def __call__(self, *, doit: bool = True, timestamp: Any = None) -> Awaitable[Mapping[str, Any] | None]:
        """Fetches; with `doit=False` releases what was held for it and returns None."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Yielded between documents: `state` (anything that is JSON) covers everything yielded before it.

    It is stored only after everything before it was acknowledged by the destination.
    """

    state: Any


@dataclass(frozen=True, slots=True)
class Skipped:
    """Yielded in place of what could not be read.

    With `_id`, that one document counts as seen and becomes a dead letter. Without, part of the enumeration is
    missing, and this sync deletes nothing.
    """

    reason: str
    _id: str | None = None

    def __post_init__(self) -> None:
        """Takes an exception for a reason, too: its words are meant."""
        object.__setattr__(self, "reason", str(self.reason))

    @property
    def id(self) -> str | None:
        """The document's `_id`, if one document is meant."""
        return self._id


SourceItem: TypeAlias = "tuple[Document, LazyDownload | None] | Checkpoint | Skipped"
IncrementalItem: TypeAlias = "tuple[Document, LazyDownload | None, Operation] | Checkpoint | Skipped"


@dataclass(frozen=True, slots=True)
class Discovered:
    """One thing that could be synced, as `discover()` lists it: `configuration` is what to write into `config.yml`."""

    name: str
    description: str
    configuration: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FrameworkConfig:
    """What the framework tells a source about its surroundings.

    Attributes:
        base_dir: relative paths in a configuration are relative to this folder, that of `config.yml`.
        max_file_size: bytes; a larger file's content is not worth downloading.
    """

    base_dir: Path
    max_file_size: int = 10_000_000


class BaseDataSource:
    """Defaults for every member of the contract. Override `ping` and `get_docs`, and what else the backend can do."""

    name: ClassVar[str] = ""
    service_type: ClassVar[str] = ""
    basic_rules_enabled: ClassVar[bool] = True
    advanced_rules_enabled: ClassVar[bool] = False
    dls_enabled: ClassVar[bool] = False
    incremental_sync_enabled: ClassVar[bool] = False
    #: False when `get_docs` may leave out what the index shall keep, as of a time series whose source forgets: then no
    #: document is deleted because a full sync did not list it.
    lists_all: ClassVar[bool] = True
    #: True when `get_docs` takes `checkpoint=` and goes on behind it.
    resumable: ClassVar[bool] = False
    #: True when `partitions` divides a full sync and `get_docs` takes `partition=`; for resumable sources only.
    partitioned: ClassVar[bool] = False

    # Class-level defaults, so that a class that never calls our __init__ works as well.
    configuration: DataSourceConfiguration = DataSourceConfiguration()
    logger: logging.Logger | logging.LoggerAdapter[Any] = logging.getLogger("connectors.source")
    framework_config: FrameworkConfig = FrameworkConfig(base_dir=Path())
    _features: Any = None

    def __init__(self, configuration: DataSourceConfiguration) -> None:
        self.configuration = configuration

    # What the source is

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        """Returns field name → {label, type, value, default_value, required, sensitive, …}, see `Field`."""
        return {}

    @classmethod
    def features(cls) -> dict[str, Any]:
        """Returns the features in the shape of the connector protocol."""
        return {
            "document_level_security": {"enabled": cls.dls_enabled},
            "incremental_sync": {"enabled": cls.incremental_sync_enabled},
            "sync_rules": {
                "basic": {"enabled": cls.basic_rules_enabled},
                "advanced": {"enabled": cls.advanced_rules_enabled},
            },
        }

    @classmethod
    def hash_id(cls, _id: str) -> str:
        """Returns a short id in place of one that is longer than the destination takes (512 bytes)."""
        return hashlib.blake2b(_id.encode("utf-8", "surrogatepass"), digest_size=20).hexdigest()

    # Life

    async def ping(self) -> None:
        """Reaches the backend; raises ConfigurationError for wrong credentials, RetryableError for a passing fault."""
        raise NotImplementedError

    async def validate_config(self) -> None:
        """Raises ConfigurationError in words for the operator when the configuration cannot work."""
        self.configuration.check_valid()

    async def close(self) -> None:
        """Releases connections, files and tasks; may be called more than once."""

    async def forget(self) -> None:
        """Removes what this source made in the backend for its connector alone, such as a replication slot.

        Called when an operator purges the connector, while none of its syncs runs; may be called when there is nothing
        to remove. Raises an error that says what was left: the purge goes on, and shows it.
        """

    # Reading

    async def changed(self) -> bool:
        """Returns False when nothing changed since this object's last complete enumeration.

        Asked only when this very object ran the connector's last content sync to the end without a failed document.
        """
        return True

    # The open signature lets a type checker accept what an override takes: `(filtering)`, `(filtering, *, checkpoint)`.
    def get_docs(self, filtering: Filter | None = None, *args: Any, **given: Any) -> AsyncIterator[SourceItem]:
        """Yields `(document, lazy_download or None)`, `Checkpoint` and `Skipped`.

        Only a `resumable` source is ever given a `checkpoint=`, and only a state that it yielded itself. One that is
        `partitioned` also takes `partition=`, and is then given checkpoints of that very partition. Others are called
        with `filtering` alone.
        """
        raise NotImplementedError

    def get_docs_incrementally(
        self, sync_cursor: Any, filtering: Filter | None = None
    ) -> AsyncIterator[IncrementalItem]:
        """Yields `(document, lazy_download or None, "index" | "update" | "delete")`, `Checkpoint` and `Skipped`."""
        raise NotImplementedError

    def sync_cursor(self) -> Any:
        """Returns where the next incremental sync starts; stored when a sync completed that yielded no `Checkpoint`."""
        return None

    async def discover(self) -> Sequence[Discovered]:
        """Lists what the credentials give access to."""
        return ()

    async def partitions(self, filtering: Filter | None = None) -> Sequence[Any]:  # noqa: ARG002 - for those that override it
        """Returns what splits a full sync between processes, as JSON; empty when it cannot, or is not worth it.

        Asked of a `partitioned` source before the first read of a sync. Each document belongs to one partition, also
        one that comes into being while the sync runs. Other objects of this class then read them, in other processes:
        `get_docs(filtering, partition=…)`. Where the next incremental sync starts is fixed here, for `sync_cursor()`.
        """
        return ()

    # Document-level security

    def get_access_control(self) -> AsyncIterator[Document]:
        """Yields one document per identity, with its permissions."""
        raise NotImplementedError

    def access_control_query(self, access_control: Sequence[str]) -> dict[str, Any]:
        """Returns the query that restricts a search to what these permissions may see."""
        raise NotImplementedError

    # Sync rules

    def advanced_rules_validators(self) -> Sequence[Any]:
        """Returns the validators of this source's advanced rules, run in list order."""
        return ()

    @classmethod
    def basic_rules_validators(cls) -> Sequence[Any]:
        """Returns the validators of basic rules, run in list order; extend what the base class returns."""
        from connectors.filtering.validators import default_basic_rules_validators

        return default_basic_rules_validators()

    @classmethod
    def basic_rule_validators(cls) -> Sequence[Any]:
        """The older name of `basic_rules_validators`."""
        return cls.basic_rules_validators()

    async def validate_filtering(self, filtering: Filter) -> FilteringValidationResult:
        """Runs all validators over the rules and returns all problems; rules that the source ignores are one."""
        validator = FilteringValidator(self.basic_rules_validators(), self.advanced_rules_validators())
        result = await validator.validate(filtering.basic_rules, filtering.advanced_or_none())
        known = self.name or self.service_type
        if filtering.has_advanced_rules() and not self.advanced_rules_enabled:
            message = f"the source {known} takes no advanced rules: remove them, or write basic ones"
            result += rejected(SyncRuleValidationResult.ADVANCED_RULES, message)
        return result

    # Hooks of the framework

    def tweak_bulk_options(self, options: dict[str, Any]) -> None:
        """Lowers options of bulk writing in place, before each sync; `config.yml` says how high they may be.

        Keys: `batch_bytes` and `batch_documents` of one request, `writes_in_flight` and `concurrent_downloads` of this
        sync; whole numbers.
        """

    def field_types(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns name → mapping of fields whose type a search server shall not guess: `{"host": {"type": "keyword"}}`.

        Asked before each sync, and used where it has to create the index.
        """
        return {}

    def serialize(self, doc: Document) -> Document:
        """Converts values that JSON lacks. Left as it is, the encoder does it faster."""
        return doc

    def set_logger(self, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        """Takes the logger that names the connector in each line."""
        self.logger = logger

    def set_features(self, features: Any) -> None:
        """Takes the features that are switched on for this connector."""
        self._features = features

    def set_framework_config(self, framework_config: FrameworkConfig) -> None:
        """Takes what the framework tells about the surroundings."""
        self.framework_config = framework_config


def with_defaults(source_class: type[Any]) -> type[BaseDataSource]:
    """Returns `source_class` itself, or a subclass that has the defaults of `BaseDataSource` behind its own members."""
    if issubclass(source_class, BaseDataSource):
        return source_class
    return type(source_class.__name__, (source_class, BaseDataSource), {"__module__": source_class.__module__})
