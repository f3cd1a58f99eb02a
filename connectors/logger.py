"""Logging: short lines for people or JSON for machines, without secrets and without forged lines.

`configure` is called once by the command line. Everything else asks for `get_logger(__name__)`, and what belongs to one
connector logs through a `ConnectorLogger`. Secrets that are registered appear in no line; `mask` does the same for
errors that are stored in records or shown on pages.
"""

from __future__ import annotations

import base64
import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, MutableMapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import quote, quote_plus

from connectors.utils import escape_controls

__all__ = ["ConnectorLogger", "Masker", "configure", "get_logger", "mask", "register_secrets", "settings"]

MASK: Final = "***"
# A shorter text is part of ordinary words; to hide it would garble the log and tell what it is.
SHORTEST_SECRET: Final = 4

_QUIET: Final = (
    "aiohttp.access", "asyncio", "elastic_transport", "elasticsearch", "httpcore", "httpx", "markdown_it", "opensearch",
    "PIL", "pymongo", "pypdf", "urllib3", "uvicorn.access", "uvicorn.error",
)  # fmt: skip
#: Tells of each failed request at WARNING, beside our own word for it: for who wants to hear everything.
_CHATTY: Final = ("elastic_transport.node_pool",)
_LEVEL_NAMES: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_OUR_ROOT: Final = "connectors"
# What every record carries by itself; all else came through `extra`. uvicorn repeats its message with terminal colours.
_RECORD_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "message", "asctime", "taskName", "color_message",
}  # fmt: skip


class Masker:
    """Replaces secrets in text by `***`, also where they are URL-encoded, JSON-escaped or in base64.

    Secrets shorter than four characters are not hidden.
    """

    __slots__ = ("_forms", "_lock", "_pattern", "_secrets")

    @property
    def secrets(self) -> frozenset[str]:
        """All that is hidden."""
        return frozenset(self._secrets)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._secrets: set[str] = set()
        self._forms: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Hides these secrets too, from now on."""
        with self._lock:
            new = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET} - self._secrets
            if not new:
                return
            self._secrets |= new
            for secret in new:
                self._forms.update(form for form in _forms(secret) if len(form) >= SHORTEST_SECRET)
            # Longest first: a secret that begins like a shorter one is hidden whole.
            longest_first = sorted(self._forms, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def mask(self, text: str) -> str:
        """Returns the text with `***` in place of each secret."""
        pattern = self._pattern
        return text if pattern is None else pattern.sub(MASK, text)


def _forms(secret: str) -> Iterator[str]:
    """Yields the secret in each form in which it may meet us in a message."""
    yield secret
    if (stripped := secret.strip()) != secret:
        yield stripped
    if "\n" in secret:  # a private key, say, of which a library prints one line
        yield from (line for line in map(str.strip, secret.splitlines()) if len(line) >= 16 and line[:5] != "-----")
    yield escape_controls(secret)
    yield repr(secret)[1:-1]
    for as_ascii in (True, False):
        yield json.dumps(secret, ensure_ascii=as_ascii)[1:-1]
    raw = secret.encode("utf-8", "surrogatepass")
    for encoded in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield encoded
        yield re.sub("%..", lambda found: found[0].lower(), encoded)
    yield from _base64_forms(raw)


def _base64_forms(raw: bytes) -> Iterator[str]:
    """Yields the base64 of the secret, and what is constant of it when other bytes stand before it, as the user's name
    does in `Authorization: Basic`."""
    for offset in range(3):
        # Six bits a character: those that the bytes before or after share with the secret are left out.
        start, stop = -(-offset * 8 // 6), (offset + len(raw)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(offset) + raw).decode("ascii")
            if offset == 0:
                yield text
                yield text.rstrip("=")
            if stop - start >= 6:
                yield text[start:stop]


_masker: Final = Masker()


def register_secrets(secrets: Iterable[str]) -> None:
    """Hides these texts, of four characters or more, in all log lines and in what `mask` returns."""
    _masker.add(secrets)


def mask(text: str) -> str:
    """Returns the text with every registered secret replaced by `***`."""
    return _masker.mask(text)


def get_logger(name: str) -> logging.Logger:
    """Returns the logger of a module: `get_logger(__name__)`."""
    return logging.getLogger(name)


class ConnectorLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose lines carry the connector's id, and the sync job's where there is one.

    Args:
        logger: where the lines go.
        connector: id of the connector, the prefix of a text line.
        job: id of the sync job, a field of a JSON line.
    """

    def __init__(self, logger: logging.Logger, connector: str, job: str | None = None) -> None:
        fields = {"connector": connector} if job is None else {"connector": connector, "job": job}
        super().__init__(logger, fields)
        self.connector = connector
        self.job = job

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Adds the ids to the record, beside the caller's own `extra`."""
        kwargs["extra"] = {**(kwargs.get("extra") or {}), **(self.extra or {})}
        return msg, kwargs


