"""What the global options say, and how a command gets its configuration and its objects."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from connectors import logger

if TYPE_CHECKING:
    from connectors.app import App
    from connectors.config import Config, ConfigFile

__all__ = ["Settings"]

T = TypeVar("T")

_LEVELS: Final = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO, 2: logging.DEBUG}


@dataclass(slots=True)
class Settings:
    """The global options.

    Attributes:
        verbosity: -1 quiet, 0 as usual, 1 with what happens meanwhile, 2 with everything.
    """

    path: Path = Path("config.yml")
    verbosity: int = 0

    @property
    def verbose(self) -> bool:
        """Whether an expected error shows its traceback too."""
        return self.verbosity > 0

    def set_up_logging(self) -> None:
        """Sends warnings and worse to stderr, less or more as the options say."""
        logger.configure(_LEVELS[self.verbosity])

    def load(self, *, with_rules: bool = False) -> Config:
        """Reads the configuration and hides its secrets; raises ConfigError, also for wrong sync rules if asked."""
        from connectors.app import read_config, read_config_with_rules

        config = (read_config_with_rules if with_rules else read_config)(self.path)
        logger.register_secrets(config.secrets)
        return config

    def follow(self) -> tuple[Config, ConfigFile]:
        """Does what `load` does for a daemon, which logs as its configuration says and follows the file."""
        from connectors.app import config_file

        file = config_file(self.path)
        config = file.load()
        logger.configure(self.level(config), config.logging.format, config.secrets)
        return config, file

    def level(self, config: Config) -> int:
        """Returns the least severe level that a daemon prints."""
        level = logging.getLevelNamesMapping()[config.logging.level]
        if self.verbosity:
            level = min(level, logging.DEBUG) if self.verbose else max(level, logging.WARNING)
        return level

    def run(self, work: Callable[[App], Awaitable[T]]) -> T:
        """Runs one command on the opened backends and returns what it returns."""
        config = self.load()

        async def opened() -> T:
            from connectors.app import open_app

            async with open_app(config) as app:
                return await work(app)

        return asyncio.run(opened())
