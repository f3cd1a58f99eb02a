"""How a rule becomes a test: it gets a `Trial`, runs in an event loop of its own, and fails in the contract's words."""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Final, TypeVar

import pytest

from connectors.testing.trial import Breach, Trial

__all__ = ["Rules", "rule"]

R = TypeVar("R", bound="Rules")
T = TypeVar("T")

#: Seconds in which a task has to end that was cancelled.
_GRACE: Final = 5.0
#: What took no cancellation. Its loop is never closed, since closing waits for all tasks.
_abandoned: Final[list[object]] = []


class _Hang(Breach):
    """A test did not end."""


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
    _hung: ClassVar[str | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Takes away the tests of what the source does not declare that it can."""
        super().__init_subclass__(**kwargs)
        if getattr(cls, "source_class", None) is None:
            return
        kit = next(base for base in cls.__mro__ if base.__module__.startswith("connectors.testing."))
        if unknown := [name for name in cls.exempt if not hasattr(kit, name)]:
            raise TypeError(f"{cls.__name__}.exempt names no test of the kit: {', '.join(unknown)}")
        inherited, cls._taken_away = cls._taken_away, frozenset()
        cls._hung = None
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
            if self._hung is not None:
                pytest.skip(f"not tried before {self._hung} passes, which did not end")
            breach = _run(_judge(self, check, tmp_path))
            if isinstance(breach, _Hang):
                setattr(type(self), "_hung", check.__name__)  # noqa: B010 - all tests of the class shall see it
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


def _run(main: Coroutine[Any, Any, T]) -> T:
    """Does what asyncio.run() does, but for tasks that take no cancellation: those it leaves behind."""
    runner = asyncio.Runner()
    try:
        return runner.run(main)
    finally:
        stuck = runner.run(_cancel_all())
        if stuck:
            _abandoned.append((runner, stuck))
        else:
            runner.close()


async def _cancel_all() -> set[asyncio.Task[Any]]:
    """Cancels all other tasks; returns those that go on."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    return (await asyncio.wait(tasks, timeout=_GRACE))[1] if tasks else set()


async def _judge(kit: R, check: Callable[[R, Trial], Awaitable[None]], folder: Path) -> Breach | None:
    """Returns what is wrong, None when all is well. What else is raised is left to pytest to show."""
    async with Trial.begin(kit, folder) as trial:
        checking = asyncio.ensure_future(check(kit, trial))
        try:
            await asyncio.wait([checking], timeout=kit.patience)
            if checking.done():
                return await _verdict(checking)
        finally:
            checking.cancel()
        await asyncio.wait([checking], timeout=_GRACE)
        deaf = "" if checking.done() else ", and went on when it was cancelled"
        return _Hang(
            f"it did not end within {kit.patience:g} s{deaf}",
            "bound every call to the backend by a time-out"
            + (", and let asyncio.CancelledError pass: catch Exception, never BaseException" if deaf else "")
            + "; a test may take `patience` seconds",
        )


async def _verdict(checking: Awaitable[None]) -> Breach | None:
    try:
        await checking
    except Breach as breach:
        return breach
    return None
