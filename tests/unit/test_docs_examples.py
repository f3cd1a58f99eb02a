"""What stands in README, docs and the handbook: examples load, links lead somewhere, commands and keys exist."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pydantic import BaseModel

from connectors.app import read_config
from connectors.cli.entry import cli
from connectors.config import load_config
from connectors.config.models import Config, ConnectorConfig
from connectors.service.schedule import parse_schedule

ROOT = Path(__file__).parents[2]
PAGES = sorted([
    *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/handbook/**/*.md"),
])  # fmt: skip
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<content>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
DOTTED = re.compile(r"[a-z_]+(?:\[\])?(?:\.[a-z_]+(?:\[\])?)+")
SHELL_END = {"|", "&&", "||", ";", ">", "2>", "&"}
FILE_SUFFIXES = {"db", "md", "py", "toml", "txt", "yml"}


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=_name)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: its language, and its lines without their indentation."""

    language: str
    content: str


def blocks(page: Path, *languages: str) -> list[Block]:
    """Returns the fenced blocks of these languages."""
    found = FENCE.finditer(page.read_text("utf-8"))
    return [
        Block(each["language"], textwrap.dedent(each["content"]))
        for each in found
        if each["language"] in languages or not languages
    ]


def prose(page: Path) -> str:
    """Returns the text without its fenced blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


# Links


def slugs(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(INLINE.sub("", prose(page))):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{_name(page)} links to {target}"
        assert not anchor or anchor in slugs(there), f"{_name(page)} links to {target}: there is no such heading"


# Commands


# Also behind a variable, in a unit of systemd, and in `docker compose exec connectors connectors status`.
COMMAND = re.compile(r"(?:^|.*[\s/=])connectors\s+(?!connectors\b)(\S.*)")
INLINE_COMMAND = re.compile(r"(?:[\w./-]*/|docker .* )?connectors\s+(?!connectors\b)(\S.*)")


def commands(page: Path) -> Iterator[list[str]]:
    """Yields the words behind `connectors`, of each command in code; a quoted message is none."""
    code = "\n".join(block.content for block in blocks(page, "sh", "bash", "ini"))
    lines = [re.sub(r"(^|\s)#.*", "", line) for line in code.splitlines()]
    found = [*map(COMMAND.match, lines), *map(INLINE_COMMAND.match, INLINE.findall(prose(page)))]
    for match in filter(None, found):
        words = shlex.split(match[1], comments=True)
        end = next((place for place, word in enumerate(words) if word in SHELL_END), len(words))
        yield words[:end]


def problem(words: list[str]) -> str | None:
    """Returns what is wrong with a command line of ours, None when it can be run."""
    command: click.Command = cli
    context = click.Context(cli, info_name="connectors")
    rest = ["1" if word == "N" else word for word in words]
    try:
        while isinstance(command, click.Group):
            _, rest, _ = command.make_parser(context).parse_args(rest)
            if not rest:
                return None
            found = command.get_command(context, rest[0])
            if found is None:
                return f"there is no command {rest[0]}"
            command, rest = found, rest[1:]
            context = click.Context(command, parent=context, info_name=command.name)
        command.make_context(command.name, rest, parent=context.parent)
    except click.exceptions.Exit:  # --help
        return None
    except click.ClickException as error:
        return error.format_message()
    return None


@every_page
def test_commands_exist(page: Path) -> None:
    wrong = {shlex.join(words): text for words in commands(page) if (text := problem(words)) is not None}
    assert wrong == {}


def test_a_wrong_command_is_found() -> None:
    assert problem(["stop"]) == "there is no command stop"
    assert problem(["jobs", "--limits", "5"]) is not None
    assert problem(["job"]) is not None
    assert problem(["sync", "NAME", "--allow-deletes", "N"]) is None


def test_commands_are_looked_at_wherever_they_stand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Type `connectors status` or `.venv/bin/connectors jobs NAME`; `a connectors daemon` is a message.\n\n"
        "```sh\nPYTHONPATH=x .venv/bin/connectors check | head  # comment\n```\n",
        "utf-8",
    )
    assert list(commands(page)) == [["check"], ["status"], ["jobs", "NAME"]]


@every_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    code = [*INLINE.findall(prose(page)), *(block.content for block in blocks(page, "sh", "bash"))]
    mentioned = {name for text in code for name in re.findall(r"^\s*make ([a-z]+)", text, re.MULTILINE)}
    assert mentioned <= targets


# Configuration


def _examples(page: Path) -> Iterator[str]:
    """Yields the configurations of a page as the text of a file: whole ones, and parts of one connector."""
    for block in blocks(page, "yaml"):
        value = yaml.safe_load(block.content)
        keys = {str(key).partition(".")[0] for key in value} if isinstance(value, dict) else set()
        if keys and keys <= Config.model_fields.keys():
            yield block.content
        elif keys and keys <= ConnectorConfig.model_fields.keys():
            invented = "connectors:\n  - id: x\n    service_type: notes\n    index: x\n"
            yield invented + textwrap.indent(block.content, "    ")


@every_page
def test_configurations_load(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, text in enumerate(_examples(page)):
        for name in re.findall(r"(?<!\$)\$\{(\w+)\}", text):
            monkeypatch.setenv(name, "a-value-of-some-length")
        for secret in re.findall(r"\bfile:([\w./-]+)", text):
            path = tmp_path / secret
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("a-secret-of-some-length\n", "utf-8")
        file = tmp_path / f"config-{number}.yml"
        file.write_text(text, "utf-8")
        _load(file, text)


def _load(file: Path, text: str) -> None:
    """Loads as the product does; without the sources where one is only an example."""
    if set(re.findall(r"service_type: (\w+)", text)) <= {"directory"}:
        read_config(file)
    else:
        load_config(file, check_schedule=parse_schedule)


def _has(model: type[BaseModel], path: list[str]) -> bool:
    """Whether a dotted key exists; what is below a free mapping, such as a source's settings, does."""
    field = model.model_fields.get(path[0].removesuffix("[]"))
    if field is None or not path[1:]:
        return field is not None
    below = [item for item in _types(field.annotation) if isinstance(item, type) and issubclass(item, BaseModel)]
    free = dict in _types(field.annotation)
    return free or any(_has(item, path[1:]) for item in below)


