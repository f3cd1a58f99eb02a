"""The configuration of a source: fields with types, defaults, dependencies and validations.

Import the public names from `connectors.source`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from connectors.errors import ConfigurationError

__all__ = ["DataSourceConfiguration", "Field", "FieldType"]

FieldType = Literal["str", "int", "bool", "list"]

_TRUE: Final = frozenset({"true", "yes", "on", "1", "y", "t"})
_FALSE: Final = frozenset({"false", "no", "off", "0", "n", "f"})
_FIELD_KEYS: Final = frozenset({
    "label", "type", "value", "default_value", "required", "sensitive", "display", "options", "order", "tooltip",
    "ui_restrictions", "depends_on", "validations", "placeholder", "category",
})  # fmt: skip
_EMPTY: Final[Mapping[str, Any]] = {"str": "", "int": None, "bool": False, "list": ()}


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value in ([], (), {})


def _to_bool(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise ValueError("true or false")


def _to_int(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,30}\s*", value, re.ASCII):
        return int(value)
    raise ValueError("a whole number")


def _to_list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, Mapping):
        raise ValueError("a list, or words separated by commas")
    return [value]


def _as_given(value: Any) -> Any:
    """For a field that nobody declared, such as a mapping or a fraction."""
    return value


def _to_str(value: Any) -> str:
    if isinstance(value, Mapping | list | tuple):
        raise ValueError("text")
    return value if isinstance(value, str) else str(value)


_CONVERTERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "any": _as_given,
    "bool": _to_bool,
    "int": _to_int,
    "list": _to_list,
    "str": _to_str,
}


def _convert(value: Any, kind: str) -> Any:
    """Returns `value` as the field's type; raises ValueError with the words "a whole number" and the like."""
    converter: Callable[[Any], Any] = _CONVERTERS.get(kind, _to_str)
    return converter(value)


@dataclass(frozen=True, slots=True)
class Field:
    """One configuration field, as `get_default_configuration()` declares it.

    `depends_on` is a list of `{"field": name, "value": expected}`; the field is looked at only while all of them hold.
    `validations` is a list of `{"type": "less_than" | "greater_than" | "list_type" | "included_in" | "regex",
    "constraint": ...}`. `options` is a list of `{"label": ..., "value": ...}`.
    """

    name: str
    label: str = ""
    type: str = "str"
    raw: Any = field(default=None, repr=False)
    default_value: Any = None
    required: bool = True
    sensitive: bool = False
    options: tuple[Mapping[str, Any], ...] = ()
    depends_on: tuple[Mapping[str, Any], ...] = ()
    validations: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_record(cls, name: str, record: Mapping[str, Any]) -> Field:
        """Reads the record form: `{"label": …, "type": …, "value": …}`. Unknown keys are kept in `extra`."""
        known = {"label", "type", "value", "default_value", "required", "sensitive", "options", "depends_on"}
        return cls(
            name=name,
            label=record.get("label") or name,
            type=record.get("type") or "str",
            raw=record.get("value"),
            default_value=record.get("default_value"),
            required=bool(record.get("required", True)),
            sensitive=bool(record.get("sensitive", False)),
            options=tuple(record.get("options") or ()),
            depends_on=tuple(record.get("depends_on") or ()),
            validations=tuple(record.get("validations") or ()),
            extra={k: v for k, v in record.items() if k not in known and k != "validations"},
        )

    def to_record(self) -> dict[str, Any]:
        """Returns the record form that `from_record` reads."""
        return {
            **self.extra,
            "label": self.label,
            "type": self.type,
            "value": self.raw,
            "default_value": self.default_value,
            "required": self.required,
            "sensitive": self.sensitive,
            "options": list(self.options),
            "depends_on": list(self.depends_on),
            "validations": list(self.validations),
        }

    @property
    def value(self) -> Any:
        """The value in the field's type. An empty optional field has its default, or else None for an int, False
        for a bool, "" for text, [] for a list. Raises ConfigurationError where the value is of another type."""
        given = self.raw
        if _is_empty(given):
            if _is_empty(self.default_value):
                empty = _EMPTY.get(self.type, "")
                return list(empty) if isinstance(empty, tuple) else empty
            given = self.default_value
        try:
            return _convert(given, self.type)
        except ValueError as error:
            shown = "the value given" if self.sensitive else repr(given)
            raise ConfigurationError(f'"{self.label}" must be {error}, not {shown}', field=self.name) from None

    @property
    def is_empty(self) -> bool:
        """Whether neither a value nor a default was given."""
        return _is_empty(self.raw) and _is_empty(self.default_value)

    def problems(self) -> list[str]:
        """Returns what is wrong with the value, in words for people; an empty list when all is well."""
        if self.is_empty:
            return [f'"{self.label}" is required: give it a value'] if self.required else []
        try:
            value = self.value
        except ConfigurationError as error:
            return [str(error)]
        found = [text for rule in self.validations if (text := self._violation(rule, value))]
        allowed = [option.get("value") for option in self.options]
        if allowed and any(_plain(item) not in map(_plain, allowed) for item in _items(value)):
            found.append(f'"{self.label}" must be one of {_list(allowed)}')
        return found

    def _violation(self, rule: Mapping[str, Any], value: Any) -> str | None:
        kind, constraint = rule.get("type"), rule.get("constraint")
        match kind:
            case "less_than":
                ok, words = _number(value) < _number(constraint), f"less than {constraint}"
            case "greater_than":
                ok, words = _number(value) > _number(constraint), f"greater than {constraint}"
            case "list_type":
                ok, words = _all_of_type(value, str(constraint)), f"a list whose items are all {constraint}"
            case "included_in":
                known = list(constraint or ())
                ok = all(_plain(item) in map(_plain, known) for item in _items(value))
                words = f"one of {_list(known)}"
            case "regex":
                ok = all(re.fullmatch(str(constraint), str(item)) for item in _items(value))
                words = f"of the form {constraint}"
            case _:
                return f'"{self.label}" declares an unknown validation {kind!r}; tell the author of the source'
        return None if ok else f'"{self.label}" must be {words}'


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _plain(value: Any) -> str:
    return str(value)


