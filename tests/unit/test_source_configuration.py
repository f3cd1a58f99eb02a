"""Configuration fields: types, defaults, validations, dependencies, and what a source sees of them."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.errors import ConfigurationError
from connectors.source import DataSourceConfiguration, Field


def one(**record: Any) -> DataSourceConfiguration:
    """A configuration of the single field `f`, labelled "The field"."""
    return DataSourceConfiguration({"f": {"label": "The field", "value": None, **record}})


def problem(**record: Any) -> str:
    """The one thing that is wrong with a field; "" when all is well."""
    found = one(**record).problems()
    assert len(found) <= 1
    assert all(name == "f" for name, _ in found)
    return found[0][1] if found else ""


# Types


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("bool", "false", False),
        ("bool", "FALSE", False),
        ("bool", " no ", False),
        ("bool", "0", False),
        ("bool", 0, False),
        ("bool", "true", True),
        ("bool", "on", True),
        ("bool", 1, True),
        ("bool", False, False),
        ("bool", None, False),
        ("bool", "", False),
        ("int", "3306", 3306),
        ("int", " -5 ", -5),
        ("int", 7.0, 7),
        ("int", 0, 0),
        ("int", "0", 0),
        ("int", None, None),
        ("int", "", None),
        ("int", "  ", None),
        ("list", "a, b,,c ", ["a", "b", "c"]),
        ("list", ["a", 1], ["a", 1]),
        ("list", ("a",), ["a"]),
        ("list", 5, [5]),
        ("list", "", []),
        ("list", None, []),
        ("list", [], []),
        ("str", "x", "x"),
        ("str", " x ", " x "),
        ("str", 5, "5"),
        ("str", None, ""),
    ],
)
def test_a_value_has_the_type_of_its_field(kind: str, given: Any, value: Any) -> None:
    configuration = one(type=kind, value=given, required=False)
    configuration.check_valid()
    assert configuration["f"] == value
    assert type(configuration["f"]) is type(value)
    assert configuration.get("f") == value


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("bool", "maybe", 'must be true or false, not "maybe"'),
        ("bool", 2, "must be true or false, not 2"),
        ("int", "12x", "must be a whole number"),
        ("int", 1.5, "must be a whole number, not 1.5"),
        ("int", float("inf"), "must be a whole number"),
        ("int", True, "must be a whole number"),
        ("int", [1], "must be a whole number"),
        ("int", "1_000", "must be a whole number"),
        ("int", "9" * 5000, "must be a whole number"),
        ("list", {"a": 1}, "must be a list, or words separated by commas"),
        ("str", ["a"], "must be text"),
        ("str", {"a": 1}, "must be text"),
    ],
)
def test_a_value_of_another_type_is_refused_in_words(kind: str, given: Any, words: str) -> None:
    message = problem(type=kind, value=given)
    assert words.replace('"', "'") in message.replace('"', "'")
    with pytest.raises(ConfigurationError) as caught:
        one(type=kind, value=given)["f"]
    assert caught.value.field == "f"
    assert "The field" in str(caught.value)


@pytest.mark.parametrize("empty", [None, "", "  ", []])
def test_a_required_field_wants_a_value(empty: Any) -> None:
    assert problem(value=empty) == '"The field" is required: give it a value'
    assert problem(value=empty, required=False) == ""
    assert problem(value=empty, default_value="x") == ""


@pytest.mark.parametrize(
    ("kind", "default", "value"),
    [("int", 5, 5), ("int", "5", 5), ("bool", "true", True), ("list", "a,b", ["a", "b"]), ("str", "x", "x")],
)
def test_an_empty_field_has_its_default(kind: str, default: Any, value: Any) -> None:
    assert one(type=kind, value=None, default_value=default)["f"] == value
    assert one(type=kind, value="", default_value=default)["f"] == value


def test_false_and_zero_are_values_and_not_empty() -> None:
    assert one(type="bool", value=False, default_value=True)["f"] is False
    assert one(type="int", value=0, default_value=9)["f"] == 0
    assert problem(type="bool", value=False) == ""
    assert problem(type="int", value=0) == ""


def test_an_empty_list_is_a_new_one_each_time() -> None:
    configuration = one(type="list", required=False)
    configuration["f"].append("x")
    assert configuration["f"] == []


# Validations


@pytest.mark.parametrize(
    ("kind", "given", "validation", "constraint", "words"),
    [
        ("int", 4, "less_than", 5, ""),
        ("int", 5, "less_than", 5, "must be less than 5"),
        ("int", "7", "less_than", "5", "must be less than 5"),
        ("int", 10**400, "less_than", 5, "must be less than 5"),
        ("int", 6, "greater_than", 5, ""),
        ("int", 5, "greater_than", 5, "must be greater than 5"),
        ("int", 5, "greater_than", "x", "must be greater than x"),
        ("list", "1, 2", "list_type", "int", ""),
        ("list", "1, b", "list_type", "int", "must be a list whose items are all int"),
        ("list", ["a"], "list_type", "str", ""),
        ("list", ["a", 1], "list_type", "str", "must be a list whose items are all str"),
        ("str", "a", "included_in", ["a", "b"], ""),
        ("str", "c", "included_in", ["a", "b"], "must be one of 'a', 'b'"),
        ("list", "a, c", "included_in", ["a", "b"], "must be one of 'a', 'b'"),
        ("list", "1, 2", "included_in", [1, 2, 3], ""),
        ("int", "3", "included_in", [1, 2, 3], ""),
        ("int", 4, "included_in", [1, 2, 3], "must be one of 1, 2, 3"),
        ("str", "ab1", "regex", "[a-z]+[0-9]", ""),
        ("str", "ab12", "regex", "[a-z]+[0-9]", "must be of the form [a-z]+[0-9]"),
        ("list", "a, b", "regex", "[a-z]", ""),
        ("list", "a, B", "regex", "[a-z]", "must be of the form [a-z]"),
        ("str", "x", "between", [1, 2], "unknown validation 'between'"),
    ],
)
def test_validations(kind: str, given: Any, validation: str, constraint: Any, words: str) -> None:
    message = problem(type=kind, value=given, validations=[{"type": validation, "constraint": constraint}])
    assert (words in message) if words else message == ""


def test_an_empty_optional_field_is_not_validated() -> None:
    rules = [{"type": "greater_than", "constraint": 0}, {"type": "regex", "constraint": "x"}]
    assert problem(type="int", value="", required=False, validations=rules) == ""


def test_all_problems_are_told_at_once() -> None:
    configuration = DataSourceConfiguration(
        {
            "port": {
                "label": "Port",
                "type": "int",
                "value": 99999,
                "validations": [
                    {"type": "less_than", "constraint": 65536},
                    {"type": "included_in", "constraint": [80, 443]},
                ],
            },
            "host": {"label": "Host", "value": ""},
        }
    )
    with pytest.raises(ConfigurationError) as caught:
        configuration.check_valid()
    assert str(caught.value) == (
        '"Port" must be less than 65536; "Port" must be one of 80, 443; "Host" is required: give it a value'
    )
    assert caught.value.field == "port"


def test_options_limit_the_choice() -> None:
    options = [{"label": "Seven", "value": 7}, {"label": "Eight", "value": "8"}]
    assert problem(type="int", value="7", options=options) == ""
    assert problem(type="list", value="7, 8", options=options) == ""
    assert "must be one of 7, '8'" in problem(type="int", value=9, options=options)


# Dependencies


def dependent(switch: Any, value: Any = "", switch_type: str = "bool", expected: Any = True) -> DataSourceConfiguration:
    return DataSourceConfiguration(
        {
            "tls": {"type": switch_type, "value": switch, "required": False},
            "ca": {"label": "CA", "value": value, "depends_on": [{"field": "tls", "value": expected}]},
        }
    )


@pytest.mark.parametrize(
    ("switch", "switch_type", "expected", "active"),
    [
        (True, "bool", True, True),
        ("true", "bool", True, True),
        ("true", "bool", "yes", True),
        (False, "bool", True, False),
        (None, "bool", True, False),
        (None, "bool", False, True),
        ("3", "int", 3, True),
        (3, "int", "4", False),
        ("basic", "str", "basic", True),
        ("token", "str", "basic", False),
        ("nonsense", "bool", True, False),
        (1, "int", "nonsense", False),
    ],
)
def test_a_field_matters_while_its_dependency_holds(switch: Any, switch_type: str, expected: Any, active: bool) -> None:
    configuration = dependent(switch, "", switch_type, expected)
    assert configuration.is_active("ca") is active
    assert any(name == "ca" for name, _ in configuration.problems()) is active


def test_a_field_needs_all_of_its_dependencies_and_theirs() -> None:
    def active(a: bool, b: bool) -> bool:
        return DataSourceConfiguration(
            {
                "a": {"type": "bool", "value": a},
                "b": {"type": "bool", "value": b, "depends_on": [{"field": "a", "value": True}]},
                "c": {"depends_on": [{"field": "b", "value": True}], "value": ""},
                "d": {"depends_on": [{"field": "a", "value": True}, {"field": "b", "value": True}], "value": ""},
            }
        ).is_active("c")

    assert [active(a, b) for a in (True, False) for b in (True, False)] == [True, False, False, False]


def test_dependencies_in_a_circle_end() -> None:
    circle = DataSourceConfiguration(
        {
            "a": {"type": "bool", "value": True, "depends_on": [{"field": "b", "value": True}]},
            "b": {"type": "bool", "value": True, "depends_on": [{"field": "a", "value": True}]},
        }
    )
    assert circle.is_active("a")
    assert circle.is_active("b")


def test_a_dependency_on_a_field_that_is_not_there_does_not_hold() -> None:
    assert not DataSourceConfiguration({"a": {"value": "", "depends_on": [{"field": "z", "value": 1}]}}).is_active("a")


# The configuration as a whole


DECLARED = {
    "host": {"label": "Host", "type": "str", "value": "localhost", "order": 1, "tooltip": "Where it runs"},
    "port": {"label": "Port", "type": "int", "value": 3306},
    "password": {"label": "Password", "sensitive": True, "value": "", "required": False},
}


def test_the_values_of_the_operator_replace_those_of_the_declaration() -> None:
    merged = DataSourceConfiguration.merge(DECLARED, {"port": "3307", "password": {"value": "hush"}, "extra": {"a": 1}})
    assert (merged["host"], merged["port"], merged["password"]) == ("localhost", 3307, "hush")
    assert merged["extra"] == {"a": 1}
    assert list(merged) == ["host", "port", "password", "extra"]
    assert (len(merged), "port" in merged, "nothing" in merged) == (4, True, False)
    assert merged.get_field("port").label == "Port"
    assert DECLARED["port"]["value"] == 3306, "the declaration stays as it is"
    merged.check_valid()


@pytest.mark.parametrize("value", ["x", 5, True, False, 1.5, [1, "a"], {"a": {"b": 1}}, 0])
def test_a_source_without_declarations_gets_the_values_as_they_are(value: Any) -> None:
    configuration = DataSourceConfiguration({"f": value})
    assert configuration["f"] == value
    assert type(configuration["f"]) is type(value)
    configuration.check_valid()


def test_a_field_that_is_not_there_is_named_with_those_that_are() -> None:
    configuration = DataSourceConfiguration(DECLARED)
    with pytest.raises(ConfigurationError, match=r'no configuration field "prot".*\'host\', \'password\', \'port\''):
        configuration["prot"]
    assert configuration.get("prot") is None
    assert configuration.get("prot", 5) == 5
    assert not configuration.has_field("prot")


def test_a_secret_shows_nowhere() -> None:
    configuration = DataSourceConfiguration(
        {
            "password": {"label": "Password", "type": "int", "sensitive": True, "value": "hush"},
            "keys": {"type": "list", "sensitive": True, "value": "k-one, k-two"},
            "more": {"type": "list", "sensitive": True, "value": ["k-three"]},
            "empty": {"sensitive": True, "value": ""},
            "open": {"value": "seen"},
        }
    )
    shown = "".join(
        [repr(configuration), str(configuration), repr(configuration.get_fields()), str(configuration.problems())]
    )
    assert not any(secret in shown for secret in ("hush", "k-one", "k-two", "k-three"))
    assert "seen" in repr(configuration)
    assert sorted(configuration.secrets()) == ["hush", "k-one", "k-one, k-two", "k-three", "k-two"]


def test_a_field_goes_through_its_record() -> None:
    record = {
        "label": "Port",
        "type": "int",
        "value": "5",
        "default_value": 3,
        "required": False,
        "sensitive": True,
        "options": [{"label": "Five", "value": 5}],
        "depends_on": [{"field": "a", "value": 1}],
        "validations": [{"type": "less_than", "constraint": 9}],
        "tooltip": "kept",
        "ui_restrictions": ["advanced"],
        "display": "numeric",
        "order": 4,
    }
    assert Field.from_record("port", record).to_record() == record
    configuration = DataSourceConfiguration({"port": record})
    assert configuration.to_dict() == {"port": record}
    assert DataSourceConfiguration(configuration.to_dict())["port"] == 5
