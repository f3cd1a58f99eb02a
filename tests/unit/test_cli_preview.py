"""`connectors preview`, and what the other commands say of a rules file with mistakes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectors.cli.exits import Exit
from connectors.config import ConfigError, read_rules, read_rules_file
from tests.support.inprocess import CommandLine
from tests.support.workspace import Workspace

NO_DRAFTS = {"id": "no-drafts", "policy": "exclude", "field": "path", "rule": "starts_with", "value": "drafts/"}


def rules_file(workspace: Workspace, content: Any, name: str = "rules.yml") -> str:
    path = workspace.root / name
    path.write_text(json.dumps(content) if name.endswith(".json") else yaml.safe_dump(content), "utf-8")
    return str(path)


def test_it_names_the_deciding_rule_and_writes_nothing(cli: CommandLine, workspace: Workspace) -> None:
    workspace.configure(connectors=[workspace.connector(filtering={"rules": [NO_DRAFTS]})])
    done = cli("preview", "docs")
    assert done.code == 0
    assert done.out.startswith("docs, the rules of config.yml\n")
    lines = [line.split() for line in done.out.splitlines()]
    words = ["exclude", "path", "starts_with", "'drafts/'"]
    assert ["dropped", "drafts/idea.txt", "no-drafts", "1", *words, "drafts/idea.txt"] in lines
    assert ["kept", "plan.md", "DEFAULT", "last", "include", "everything", "else"] in lines
    assert "\n2 read, 1 kept, 1 dropped\n" in done.out
    assert cli("jobs", "--json").json == {"jobs": []}
    assert workspace.hits("heron") == []


def test_what_it_prints_as_json(cli: CommandLine, workspace: Workspace) -> None:
    workspace.configure(connectors=[workspace.connector(filtering={"rules": [NO_DRAFTS]})])
    shape = cli("preview", "docs", "--json").json
    dropped, kept = shape["documents"]
    assert dropped == {
        "id": "drafts/idea.txt", "kept": False, "reason": "exclude path starts_with 'drafts/' (rule no-drafts)",
        "rule": {**NO_DRAFTS, "order": 1}, "decided_by": "no-drafts", "value": "drafts/idea.txt",
    }  # fmt: skip
    assert kept["reason"] == "include everything else (default rule)"
    assert (kept["rule"], kept["decided_by"], kept["value"]) == (None, "DEFAULT", None)
    assert [(each["id"], each["order"], each["documents"]) for each in shape["by_rule"]] == [
        ("no-drafts", 1, 1), ("DEFAULT", None, 1),
    ]  # fmt: skip
    assert shape["impact"] == {
        "index": "docs", "held": 0, "added": 1, "deleted": 0, "deleted_by_rules": 0, "deleted_unlisted": 0,
        "stopped_by_guard": False,
    }  # fmt: skip
    short = cli("preview", "docs", "--limit", "1", "--no-count", "--json").json
    assert (len(short["documents"]), short["read"], short["impact"]) == (1, 1, None)
    assert "leave --no-count out" in cli("-q", "preview", "docs", "--no-count").out


@pytest.mark.parametrize("name", ["rules.yml", "rules.json"])
def test_a_change_is_tried_from_a_file_and_the_guard_is_foretold(
    cli: CommandLine, workspace: Workspace, name: str
) -> None:
    """What the preview says, the sync then says and does, with the command that both name."""
    for number in range(120):
        workspace.write(f"drafts/{number:03}.txt", "an idea")
    (workspace.docs / "gone.txt").write_text("soon gone", "utf-8")
    assert cli("run", "--once").code == 0
    (workspace.docs / "gone.txt").unlink()
    filtering = {"rules": [NO_DRAFTS]}
    done = cli("preview", "docs", "--rules", rules_file(workspace, {"filtering": filtering}, name), "--limit", "3")
    assert done.code == 0
    assert "The index docs holds 123 documents of docs. A full sync with these rules would delete 122:" in done.out
    assert "  121 that the rules drop, 1 that the source does not list;\nand add 0.\n" in done.out
    command = "connectors sync docs --allow-deletes 122"
    assert command in done.out
    assert workspace.hits("idea")
    workspace.configure(connectors=[workspace.connector(filtering=filtering)])
    assert cli("sync", "docs").code == Exit.FAILED
    job = cli("jobs", "--json").json["jobs"][0]
    assert (
        "121 of them because the sync rules changed: rule no-drafts drops 121; 1 of them are not listed" in job["error"]
    )
    assert command in job["error"]
    assert cli(*command.split()[1:]).code == 0
    assert cli("preview", "docs", "--json").json["impact"]["deleted"] == 0


def test_advanced_rules_of_the_file_are_read_with(cli: CommandLine, workspace: Workspace) -> None:
    file = rules_file(workspace, {"advanced": [{"pattern": "*.md"}]})
    shape = cli("preview", "docs", "--rules", file, "--json").json
    assert [each["id"] for each in shape["documents"]] == ["plan.md"]
    assert shape["rules"] == f"the rules of {file}"


def test_the_rules_in_force_are_tried_while_others_wait(cli: CommandLine, workspace: Workspace) -> None:
    assert cli("preview", "docs", "--active", "--json").json["kept"] == 2
    assert cli("run", "--once").code == 0
    wrong = {**NO_DRAFTS, "rule": "regex", "value": "("}
    workspace.configure(connectors=[workspace.connector(filtering={"rules": [wrong]})])
    assert cli("preview", "docs").code == Exit.CONFIGURATION
    done = cli("preview", "docs", "--active")
    assert done.out.startswith("docs, the rules in force\n")
    assert "2 read, 2 kept, 0 dropped" in done.out
    assert cli("preview", "docs", "--active", "--rules", "x.yml").code == Exit.USAGE


def test_it_refuses_wrong_rules_and_shows_what_is_unreadable(cli: CommandLine, workspace: Workspace) -> None:
    workspace.module(
        "gappy_source",
        """
