"""Log lines: their form, what they hide, and what they withstand."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import logger as module
from connectors.logger import ConnectorLogger, Masker, configure, get_logger, mask, register_secrets

SECRET = 'pä ss/"w\\rd+=\n1'


class Stderr:
    """What the test wrote to stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture(autouse=True)
def stderr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Stderr]:
    """A stderr to read, and the process's logging as it was afterwards."""
    monkeypatch.setattr(module, "_masker", Masker())
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in (*module._QUIET, *module._CHATTY)}
    yield Stderr(capsys)
    root.setLevel(level)
    root.handlers[:] = handlers
    for name, quiet in levels.items():
        logging.getLogger(name).setLevel(quiet)


def json_lines(stream: Stderr) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_line_of_a_further_worker_tells_its_number(stderr: Stderr, form: Any) -> None:
    configure(format=form, worker=2)
    ConnectorLogger(get_logger("connectors.sync"), "handbook").info("read")
    if form == "text":
        assert stderr.getvalue().endswith(" INFO  [2] handbook: read\n")
    else:
        assert json_lines(stderr)[0]["worker"] == 2


def test_a_text_line_is_short_and_names_its_connector(stderr: Stderr) -> None:
    configure()
    ConnectorLogger(get_logger("connectors.sync"), "handbook").info("read %d documents", 3)
    get_logger("connectors.service").warning("ready")
    get_logger("somelib.part").error("broken")
    get_logger("connectors").debug("not shown")
    first, second, third = stderr.getvalue().splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO  handbook: read 3 documents", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARN  ready", second)
    assert re.fullmatch(r"\d\d:\d\d:\d\d ERROR somelib.part: broken", third)


def test_a_json_line_has_the_fields_of_the_record(stderr: Stderr) -> None:
    configure("DEBUG", "json")
    log = ConnectorLogger(get_logger("connectors.sync"), "handbook", job="j1")
    log.info("hello", extra={"documents": 3, "ratio": float("nan"), "other": ["x"], "none": None})
    (line,) = json_lines(stderr)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "INFO", "logger": "connectors.sync", "message": "hello", "connector": "handbook", "job": "j1",
        "documents": 3, "ratio": "nan", "other": "['x']", "none": None,
    }  # fmt: skip


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_exception_is_shown_and_cannot_pass_for_a_line_of_ours(stderr: Stderr, form: Any) -> None:
    configure("INFO", form, [SECRET])
    try:
        raise ValueError(f"no {SECRET}\n12:00:00 INFO  all is well \x1b[2J")  # noqa: TRY301 - a traceback to log
    except ValueError:
        get_logger("connectors").exception("failed", stack_info=True)
    text = stderr.getvalue()
    assert "ValueError: no ***" in text
    assert "Stack (most recent call last)" in text
    assert "\x1b" not in text
    assert "pä ss" not in text
    assert not re.search(r"^12:00:00", text, re.MULTILINE)
    if form == "json":
        assert json_lines(stderr)[0]["exception"].count("\n") > 2


def test_no_exception_where_none_is_being_handled(stderr: Stderr) -> None:
    configure()
    get_logger("connectors").error("failed", exc_info=True)
    assert stderr.getvalue().endswith("failed\n")


def test_a_hostile_name_forges_no_line_and_gives_the_terminal_no_orders(stderr: Stderr) -> None:
    configure()
    get_logger("connectors").info("read %s", "a\n12:00:00 INFO  all is well\x1b]0;x\x07\x9b31m\u202e\r")
    (line,) = stderr.getvalue().splitlines()
    assert line.endswith(r"read a\n12:00:00 INFO  all is well\x1b]0;x\x07\x9b31m\u202e\r")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_secret_is_hidden_wherever_a_record_can_carry_it(stderr: Stderr, form: Any) -> None:
    configure("INFO", form, [SECRET, "12345678"])
    log = ConnectorLogger(get_logger("connectors.x"), SECRET)
    log.info("a %s b", SECRET, extra={"url": f"http://x/{quote(SECRET)}", "pin": 12345678, "map": {"k": SECRET}})
    log.info({"password": SECRET})
    text = stderr.getvalue()
    assert "a *** b" in text
    for part in ("pä", "p\\u00e4", "%C3%A4", "12345678"):
        assert part not in text
    if form == "json":
        assert json_lines(stderr)[0]["pin"] == "***"


def _lower_hex(text: str) -> str:
    return re.sub("%..", lambda found: found[0].lower(), quote(text))


@pytest.mark.parametrize(
    "write",
    [
        str, quote, quote_plus, lambda s: quote(s, safe=""), _lower_hex, repr, json.dumps,
        lambda s: json.dumps(s, ensure_ascii=False), lambda s: base64.b64encode(s.encode()).decode(),
        lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    ],
)  # fmt: skip
@pytest.mark.parametrize("secret", [SECRET, "S3cret-Value/9", "line one of it\nline two of the key"])
def test_a_secret_is_hidden_in_every_form(write: Any, secret: str) -> None:
    masked = Masker([secret]).mask(f"<{write(secret)}>")
    assert masked in {"<***>", "<'***'>", '<"***">', "<***==>", "<***=>"}


