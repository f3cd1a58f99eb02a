"""Properties of the config loader over generated files."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from connectors.config import Config, ConfigError, load_config
from connectors.config.document import MappingNode, parse_document
from connectors.config.reader import Reading, read_document

Tree = dict[str, Any]

_DURATIONS = st.sampled_from(["1s", "500ms", "2m", "7"])
# A random part of each block, so that trees differ in shape.
_TREES = st.fixed_dictionaries(
    {},
    optional={
        "service": st.fixed_dictionaries(
            {},
            optional={"poll_interval": _DURATIONS, "drain_timeout": _DURATIONS, "worker_name": st.sampled_from("abc")},
        ),
        "web": st.fixed_dictionaries({}, optional={"port": st.integers(0, 65535), "enabled": st.booleans()}),
        "sync": st.fixed_dictionaries({}, optional={"max_delete_ratio": st.floats(0, 1).map(lambda n: round(n, 3))}),
        "sources": st.dictionaries(st.sampled_from(["a", "b.c"]), st.just("m:C")),
    },
)
_CONNECTOR = st.fixed_dictionaries(
    {"id": st.just("a"), "service_type": st.just("s"), "index": st.just("i")},
    optional={
        "configuration": st.dictionaries(st.sampled_from(["x", "y.z", "n"]), st.integers() | st.text("ab", max_size=3)),
        "scheduling": st.fixed_dictionaries({}, optional={"full": st.just("daily"), "timezone": st.just("UTC")}),
        "filtering": st.fixed_dictionaries({}, optional={"advanced": st.dictionaries(st.just("p.q"), st.integers())}),
        "pipeline": st.fixed_dictionaries({}, optional={"name": st.just("p"), "reduce_whitespace": st.booleans()}),
    },
)


def load(content: str | bytes, environ: dict[str, str] | None = None) -> Config:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        return load_config(path, environ=environ or {})


def outcome(text: str) -> Tree:
    """Returns what a text means, apart from the folder that it was read in."""
    root = parse_document(text)
    if root is None:
        return {}
    assert isinstance(root, MappingNode)
    reading = Reading()
    read_document(root, Config, Path("/base"), {}, reading)
    assert not reading.problems
    return reading.data


def undot(data: st.DataObject, tree: Tree) -> list[tuple[str, Any]]:
    """Writes each block of the tree nested, dotted, or partly so."""
    entries: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if not isinstance(value, dict) or not value:
            entries.append((key, value))
            continue
        inner = list(value.items()) if key in {"configuration", "sources", "advanced"} else undot(data, value)
        nested = [entry for entry in inner if data.draw(st.booleans())]
        entries += [(f"{key}.{name}", item) for name, item in inner if (name, item) not in nested]
        if nested:
            entries.append((key, dict(nested)))
    return data.draw(st.permutations(entries))


@given(_TREES, _CONNECTOR, st.data())
def test_dotted_nested_and_mixed_keys_mean_the_same(tree: Tree, connector: Tree, data: st.DataObject) -> None:
    written = dict(undot(data, tree)) | {"connectors": [dict(undot(data, connector))]}
    # Without aliases, in the order given: what is compared is the writing of keys.
    text = json.dumps(written)
    nested = {key: value for key, value in tree.items() if value} | {"connectors": [connector]}
    read = outcome(text)
    expected = outcome(json.dumps(nested))
    assert {key: value for key, value in read.items() if value} == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60), st.booleans())
def test_what_a_variable_holds_never_changes_the_structure(value: str, quoted: bool) -> None:
    place = '"${V}"' if quoted else "${V}"
    text = "connectors:\n- id: a\n  service_type: s\n  index: i\n  configuration:\n"
    text += f"    before: 1\n    v: {place}\n    after: 2\n"
    (connector,) = load(text, {"V": value}).connectors
    configuration = connector.configuration
    assert (list(configuration), configuration["before"], configuration["after"]) == (["before", "v", "after"], 1, 2)
    read = configuration["v"]
    assert read == value if quoted or isinstance(read, str) else isinstance(read, bool | int | float | None)
    json.dumps(configuration, allow_nan=False)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="$"), max_size=60))
def test_a_quoted_text_is_taken_as_it_is(text: str) -> None:
    if text.startswith("file:"):
        return
    content = yaml.safe_dump({"connectors": [{"id": "a", "service_type": "s", "index": "i", "name": text}]})
    assert load(content).connectors[0].name == (text if text or "''" in content else None)


_PIECES = st.sampled_from([
    "web", "port", "connectors", "id", "configuration", "password", ":", ": ", "- ", "\n", "\n  ", "\n    ", ".", "{",
    "}", "[", "]", "&a ", "*a", "<<", "!x ", "!!int ", "'", '"', "|", ">", "#", "?", "\t", "${", "${X}", "${Y:-1}",
    "$${", "file:", "file:x", "null", "yes", "1", "0x_", "---", "%YAML 1.1", "\x07", "\u2028", "é", "\\", ",", "@", "`",
])  # fmt: skip


@given(st.lists(_PIECES, max_size=40).map("".join) | st.text(max_size=200) | st.binary(max_size=200))
def test_the_loader_raises_nothing_but_config_error(content: str | bytes) -> None:
    try:
        load(content, {"X": "x: [1"})
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - either outcome is right; this is what an error must have
        for problem in error.problems:
            assert problem.message
            assert (problem.line is None) == (problem.column is None)
            assert problem.line is None or problem.line >= 1
            assert "\n" not in str(problem)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from([*Config.model_fields, "zzz"]), _JSON, max_size=4), st.lists(_JSON, max_size=2))
def test_any_values_under_known_keys_give_a_configuration_or_problems(tree: Tree, connectors: list[Any]) -> None:
    try:
        load(json.dumps({"connectors": connectors, **tree}))
    except ConfigError as error:
        assert error.problems  # noqa: PT017 - either outcome is right


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=8, max_size=30),
    st.sampled_from([
        "web.port", "web.enabled", "web.host", "logging.format", "service.lease", "sync.batch_bytes", "sources.x",
        "connectors", "sync.max_delete_ratio", "service.data_dir", "extraction",
    ]),
)  # fmt: skip
def test_no_problem_shows_a_secret(value: str, key: str) -> None:
    secret = f"~{value}~"
    try:
        config = load(f'{key}: "${{MY_SECRET}}"\nzzz: 1\n', {"MY_SECRET": secret})
    except ConfigError as error:
        for problem in error.problems:
            assert secret not in problem.message
    else:
        raise AssertionError(f"an unknown key was accepted in {config!r}")