def _types(annotation: Any) -> list[Any]:
    """Returns an annotation with everything inside of it."""
    origin, parts = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    return [annotation, *([origin] if origin else []), *(inner for part in parts for inner in _types(part))]


@every_page
def test_configuration_keys_exist(page: Path) -> None:
    wrong = []
    for word in INLINE.findall(prose(page)):
        path = word.split(".")
        module = (ROOT / "connectors").joinpath(*path)
        if not DOTTED.fullmatch(word) or path[0] == "connectors" or path[-1] in FILE_SUFFIXES:
            continue  # prose, a module by its full name, or a file
        if module.is_dir() or module.with_suffix(".py").exists():
            continue
        models = [model for model in (Config, ConnectorConfig) if path[0].removesuffix("[]") in model.model_fields]
        if models and not any(_has(model, path) for model in models):
            wrong.append(word)
    assert wrong == []


def test_a_wrong_key_is_found() -> None:
    assert _has(Config, ["sync", "max_delete_ratio"])
    assert _has(Config, ["connectors[]", "filtering", "rules[]", "policy"])
    assert _has(ConnectorConfig, ["configuration", "directory"])
    assert not _has(Config, ["sync", "max_deletes"])
    assert not _has(ConnectorConfig, ["scheduling", "fully"])


# Python


@every_page
def test_python_can_be_read(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block.content)


@pytest.mark.parametrize("name", ["notes.py", "recent_notes.py"])
def test_the_guide_shows_the_example_as_it_is(name: str) -> None:
    example = (ROOT / "examples/sources" / name).read_text("utf-8")
    assert Block("python", example) in blocks(ROOT / "docs/SOURCES.md", "python")