def _list(values: list[Any]) -> str:
    return ", ".join(repr(value) for value in values)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (OverflowError, TypeError, ValueError):
        return float("nan")  # compares false with everything, so the validation fails as it should


def _all_of_type(value: Any, kind: str) -> bool:
    try:
        for item in _items(value):
            if kind == "str" and not isinstance(item, str):
                return False
            _convert(item, kind)
    except ValueError:
        return False
    return True


class DataSourceConfiguration:
    """The values that a source works with: `configuration["host"]`, typed as the field declares.

    Args:
        config: field name → either a field record (`{"type": "int", "value": 3306, …}`) or the bare value.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self._fields: dict[str, Field] = {}
        for name, value in (config or {}).items():
            self.set_field(name, value)

    @classmethod
    def merge(cls, defaults: Mapping[str, Any], values: Mapping[str, Any]) -> DataSourceConfiguration:
        """Returns the declared fields with the operator's `values` put in. Values that no field declares are kept as
        fields of their own, so that a source without declarations works too."""
        configuration = cls()
        for name, declaration in defaults.items():
            # A declaration is always a record, also one that leaves `value` out.
            if isinstance(declaration, Mapping):
                configuration._fields[name] = Field.from_record(name, declaration)
            else:
                configuration.set_field(name, declaration)
        for name, value in values.items():
            declared = configuration._fields.get(name)
            if declared is None:
                configuration.set_field(name, value)
            else:
                given = value["value"] if _is_field_record(value) else value
                configuration._fields[name] = Field.from_record(name, {**declared.to_record(), "value": given})
        return configuration

    def set_field(self, name: str, value: Any) -> None:
        """Adds or replaces one field, given as a record or as a bare value."""
        if _is_field_record(value):
            self._fields[name] = Field.from_record(name, value)
        else:
            self._fields[name] = Field(name=name, label=name, type=_guess_type(value), raw=value, required=False)

    def __getitem__(self, name: str) -> Any:
        try:
            return self._fields[name].value
        except KeyError:
            raise ConfigurationError(
                f'there is no configuration field "{name}"; the source declares {_list(sorted(self._fields))}',
                field=name,
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        shown = {name: "***" if item.sensitive else item.raw for name, item in self._fields.items()}
        return f"DataSourceConfiguration({shown!r})"

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the field's value, or `default` when there is no such field."""
        return self._fields[name].value if name in self._fields else default

    def has_field(self, name: str) -> bool:
        """Whether the field is declared or given."""
        return name in self._fields

    def get_field(self, name: str) -> Field:
        """Returns the field itself; KeyError when it is not there."""
        return self._fields[name]

    def get_fields(self) -> list[Field]:
        """Returns all fields, in their order of declaration."""
        return list(self._fields.values())

    def is_active(self, name: str) -> bool:
        """Whether all dependencies of the field hold, so that its value matters."""
        return self._active(name, frozenset())

    def _active(self, name: str, path: frozenset[str]) -> bool:
        if name in path:
            return True  # fields that depend on one another in a circle are all looked at
        for dependency in self._fields[name].depends_on:
            other = self._fields.get(str(dependency.get("field")))
            if other is None or not self._active(other.name, path | {name}):
                return False
            try:
                expected = _convert(dependency.get("value"), other.type)
                if other.value != expected:
                    return False
            except (ValueError, ConfigurationError):
                return False
        return True

    def problems(self) -> list[tuple[str, str]]:
        """Returns `(field name, what is wrong)` for every active field that has something wrong."""
        return [
            (item.name, text) for item in self._fields.values() if self.is_active(item.name) for text in item.problems()
        ]

    def check_valid(self) -> None:
        """Raises ConfigurationError that lists every problem, when there is one."""
        found = self.problems()
        if found:
            raise ConfigurationError("; ".join(text for _, text in found), field=found[0][0])

    def secrets(self) -> list[str]:
        """Returns the values of sensitive fields, for the masker of the logs: of a list each item, too."""
        given = [item for item in self._fields.values() if item.sensitive and not _is_empty(item.raw)]
        return [
            str(secret)
            for item in given
            for secret in (item.raw, *(_to_list(item.raw) if item.type == "list" else ()))
            if not isinstance(secret, list | tuple)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns the record form of all fields, secrets included: for the source itself, never for a page or a log."""
        return {name: item.to_record() for name, item in self._fields.items()}


def _is_field_record(value: Any) -> bool:
    return isinstance(value, Mapping) and "value" in value and set(value) <= _FIELD_KEYS


def _guess_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, list | tuple):
        return "list"
    return "str" if value is None or isinstance(value, str) else "any"