from connectors.source import BaseDataSource, Checkpoint, Skipped


class GappyDataSource(BaseDataSource):
    async def ping(self):
        pass

    async def get_docs(self, filtering=None):
        yield Skipped("this folder is closed")
        yield Checkpoint(1)
        yield {"_id": 7, "path": "seven"}, None


class FaultyDataSource(GappyDataSource):
    async def get_docs(self, filtering=None):
        yield {"_id": 1}, None
        1 / 0
""",
    )
    sources = {"gappy": "gappy_source:GappyDataSource", "faulty": "gappy_source:FaultyDataSource"}
    gappy = workspace.connector(service_type="gappy", configuration={})
    faulty = workspace.connector("faulty", service_type="faulty", configuration={})
    workspace.configure(connectors=[gappy, faulty], sources=sources)
    done = cli("preview", "docs", "--json").json
    assert [(each["id"], each["kept"]) for each in done["documents"]] == [(None, None), ("7", True)]
    assert done["incomplete"] == ["this folder is closed"]
    text = cli("preview", "docs").out
    assert "unreadable" in text
    assert "such a sync deletes nothing: this folder is closed" in text
    failed = cli("preview", "faulty")
    assert failed.code == Exit.FAILED
    assert "the source of faulty failed: ZeroDivisionError" in failed.err

    rule = {"policy": "exclude", "field": "path", "rule": "regex", "value": "("}
    workspace.configure(connectors=[{**gappy, "filtering": {"rules": [rule]}}], sources=sources)
    refused = cli("preview", "docs")
    assert refused.code == Exit.CONFIGURATION
    assert "the sync rules of docs are not valid: rule rule-1: " in refused.err


def test_ctrl_c_stops_the_counting_and_leaves_what_was_shown(workspace: Workspace) -> None:
    workspace.module(
        "endless_source",
        """
import asyncio

from connectors.source import BaseDataSource


class EndlessDataSource(BaseDataSource):
    async def ping(self):
        pass

    async def get_docs(self, filtering=None):
        for number in range(10**9):
            yield {"_id": number}, None
            await asyncio.sleep(0.01)
