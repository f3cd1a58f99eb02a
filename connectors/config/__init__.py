"""The operator's configuration: `config.yml` read, checked and typed.

`load_config` gives a `Config` or a `ConfigError` that lists every problem with file, line and key. `ConfigFile` follows
the file while the daemon runs. `config_schema` is the JSON Schema for editors.
"""

from __future__ import annotations

from connectors.config.backends import ElasticsearchConfig, OpenSearchConfig, ServerConfig
from connectors.config.fields import ByteSize, Duration, check_index_name, is_loopback
from connectors.config.loader import load_config
from connectors.config.models import (
    Config,
    ConnectorConfig,
    EmbeddedConfig,
    ExtractionConfig,
    FilteringConfig,
    LoggingConfig,
    PipelineConfig,
    RuleConfig,
    SchedulingConfig,
    ServiceConfig,
    SyncConfig,
    WebConfig,
)
from connectors.config.problems import ConfigError, Problem
from connectors.config.rules import WrittenRules, read_rules, read_rules_file
from connectors.config.schema import config_schema
from connectors.config.secrets import looks_secret
from connectors.config.watch import ConfigFile

__all__ = [
    "ByteSize",
    "Config",
    "ConfigError",
    "ConfigFile",
    "ConnectorConfig",
    "Duration",
    "ElasticsearchConfig",
    "EmbeddedConfig",
    "ExtractionConfig",
    "FilteringConfig",
    "LoggingConfig",
    "OpenSearchConfig",
    "PipelineConfig",
    "Problem",
    "RuleConfig",
    "SchedulingConfig",
    "ServerConfig",
    "ServiceConfig",
    "SyncConfig",
    "WebConfig",
    "WrittenRules",
    "check_index_name",
    "config_schema",
    "is_loopback",
    "load_config",
    "looks_secret",
    "read_rules",
    "read_rules_file",
]
