"""How a rule becomes a test: it gets a `Trial`, runs in an event loop of its own, and fails in the contract's words."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar

import pytest

from connectors.testing.trial import Breach, Trial

__all__ = ["Rules", "rule"]

R = TypeVar("R", bound="Rules")


class Rules:
    """What every group of rules is given; `SourceAcceptance` says what each of them means."""

    source_class: ClassVar[type[Any]]
    configuration: ClassVar[Any] = None
    data: ClassVar[Any] = None
    wrong_configuration: ClassVar[Any] = ()
    good_advanced_rules: ClassVar[Any] = ()
    bad_advanced_rules: ClassVar[Any] = ()
    incremental_sees_deletes: ClassVar[bool] = False
    exempt: ClassVar[Mapping[str, str]] = MappingProxyType({})
    max_blocking: ClassVar[float] = 0.05
    patience: ClassVar[float] = 30.0
    _taken_away: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Takes away the tests of what the source does not declare that it can."""
        super().__init_subclass__(**kwargs)
        if getattr(cls, "source_class", None) is None:
            return
        kit = next(base for base in cls.__mro__ if base.__module__.startswith("connectors.testing."))
        if unknown := [name for name in cls.exempt if not hasattr(kit, name)]:
            raise TypeError(f"{cls.__name__}.exempt names no test of the kit: {', '.join(unknown)}")
        inherited, cls._taken_away = cls._taken_away, frozenset()
        for name in dir(kit):
            needs: tuple[str, ...] = getattr(getattr(kit, name), "needs", ())
            if name in cls.exempt or not all(getattr(cls.source_class, need, False) for need in needs):
                setattr(cls, name, None)
                cls._taken_away |= {name}
            elif name in inherited and name not in vars(cls):  # a parent's source could not do it
                setattr(cls, name, getattr(kit, name))


def rule(
    *needs: str,
) -> Callable[[Callable[[R, Trial], Awaitable[None]]], Callable[[R, Path], None]]:
    """Makes a test of a coroutine method that takes a `Trial`; the first line of its docstring is the rule.

    Args:
        needs: attributes of the source's class without which there is no such test.
    """

    def decorate(check: Callable[[R, Trial], Awaitable[None]]) -> Callable[[R, Path], None]:
        words: Final = (inspect.getdoc(check) or "").partition("\n")[0]

        @functools.wraps(check)
        def test(self: R, tmp_path: Path) -> None:
            breach = asyncio.run(_judge(self, check, tmp_path))
            if breach is not None:
                text = (
                    f"{self.source_class.__name__} breaks the contract of a source (docs/SOURCES.md).\n"
                    f"The rule: {words}\nFound: {breach.found}\nWhat to do: {breach.advice}"
                )
                if breach.__cause__ is not None:
                    text += "\n\n" + "".join(traceback.format_exception(breach.__cause__))
                pytest.fail(text, pytrace=False)

        del test.__wrapped__  # else pytest would take the signature of the coroutine
        test.needs = needs  # type: ignore[attr-defined]  # read by Rules
        return test

    return decorate


async def _judge(kit: R, check: Callable[[R, Trial], Awaitable[None]], folder: Path) -> Breach | None:
    """Returns what is wrong, None when all is well. What else is raised is left to pytest to show."""
    async with Trial.begin(kit, folder) as trial:
        limit = asyncio.timeout(kit.patience)
        try:
            async with limit:
                await check(kit, trial)
        except Breach as breach:
            return breach
        except TimeoutError:
            if not limit.expired():
                raise
            return Breach(
                f"it did not end within {kit.patience:g} s",
                "bound every call to the backend by a time-out; a test may take `patience` seconds",
            )
    return None