""",
    )
    endless = workspace.connector(service_type="endless", configuration={})
    workspace.configure(connectors=[endless], sources={"endless": "endless_source:EndlessDataSource"})
    with workspace.started("preview", "docs", "--limit", "2") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("counting, Ctrl-C stops: ")
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate()
    assert time.monotonic() - began < 5
    assert process.returncode == Exit.INTERRUPTED
    assert out.splitlines()[-1].split()[:3] == ["kept", "1", "DEFAULT"]
    assert err == "interrupted\n"


# Mistakes

MISTAKES = {
    "rules": [
        {**NO_DRAFTS, "id": "word", "policy": "exlude"},
        {**NO_DRAFTS, "id": "operator", "rule": "begins_with"},
        {**NO_DRAFTS, "id": "look-ahead", "rule": "regex", "value": "(?=x)y"},
        {**NO_DRAFTS, "id": "all", "rule": "regex", "value": ".*"},
        {**NO_DRAFTS, "id": "list", "value": ["a", "b"]},
        {**NO_DRAFTS, "id": "first", "value": "b/"},
        {**NO_DRAFTS, "id": "second", "value": "b/", "policy": "include"},
        {**NO_DRAFTS, "id": "last", "value": "c/", "order": 6},
    ],
}
#: Key below `filtering`, and what the message says.
MESSAGES = {
    "rules[0].policy": '"exlude" is not one of include, exclude; did you mean "exclude"?',
    "rules[1].rule": "rule operator: `rule` is 'begins_with', which is not known: did you mean starts_with?",
    "rules[2]": "rule look-ahead: the regular expression '(?=x)y' cannot be used",
    "rules[3]": "rule all: the regular expression '.*' matches every text: write what the text must look like",
    "rules[4].value": "rule list: `value` is of type list: write one text, number or date, and one rule for each of",
    "rules[6]": 'rule second: never decides, for rule "first" has the same condition, comes first and says exclude',
    "rules[7]": 'rule last: has the same order 6 as rule "first", so that it is not clear which of them decides',
}


def assert_told(told: list[str], prefix: str = "") -> None:
    """One line a mistake, in the order of the file, each with its key and what to write instead."""
    assert len(told) == len(MESSAGES) == 7
    for line, (key, message) in zip(told, MESSAGES.items(), strict=True):
        assert f": {prefix}{key}: {message}" in line


def test_seven_mistakes_in_a_rules_file(cli: CommandLine, workspace: Workspace) -> None:
    for name in ("rules.yml", "rules.json"):
        file = rules_file(workspace, MISTAKES, name)
        done = cli("preview", "docs", "--rules", file)
        assert done.code == Exit.CONFIGURATION
        assert done.out == ""
        told = done.err.removeprefix("Error: ").splitlines()
        assert_told(told)
        assert all(line.startswith(f"{file}:") for line in told)
        has_lines = [line.removeprefix(f"{file}:")[0].isdecimal() for line in told]
        assert all(has_lines) if name == "rules.yml" else not any(has_lines)


def test_seven_mistakes_in_the_configuration(cli: CommandLine, workspace: Workspace) -> None:
    prefix = "connectors[0].filtering."
    workspace.configure(connectors=[workspace.connector(filtering=MISTAKES)])
    done = cli("config", "validate")
    assert done.code == Exit.CONFIGURATION
    assert_told(done.err.splitlines(), prefix)
    problems = cli("config", "validate", "--json").json["problems"]
    assert [each["key"] for each in problems] == [f"{prefix}{key}" for key in MESSAGES]
    assert all(isinstance(each["line"], int) for each in problems)
    assert_told([each["message"] for each in cli("check", "--json").json["checks"]], prefix)


def test_mistakes_that_only_validators_see_stop_no_daemon_and_are_told(cli: CommandLine, workspace: Workspace) -> None:
    rules = [MISTAKES["rules"][position] for position in (1, 2)]
    workspace.configure(connectors=[workspace.connector(filtering={"rules": rules})])
    assert len(cli("config", "validate", "--json").json["problems"]) == 2
    check = cli("check", "--json").json["checks"][-1]
    assert check["ok"] is False
    assert "rule operator: `rule` is 'begins_with'" in check["message"]
    assert "; rule look-ahead: the regular expression" in check["message"]
    assert cli("status").code == 0


def test_the_validators_of_a_source_are_asked_too(cli: CommandLine, workspace: Workspace) -> None:
    workspace.module(
        "strict_source",
        """
import asyncio

from connectors.filtering.validation import AdvancedRulesValidator, BasicRuleValidator, SyncRuleValidationResult
from connectors.source import BaseDataSource


class Known(BasicRuleValidator):
    async def validate(self, rule):
        await asyncio.sleep(0)
        return SyncRuleValidationResult(rule["id"], rule["field"] == "title", "write title")


class Never(AdvancedRulesValidator):
    def validate(self, advanced_rules):
        return SyncRuleValidationResult(SyncRuleValidationResult.ADVANCED_RULES, False, "write none")


