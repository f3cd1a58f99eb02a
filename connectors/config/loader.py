"""`config.yml` into a `Config`, or into the list of everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import ValidationError

from connectors.config.document import DocumentError, MappingNode, ScalarNode, parse_document
from connectors.config.fields import is_off
from connectors.config.messages import explain, shown
from connectors.config.models import Config, ConnectorConfig
from connectors.config.problems import ConfigError, KeyPath, Mark, Problem, dotted
from connectors.config.reader import Reading, read_document
from connectors.config.rule_values import plain_rules
from connectors.errors import ConfigurationError
from connectors.logger import Masker

__all__ = ["CheckConnector", "CheckRules", "CheckSchedule", "Hooks", "SensitiveValues", "load_config", "load_into"]

CheckSchedule: TypeAlias = Callable[[str, str], object]
"""Called with a schedule and its time zone; raises ValueError or ConfigurationError when it cannot be read."""

CheckConnector: TypeAlias = Callable[[ConnectorConfig, Mapping[str, str]], Iterable[tuple[KeyPath, str]]]
"""Called with a connector and the file's `sources`; returns what is wrong with the connector:
`(path below the connector, what is wrong and what to write instead)`."""

SensitiveValues: TypeAlias = Callable[[ConnectorConfig, Mapping[str, str]], Iterable[str]]
"""Called with a connector and the file's `sources`; returns the values of the fields that the source declares
sensitive."""

CheckRules: TypeAlias = Callable[[str, Mapping[str, str], list[Any]], Iterable[tuple[KeyPath, str]]]
"""Called with a service type, the file's `sources`, and the basic rules of one connector, each a mapping or whatever
else stands there; returns what is wrong: `(path below filtering, what is wrong and what to write instead)`."""

MAX_BYTES: Final = 5_000_000
_SCHEDULES: Final = ("full", "incremental", "access_control")
# What the check of a connector is about: while other keys are wrong, it is checked all the same.
_NEEDED: Final = frozenset({"service_type", "configuration"})


@dataclass(frozen=True, slots=True)
class Hooks:
    """Checks that belong to the layers above; each is optional.

    Args:
        check_schedule: reads a schedule.
        check_connector: knows the sources and their settings.
        sensitive_values: knows which settings are secrets whatever their names.
        check_rules: judges basic sync rules. Only for who looks at the file: a daemon judges an edit of the rules by
            itself, and leaves those before in force.
    """

    check_schedule: CheckSchedule | None = None
    check_connector: CheckConnector | None = None
    sensitive_values: SensitiveValues | None = None
    check_rules: CheckRules | None = None


def load_config(
    path: str | Path,
    *,
    environ: Mapping[str, str] = os.environ,
    check_schedule: CheckSchedule | None = None,
    check_connector: CheckConnector | None = None,
    sensitive_values: SensitiveValues | None = None,
    check_rules: CheckRules | None = None,
) -> Config:
    """Reads and checks a config file. Blocks on the disk: call it in a thread.

    Args:
        path: the file.
        environ: variables for `${VAR}`.
        check_schedule: see `Hooks`.
        check_connector: see `Hooks`.
        sensitive_values: see `Hooks`.
        check_rules: see `Hooks`.

    Raises:
        ConfigError: with all problems at once, each with file, line and key.
    """
    hooks = Hooks(check_schedule, check_connector, sensitive_values, check_rules)
    return load_into(Path(path), environ, hooks, Reading())


def load_into(path: Path, environ: Mapping[str, str], hooks: Hooks, reading: Reading) -> Config:
    """Does what `load_config` does, and leaves in `reading.files` which secret files were looked at, also on error."""
    load = _Load(path, hooks, reading)
    try:
        root = _read_root(path)
    except DocumentError as error:
        line, column = (error.mark.line, error.mark.column) if error.mark else (None, None)
        raise ConfigError([Problem(str(path), line, column, "", error.message)]) from None
    read_document(root, Config, load.base_dir, environ, reading)
    return load.finish()


def _read_root(path: Path) -> MappingNode:
    root = parse_document(read_text(path))
    if isinstance(root, MappingNode):
        return root
    if root is None or (isinstance(root, ScalarNode) and root.is_null):
        raise DocumentError("the file is empty; write at least a connector (docs/CONFIGURATION.md shows one)")
    raise DocumentError('the file must hold keys, such as "connectors:"', root.mark)


def read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DocumentError("there is no such file; create it, or name another one") from None
    except IsADirectoryError:
        raise DocumentError("this is a folder; name the file in it") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "its name is not valid"
        raise DocumentError(f"the file cannot be read: {why}") from None
    if len(content) > MAX_BYTES:
        raise DocumentError(f"the file is larger than {MAX_BYTES // 1_000_000} MB; that is no configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        mark = Mark(before.count(b"\n") + 1, len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1)
        raise DocumentError("the file is not UTF-8 text; save it as UTF-8", mark) from None


@dataclass(slots=True)
class _Load:
    """The checks of one file that has been read."""

    path: Path
    hooks: Hooks
    reading: Reading
    bad: set[KeyPath] = field(default_factory=set)
    problems: list[tuple[KeyPath, Mark, str]] = field(default_factory=list)

    @property
    def base_dir(self) -> Path:
        return self.path.absolute().parent

    def finish(self) -> Config:
        """Returns the configuration; raises ConfigError when anything was found on the way."""
        self.problems += self.reading.problems
        config = self._validate()
        for position, raw in enumerate(self._connectors()):
            self._check_schedules(position, raw)
            self._check_connector(position, raw)
            self._check_rules(position, raw)
        self._check_ids()
        if config is not None:
            self._check_indices(config)
        if self.problems:
            raise ConfigError(self._told())
        assert config is not None  # noqa: S101 - without a problem there is a configuration
        return config.hiding(self.reading.secrets)

    def _validate(self) -> Config | None:
        try:
            return Config.model_validate(self.reading.data, context={"base_dir": self.base_dir})
        except ValidationError as error:
            for found in error.errors(include_url=False):
                self.bad.add(found["loc"])
                self._add(found["loc"], explain(found, Config, hidden=found["loc"] in self.reading.hidden))
            return None

    def _connectors(self) -> list[Any]:
        raw = self.reading.data.get("connectors")
        return raw if isinstance(raw, list) else []

    def _sources(self) -> dict[str, str]:
        """Returns the file's own sources, without those that are wrong."""
        raw = self.reading.data.get("sources")
        if not isinstance(raw, dict):
            return {}
        return {name: item for name, item in raw.items() if not self._is_wrong(("sources", name))}

    def _check_schedules(self, position: int, raw: Any) -> None:
        scheduling = raw.get("scheduling") if isinstance(raw, dict) else None
        check = self.hooks.check_schedule
        if check is None or not isinstance(scheduling, dict):
            return
        path: KeyPath = ("connectors", position, "scheduling")
        zone = "UTC" if self._is_wrong((*path, "timezone")) else scheduling.get("timezone", "UTC")
        for name in _SCHEDULES:
            text = scheduling.get(name)
            if not isinstance(text, str) or is_off(text) or self._is_wrong((*path, name)):
                continue
            try:
                check(text, zone)
            except (ValueError, ConfigurationError) as error:
                self._add((*path, name), str(error))

    def _check_connector(self, position: int, raw: Any) -> None:
        connector = self._lenient(position, raw)
        if connector is None:
            return
        path: KeyPath = ("connectors", position)
        sources = self._sources()
        if self.hooks.sensitive_values is not None:
            self.reading.secrets |= {value for value in self.hooks.sensitive_values(connector, sources) if value}
        if self.hooks.check_connector is not None:
            try:
                for below, message in self.hooks.check_connector(connector, sources):
                    self._add((*path, *below), message)
            except ConfigurationError as error:
                self._add((*path, "configuration", error.field) if error.field else path, str(error))

    def _check_rules(self, position: int, raw: Any) -> None:
        filtering = raw.get("filtering") if isinstance(raw, dict) else None
        check = self.hooks.check_rules
        if check is None or not isinstance(filtering, dict):
            return
        path: KeyPath = ("connectors", position, "filtering")
        rules = plain_rules(filtering.get("rules"))
        for below, message in check(str(raw.get("service_type")), self._sources(), rules):
            if (*path, *below) not in self.bad:
                self._add((*path, *below), message)

    def _lenient(self, position: int, raw: Any) -> ConnectorConfig | None:
        """Returns the connector without what is wrong with it, so that its check reports its part in the same go; None
        when there is no telling which source reads what."""
        path = ("connectors", position)
        if not isinstance(raw, dict) or path in self.bad:
            return None
        wrong = {loc[2] for loc in self.bad if loc[:2] == path and len(loc) > 2}
        data = {key: value for key, value in raw.items() if key in _NEEDED or key not in wrong}
        data = {"id": "unnamed", "index": "unnamed", **data}
        try:
            return ConnectorConfig.model_validate(data, context={"base_dir": self.base_dir})
        except ValidationError:
            return None  # reported already, by the validation of the whole

    def _check_ids(self) -> None:
        first: dict[str, Mark] = {}
        for position, raw in enumerate(self._connectors()):
            path: KeyPath = ("connectors", position, "id")
            name = raw.get("id") if isinstance(raw, dict) else None
            if not isinstance(name, str) or self._is_wrong(path):
                continue
            mark = self.reading.mark(path)
            if name in first:
                line = first[name].line
                self._add(path, f"{shown(name)} is already the id of the connector in line {line}; each needs its own")
            else:
                first[name] = mark

    def _check_indices(self, config: Config) -> None:
        """Keeps documents out of the indices of records, where they would pass for connectors and jobs."""
        server = config.elasticsearch or config.opensearch
        for position, connector in enumerate(config.connectors):
            if server is not None and connector.index in server.record_indices:
                self._add(
                    ("connectors", position, "index"),
                    f"{shown(connector.index)} holds the records of connectors and jobs; name another index",
                )

    def _is_wrong(self, path: KeyPath) -> bool:
        return path in self.bad or path in self.reading.failed

    def _add(self, path: KeyPath, message: str) -> None:
        """Notes a problem, unless it is about something that stands in for a value that could not be had."""
        if any(path[:length] in self.reading.failed for length in range(1, len(path) + 1)):
            return
        self.problems.append((path, self.reading.mark(path), message))

    def _told(self) -> list[Problem]:
        """Returns the problems in the order of the file, without secrets."""
        masker = Masker(self.reading.secrets)
        told = [
            Problem(str(self.path), mark.line, mark.column, masker.mask(dotted(path)), masker.mask(message))
            for path, mark, message in sorted(self.problems, key=lambda found: (found[1], dotted(found[0])))
        ]
        return list(dict.fromkeys(told))
