"""Configuration fields on any value: nothing but a ConfigurationError is ever raised, and records survive."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from connectors.byoc import Filter
from connectors.errors import ConfigurationError
from connectors.source import DataSourceConfiguration, Field

# What YAML and JSON can hold, with the words that matter here met often.
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(10**400),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["false", "true", "no", "", " ", "0", "5", "5,6", "a, b", "-1", "1.5", "nan"]),
)
values = scalars | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=3), scalars, max_size=2)
kinds = st.sampled_from(["str", "int", "bool", "list"])
validations = st.lists(
    st.one_of(
        st.builds(
            lambda kind, limit: {"type": kind, "constraint": limit},
            st.sampled_from(["less_than", "greater_than"]),
            values,
        ),
        st.builds(lambda kind: {"type": "list_type", "constraint": kind}, st.sampled_from(["str", "int", "bool"])),
        st.builds(
            lambda known: {"type": "included_in", "constraint": known}, st.none() | st.lists(scalars, max_size=3)
        ),
        st.builds(lambda form: {"type": "regex", "constraint": form}, st.sampled_from(["[a-z]+", ".*", "^5$"])),
        st.just({"type": "unheard_of"}),
    ),
    max_size=3,
)
names = st.sampled_from(["a", "b", "c"])
records = st.fixed_dictionaries(
    {"type": kinds, "value": values},
    optional={
        "label": st.sampled_from(["", "A label"]),
        "default_value": values,
        "required": st.booleans(),
        "sensitive": st.booleans(),
        "options": st.lists(scalars.map(lambda value: {"label": "x", "value": value}), max_size=3),
        "depends_on": st.lists(
            st.builds(lambda name, value: {"field": name, "value": value}, names | st.just("nowhere"), values),
            max_size=2,
        ),
        "validations": validations,
        "tooltip": st.text(max_size=3),
    },
)
configurations = st.dictionaries(names, records, max_size=3)
PYTHON_TYPES = {"str": str, "int": int | None, "bool": bool, "list": list}


def refusal(call: Callable[[], object]) -> ConfigurationError | None:
    """The error with which a call refuses; None where it does not. Any other error is a failure of the test."""
    try:
        call()
    except ConfigurationError as error:
        return error
    return None


@given(configurations)
def test_reading_a_value_gives_its_type_or_a_configuration_error(config: dict[str, Any]) -> None:
    configuration = DataSourceConfiguration(config)
    for field in configuration.get_fields():
        refused = refusal(lambda field=field: configuration[field.name])  # type: ignore[misc]  # a default binds the loop's field
        if refused is not None:
            assert refused.field == field.name
            assert field.problems()
        else:
            assert isinstance(field.value, PYTHON_TYPES[field.type])
            assert type(field.value) is not bool or field.type == "bool"


@given(configurations)
def test_validity_is_the_absence_of_problems(config: dict[str, Any]) -> None:
    configuration = DataSourceConfiguration(config)
    found = configuration.problems()
    assert {name for name, _ in found} <= {name for name in configuration if configuration.is_active(name)}
    refused = refusal(configuration.check_valid)
    assert (refused is None) == (found == [])
    if refused is not None:
        assert refused.field == found[0][0]
        assert all(text in str(refused) for _, text in found)


@given(configurations)
def test_a_configuration_survives_its_record(config: dict[str, Any]) -> None:
    configuration = DataSourceConfiguration(config)
    again = DataSourceConfiguration(configuration.to_dict())
    # As text, for not-a-number differs from itself.
    assert repr(again.to_dict()) == repr(configuration.to_dict())
    assert again.problems() == configuration.problems()


@given(records, values)
def test_an_operator_s_value_takes_the_place_of_the_declared_one(record: dict[str, Any], value: Any) -> None:
    merged = DataSourceConfiguration.merge({"f": record}, {"f": {"value": value}})
    assert repr(merged.get_field("f").raw) == repr(value)
    assert merged.get_field("f").type == record["type"]


@given(st.text(min_size=4, max_size=12, alphabet="xyzXYZ789"), kinds, validations)
def test_a_secret_is_in_no_message(secret: str, kind: str, rules: list[dict[str, Any]]) -> None:
    assume(secret not in repr(rules))
    record = {"type": kind, "sensitive": True, "value": f"Q{secret}", "validations": rules}
    configuration = DataSourceConfiguration({"f": record})
    shown = repr(configuration) + repr(configuration.get_fields()) + repr(configuration.problems())
    shown += str(refusal(lambda: configuration["f"]))
    assert secret not in shown
    assert f"Q{secret}" in configuration.secrets()


@given(values, st.lists(st.dictionaries(st.text(max_size=3), scalars, max_size=2), max_size=2))
def test_a_filter_survives_its_record(advanced: Any, rules: list[dict[str, Any]]) -> None:
    written = Filter.of(rules, advanced)
    read = Filter(json.loads(json.dumps(written)))
    assert repr(read) == repr(written)
    assert read.has_advanced_rules() == bool(advanced)
    assert len(read.basic_rules) == len(rules)


@given(records)
def test_a_field_is_a_value(record: dict[str, Any]) -> None:
    field = Field.from_record("f", record)
    assert repr(Field.from_record("f", field.to_record())) == repr(field)
