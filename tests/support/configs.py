"""Loading of a `config.yml` from text, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.config import Config, ConfigError, Problem, load_config

__all__ = ["CONNECTOR", "Load", "load", "only", "problems"]

Load = Callable[..., Config]
CONNECTOR = "connectors:\n- {id: a, service_type: directory, index: a, configuration: {%s}}\n"


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a config file of the given text."""

    def load(text: str | bytes, environ: Mapping[str, str] | None = None, **hooks: Any) -> Config:
        path = tmp_path / "config.yml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_config(path, environ=environ or {}, **hooks)

    return load


def problems(load: Load, text: str | bytes, environ: Mapping[str, str] | None = None, **hooks: Any) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        load(text, environ, **hooks)
    assert caught.value.problems
    return caught.value.problems


def only(load: Load, text: str | bytes, environ: Mapping[str, str] | None = None, **hooks: Any) -> Problem:
    (found,) = problems(load, text, environ, **hooks)
    return found
