"""Loading of `config.yml`: what it accepts, and variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.config import Config, load_config
from tests.support.configs import CONNECTOR, Load, load, only, problems

__all__ = ["load"]  # the fixture is found by its name here


# --- what is accepted ---------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_design(load: Load) -> None:
    config = load("connectors: []")
    assert config.service.max_concurrent_syncs == 4
    assert (config.service.poll_interval, config.service.heartbeat_interval, config.service.lease) == (1, 10, 60)
    assert (config.service.drain_timeout, config.service.job_retention) == (20, 30 * 86400)
    assert (config.web.enabled, config.web.host, config.web.port, config.web.token) == (True, "127.0.0.1", 8321, None)
    assert (config.logging.level, config.logging.format) == ("INFO", "text")
    assert (config.sync.max_delete_ratio, config.sync.min_documents_for_ratio) == (0.2, 100)
    assert (config.sync.batch_bytes, config.sync.batch_documents, config.sync.bytes_in_flight) == (
        1_500_000,
        5000,
        12_000_000,
    )
    assert (config.extraction.memory, config.extraction.timeout) == (2**30, 30)


def test_dotted_nested_and_mixed_keys_mean_the_same(load: Load) -> None:
    nested = load("web:\n  port: 9000\n  enabled: false\n")
    assert nested == load("web.port: 9000\nweb.enabled: false\n") == load("web:\n  port: 9000\nweb.enabled: false\n")
    config = load(
        "connectors:\n- id: a\n  service_type: s\n  index: a\n  scheduling.full: daily\n  configuration.x: 1\n"
    )
    assert config.connectors[0].scheduling.full == "daily"
    assert config.connectors[0].configuration == {"x": 1}


def test_dots_in_a_sources_own_words_are_left_alone(load: Load) -> None:
    config = load(
        "sources: {my.notes: 'a.b:C'}\nconnectors:\n- id: a\n  service_type: s\n  index: a\n"
        "  configuration: {a.b: {c.d: 1}}\n  filtering.advanced: {address.city: Rome}\n"
    )
    assert config.sources == {"my.notes": "a.b:C"}
    assert config.connectors[0].configuration == {"a.b": {"c.d": 1}}
    assert config.connectors[0].filtering.advanced == {"address.city": "Rome"}


def test_typed_values_are_taken_as_written_and_a_sources_as_yaml_has_them(load: Load) -> None:
    config = load(
        "web.enabled: off\nservice.lease: 2m\nsync: {batch_bytes: 1MiB, max_delete_ratio: 1}\nconnectors:\n"
        "- id: 2024\n  name: 007\n  service_type: s\n  index: 2024-01\n  language: no\n  scheduling.full: off\n"
        "  configuration: {i: 5, o: 010, b: yes, n: null, e: , t: 12:30, d: 2024-01-01, q: '5', f: 1.5, x: 0x_,"
        " inf: .inf, v: '=', u: 1_000, list: [1, a], map: {k: 1}}\n"
    )
    connector = config.connectors[0]
    assert (config.web.enabled, config.service.lease, config.sync.batch_bytes) == (False, 120, 2**20)
    assert (connector.id, connector.name, connector.index, connector.language) == ("2024", "007", "2024-01", "no")
    assert connector.scheduling.full is None
    assert connector.configuration == {
        "i": 5, "o": 8, "b": True, "n": None, "e": None, "t": "12:30", "d": "2024-01-01", "q": "5", "f": 1.5,
        "x": "0x_", "inf": ".inf", "v": "=", "u": 1000, "list": [1, "a"], "map": {"k": 1},
    }  # fmt: skip


def test_a_block_that_is_commented_out_is_empty(load: Load) -> None:
    config = load("web:\nsources:\nconnectors:\nservice:\n# lease: 3s\nembedded:\nembedded.path: x.db\n")
    assert (config.sources, config.connectors) == ({}, [])
    assert config.embedded.path is not None


def test_paths_count_from_the_folder_of_the_file(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load("service.data_dir: var/data\n")
    assert config.base_dir == tmp_path
    assert config.service.data_dir == tmp_path / "var/data"
    assert config.embedded_path == tmp_path / "var/data/connectors.db"
    assert load("connectors:\n").service.data_dir == tmp_path / "data"
    assert load("embedded.path: /x/y.db").embedded_path == Path("/x/y.db")
    monkeypatch.setenv("HOME", "/home/someone")
    assert load("embedded.path: ~/y.db").embedded_path == Path("/home/someone/y.db")
    monkeypatch.chdir(tmp_path)
    assert load_config("config.yml").base_dir == tmp_path


def test_anchors_and_merged_blocks_work(load: Load) -> None:
    config = load(
        "connectors:\n- &first\n  id: a\n  service_type: s\n  index: a\n  scheduling: &s {full: daily, timezone: UTC}\n"
        "- {<<: *first, id: b, scheduling: {<<: [*s], full: hourly}}\n"
    )
    first, second = config.connectors
    assert (second.id, second.service_type, second.index) == ("b", "s", "a")
    assert (first.scheduling.full, second.scheduling.full) == ("daily", "hourly")


def test_a_byte_order_mark_and_windows_lines_are_fine(load: Load) -> None:
    assert load(b"\xef\xbb\xbfweb:\r\n  port: 1\r\n").web.port == 1


def test_a_configuration_can_be_made_without_a_file() -> None:
    config = Config()
    assert (config.base_dir, config.service.data_dir, config.secrets) == (Path(), Path("data"), frozenset())
    assert config.hiding(["one1"]).secrets == {"one1"}
    assert not config.secrets


def test_a_configuration_is_frozen_and_compares(load: Load) -> None:
    config = load("web.port: 1")
    assert config == load("web.port: 1") != load("web.port: 2")
    with pytest.raises(ValueError, match="frozen"):
        config.web.port = 2  # type: ignore[misc]  # the mistake under test


# --- variables ----------------------------------------------------------------------------------------------------


def test_variables_and_defaults(load: Load) -> None:
    text = CONNECTOR % (
        'a: "${X}", b: "p${X}s", c: "${Y:-7}", d: "${E:-full}", e: "$${X}", f: "${E}", g: "$${", h: "a$b", '
        'i: "${X}${X}"'
    )
    assert load(text, {"X": "5", "E": ""}).connectors[0].configuration == {
        "a": "5", "b": "p5s", "c": "7", "d": "full", "e": "${X}", "f": "", "g": "${", "h": "a$b", "i": "55",
    }  # fmt: skip


def test_a_value_without_quotes_is_read_again_and_a_quoted_one_is_not(load: Load) -> None:
    text = "web.port: ${PORT:-8321}\nconnectors:\n- id: a\n  service_type: s\n  index: ${I}\n  configuration:\n"
    text += "    plain: ${N:-8321}\n    quoted: '${N:-8321}'\n    flag: ${B}\n    empty: ${E}\n    sum: 4${I}\n"
    config = load(text, {"B": "yes", "E": "", "I": "2"})
    assert (config.web.port, config.connectors[0].index) == (8321, "2")
    assert config.connectors[0].configuration == {
        "plain": 8321, "quoted": "8321", "flag": True, "empty": None, "sum": 42,
    }  # fmt: skip


def test_what_is_put_in_is_text_only(load: Load) -> None:
    hostile = {"X": "{a: 1}", "Y": "x\nweb.port: 1", "Z": "${X}", "F": "file:/etc/passwd", "A": "*a"}
    config = load(CONNECTOR % ", ".join(f'{name}: "${{{name}}}"' for name in hostile), hostile)
    assert config.connectors[0].configuration == hostile
    plain = "connectors:\n- id: a\n  service_type: s\n  index: a\n  configuration:\n"
    plain += "".join(f"    {name}: ${{{name}}}\n" for name in hostile)
    assert load(plain, hostile).connectors[0].configuration == hostile


@pytest.mark.parametrize("text", ["${}", "${1X}", "${X", "${X:-${Y}}", "${ X }", "${X-y}"])
def test_a_broken_variable_says_how_it_is_written(load: Load, text: str) -> None:
    found = only(load, f'web.host: "{text}"\n')
    assert (found.line, found.column, found.key) == (1, 1, "web.host")
    assert "write $${ for ${" in found.message


def test_a_variable_that_is_not_set_is_named_once_and_nothing_follows_from_it(load: Load) -> None:
    text = "web:\n  host: ${HOST}\n  port: ${PORT}\nconnectors:\n- id: ${ID}\n  service_type: s\n  index: ${INDEX}\n"
    found = problems(load, text)
    assert [(item.line, item.key) for item in found] == [
        (2, "web.host"), (3, "web.port"), (5, "connectors[0].id"), (7, "connectors[0].index"),
    ]  # fmt: skip
    assert "variable HOST is not set; set it, or write ${HOST:-default}" in found[0].message
