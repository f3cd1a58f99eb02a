"""Regular expressions for rules, by RE2: the time of a search grows linearly with the text, whatever the pattern.

RE2 has no look-around and no back-references, because they cannot be matched in linear time. `RegexError` says what to
write instead. A pattern is searched for anywhere in the text; `^` and `$` anchor it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["RegexError", "compile_regex", "matches_everything"]


class RegexError(ValueError):
    """The pattern cannot be used; the message says why, and what to write instead."""


_TWO_RULES: Final = (
    "look-around cannot be matched in linear time; write two rules, the exception first, for the first rule that "
    "matches decides"
)
_BACK_REFERENCE: Final = "a back-reference cannot be matched in linear time; write the alternatives out, as in (aa|bb)"
_POSSESSIVE: Final = "write one quantifier alone; matching never backtracks here, so a possessive one is not needed"
_CODE_POINT: Final = r"write a character by its code point as \x{e9}, or write the character itself"
_LEAVE_OUT: Final = "leave it out, or write what it stands for"

# What RE2's message begins with → what to write. The first that fits is taken.
_HINTS: Final = (
    ("invalid perl operator: (?=", _TWO_RULES),
    ("invalid perl operator: (?!", _TWO_RULES),
    ("invalid perl operator: (?<", _TWO_RULES),
    ("invalid perl operator: (?P", _BACK_REFERENCE + "; a named group is written (?P<name>...)"),
    ("invalid perl operator: (?>", "an atomic group is not needed, as matching never backtracks; write (?:...)"),
    ("invalid perl operator: (?(", "a condition is not supported; write both alternatives, as in (?:a|b)"),
    ("invalid perl operator: (?x", "write the pattern without blanks and comments"),
    ("invalid perl operator: (?#", "write the pattern without the comment"),
    ("invalid perl operator", "the flags are i, m, s and U, as in (?i)word"),
    *((f"invalid escape sequence: \\{digit}", _BACK_REFERENCE) for digit in "123456789"),
    ("invalid escape sequence: \\k", _BACK_REFERENCE),
    ("invalid escape sequence: \\Z", r"write \z or $ for the end of the text"),
    ("invalid escape sequence: \\u", _CODE_POINT),
    ("invalid escape sequence: \\U", _CODE_POINT),
    ("invalid escape sequence: \\N", _CODE_POINT),
    ("invalid escape sequence: \\h", r"write [ \t]"),
    ("invalid escape sequence: \\R", r"write \r?\n"),
    ("invalid escape sequence: \\G", _LEAVE_OUT),
    ("invalid escape sequence: \\K", _LEAVE_OUT),
    ("invalid escape sequence: \\X", _LEAVE_OUT),
    ("invalid escape sequence", "write a letter that means nothing special without the backslash"),
    ("bad repetition operator", _POSSESSIVE),
    (
        "invalid repetition size",
        "repeat at most 1000 times, nested repetitions multiplied, the lower limit first",
    ),
    ("no argument for repetition operator", r"write something before it, or \* for the character itself"),
    ("missing ]", r"close the class with ], or write \[ for the character itself"),
    ("missing )", r"close the group with ), or write \( for the character itself"),
    ("unexpected )", r"open the group with (, or write \) for the character itself"),
    ("invalid character class range", "write a range from the lower to the higher character, and a class RE2 knows"),
    ("trailing \\", r"write \\ for a backslash"),
    ("pattern too large", "write a shorter pattern or several rules"),
)


def compile_regex(pattern: str) -> Callable[[str], bool]:
    """Returns a function that tells whether `pattern` occurs anywhere in a text. Raises RegexError."""
    import re2  # type: ignore[import-untyped]  # the package has no type hints

    options = re2.Options()
    options.log_errors = False  # it would write to stderr by itself
    options.never_capture = True  # nobody asks what a group matched, and a search without groups is faster
    try:
        search = re2.compile(pattern.encode(), options).search
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace") if error.args else "it is not understood"
        hint = next((hint for start, hint in _HINTS if reason.startswith(start)), "see the syntax of RE2")
        raise RegexError(f"the regular expression {pattern!r} cannot be used ({reason}): {hint}") from None
    except UnicodeEncodeError:
        raise RegexError(f"the regular expression {pattern!r} is not valid Unicode text: write it anew") from None

    def found(text: str) -> bool:
        # Bytes spare the module its conversion of positions; half a surrogate pair is just no character to RE2.
        return search(text.encode("utf-8", "surrogatepass")) is not None

    return found


def matches_everything(pattern: str) -> bool:
    """Whether `pattern` is found in every text of one line that is not empty, as `.*` is. Raises RegexError.

    Decided by samples: each character of a wide choice by itself, short words made of the characters that the pattern
    names, and a long text. A pattern that one of them escapes is taken for a real one.
    """
    found = compile_regex(pattern)
    return all(found(sample) for sample in _samples(pattern))


def _samples(pattern: str) -> Iterator[str]:
    yield from map(chr, range(0x20, 0x7F))
    yield from ("a b", "-1.5", "Ab/c_1.txt", "word " * 1000)
    named = [char for char in dict.fromkeys(pattern) if char.isprintable()]
    yield from named
    letters = [char for char in named if char.isalnum()][:10]
    yield from ("".join(word) for size in (2, 3) for word in itertools.product(letters, repeat=size))
    # The first alphabets whole, then a grid over the rest that meets every larger script.
    yield from map(chr, range(0xA1, 0x600))
    yield from map(chr, range(0x600, 0x3000, 16))
    yield from (chr(code) for code in range(0x3000, 0x110000, 509) if not 0xD800 <= code < 0xE000)
