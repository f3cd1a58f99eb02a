"""Rules about what a source declares, its configuration, and its life from making to closing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import pytest

from connectors.errors import ConfigurationError, ConnectorsError, describe
from connectors.source import BaseDataSource, Discovered, Field
from connectors.testing.rules.base import Rules, rule
from connectors.testing.trial import Breach, Trial
from connectors.testing.watching import growth, holdings

__all__ = ["ConfigurationRules"]

_TYPES: Final = ("str", "int", "bool", "list")
_KEYS: Final = frozenset({
    "label", "type", "value", "default_value", "required", "sensitive", "display", "options", "order", "tooltip",
    "ui_restrictions", "depends_on", "validations", "placeholder", "category",
})  # fmt: skip
_VALIDATIONS: Final = ("less_than", "greater_than", "list_type", "included_in", "regex")
_SECRET: Final = re.compile(r"password|passphrase|secret|token|private_key|api_key", re.IGNORECASE)
_NO_NUMBER: Final = "no number"


class ConfigurationRules(Rules):
    """What a source says of itself, and how it deals with what the operator writes."""

    @rule()
    async def test_it_says_what_it_is(self, trial: Trial) -> None:
        """A source has a name for people and a service type for config.yml."""
        source_class = trial.source_class
        if not source_class.name:
            raise Breach("`name` is empty", 'give the class a name that people read: name = "Notes"')
        if not re.fullmatch(r"[a-z][a-z0-9_]*", source_class.service_type or ""):
            raise Breach(
                f"`service_type` is {source_class.service_type!r}",
                'give the class one word in lower case: service_type = "notes"',
            )

    @rule()
    async def test_the_declared_fields_are_well_formed(self, trial: Trial) -> None:
        """Each field of the configuration has the keys, types and validations that the framework knows."""
        declared = trial.source_class.get_default_configuration()
        for name, field in declared.items():
            for problem in _field_problems(name, field, declared):
                raise Breach(f'the field "{name}" {problem}', "mend get_default_configuration()")
        again = trial.source_class.get_default_configuration()
        if again != declared or any(again[name] is field for name, field in declared.items()):
            raise Breach(
                "get_default_configuration() returns the same objects twice, or others each time",
                "build the dict anew in each call, out of constants",
            )

    @rule()
    async def test_the_defaults_and_the_given_settings_are_valid(self, trial: Trial) -> None:
        """Defaults pass the field's own validations, and a complete configuration is accepted."""
        declared = trial.source_class.get_default_configuration()
        for name, field in declared.items():
            alone = {**field, "required": False, "default_value": None}
            defaults = [
                Field.from_record(name, {**alone, "value": field.get(key)}) for key in ("value", "default_value")
            ]
            if problems := [problem for default in defaults for problem in default.problems()]:
                raise Breach(f'the default of "{name}" is refused: {problems[0]}', "mend the default or the validation")
        if unknown := [name for name in trial.values if declared and name not in declared]:
            raise Breach(
                f"the settings of this test name fields that are not declared: {', '.join(unknown)}",
                "declare them in get_default_configuration(), or mend `configuration` of the test class",
            )
        await trial.source().validate_config()

    @rule()
    async def test_a_missing_setting_is_refused(self, trial: Trial) -> None:
        """validate_config() raises ConfigurationError when a required setting is missing."""
        configuration = trial.configuration(trial.values)
        for field in configuration.get_fields():
            emptied = trial.configuration({**trial.values, field.name: None})
            if field.name not in dict(emptied.problems()):
                continue  # not required, or not looked at
            await _must_refuse(trial, {field.name: None}, f'without "{field.name}"')

    @rule()
    async def test_a_setting_of_another_type_is_refused(self, trial: Trial) -> None:
        """validate_config() raises ConfigurationError when a setting has another type."""
        for name, declared in trial.source_class.get_default_configuration().items():
            field = Field.from_record(name, declared)
            changed = trial.configuration({**trial.values, field.name: _NO_NUMBER})
            if field.type == "int" and changed.is_active(field.name):
                await _must_refuse(trial, {field.name: _NO_NUMBER}, f'with {_NO_NUMBER!r} for "{field.name}"')

    @rule()
    async def test_making_one_opens_nothing(self, trial: Trial) -> None:
        """The constructor only keeps the configuration: it opens no file, connection, thread or task."""
        trial.source()  # what is made once for the whole process is made now
        before = await holdings()
        source = trial.source()
        left = await growth(before, patience=0)
        await source.close()
        if left:
            raise Breach(f"making a source opened {'; '.join(left)}", "open on first use, in ping() and get_docs()")

    @rule()
    async def test_close_may_be_called_at_any_time(self, trial: Trial) -> None:
        """close() may be called before the first use, and twice."""
        unused = trial.source()
        await _closed(unused, "before the first use")
        await _closed(unused, "a second time, before the first use")
        used = trial.source()
        await used.ping()
        await _closed(used, "after ping()")
        await _closed(used, "a second time")

    @rule()
    async def test_ping_reaches_the_backend(self, trial: Trial) -> None:
        """ping() returns when the backend can be reached, each time that it is asked."""
        source = trial.source()
        await source.validate_config()
        for _ in range(2):
            if (answer := await trial.within(10.0, source.ping(), "ping()")) not in (None, True):
                raise Breach(f"ping() returned {answer!r}", "return nothing when all is well, and raise otherwise")

    @rule()
    async def test_a_wrong_configuration_is_told(self, trial: Trial) -> None:
        """Settings that the backend refuses end in ConfigurationError, with words and without secrets."""
        given = trial.hook("wrong_configuration")
        if not given:
            pytest.skip("give the test class `wrong_configuration`, settings that the backend refuses")
        for changes in [given] if isinstance(given, Mapping) else given:
            before = await holdings(trial.connections)
            source = trial.source(**changes)
            error = await trial.refusal(source)
            what = f"with {', '.join(changes)} changed"
            if error is None:
                raise Breach(f"{what}, validate_config() and ping() found nothing wrong", "reach the backend in ping()")
            if not isinstance(error, ConfigurationError):
                raise Breach(
                    f"{what}, it raised {type(error).__name__}: {error}",
                    "raise ConfigurationError(what is wrong and what to write instead, field=...); what may pass by "
                    "itself, as a connection that is refused, is no wrong setting: leave it out",
                ) from error
            _check_words(error, source, what)
            await _closed(source, f"after it was refused {what}")
            if left := await growth(before, trial.connections):
                raise Breach(f"{what}, it left {'; '.join(left)}", "release what was opened when opening it fails")

    @rule()
    async def test_what_could_be_synced_is_listed_in_settings(self, trial: Trial) -> None:
        """discover() returns Discovered(name, description, configuration), with settings that the source declares."""
        declared = trial.source_class.get_default_configuration()
        for item in await trial.source().discover():
            if not isinstance(item, Discovered):
                raise Breach(f"it lists {item!r}", "list Discovered(name, description, configuration)")
            if unknown := [name for name in item.configuration if declared and name not in declared]:
                raise Breach(
                    f'for "{item.name}" it names the setting "{unknown[0]}", which is not declared',
                    "name only settings that an operator can write into config.yml",
                )