@pytest.mark.parametrize("user", ["a", "ab", "abc", "someone"])
def test_a_password_is_hidden_in_basic_authorization(user: str) -> None:
    header = base64.b64encode(f"{user}:correct horse".encode()).decode()
    masked = Masker(["correct horse"]).mask(f"Authorization: Basic {header}")
    rest = masked.removeprefix("Authorization: Basic ")
    assert "***" in rest
    padded = rest.partition("***")[2].rstrip("=")
    assert len(padded) <= 2  # what is left shares its bits with other bytes


def test_the_longest_secret_is_hidden_first_and_short_ones_not_at_all() -> None:
    masker = Masker(["hunter2", "hunter2-extended", "abc", ""])
    assert masker.mask("hunter2-extended hunter2 abc") == "*** *** abc"
    masker.add(["more"])
    masker.add(["more"])
    assert masker.mask("hunter2 more") == "*** ***"


def test_one_line_of_a_private_key_is_hidden() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\nEFAASCBKcwggSjAgE\n-----END PRIVATE KEY-----\n"
    masker = Masker([key])
    assert masker.mask("bad line MIIEvQIBADANBgkqhkiG9w0BAQ") == "bad line ***"
    assert masker.mask("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


@given(st.text(min_size=4, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_no_text_keeps_a_secret(secret: str, before: str, after: str) -> None:
    masked = Masker([secret]).mask(f"{before}{secret}{after}")
    assert secret not in masked.replace("***", "\0")


def test_registered_secrets_are_hidden_from_then_on() -> None:
    assert mask("the hunter2secret") == "the hunter2secret"
    register_secrets(["hunter2secret"])
    assert mask("the hunter2secret") == "the ***"


class _Broken(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_closed_broken_or_missing_stderr_costs_the_line_only(monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    closed = io.StringIO()
    closed.close()
    for stream in (closed, _Broken(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        get_logger("connectors").error("nobody reads this")


class _Raises:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_wrong_logging_call_is_shown_and_raises_nothing(stderr: Stderr, form: Any) -> None:
    logging.getLogger().handlers.clear()  # pytest's own handler raises
    configure("INFO", form)
    get_logger("connectors").info("%d files", "three")
    get_logger("connectors").info("%s", _Raises())
    first, second = stderr.getvalue().splitlines()
    assert "test_logger.py" in first
    assert "'%d files'" in first
    assert "no words" in second


def test_configuring_again_replaces_the_handler_and_changes_the_level(stderr: Stderr) -> None:
    configure("ERROR")
    configure("debug", "json")
    get_logger("connectors").debug("once")
    assert [line["message"] for line in json_lines(stderr)] == ["once"]


def test_noisy_libraries_are_quiet_also_at_debug(stderr: Stderr) -> None:
    configure("DEBUG")
    for name in ("uvicorn.access", "elastic_transport.node", "httpx"):
        get_logger(name).info("noise")
    assert stderr.getvalue() == ""


def test_what_a_library_says_of_each_failed_request_is_for_who_asks_for_everything(stderr: Stderr) -> None:
    for level in ("INFO", "DEBUG"):
        configure(level)
        get_logger("elastic_transport.node_pool").warning("Node has failed, said at %s", level)
    assert stderr.getvalue().count("has failed") == 1
    assert "said at DEBUG" in stderr.getvalue()


def test_an_unknown_form_or_level_is_refused() -> None:
    with pytest.raises(ValueError, match="text or json"):
        configure("INFO", "xml")  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(ValueError, match="Unknown level"):
        configure("LOUD")


def test_the_adapter_keeps_the_callers_extra() -> None:
    log = ConnectorLogger(get_logger("connectors.x"), "handbook", job="j1")
    assert log.process("m", {"extra": {"a": 1}}) == ("m", {"extra": {"a": 1, "connector": "handbook", "job": "j1"}})
    assert (log.connector, log.job) == ("handbook", "j1")


def test_a_line_that_names_its_connector_does_so_once_and_can_be_selected(stderr: Stderr) -> None:
    log = get_logger("connectors.daemon")

    def tell() -> None:
        log.info("%s: its source can be reached", "papers", extra={"connector": "papers"})
        log.info("%s left config.yml", "papers", extra={"connector": "papers"})
        log.info("papersack is another one", extra={"connector": "papers"})

    configure("INFO")
    tell()
    told = [line.split(maxsplit=2)[2] for line in stderr.getvalue().splitlines()]
    assert told == ["papers: its source can be reached", "papers left config.yml", "papers: papersack is another one"]
    configure("INFO", "json")
    tell()
    told = [line for line in stderr.getvalue().splitlines() if line.startswith("{")]
    assert [json.loads(line)["connector"] for line in told] == ["papers"] * 3
