"""The configuration as typed, frozen models. Each default and each description of `config.yml` stands here, once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from connectors.config.backends import ElasticsearchConfig, OpenSearchConfig, short_form
from connectors.config.fields import (
    ByteSize,
    ConfigPath,
    ConnectorId,
    Count,
    Duration,
    IndexName,
    PositiveDuration,
    Ratio,
    Schedule,
    SourceClass,
    TimeZone,
    is_loopback,
)
from connectors.config.section import Section
from connectors.logger import Masker
from connectors.utils import format_duration, quoted

__all__ = [
    "Config",
    "ConnectorConfig",
    "EmbeddedConfig",
    "ExtractionConfig",
    "FilteringConfig",
    "LoggingConfig",
    "PipelineConfig",
    "RuleConfig",
    "SchedulingConfig",
    "Section",
    "ServiceConfig",
    "SyncConfig",
    "WebConfig",
]

SHORTEST_TOKEN = 8


class ServiceConfig(Section):
    """The daemon: where it keeps its files, how often it looks for work, how workers share it."""

    # So that the defaults, too, learn the folder of the config file, when the file has no such block.
    model_config: ClassVar[ConfigDict] = ConfigDict(revalidate_instances="always")

    data_dir: ConfigPath = Field(
        Path("data"),
        description="Folder for the embedded index, ledgers and spooled files. A relative path counts from the "
        "folder of the config file.",
        validate_default=True,
    )
    worker_name: str | None = Field(
        None, min_length=1, description="Name of this worker in records and logs; without it, host name and process id."
    )
    workers: Annotated[int, Field(ge=1, le=64)] = Field(
        1,
        description="Processes that run syncs, so that more than one core is used. They share the limits of sync and "
        "extraction.",
    )
    max_concurrent_syncs: Count = Field(4, description="Sync jobs that one worker runs at the same time.")
    poll_interval: PositiveDuration = Field(
        1.0, description="How often due schedules, new jobs and edits of the config file are looked for."
    )
    heartbeat_interval: PositiveDuration = Field(10.0, description="How often a running job renews its lease.")
    lease: PositiveDuration = Field(
        60.0,
        description="How long a job belongs to its worker without a heartbeat, before another worker takes it over. "
        "At least three times heartbeat_interval.",
        validate_default=True,
    )
    drain_timeout: Duration = Field(
        20.0, description="How long running jobs may finish what is in flight after Ctrl-C or SIGTERM."
    )
    stall_timeout: Duration = Field(
        300.0,
        description="A sync without any progress for this long is reported, with what it waits for; 0 never does so.",
    )
    stall_action: Literal["report", "cancel"] = Field(
        "report",
        description="What becomes of such a sync: report leaves it alone, cancel ends it with an error, and the next "
        "one goes on behind its last checkpoint.",
    )
    job_retention: PositiveDuration = Field(30 * 86400.0, description="How long the records of ended jobs are kept.")

    @field_validator("lease")
    @classmethod
    def _outlasts_heartbeats(cls, lease: float, info: ValidationInfo) -> float:
        heartbeat: float = info.data.get("heartbeat_interval", 0.0)
        if lease < 3 * heartbeat:
            raise ValueError(
                f"{format_duration(lease)} is too short for a heartbeat every {format_duration(heartbeat)}; write at "
                f"least {format_duration(3 * heartbeat)}, so that one lost heartbeat does not lose the job"
            )
        return lease


class WebConfig(Section):
    """The page with search, connectors and jobs, and the addresses /health and /metrics."""

    enabled: bool = Field(True, description="Whether the page is served.")
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Any but this machine's own (127.0.0.1, ::1, localhost) needs a token.",
    )
    port: int = Field(8321, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    token: SecretStr | None = Field(
        None,
        description=f"Secret that a visitor must present, at least {SHORTEST_TOKEN} characters. Required unless host "
        "is this machine's own.",
        validate_default=True,
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        description="Names under which visitors reach the page, as in the address bar, besides host and this machine's "
        "own; a request for another name is refused.",
    )

    @field_validator("token")
    @classmethod
    def _guards_other_hosts(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if token is None:
            host = info.data.get("host", "localhost")
            if info.data.get("enabled", True) and not is_loopback(host):
                raise ValueError(
                    f'is required, because host is "{host}" and others can reach the page; write token: ${{WEB_TOKEN}} '
                    "or file:…, or host: 127.0.0.1"
                )
            return None
        text = token.get_secret_value()
        if len(text) < SHORTEST_TOKEN or not text.isascii() or not text.isprintable() or " " in text:
            raise ValueError(f"must be at least {SHORTEST_TOKEN} printable ASCII characters, without spaces")
        return token

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            if not re.fullmatch(r"[^\s/*@?#]+", host):
                raise ValueError(
                    f"{quoted(host)} is not a name of a host; write it as it stands in the address bar, without "
                    "http:// and without a path, such as search.example.org; there are no patterns"
                )
        return hosts


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


class LoggingConfig(Section):
    """What the daemon prints to stderr."""

    level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_upper)] = Field(
        "INFO", description="Least severe level that is printed."
    )
    format: Literal["text", "json"] = Field("text", description="text for people, json for a log collector.")


class SyncConfig(Section):
    """One sync job: its guards, batches and limits."""

    max_delete_ratio: Ratio = Field(
        0.2,
        description="A sync that would delete more than this part of a connector's documents stops and asks; 1 never "
        "asks, except when the source lists nothing at all.",
    )
    min_documents_for_ratio: int = Field(
        100, ge=0, description="Number of indexed documents from which on max_delete_ratio counts."
    )
    max_dead_letters: int = Field(
        10_000, ge=0, description="A sync with more refused documents than this stops with an error."
    )
    batch_bytes: ByteSize = Field(
        1_500_000,
        description="Size of a bulk request, at most; how large they are adapts to what the destination takes. A "
        "larger document goes alone.",
    )
    batch_documents: Count = Field(5_000, description="Documents of a bulk request, at most.")
    flush_interval: PositiveDuration = Field(1.0, description="How long a partial batch waits for more documents.")
    writes_in_flight: Count = Field(
        8,
        description="Bulk requests at the same time, at most, of all syncs of the daemon together, one for each of its "
        "workers at least; how many there are adapts to what the destination takes.",
    )
    bytes_in_flight: ByteSize = Field(
        12_000_000,
        description="Bytes of all these requests together, at most; the daemon needs about three times as many of "
        "memory. A larger document goes alone.",
    )
    readers: Annotated[int, Field(ge=1, le=32)] = Field(
        1,
        description="Processes that read one source at the same time in a full sync of 50,000 documents or more, where "
        "the source can be divided; 1 starts none.",
    )
    concurrent_downloads: Count = Field(10, description="Files of one sync that are fetched at the same time.")
    download_timeout: PositiveDuration = Field(
        600.0, description="How long the fetching of one file, with its text extraction, may take."
    )
    max_document_bytes: ByteSize = Field(
        100_000_000, description="A larger document is not sent; it becomes a dead letter."
    )
    checkpoint_interval: PositiveDuration = Field(1.0, description="How often progress is stored, at most.")
    retry_patience: Duration = Field(
        600.0, description="How long an overloaded or unreachable destination is tried again before the sync stops."
    )


class ExtractionConfig(Section):
    """Text out of files."""

    enabled: bool = Field(True, description="Whether text is extracted from files.")
    workers: Count = Field(2, description="Processes that extract text; each of service.workers has one at least.")
    timeout: PositiveDuration = Field(30.0, description="How long one file may take.")
    memory: ByteSize = Field(2**30, description="Memory that one process may use.")
    max_file_size: ByteSize = Field(10_000_000, description="Larger files are indexed without their text.")
    max_text_chars: Count = Field(1_000_000, description="Characters of text that are kept of one file.")


class EmbeddedConfig(Section):
    """The embedded index, used while no other backend is configured."""

    path: ConfigPath | None = Field(
        None, description="The database file; without it, connectors.db in service.data_dir."
    )


class SchedulingConfig(Section):
    """When a connector syncs: plain words, five-field cron or Quartz; nothing or `off` for never."""

    full: Schedule = Field(None, description='When everything is read and compared, such as "every 15m".')
    incremental: Schedule = Field(None, description="When only changes are read.")
    access_control: Schedule = Field(None, description="When identities and their permissions are read.")
    timezone: TimeZone = Field("UTC", description="Time zone of the schedules, such as Europe/Berlin.")


class RuleConfig(Section):
    """One basic sync rule."""

    id: str | None = Field(
        None,
        description="Name of the rule in messages; without it, its place in the list. The rule named DEFAULT needs a "
        "policy only: it decides about documents that no other rule matches.",
    )
    policy: Literal["include", "exclude"] = Field(description="What happens to documents that match.")
    field: str | None = Field(
        None, min_length=1, description="Field of the document, dotted when nested.", validate_default=True
    )
    rule: str | None = Field(
        None,
        min_length=1,
        description="How the field is compared, such as equals or starts_with.",
        validate_default=True,
    )
    value: Any = Field(None, description="What the field is compared with.", validate_default=True)
    order: int | None = Field(None, description="Place in the order of rules; without it, behind the rule above it.")

    @field_validator("field", "rule", "value")
    @classmethod
    def _needed(cls, given: Any, info: ValidationInfo) -> Any:
        if given is None and info.data.get("id") != "DEFAULT":
            raise ValueError("is required; only the rule with the id DEFAULT does without it")
        return given


class FilteringConfig(Section):
    """Sync rules: which documents are indexed."""

    rules: list[RuleConfig] = Field(
        default_factory=list, description="Basic rules, asked in order; the first that matches decides."
    )
    advanced: Any | None = Field(
        None, repr=False, description="Advanced rules in the source's own language; handed over as they are."
    )


class PipelineConfig(Section):
    """What happens to documents on their way into the index."""

    name: str | None = Field(None, min_length=1, description="Ingest pipeline of the destination.")
    extract_binary_content: bool = Field(True, description="Whether text is extracted from files.")
    reduce_whitespace: bool = Field(True, description="Whether runs of blanks in extracted text become one.")
    run_ml_inference: bool = Field(False, description="Whether the pipeline runs its inference step.")


class ConnectorConfig(Section):
    """One configured use of a source."""

    id: ConnectorId = Field(description='Unique id: lower-case letters, digits, "-" and "_".')
    name: str | None = Field(None, description="Name for people; without it, the id.")
    description: str | None = Field(None, description="What this connector is for.")
    service_type: str = Field(min_length=1, description="Which source reads, such as directory.")
    index: IndexName = Field(description="Name of the index that its documents go to.")
    language: str | None = Field(None, min_length=1, description="Language of the texts, such as en or de.")
    configuration: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="The source's own settings; `connectors sources` lists them."
    )
    scheduling: SchedulingConfig = Field(default_factory=SchedulingConfig, description="When it syncs.")
    filtering: FilteringConfig = Field(default_factory=FilteringConfig, description="Which documents are indexed.")
    pipeline: PipelineConfig = Field(default_factory=PipelineConfig, description="What happens to the documents.")
    max_delete_ratio: Ratio | None = Field(None, description="Replaces sync.max_delete_ratio for this connector.")
    readers: Annotated[int, Field(ge=1, le=32)] | None = Field(
        None, description="Replaces sync.readers for this connector."
    )
    paused: bool = Field(False, description="A paused connector starts no sync by its schedules.")


class Config(Section):
    """The whole of `config.yml`."""

    service: ServiceConfig = Field(default_factory=ServiceConfig, description="The daemon.", validate_default=True)
    web: WebConfig = Field(default_factory=WebConfig, description="The page.")
    logging: LoggingConfig = Field(default_factory=LoggingConfig, description="What is printed.")
    sync: SyncConfig = Field(default_factory=SyncConfig, description="Limits of every sync.")
    extraction: ExtractionConfig = Field(
        default_factory=ExtractionConfig, description="How text is taken out of files."
    )
    embedded: EmbeddedConfig = Field(default_factory=EmbeddedConfig, description="The embedded index.")
    elasticsearch: Annotated[
        ElasticsearchConfig | None, BeforeValidator(short_form, json_schema_input_type=ElasticsearchConfig | str | None)
    ] = Field(None, description="Elasticsearch in place of the embedded index; its address alone is enough.")
    opensearch: Annotated[
        OpenSearchConfig | None, BeforeValidator(short_form, json_schema_input_type=OpenSearchConfig | str | None)
    ] = Field(
        None,
        description="OpenSearch in place of the embedded index; its address alone is enough.",
        validate_default=True,
    )
    sources: dict[str, SourceClass] = Field(
        default_factory=dict, description="Further sources: service type → module:Class."
    )
    connectors: list[ConnectorConfig] = Field(default_factory=list, description="What to sync.")

    _base_dir: Path = PrivateAttr(default_factory=Path)
    _secrets: frozenset[str] = PrivateAttr(default=frozenset())

    @field_validator("opensearch")
    @classmethod
    def _is_the_only_backend(cls, given: OpenSearchConfig | None, info: ValidationInfo) -> OpenSearchConfig | None:
        if given is not None and info.data.get("elasticsearch") is not None:
            raise ValueError("cannot stand beside elasticsearch: documents go to one place; keep one of the two blocks")
        return given

    def model_post_init(self, context: Any) -> None:
        """Keeps the folder of the config file, which the loader passes as `base_dir`."""
        if context and "base_dir" in context:
            self._base_dir = context["base_dir"]

    @property
    def base_dir(self) -> Path:
        """Folder of the config file, against which relative paths count."""
        return self._base_dir

    @property
    def secrets(self) -> frozenset[str]:
        """Every secret that the file gave, for the masker of the logs; in no dump and no repr."""
        return self._secrets

    @property
    def embedded_path(self) -> Path:
        """The embedded index's database file."""
        return self.embedded.path or self.service.data_dir / "connectors.db"

    @property
    def index_place(self) -> str:
        """Where documents go, in words for people."""
        if self.elasticsearch is not None:
            return f"Elasticsearch, {self.elasticsearch.url}"
        if self.opensearch is not None:
            return f"OpenSearch, {self.opensearch.url}"
        return f"embedded, {self.embedded_path}"

    def hiding(self, secrets: Iterable[str]) -> Self:
        """Returns the same configuration with these secrets added to `secrets`."""
        copy = self.model_copy()
        copy._secrets = self._secrets | frozenset(secrets)  # noqa: SLF001 - another object of this very class
        return copy

    def __repr__(self) -> str:
        return Masker(self._secrets).mask(super().__repr__())

    __str__ = __repr__
