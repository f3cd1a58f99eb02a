"""Watches a config file and the secret files that it names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from connectors.config.loader import CheckConnector, CheckSchedule, Hooks, SensitiveValues, load_into
from connectors.config.models import Config
from connectors.config.problems import ConfigError
from connectors.config.reader import Reading
from connectors.config.values import FileSignature, signature

__all__ = ["ConfigFile"]


class ConfigFile:
    """A config file that is read again when it changes.

    Its calls block on the disk: make them in a thread, one after another. For the arguments see `load_config`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        environ: Mapping[str, str] = os.environ,
        check_schedule: CheckSchedule | None = None,
        check_connector: CheckConnector | None = None,
        sensitive_values: SensitiveValues | None = None,
    ) -> None:
        self.path = Path(path)
        self._environ = environ
        self._hooks = Hooks(check_schedule, check_connector, sensitive_values)
        self._seen: dict[Path, FileSignature] | None = None

    def load(self) -> Config:
        """Reads the file now.

        Raises:
            ConfigError: the file cannot be used.
        """
        reading = Reading()
        # Taken before the file is read: a change in between is seen at the next look.
        reading.files[self.path] = signature(self.path)
        self._seen = reading.files
        return load_into(self.path, self._environ, self._hooks, reading)

    def poll(self) -> Config | ConfigError | None:
        """Looks whether the file, or a secret file that it names, has changed since the last look.

        Returns:
            None when nothing changed; otherwise the new configuration, or what is wrong with it. The same error is
            returned once.
        """
        if self._seen is not None and all(signature(path) == seen for path, seen in self._seen.items()):
            return None
        try:
            return self.load()
        except ConfigError as error:
            return error