class StrictDataSource(BaseDataSource):
    advanced_rules_enabled = True

    @classmethod
    def basic_rules_validators(cls):
        return [Known]

    def advanced_rules_validators(self):
        return [Never]

    async def ping(self):
        pass

    async def get_docs(self, filtering=None):
        yield {"_id": 1}, None
""",
    )
    strict = workspace.connector(service_type="strict", configuration={})
    sources = {"strict": "strict_source:StrictDataSource"}
    match_all = {**NO_DRAFTS, "field": "title", "rule": "regex", "value": ".*"}  # which this source does not mind
    workspace.configure(connectors=[{**strict, "filtering": {"rules": [NO_DRAFTS, match_all]}}], sources=sources)
    problems = cli("config", "validate", "--json").json["problems"]
    assert [each["message"] for each in problems] == ["rule no-drafts: write title"]
    file = rules_file(workspace, {"rules": [NO_DRAFTS], "advanced": {"a": 1}, "advance": 2})
    assert [line.rpartition(": ")[2] for line in cli("preview", "docs", "--rules", file).err.splitlines()] == [
        'there is no such key; did you mean "advanced"?', "write none", "write title",
    ]  # fmt: skip


# Files


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        ("", "r.yml", "there is nothing in it"),
        ("- a", "r.yml", "there are no keys in it"),
        ("filtering: [a]", "r.yml", "there are no keys in it"),
        ("rules: 5", "r.yml", "is not a list"),
        ("rules: [5]", "r.yml", "is not a block of keys"),
        ('{"rules": [}', "r.json", "this is not JSON"),
        ("[" * 100_000, "r.json", "the nesting is too deep"),
        ('{"a": {"b": ' * 40 + "1" + "}}" * 40, "r.json", "deeper than 64 levels"),
        ("rules: [{policy: exclude, field: x, rule: equals, value: '${NOT_SET_ANYWHERE}'}]", "r.yml", "is not set"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str, name: str, words: str) -> None:
    file = tmp_path / name
    file.write_text(content, "utf-8")
    try:
        problems = read_rules_file(file).problems()
    except ConfigError as error:
        problems = error.problems
    assert words in str(problems[0])


def test_a_file_that_is_not_there(cli: CommandLine) -> None:
    done = cli("preview", "docs", "--rules", "nowhere.yml")
    assert done.code == Exit.CONFIGURATION
    assert "nowhere.yml: there is no such file" in done.err


def test_json_says_the_same_as_yaml(tmp_path: Path) -> None:
    content = {
        "rules": [{**NO_DRAFTS, "value": "\U0001f600\\u00e9\t€"}, {**NO_DRAFTS, "order": 7}],
        "advanced": [{"a": None}],
    }
    for name, text in (("r.json", json.dumps(content)), ("s.json", json.dumps(content, indent="\t"))):
        (tmp_path / name).write_text(text, "utf-8")
        written = read_rules_file(tmp_path / name)
        assert written.problems() == []
        assert (written.rules, written.advanced) == (content["rules"], content["advanced"])


def test_secrets_of_a_file_are_hidden(cli: CommandLine, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWNER_TOKEN", "swordfish-42")
    rule = {**NO_DRAFTS, "value": "${OWNER_TOKEN}"}
    file = rules_file(workspace, {"rules": [rule]})
    done = cli("preview", "docs", "--rules", file)
    assert done.code == 0
    assert "swordfish" not in done.out
    assert "***" in done.out
    assert "swordfish" not in cli("preview", "docs", "--rules", file, "--json").out
    wrong = rules_file(workspace, {"rules": [{**rule, "policy": "${OWNER_TOKEN}"}, {**rule, "rule": "${OWNER_TOKEN}"}]})
    done = cli("preview", "docs", "--rules", wrong)
    assert done.code == Exit.CONFIGURATION
    assert "swordfish" not in done.err


@pytest.mark.parametrize("value", ["file:/etc/hostname", "a ${HOME} b", "$${HOME}"])
def test_pasted_rules_refer_to_nothing(value: str) -> None:
    with pytest.raises(ConfigError, match=r"pasted:1:58: rules that are pasted refer to no file"):
        read_rules(f"rules: [{{policy: exclude, field: x, rule: equals, value: {value!r}}}]", "pasted")
    written = read_rules("rules: [{policy: exclude, field: x, rule: equals, value: 5}]", "pasted")
    assert (written.problems(), written.rules[0]["value"]) == ([], 5)
