"""Properties of the directory source's patterns and names."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from connectors.source import BaseDataSource
from connectors.sources.directory.globs import GlobError, Globs
from connectors.sources.directory.paths import document_id, from_storable, shown, to_storable

NAME = st.text(alphabet="ab.", min_size=1, max_size=4)
PATHS = st.lists(NAME, min_size=1, max_size=4).map("/".join)
COMPONENTS = st.one_of(st.just("**"), st.text(alphabet="ab.*?", min_size=1, max_size=5))
PATTERNS = st.lists(COMPONENTS, min_size=1, max_size=4)


def matches(pattern: list[str], path: list[str]) -> bool:
    """The meaning of a pattern, written down without a thought for speed."""

    @cache
    def name(left: str, right: str) -> bool:
        if not left:
            return not right
        if left[0] == "*":
            return name(left[1:], right) or (bool(right) and name(left, right[1:]))
        return bool(right) and left[0] in {"?", right[0]} and name(left[1:], right[1:])

    @cache
    def folders(at: int, place: int) -> bool:
        if at == len(pattern):
            return True  # what names a folder covers everything in it
        if pattern[at] == "**":
            if at == len(pattern) - 1:
                return place < len(path)
            return folders(at + 1, place) or (place < len(path) and folders(at, place + 1))
        return place < len(path) and name(pattern[at], path[place]) and folders(at + 1, place + 1)

    return folders(0, 0)


@given(PATTERNS, PATHS)
def test_patterns_mean_what_they_should(pattern: list[str], path: str) -> None:
    if set(pattern) & {".", ".."}:
        return
    assert Globs(["/" + "/".join(pattern)]).match(path) == matches(pattern, path.split("/"))


@given(PATTERNS, PATHS, NAME)
def test_a_folder_that_is_not_entered_holds_nothing_that_is_wanted(pattern: list[str], folder: str, name: str) -> None:
    if set(pattern) & {".", ".."}:
        return
    globs = Globs(["/" + "/".join(pattern)])
    if globs.match(f"{folder}/{name}"):
        assert globs.may_match_in(folder)
    if globs.covers_folder(folder):
        assert globs.match(f"{folder}/{name}")


@given(st.text(alphabet="ab/*?[]{},!^\\-.", max_size=30), PATHS)
def test_a_pattern_works_or_is_explained(pattern: str, path: str) -> None:
    with suppress(GlobError):
        Globs([pattern]).match(path)


RAW = st.lists(st.binary(min_size=1, max_size=80).filter(lambda n: not {0, 47} & set(n)), min_size=1, max_size=12)


@given(RAW)
def test_every_name_has_a_form_that_can_be_stored_and_read_back(names: list[bytes]) -> None:
    path = os.fsdecode(b"/".join(names))
    storable = to_storable(path)
    storable.encode()
    assert from_storable(storable) == path
    shown(path).encode()
    assert 0 < len(document_id(path, BaseDataSource.hash_id).encode()) <= 512


@given(st.lists(RAW, min_size=2, max_size=5))
def test_different_paths_have_different_ids(several: list[list[bytes]]) -> None:
    paths = {os.fsdecode(b"/".join(names)) for names in several}
    assert len({document_id(path, BaseDataSource.hash_id) for path in paths}) == len(paths)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=100))
def test_ordinary_paths_are_their_own_ids(path: str) -> None:
    assert document_id(path, BaseDataSource.hash_id) == path
