"""Globs over relative paths, as in a `.gitignore`, compiled to one regular expression.

A match never takes more than time in proportion to path times pattern. Braces are written out first; what is left of
a pattern are folders with stars in them, for which the nearest match is always as good as any later one. So each star
but the last of a component, and each `**` but the last of a pattern, is an atomic group, which is never tried twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

__all__ = ["GlobError", "Globs"]

_MAX_LENGTH = 4096
_MAX_ALTERNATIVES = 1000
_END = r"(?=/|\Z)"


class GlobError(ValueError):
    """A pattern cannot be understood; the message quotes it and says what to write instead."""


class Globs:
    """A set of patterns.

    - `*` any characters but `/`; `?` one of them; `[abc]`, `[a-z]`, `[!a]`; `{a,b}` one or the other; `\\` takes the
      meaning from the next character.
    - `**` as a whole component stands for any number of folders.
    - A pattern without `/` is looked for in every folder; one with `/` in front or inside counts from the root.
    - A pattern that names a folder covers everything in it. A pattern that ends in `/` covers only what is in it.

    Args:
        patterns: in any order; paths are compared with upper and lower case.

    Raises:
        GlobError: a pattern is malformed.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        written_out = [components for pattern in self.patterns for components in _components(pattern)]
        self._match = _compile(written_out)
        # A pattern that covers all of a folder's content covers the folder, as far as entering it is concerned.
        self._match_folder = _compile(
            [components[:-1] if components[-1] == "**" and components[1:] else components for components in written_out]
        )
        self._starts = [_literal_start(components) for components in written_out]

    def match(self, path: str) -> bool:
        """Whether a file is covered. `path` is relative to the root, with `/` between its components."""
        return self._match(path) is not None

    def covers_folder(self, path: str) -> bool:
        """Whether everything in this folder is covered, whatever its name."""
        return self._match_folder(path) is not None

    def may_match_in(self, folder: str) -> bool:
        """Whether anything in this folder can be covered, as far as the fixed beginnings of the patterns tell."""
        inside = folder + "/"
        return any(start.startswith(inside) or inside.startswith(start) for start in self._starts)


def _compile(written_out: Iterable[Sequence[str]]) -> Callable[[str], re.Match[str] | None]:
    alternatives = "|".join(dict.fromkeys(map(_expression, written_out)))
    return re.compile(f"(?:{alternatives}){_END}" if alternatives else r"(?!)", re.DOTALL).match


def _components(pattern: str) -> list[list[str]]:
    """Returns the pattern, braces written out, as lists of components; an unanchored one begins with `**`."""
    if not pattern.strip() or len(pattern) > _MAX_LENGTH:
        raise GlobError(f"the pattern {pattern[:80]!r} must have between 1 and {_MAX_LENGTH} characters")
    if pattern.startswith("!"):
        raise GlobError(f"the pattern {pattern!r} begins with !: list it under the other field (include or exclude)")
    found = []
    for plain in _without_braces(pattern):
        anchored = "/" in plain.rstrip("/")
        components = [part for part in plain.split("/") if part not in {"", "."}]
        if ".." in components:
            raise GlobError(f"the pattern {pattern!r} contains ..: patterns count from the folder that is synced")
        if plain.endswith("/"):
            components.append("**")
        if not components:
            components = ["**"]
        if not anchored and components[0] != "**":
            components.insert(0, "**")
        for component in components:
            _component(component, pattern)
        found.append(components)
    return found


def _without_braces(pattern: str) -> list[str]:
    """Writes `a{b,c{d,e}}` out as `ab`, `acd`, `ace`. Works from the last opening brace, which holds no other one."""
    done: list[str] = []
    pending = [pattern]
    while pending:
        if len(done) + len(pending) > _MAX_ALTERNATIVES:
            raise GlobError(f"the pattern {pattern[:80]!r} stands for more than {_MAX_ALTERNATIVES} patterns: split it")
        current = pending.pop()
        places = _special(current, "{},")
        opening = max((place for place, sign in places if sign == "{"), default=-1)
        closing = min((place for place, sign in places if sign == "}" and place > opening), default=-1)
        if opening < 0 and closing < 0:
            done.append(current)
            continue
        if opening < 0 or closing < 0:
            raise GlobError(
                f"the pattern {pattern!r} has a brace without its partner; a brace that is meant is written \\{{, and "
                "patterns with commas are written as a YAML list"
            )
        commas = [place for place, sign in places if sign == "," and opening < place < closing]
        ends = [opening, *commas, closing]
        pending += [
            current[:opening] + current[ends[index] + 1 : ends[index + 1]] + current[closing + 1 :]
            for index in range(len(ends) - 1)
        ]
    return done


