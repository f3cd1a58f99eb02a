"""Loading of `config.yml`: its secrets, and what is said of mistakes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from connectors.config import ConfigError, ConnectorConfig, Problem
from connectors.errors import ConfigurationError
from tests.support.configs import CONNECTOR, Load, load, only, problems

__all__ = ["load"]  # the fixture is found by its name here


# --- secrets ------------------------------------------------------------------------------------------------------


def test_a_value_can_stand_in_a_file_of_its_own(load: Load, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/token").write_bytes(b"  long secret 007\r\n")
    (tmp_path / "n").write_text("0123\n\n")
    config = load(CONNECTOR % "a: file:secrets/token, b: 'file:${D}/n', c: file:///x", {"D": str(tmp_path)})
    assert config.connectors[0].configuration == {"a": "  long secret 007", "b": "0123\n", "c": "file:///x"}
    assert config.secrets == {"  long secret 007", "0123\n"}


def test_a_secret_file_that_cannot_be_had_is_an_error(load: Load, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "latin").write_bytes(b"\xe9\xff")
    (tmp_path / "large").write_bytes(b"x" * 1_000_001)
    os.mkfifo(tmp_path / "pipe")
    text = "connectors:\n- id: a\n  service_type: s\n  index: a\n  configuration:\n"
    cases = {
        "none": "there is no file", "empty": "is empty", "latin": "not UTF-8", "large": "larger than",
        ".": "not a file", "pipe": "not a file", "a/b\\0c": "its name is not valid", "n" * 300: "cannot be read",
    }  # fmt: skip
    found = problems(load, text + "".join(f'    k{n}: "file:{name}"\n' for n, name in enumerate(cases)))
    assert [item.line for item in found] == list(range(6, 6 + len(cases)))
    for item, words in zip(found, cases.values(), strict=True):
        assert words in item.message
    assert "one colon" in only(load, CONNECTOR % "password: file:///run/x").message


def test_secrets_are_collected(load: Load) -> None:
    text = "web: {host: 0.0.0.0, token: '${T}'}\n" + CONNECTOR % (
        "password: 0123, apiKey: '${API:-}', host: '${DB_PASSWORD}:1', url: 'db://u:p%20w1@h', use_token: true, "
        "max_tokens: 50, primary_key: customer, key_path: /x, other: '${PLAIN}', credentials: [one1, {x: two}], "
        "token_file: {y: z}, access_key: "
    )
    config = load(text, {"T": "web-token-1", "DB_PASSWORD": "dbpw", "PLAIN": "plain"})
    assert config.secrets == {"web-token-1", "0123", "dbpw", "p%20w1", "p w1", "one1", "two"}
    configuration = config.connectors[0].configuration
    assert (configuration["password"], configuration["use_token"], configuration["max_tokens"]) == ("0123", True, 50)
    assert (configuration["access_key"], configuration["apiKey"]) == (None, "")


def test_sensitive_values_of_a_source_are_collected_and_masked(load: Load) -> None:
    def check(connector: ConnectorConfig, _sources: Mapping[str, str]) -> list[tuple[tuple[str | int, ...], str]]:
        return [(("configuration", "dsn"), f"cannot use {connector.configuration['dsn']}")]

    def sensitive(connector: ConnectorConfig, _sources: Mapping[str, str]) -> list[str]:
        return [connector.configuration["dsn"], ""]

    text = CONNECTOR % "dsn: very-private"
    assert only(load, text, sensitive_values=sensitive, check_connector=check).message == "cannot use ***"
    config = load(text, sensitive_values=sensitive)
    assert config.secrets == {"very-private"}


def test_secrets_are_in_no_repr_and_no_dump(load: Load) -> None:
    text = "web.token: '${T}'\nservice.worker_name: '${T}'\n" + CONNECTOR % "password: hunter2hunter2"
    config = load(text, {"T": "web-token-1"})
    for shown in (repr(config), str(config), repr(config.web), repr(config.connectors[0]), f"{config}"):
        assert "hunter2" not in shown
        assert "web-token-1" not in shown
    assert "secrets" not in config.model_dump()


@pytest.mark.parametrize(
    "line",
    [
        "web.token: <S> y", "web.token: *<S>", "web.token: !<S>", "web.token: @<S>", "web.token: %<S>",
        'web.token: "<S>', "web.token: [<S>", "web.token: <S>: x", "web.token: |<S>", 'web.token: "\\<S>"',
        "web.token: &<S> &a b", "%<S> 1", "web.token: !!<S> x", "web.port: ${SECRET}", "logging.format: ${SECRET}",
        "service.lease: ${SECRET}", "sync.batch_bytes: ${SECRET}", "sources.x: ${SECRET}", "web.enabled: ${SECRET}",
        "connectors: ${SECRET}", "web.port: db://u:<S>@h", "web.port: db://" + "u" * 50 + ":<S>@h",
        'connectors: [{id: "${SECRET}", index: "${SECRET}", service_type: x}]',
        'connectors: [{id: a, index: a, service_type: x, scheduling: {timezone: "${SECRET}", full: "${SECRET}"}}]',
    ],
)  # fmt: skip
@pytest.mark.parametrize("secret", ["Hunter2-Secret", "xyZ"])
def test_no_error_shows_a_secret(load: Load, line: str, secret: str) -> None:
    def check(text: str, _zone: str) -> None:
        raise ValueError(f"{text!r} is no schedule" if len(secret) > 3 else "no schedule")

    found = problems(load, line.replace("<S>", secret), {"SECRET": secret}, check_schedule=check)
    for item in found:
        assert secret not in item.message
        assert secret.lower() not in item.message


# --- problems -----------------------------------------------------------------------------------------------------


def test_everything_is_reported_at_once_in_the_order_of_the_file(load: Load) -> None:
    def check_schedule(text: str, zone: str) -> None:
        raise ConfigurationError(f'"{text}" in {zone} is not a schedule')

    def check_connector(
        _connector: ConnectorConfig, _sources: Mapping[str, str]
    ) -> list[tuple[tuple[str | int, ...], str]]:
        return [(("configuration", "hots"), "unknown"), (("configuration",), "host is required")]

    found = problems(
        load,
        """\
