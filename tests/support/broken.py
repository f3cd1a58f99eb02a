"""How a source that breaks the contract is kept together with the tests of the acceptance kit that must fail for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Broken", "Registry"]


class Broken(NamedTuple):
    """A source that fails exactly these tests, the first of them with words that match `found`.

    `kit` are attributes of the test class.
    """

    source_class: type[Any]
    tests: tuple[str, ...]
    found: str
    kit: dict[str, Any]


class Registry(list[Broken]):
    """Broken sources, in the order in which they are written."""

    def breaks(self, *tests: str, found: str, **kit: Any) -> Callable[[type[Any]], type[Any]]:
        """Decorates a source; the arguments are those of `Broken`."""

        def register(source_class: type[Any]) -> type[Any]:
            self.append(Broken(source_class, tests, found, kit))
            return source_class

        return register
