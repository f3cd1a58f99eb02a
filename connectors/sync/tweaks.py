"""What a source may change of the options of bulk writing, for its own syncs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from connectors.errors import ConfigurationError
from connectors.sync.context import SyncContext
from connectors.utils import nearest

__all__ = ["OPTIONS", "tweaked"]

#: Keys of `sync:` in `config.yml`; its values are the upper limits.
OPTIONS: Final = ("batch_bytes", "batch_documents", "writes_in_flight", "concurrent_downloads")


def tweaked(context: SyncContext) -> SyncContext:
    """Returns the context with the options that its source wants, or the same one.

    Raises:
        ConfigurationError: the source sets what is no option, or no positive whole number.
    """
    before = {name: getattr(context.config, name) for name in OPTIONS}
    options: dict[str, Any] = dict(before)
    context.source.tweak_bulk_options(options)
    changes: dict[str, int] = {}
    for name, value in options.items():
        if name not in before:
            near = nearest(name, OPTIONS)
            hint = f'did you mean "{near}"?' if near else f"there are {', '.join(OPTIONS)}"
            raise ConfigurationError(_wrong(context, f'sets "{name}", which is no option; {hint}'))
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigurationError(_wrong(context, f"sets {name} to {value!r}; it is a whole number from 1 on"))
        if value < before[name]:
            changes[name] = value
    if not changes:
        return context
    context.logger.debug("its source asks for %s", ", ".join(f"{name}={value}" for name, value in changes.items()))
    return replace(context, config=context.config.model_copy(update=changes))


def _wrong(context: SyncContext, what: str) -> str:
    return f'the source "{context.connector.service_type}", in tweak_bulk_options(), {what}'
