"""Following a config file while it changes; the schema and the reference made of the models."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from connectors.config import Config, ConfigError, ConfigFile, config_schema, load_config
from connectors.config.fields import DURATION, SIZE
from connectors.config.reference import blocks, default_words, table, update

DOCUMENT = Path(__file__).parents[2] / "docs" / "CONFIGURATION.md"


def fenced(language: str) -> list[str]:
    """Returns the examples of the document that are written in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yml"
    path.write_text("web.port: 1\n")
    return path


def test_an_unchanged_file_is_not_read_again(path: Path) -> None:
    file = ConfigFile(path, environ={})
    assert file.load().web.port == 1
    assert file.poll() is None


def test_the_first_look_reads(path: Path) -> None:
    file = ConfigFile(path, environ={})
    config = file.poll()
    assert isinstance(config, Config)
    assert config.web.port == 1
    assert file.poll() is None


def test_a_change_is_read_once_and_an_error_is_told_once(path: Path) -> None:
    file = ConfigFile(path, environ={})
    file.load()
    path.write_text("web.port: 22\n")
    config = file.poll()
    assert isinstance(config, Config)
    assert config.web.port == 22
    path.write_text("web.prot: 333\n")
    error = file.poll()
    assert isinstance(error, ConfigError)
    assert error.problems[0].key == "web.prot"
    assert file.poll() is None
    path.unlink()
    assert isinstance(file.poll(), ConfigError)
    assert file.poll() is None
    path.write_text("web.port: 4444\n")
    assert isinstance(file.poll(), Config)


def test_a_change_of_the_same_size_and_a_replaced_file_are_seen(path: Path) -> None:
    file = ConfigFile(path, environ={})
    file.load()
    path.write_text("web.port: 2\n")
    os.utime(path, ns=(1, 1))
    assert isinstance(file.poll(), Config)
    other = path.with_name("other.yml")
    other.write_text("web.port: 3\n")
    os.utime(other, ns=(1, 1))
    other.replace(path)
    config = file.poll()
    assert isinstance(config, Config)
    assert config.web.port == 3


def test_a_changed_secret_file_is_a_change(path: Path) -> None:
    secret = path.with_name("token")
    path.write_text("web.token: file:token\n")
    file = ConfigFile(path, environ={})
    with pytest.raises(ConfigError):
        file.load()
    assert file.poll() is None
    secret.write_text("first-token\n")
    first = file.poll()
    assert isinstance(first, Config)
    assert first.secrets == {"first-token"}
    secret.write_text("second-token-2\n")
    second = file.poll()
    assert isinstance(second, Config)
    assert second.secrets == {"second-token-2"}
    assert second != first


def test_the_hooks_and_the_environment_are_used(path: Path) -> None:
    path.write_text("connectors: [{id: a, index: a, service_type: s, scheduling.full: '${WHEN}'}]\n")
    seen: list[str] = []
    ConfigFile(path, environ={"WHEN": "daily"}, check_schedule=lambda text, _zone: seen.append(text)).load()
    assert seen == ["daily"]


def _references(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        own = {schema["$ref"]} if "$ref" in schema else set()
        return own.union(*map(_references, schema.values()))
    return set().union(*map(_references, schema)) if isinstance(schema, list) else set()


def test_the_schema_describes_every_key() -> None:
    schema = config_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    assert schema["description"]
    json.dumps(schema)
    assert _references(schema) <= {f"#/$defs/{name}" for name in schema["$defs"]}
    for definition in (schema, *schema["$defs"].values()):
        assert definition["additionalProperties"] is False
        for name, prop in definition["properties"].items():
            assert "." not in name
            assert prop["description"]


def test_the_schema_takes_a_variable_where_a_number_is_expected() -> None:
    schema = config_schema()
    port = schema["$defs"]["WebConfig"]["properties"]["port"]
    assert port["default"] == 8321
    assert port["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 65535}
    assert re.search(port["anyOf"][1]["pattern"], "${PORT:-8321}")
    assert schema["$defs"]["WebConfig"]["properties"]["host"]["type"] == "string"
    assert set(schema["$defs"]["ConnectorConfig"]["required"]) == {"id", "service_type", "index"}
    lease = schema["$defs"]["ServiceConfig"]["properties"]["lease"]["anyOf"]
    assert lease[0] == {"type": "number", "minimum": 0}
    for text in ("500ms", "1h 30m", "30"):
        assert re.search(lease[1]["pattern"], text)
    assert not re.search(lease[1]["pattern"], "5 lightyears")


def test_the_reference_has_every_key_with_its_default() -> None:
    document = DOCUMENT.read_text("utf-8")
    for name, model in blocks():
        assert f"<!-- table: {name} -->\n\n{table(model)}\n\n<!-- end -->" in document, (
            f"{name}: run python -m connectors.config.reference docs/CONFIGURATION.md"
        )
        for key, field in model.model_fields.items():
            assert re.search(
                rf"^\| `{key}` \| [^|]+ \| {re.escape(default_words(field))} \| \S", document, re.MULTILINE
            )
    assert update(document) == document


def test_defaults_in_the_reference_are_read_back_as_they_are(tmp_path: Path) -> None:
    number = 0
    for name, model in blocks():
        lines, expected = [], []
        for key, field in model.model_fields.items():
            if DURATION in field.metadata or SIZE in field.metadata:
                lines.append(f"{name}.{key}: {default_words(field).strip('`')}")
                expected.append((key, field.default))
        path = tmp_path / "config.yml"
        path.write_text("\n".join(lines) or "{}")
        config = load_config(path, environ={})  # block by block, for two kinds of server do not go together
        for key, default in expected:
            assert getattr(getattr(config, name), key) == default
        number += len(expected)
    assert number > 10


@pytest.mark.parametrize("example", fenced("yaml"))
def test_the_examples_of_the_documentation_load(tmp_path: Path, example: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/web_token").write_text("a-long-token\n")
    path = tmp_path / "config.yml"
    path.write_text(example)
    assert load_config(path, environ={}).base_dir == tmp_path


def test_the_errors_of_the_documentation_are_what_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = fenced("text")
    assert len(shown) == 1
    monkeypatch.chdir(tmp_path)
    Path("config.yml").write_text(
        "service:\n  data_dir: var\n\nservice.poll_intervall: 3s\nweb.port: 1\n\nweb:\n  port: 2\n\n\nsync:\n\n"
        "  retry_patience: 5 lightyears\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config("config.yml", environ={})
    assert str(caught.value) + "\n" == shown[0]
