"""One trial of a source: its data, sources made as the framework makes them, and what they yield.

A broken rule is raised as `Breach`; the tests of the kit make a failure of it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, NoReturn, Protocol

import pytest

from connectors.source import BaseDataSource, DataSourceConfiguration, FrameworkConfig, with_defaults
from connectors.testing.reading import Reading, read_all
from connectors.testing.watching import Counter
from connectors.utils import nearest

__all__ = ["Breach", "Kit", "Trial"]

#: Fewer documents leave too little of a middle to stop in.
_FEWEST: Final = 5


class Breach(Exception):  # noqa: N818 - a verdict about a source, no failure of the kit
    """A rule of the contract does not hold.

    Args:
        found: what was seen.
        advice: what the author should do.
    """

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.found = found
        self.advice = advice


class Kit(Protocol):
    """What a trial takes from the author's test class."""

    source_class: ClassVar[type[Any]]
    data: ClassVar[Any]


class Trial:
    """What one test works with; made by `Trial.begin`.

    Attributes:
        folder: the test's own; relative paths in the configuration count from it.
        data: what the author's `data` returned.
        kit: the author's test class.
    """

    def __init__(self, kit: Kit, folder: Path, data: Any) -> None:
        self.kit = kit
        self.folder = folder
        self.data = data
        self._made: list[BaseDataSource] = []
        self._listed: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def begin(cls, kit: Kit, folder: Path) -> AsyncIterator[Trial]:
        """Makes the data, and in the end closes the sources that were made, and the data."""
        async with AsyncExitStack() as stack:
            data = kit.data(folder) if callable(kit.data) else kit.data
            if inspect.isawaitable(data):
                data = await data
            if hasattr(data, "__aenter__"):
                data = await stack.enter_async_context(data)
            elif hasattr(data, "__enter__"):
                data = stack.enter_context(data)
            trial = cls(kit, folder, data)
            stack.push_async_callback(trial.close)
            yield trial

    async def close(self, *sources: BaseDataSource) -> None:
        """Closes these sources, or all that were made. What close() raises is judged by a test of its own."""
        for source in sources or tuple(self._made):
            try:
                await source.close()
            except Exception:
                logging.getLogger("connectors.testing").debug("close() failed", exc_info=True)
            self._made = [made for made in self._made if made is not source]

    # Sources

    @property
    def source_class(self) -> type[BaseDataSource]:
        """The class under test, with the defaults of the contract."""
        return with_defaults(self.kit.source_class)

    @property
    def values(self) -> dict[str, Any]:
        """The settings that an operator would write."""
        return dict(self.hook("configuration") or {})

    def configuration(self, values: Mapping[str, Any]) -> DataSourceConfiguration:
        """Returns these settings, put into the fields that the source declares."""
        return DataSourceConfiguration.merge(self.source_class.get_default_configuration(), values)

    def source(self, **changes: Any) -> BaseDataSource:
        """Makes a source as the framework does, with some settings changed; it is closed when the test ends."""
        source = self.source_class(self.configuration({**self.values, **changes}))
        source.set_logger(logging.getLogger("connectors.source"))
        source.set_features(self.source_class.features())
        source.set_framework_config(FrameworkConfig(base_dir=self.folder))
        self._made.append(source)
        return source

    def hook(self, name: str) -> Any:
        """Returns an attribute of the author's class, or what it returns as a method `(self, data)`."""
        given = getattr(self.kit, name)
        return given(self.data) if callable(given) else given

    # Data

    def can(self, name: str) -> bool:
        """Whether the data have this method."""
        return callable(getattr(self.data, name, None))

    @property
    def connections(self) -> Counter | None:
        """What counts the connections that the backend sees, if the data have it."""
        return self.data.connections if self.can("connections") else None

    async def act(self, name: str) -> Any:
        """Calls a method of the data; skips the test where there is none."""
        if not self.can(name):
            pytest.skip(f"the data have no method {name}(): give them one, and this test runs")
        try:
            result = getattr(self.data, name)()
            return await result if inspect.isawaitable(result) else result
        except Exception as error:
            error.add_note(f"{name}() of the data failed; a test may call it several times, and while a source reads")
            raise

    async def touched(self, name: str) -> str:
        """Calls `add`, `change` or `delete`, and returns the `_id` of the document that it concerned."""
        given = await self.act(name)
        if not isinstance(given, str) or not given:
            self.misuse(f"{name}() of the data returned {given!r}: return the `_id` of the document that it concerned")
        if name == "add":
            self._listed.add(given)
        elif self._listed and given not in self._listed:
            near = nearest(given, self._listed) or min(self._listed)
            self.misuse(
                f"{name}() of the data returned {given!r}, and the source yields no such `_id`, but {near!r}, say"
            )
        return given

    # Reading

    async def read(self, *, filtering: Any = None, checkpoint: Any = None, partition: Any = None) -> Reading:
        """Reads everything, or a part of it, or what is behind a checkpoint, by a source that is made for it and closed
        again."""
        source = self.source()
        try:
            return await read_all(source, filtering=filtering, checkpoint=checkpoint, partition=partition)
        finally:
            await self.close(source)

    async def whole(self, *, filtering: Any = None) -> Reading:
        """Reads everything once, after making sure that it can be read and compared: else the test is skipped, for
        another test says what is wrong."""
        first = await self.read(filtering=filtering)
        second = await self.read(filtering=filtering)
        if first.faults or first.repeated:
            pytest.skip(f"not tried before the tests of items and ids pass: {(first.faults + first.repeated)[0]}")
        if any(item.download is not None and "_timestamp" not in item.document for item in first.documents):
            pytest.skip("not tried before test_downloads_bring_what_documents_can_take passes")
        if first.bodies != second.bodies:
            pytest.skip("not tried before test_two_readings_are_equal passes")
        if filtering is None:
            if len(first.bodies) < _FEWEST:
                self.misuse(f"the data have {len(first.bodies)} documents: the tests need {_FEWEST} or more")
            self._listed = {*first.bodies, *(item.id for item in first.skipped if item.id is not None)}
        return first

    async def refusal(self, source: BaseDataSource) -> BaseException | None:
        """Does what comes before a sync; returns the error with which the source refuses its configuration."""
        try:
            await source.validate_config()
            await source.ping()
        except Exception as error:  # noqa: BLE001 - the tests judge what it raised
            return error
        return None

    @staticmethod
    def misuse(problem: str) -> NoReturn:
        """Fails the test for a fault of the test class or its data, not of the source."""
        pytest.fail(f"The acceptance test cannot be run: {problem}", pytrace=False)

    @staticmethod
    async def within(seconds: float, awaitable: Any, what: str) -> Any:
        """Awaits, and raises Breach when it takes too long."""
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await awaitable
        except TimeoutError:
            if not limit.expired():
                raise
            raise Breach(
                f"{what} took longer than {seconds:g} s", "bound every call to the backend by a time-out"
            ) from None