def _field_problems(name: str, field: Any, declared: Mapping[str, Any]) -> list[str]:
    """Returns what is wrong with one declaration."""
    if not isinstance(field, Mapping):
        return [f"is declared as {field!r}: write a dict with label, type and value"]
    problems = [f'has the key "{key}", which nobody reads' for key in field if key not in _KEYS]
    if field.get("type", "str") not in _TYPES:
        problems.append(f"has the type {field['type']!r}: write one of {', '.join(_TYPES)}")
    if not field.get("label"):
        problems.append("has no label")
    if _SECRET.search(name) and field.get("type", "str") == "str" and not field.get("sensitive"):
        problems.append('sounds like a secret and is shown: write "sensitive": True')
    dependencies = [item.get("field") for item in field.get("depends_on") or ()]
    problems += [f"depends on {item!r}, which is not declared" for item in dependencies if item not in declared]
    kinds = [item.get("type") for item in field.get("validations") or ()]
    problems += [
        f"has the validation {kind!r}: write one of {', '.join(_VALIDATIONS)}"
        for kind in kinds
        if kind not in _VALIDATIONS
    ]
    if any(not isinstance(option, Mapping) or "value" not in option for option in field.get("options") or ()):
        problems.append('has options that are not {"label": ..., "value": ...}')
    return problems


async def _must_refuse(trial: Trial, changes: dict[str, Any], what: str) -> None:
    try:
        await trial.source(**changes).validate_config()
    except ConfigurationError:
        return
    except Exception as error:
        raise Breach(
            f"{what}, validate_config() raised {describe(error)}",
            "call `await super().validate_config()` or `self.configuration.check_valid()` first",
        ) from error
    raise Breach(
        f"{what}, validate_config() found nothing wrong",
        "call `await super().validate_config()` or `self.configuration.check_valid()` first",
    )


async def _closed(source: BaseDataSource, when: str) -> None:
    try:
        await source.close()
    except Exception as error:
        raise Breach(
            f"close() {when} raised {describe(error)}", "release only what is held, and forget it afterwards"
        ) from error


def _check_words(error: ConnectorsError, source: BaseDataSource, what: str) -> None:
    text = str(error)
    if len(text.split()) < 3:
        raise Breach(
            f"{what}, the message is {text!r}", "say what is wrong, where, and what to write instead: people read it"
        )
    for secret in source.configuration.secrets():
        if secret and secret in text:
            raise Breach(
                f"{what}, the message holds the value of a sensitive setting",
                "leave secrets out of messages (or give this test a secret that is no ordinary word)",
            )