service.lease: 20s
web: {prot: 1, port: high}
wbe: 1
web.port: 2
connectors:
  - id: My Connector
    service_type: x
    index: UPPER
    scheduling:
      full: every 5 lightyears
      timezone: Europe/Berln
    configuration:
      hots: h
    filtering.rules: [{policy: exlude, field: f, rule: equals}]
""",
        check_schedule=check_schedule,
        check_connector=check_connector,
    )
    assert [(item.line, item.key) for item in found] == [
        (1, "service.lease"),
        (2, "web.prot"),
        (2, "web.port"),
        (3, "wbe"),
        (4, "web.port"),
        (6, "connectors[0].id"),
        (8, "connectors[0].index"),
        (10, "connectors[0].scheduling.full"),
        (11, "connectors[0].scheduling.timezone"),
        (12, "connectors[0].configuration"),
        (13, "connectors[0].configuration.hots"),
        (14, "connectors[0].filtering.rules[0].value"),
        (14, "connectors[0].filtering.rules[0].policy"),
    ]
    assert '"every 5 lightyears" in UTC' in found[7].message


def test_a_problem_is_written_with_its_place() -> None:
    problem = Problem("config.yml", 12, 3, "connectors[0].scheduling.full", '"x\x1b" is not a schedule')
    assert str(problem) == r'config.yml:12:3: connectors[0].scheduling.full: "x\x1b" is not a schedule'
    assert str(Problem("config.yml", None, None, "", "missing")) == "config.yml: missing"
    assert ConfigError([problem]).field == "connectors[0].scheduling.full"
    assert str(ConfigError([problem, problem])).count("\n") == 1


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("web: {port: 1, port: 2}", (1, 16), "is given twice: here and in line 1"),
        ("web: {port: 1}\nweb: {host: x}", (2, 1), "is given twice: here and in line 1"),
        ("web.port: 1\nweb:\n  port: 2", (3, 3), "is given twice: here and in line 1"),
        ("web:\n  port: 2\nweb.port: 1", (3, 1), "is given twice: here and in line 2"),
        ("web: x\nweb.port: 1", (2, 1), "is given twice: here and in line 1"),
        ("web.port: 1\nweb: 5", (2, 1), "is given twice: here and in line 1"),
        ("web.prot: 1", (1, 1), 'there is no such key; did you mean "port"?'),
        ("zzz: 1", (1, 1), "there is no such key; known here: service, web"),
        (".web: 1", (1, 1), "there is no such key"),
        ("web..port: 1", (1, 1), "there is no such key"),
        ("web:\n  port: high", (2, 3), '"high" is not a whole number; write one such as 10'),
        ("web.port: yes", (1, 1), '"yes" is not a whole number'),
        ("web.port: 1.5", (1, 1), '"1.5" is not a whole number'),
        ("web.port: 70000", (1, 1), '"70000" is out of range; it must be at most 65535'),
        ("web.port: " + "9" * 5000, (1, 1), "is not a whole number"),
        ("web.port:", (1, 1), "is empty; give it a value, or remove the line"),
        ("web.port: {a: 1}", (1, 1), "a block of keys is not a whole number"),
        ("web.port: [1]", (1, 1), "a list is not a whole number"),
        ("web.enabled: perhaps", (1, 1), '"perhaps" is neither true nor false; write one of them'),
        ("web.host: ''", (1, 1), "is empty; give it a value"),
        ("web.host: [a]", (1, 1), "a list is not a text"),
        ("web: 5", (1, 1), '"5" is not a block of keys'),
        ("web.allowed_hosts: x", (1, 1), '"x" is not a list; write its items in lines that begin with "- "'),
        ("sources: [a]", (1, 1), "a list is not a block of keys"),
        ("sources.notes: notes.py", (1, 1), '"notes.py" does not name a class; write module:Class'),
        ("connectors: {a: 1}", (1, 1), "a block of keys is not a list"),
        ("connectors: [5]", (1, 14), '"5" is not a block of keys'),
        ("logging.format: jsn", (1, 1), '"jsn" is not one of text, json; did you mean "json"?'),
        ("logging.level: 7", (1, 1), "write DEBUG or INFO or"),
        ("sync.max_delete_ratio: much", (1, 1), '"much" is not a number; write one such as 0.5'),
        ("sync.max_delete_ratio: .nan", (1, 1), "is not a number"),
        ("sync.max_delete_ratio: -1", (1, 1), "it must be at least 0"),
        ("sync.batch_documents: 0", (1, 1), "it must be at least 1"),
        ("sync.batch_bytes: 0", (1, 1), "at least one byte"),
        ("sync.batch_bytes: 5 cows", (1, 1), '"5 cows" is not a size; write a number and a unit'),
        ("sync.flush_interval: 0s", (1, 1), "longer than nothing"),
        ("sync.flush_interval: 5 lightyears", (1, 1), '"5 lightyears" is not a duration; write a number and a unit'),
        ("service.heartbeat_interval: 1m", (1, 1), "1m is too short for a heartbeat every 1m; write at least 3m"),
        ("service.data_dir: [a]", (1, 1), "is not a path"),
        ("service.data_dir: ~nobody-of-this-name/x", (1, 1), "write the whole path"),
        ('service.data_dir: "a\\0b"', (1, 1), "NUL"),
        ("web.host: 0.0.0.0", (1, 1), 'is required, because host is "0.0.0.0"'),
        ("web.token: short", (1, 1), "at least 8 printable ASCII characters"),
        ("web: {<<: 5}", (1, 7), "must name a block of keys by its anchor"),
        ("connectors:\n- id: a\n  index: a\n- id: b", (2, 3), "is missing; it is required (Which source reads"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place_and_its_remedy(
    load: Load, text: str, place: tuple[int, int], words: str
) -> None:
    found = problems(load, text)
    assert (found[0].line, found[0].column) == place
    assert words in found[0].message
    assert len(found[0].message) < 300


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("My Index", "must be lower case"), ("a b", "a space"), ("a/b", "not contain /"),
        ("a,b", "not contain ,"),
        ("a:b", "not contain :"), ("_a", "not begin with _"), ("-a", "not begin with -"), ("+a", "not begin with +"),
        ("..", "must not be empty"), ("", "must not be empty"), ("ä" * 128, "255 bytes"), ("a\\x07", "not contain"),
    ],
)  # fmt: skip
def test_index_names_keep_to_the_servers_rules(load: Load, name: str, why: str) -> None:
    text = f'connectors: [{{id: a, service_type: s, index: "{name}"}}]'
    assert why in only(load, text).message


@pytest.mark.parametrize("key", ["service.data_dir", "embedded.path", "elasticsearch.ca_certs"])
def test_an_empty_path_is_not_the_folder_of_the_file(load: Load, key: str) -> None:
    assert only(load, f"{key}: ''").message.startswith("is empty")


@pytest.mark.parametrize("host", ["*", "*.example.org", "http://example.org", "example.org/search", "a b"])
def test_an_allowed_host_is_a_name(load: Load, host: str) -> None:
    found = only(load, f"web.allowed_hosts: [{host!r}]")
    assert "is not a name of a host" in found.message


@pytest.mark.parametrize("host", ["example.org", "example.org:8080", "[::1]", "münchen.example"])
def test_names_that_visitors_use_are_allowed(load: Load, host: str) -> None:
    assert load(f"web.allowed_hosts: ['{host}']").web.allowed_hosts == [host]


def test_ids_are_unique_and_the_error_names_both_lines(load: Load) -> None:
    one = "- {id: a, service_type: s, index: a}\n"
    found = only(load, "connectors:\n" + one + one)
    assert (found.line, found.key) == (3, "connectors[1].id")
    assert found.message == '"a" is already the id of the connector in line 2; each needs its own'


def test_schedules_are_checked_each_with_the_time_zone(load: Load) -> None:
    seen: list[tuple[str, str]] = []
    text = "connectors:\n- id: a\n  service_type: s\n  index: a\n  scheduling: {full: daily, incremental: off, "
    load(
        text + "access_control: hourly, timezone: Europe/Rome}\n",
        check_schedule=lambda text, zone: seen.append((text, zone)),
    )
    assert seen == [("daily", "Europe/Rome"), ("hourly", "Europe/Rome")]
    assert "is empty; write a schedule" in only(load, text + "access_control: ''}\n").message


def test_a_connector_check_may_raise(load: Load) -> None:
    def check(_connector: ConnectorConfig, _sources: Mapping[str, str]) -> list[Any]:
        raise ConfigurationError("no such source", field=None)

    found = only(load, CONNECTOR % "a: 1", check_connector=check)
    assert (found.line, found.key, found.message) == (2, "connectors[0]", "no such source")


def test_a_connector_whose_source_is_not_known_is_not_checked(load: Load) -> None:
    checked: list[ConnectorConfig] = []

    def check(connector: ConnectorConfig, _sources: Mapping[str, str]) -> list[Any]:
        checked.append(connector)
        return []

    problems(
        load, "connectors: [{id: a, index: a}, 5, {id: b, index: b, service_type: s, zzz: 1}]", check_connector=check
    )
    assert [connector.id for connector in checked] == ["b"]


def test_a_connector_check_is_told_the_sources_of_the_file_that_are_right(load: Load) -> None:
    told: list[Mapping[str, str]] = []

    def check(_connector: ConnectorConfig, sources: Mapping[str, str]) -> list[Any]:
        told.append(sources)
        return []

    load("sources: {good: 'm:C'}\n" + CONNECTOR % "", check_connector=check)
    problems(load, "sources: {good: 'm:C', bad: m, unset: '${X}'}\n" + CONNECTOR % "", check_connector=check)
    problems(load, "sources: 5\n" + CONNECTOR % "", check_connector=check)
    assert told == [{"good": "m:C"}, {"good": "m:C"}, {}]


def test_only_other_machines_need_a_token(load: Load) -> None:
    for host in ("127.0.0.1", "::1", "localhost", "127.8.9.1", "[::1]"):
        assert load(f'web.host: "{host}"').web.token is None
    load("web: {host: 0.0.0.0, enabled: false}")
    token = load("web: {host: 0.0.0.0, token: long-enough}").web.token
    assert token is not None
    assert token.get_secret_value() == "long-enough"
    for host in ("0.0.0.0", "::", "example.org", "10.0.0.1"):  # noqa: S104 - the addresses under test
        assert only(load, f'web.host: "{host}"').key == "web.token"