def _exception_text(record: logging.LogRecord) -> str:
    """Returns the traceback, if one was logged, masked while its line breaks are still there."""
    parts: list[str] = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append("".join(traceback.format_exception(*record.exc_info)).rstrip())
    if record.stack_info:
        parts.append(record.stack_info.rstrip())
    return mask("\n".join(parts))


class TextFormatter(logging.Formatter):
    """`12:04:05 INFO  handbook: …` in local time; the lines of a traceback follow, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one line, and one more per line of its traceback."""
        clock = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")  # noqa: DTZ006 - the reader's own time
        level = _LEVEL_NAMES.get(record.levelname, record.levelname)
        subject = getattr(record, "connector", None)
        if subject is None and record.name.split(".")[0] != _OUR_ROOT:
            subject = record.name  # a library speaks: say which
        message = record.getMessage()
        if subject and not message.startswith((f"{subject}: ", f"{subject} ")):
            message = f"{subject}: {message}"
        if (worker := getattr(record, "worker", None)) is not None:
            message = f"[{worker}] {message}"
        lines = [f"{clock} {level:<5} {escape_controls(mask(message))}"]
        # Indented, so that no line of an error's text can pass for a line of ours.
        lines += [f"    {escape_controls(line)}" for line in _exception_text(record).split("\n") if line]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, message, the extra fields, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as a JSON object in ASCII, which no hostile text can break out of."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _RECORD_FIELDS and name not in fields:
                fields[name] = _plain(value)
        if exception := _exception_text(record):
            fields["exception"] = exception
        # Values are masked one by one: masking the finished object could eat a quote or a comma.
        return json.dumps(fields)


def _plain(value: Any) -> Any:
    """Returns an extra field as a JSON scalar without secrets: a number or None as it is, all else as text."""
    text = str(value)
    masked = mask(text)
    is_scalar = value is None or isinstance(value, bool | int | float)
    return value if is_scalar and masked == text and text not in {"nan", "inf", "-inf"} else masked


class _StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is at the time; a closed or broken one costs the line, never the caller."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 - arguments that do not fit, a `__str__` that raises: show what can be shown
            place = f"{record.pathname}:{record.lineno}"
            text = escape_controls(mask(f"{place} logged a line that cannot be formatted: {error!r} {record.msg!r}"))
        try:
            if sys.stderr is not None:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()
        except (OSError, ValueError):  # closed, or the reader of the pipe is gone: there is nobody to tell
            return


def settings() -> tuple[int, Literal["text", "json"], frozenset[str]]:
    """Returns level, format and secrets as they are now, for another process that logs as this one does."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers if isinstance(handler, _StderrHandler)]
    is_json = any(isinstance(formatter, JsonFormatter) for formatter in formatters)
    return logging.getLogger().level, "json" if is_json else "text", _masker.secrets


def _number(worker: int, record: logging.LogRecord) -> bool:
    record.worker = worker
    return True


def configure(
    level: str | int = "INFO",
    format: Literal["text", "json"] = "text",  # noqa: A002 - named as in config.yml
    secrets: Iterable[str] = (),
    *,
    worker: int | None = None,
) -> None:
    """Sends all log records of the process to stderr. A further call replaces what the last one set up.

    Args:
        level: least severe level that is shown: DEBUG, INFO, WARNING, ERROR or CRITICAL.
        format: `text` for people, `json` for machines.
        secrets: texts to hide, in addition to those registered already.
        worker: number of this process, which each line then tells; None: there is only the one.

    Raises:
        ValueError: there is no such level or format.
    """
    formatters: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}
    if format not in formatters:
        raise ValueError(f'"{format}" is no log format; write text or json')
    register_secrets(secrets)
    root = logging.getLogger()
    root.setLevel(level.upper() if isinstance(level, str) else level)
    for handler in root.handlers[:]:
        if isinstance(handler, _StderrHandler):
            root.removeHandler(handler)
            handler.close()
    handler = _StderrHandler()
    handler.setFormatter(formatters[format]())
    if worker is not None:
        handler.addFilter(partial(_number, worker))
    root.addHandler(handler)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING if root.level <= logging.DEBUG else logging.ERROR)
