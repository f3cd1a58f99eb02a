"""Files that are no configuration at all, and YAML that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.config import ConfigError, Problem, load_config
from connectors.config.document import scalar_value
from connectors.config.secrets import looks_secret, passwords_in_urls


def problem_of(path: Path) -> Problem:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    (found,) = caught.value.problems
    assert found.file == str(path)
    return found


def problem_in(tmp_path: Path, content: str | bytes) -> Problem:
    path = tmp_path / "config.yml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return problem_of(path)


def test_a_missing_file_a_folder_and_an_impossible_name(tmp_path: Path) -> None:
    assert "there is no such file; create it" in problem_of(tmp_path / "none.yml").message
    assert "this is a folder" in problem_of(tmp_path).message
    assert "its name is not valid" in problem_of(tmp_path / "a\0b").message
    assert "cannot be read" in problem_of(tmp_path / ("n" * 300)).message


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing\n", "---\n", "~", "\ufeff"])
def test_an_empty_file(tmp_path: Path, content: str) -> None:
    assert "the file is empty" in problem_in(tmp_path, content).message


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        (b"a: 1\nb: \xff\n", (2, 4), "not UTF-8 text; save it as UTF-8"),
        ("web:\n  port: 1\n".encode("utf-16"), (1, 1), "not UTF-8"),
        ("a: 1\nb: x\x07\n", (2, 5), "U+0007 is not allowed"),
        ("- a\n", (1, 1), "must hold keys"),
        ("just words", (1, 1), "must hold keys"),
        ("a: 1\n---\nb: 2\n", (2, 1), "a second document begins here"),
        ("web:\n\tport: 1\n", (2, 1), "a tab cannot indent; use spaces"),
        ("web:\n  host: @x\n", (2, 9), "a text cannot begin with @; put it in quotes"),
        ("a: b: c\n", (1, 5), "indent keys of one block alike"),
        ("a: 1\n b: 2\n", (2, 3), "indent keys of one block alike"),
        ("a: {b: ${X}}\n", (1, 9), "${…} stands in it without quotes"),
        ("a: [1\n", (2, 1), "is not closed"),
        ('a: "x\n', (2, 1), "a quote is not closed"),
        ('a: "\\q"\n', (1, 5), "a backslash is written"),
        ("a:\n  - b\n c: d\n", (3, 2), "the indentation does not fit"),
        ("a: |x\n  y\n", (1, 5), "the indentation does not fit"),
        ("a: !!python/object:os.system x\n", (1, 4), "a YAML tag is not allowed"),
        ("a: ! x\n", (1, 4), "a YAML tag is not allowed"),
        ("a: !!str 5\n", (1, 4), "a YAML tag is not allowed"),
        ("a: *b\n", (1, 4), "no anchor (&) of this name above"),
        ("a: &a [*a]\n", (1, 8), "no anchor (&) of this name above"),
        ("? [a]\n: b\n", (1, 3), "a key must be a single word"),
        ("a: " + "[" * 65 + "]" * 65, (1, 67), "deeper than 64 levels"),
        ("a: " + "{a: " * 20000, (1, 256), "deeper than 64 levels"),
    ],
)  # fmt: skip
def test_yaml_that_is_refused(tmp_path: Path, content: str | bytes, place: tuple[int, int], words: str) -> None:
    found = problem_in(tmp_path, content)
    assert words in found.message
    assert (found.line, found.column) == place


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    assert "larger than 5 MB" in problem_in(tmp_path, b"# " + b"x" * 5_000_000).message


def test_a_bomb_of_anchors(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    found = problem_in(tmp_path, "\n".join(lines))
    assert found.message == "the anchors expand to more than 100000 values; write them out"
    assert found.line == 5  # where the sum goes beyond it


def test_anchors_that_nest_too_deep(tmp_path: Path) -> None:
    chain = ["c0: &c0 {x: 1}", *(f"c{n}: &c{n} {{<<: *c{n - 1}}}" for n in range(1, 80))]
    assert "with this anchor the nesting is deeper than 64 levels" in problem_in(tmp_path, "\n".join(chain)).message


@pytest.mark.parametrize(
    "number", ["9" * 101, "0x_", "0b_", "1:30", "=", "<<", "2024-01-01T00:00:00Z", ".inf", "-.INF", ".nan"]
)
def test_what_json_has_no_type_for_stays_text(number: str) -> None:
    assert scalar_value(number) == number


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("password", True), ("DB_PASSWORD", True), ("apiKey", True), ("api-key", True), ("APIKEY", True), ("key", True),
        ("clientSecret", True), ("secret_access_key", True), ("aws_access_key_id", False), ("token", True),
        ("GITHUB_TOKEN", True),
        ("token_url", False), ("max_tokens", False), ("primary_key", False), ("keyboard", False), ("monkey", False),
        ("private_key", True), ("private_key_path", False), ("password_field", False), ("host", False), ("", False),
        ("passphrase", True), ("compass", False), ("credentials", True), ("service_account_credentials", True),
    ],
)  # fmt: skip
def test_which_names_hold_a_secret(name: str, is_secret: bool) -> None:
    assert looks_secret(name) is is_secret


def test_passwords_in_addresses_are_found() -> None:
    assert passwords_in_urls("mongodb://app:p%40ss@host/db?x=1") == {"p%40ss", "p@ss"}
    assert passwords_in_urls("see http://host:80/a@b and user@host") == set()
    assert passwords_in_urls("a://u:one1@h b://:two2@h") == {"one1", "two2"}