def _special(pattern: str, signs: str) -> list[tuple[int, str]]:
    """Returns place and sign of each of `signs` that is neither escaped nor within brackets."""
    found: list[tuple[int, str]] = []
    place = 0
    while place < len(pattern):
        sign = pattern[place]
        if sign == "\\":
            place += 1
        elif sign == "[":
            place = _class_end(pattern, place) - 1
        elif sign in signs:
            found.append((place, sign))
        place += 1
    return found


def _class_end(pattern: str, start: int) -> int:
    """Returns the place behind the `]` that belongs to the `[` at `start`; a `]` that comes first is a member."""
    place = start + 1
    if pattern[place : place + 1] in {"!", "^"}:
        place += 1
    end = pattern.find("]", place + 1)
    if end < 0:
        raise GlobError(f"the pattern {pattern!r} has a [ without its ]; a bracket that is meant is written \\[")
    return end + 1


def _expression(components: Sequence[str]) -> str:
    """Returns the regular expression of one pattern, without its end."""
    groups: list[list[str]] = [[]]  # what stands between two `**`
    for component in components:
        if component != "**":
            groups[-1].append(_component(component, component))
        elif groups[-1] or len(groups) == 1:
            groups.append([])
    first, *others = groups
    out = "/".join(first) + ("/" if first and others else "")
    for index, group in enumerate(others):
        if not group:
            return out + r"(?=[^/]).*"  # `**` at the end: anything below
        body = "/".join(group)
        last = index == len(others) - 1
        # Never tried twice: folders up to the nearest place where the group fits.
        out += f"(?:[^/]+/)*?{body}" if last else f"(?>(?:[^/]+/)*?{body}/)"
    return out


def _component(component: str, pattern: str) -> str:
    """Returns the regular expression of one component, which matches no `/`."""
    pieces: list[str] = [""]  # what stands between two stars
    place = 0
    while place < len(component):
        sign = component[place]
        if sign == "*":
            if pieces[-1] or len(pieces) == 1:
                pieces.append("")
        elif sign == "?":
            pieces[-1] += "[^/]"
        elif sign == "[":
            end = _class_end(component, place)
            pieces[-1] += _class(component[place + 1 : end - 1], pattern)
            place = end - 1
        elif sign == "\\":
            place += 1
            if place == len(component):
                raise GlobError(f"the pattern {pattern!r} ends in a backslash: write two for one that is meant")
            pieces[-1] += re.escape(component[place])
        else:
            pieces[-1] += re.escape(sign)
        place += 1
    first, *others = pieces
    out = first
    for index, piece in enumerate(others):
        if index < len(others) - 1:
            out += f"(?>[^/]*?{piece})"
        else:
            out += f"[^/]*?{piece}{_END}" if piece else "[^/]*"
    return out


def _class(members: str, pattern: str) -> str:
    negated = members[:1] in {"!", "^"}
    listed = members[1:] if negated else members
    escaped = "".join("\\" + sign if sign in "\\[]^&~|" else sign for sign in listed)
    expression = f"(?!/)[{'^' if negated else ''}{escaped}]"
    try:
        re.compile(expression)
    except re.error as error:
        raise GlobError(f"the pattern {pattern!r} has a bad range in [{members}]: {error.msg}") from None
    return expression


def _literal_start(components: Sequence[str]) -> str:
    """Returns the leading folders of a pattern that have no wildcard, each followed by `/`."""
    start = ""
    for component in components:
        if component == "**" or any(sign in component for sign in "*?[\\"):
            break
        start += component + "/"
    return start
