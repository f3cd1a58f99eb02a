"""A page on its way from a reader to the owner of the sync."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.sync import frames
from connectors.sync.page import Page, ReadPage
from tests.support.sources import Download

DOCUMENTS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.dictionaries(st.text(max_size=5), st.text(max_size=9))))


def page_of(documents: list[tuple[str, dict[str, Any]]], *lazies: int) -> Page:
    page = Page()
    for position, (document_id, document) in enumerate(documents):
        page.add(document_id, dict(document), Download() if position in lazies else None)
    page.read = len(documents) + 3
    page.filtered = 3
    return page


def sent(page: Page) -> ReadPage:
    kept = {position: 100 + position for position in page.lazies}
    kind, head, rest = frames.opened(bytearray(b"".join(frames.page_frame(page, kept))))
    assert kind == frames.PAGE
    return frames.page_from(head, rest, lambda _: Download())


@given(DOCUMENTS)
def test_a_page_arrives_as_it_was_read(documents: list[tuple[str, dict[str, Any]]]) -> None:
    page = page_of(documents)
    found = sent(page)
    assert found.joined() == page.joined()
    assert found.bodies == []  # what has not changed is never taken apart
    found.split()
    found.split()
    assert (found.ids, found.bodies) == (page.ids, page.bodies)
    assert (found.digests, found.hashes) == (page.digests, page.hashes)
    assert (found.read, found.filtered) == (page.read, 3)


@given(DOCUMENTS)
def test_an_id_that_is_twice_in_a_page_parts_it_there_too(documents: list[tuple[str, dict[str, Any]]]) -> None:
    page = page_of(documents)
    for here, there in zip(page.parts(), sent(page).parts(), strict=True):
        assert here.joined() == there.joined()
        there.split()
        assert (here.ids, here.bodies) == (there.ids, there.bodies)


def test_what_has_a_file_is_read_with_all_its_digits() -> None:
    found = sent(page_of([("a", {"size": 1}), ("b", {"size": 12345678901234567890})], 1))
    found.split()
    assert list(found.lazies) == [1]
    assert 0 not in found.documents
    assert found.documents[1] == {"size": 12345678901234567890}


@pytest.mark.parametrize(
    "broken", [{"sizes": "9s"}, {"sizes": "1x1x"}, {"sizes": "what?"}, {"read": 2}, {"ids": ["a"]}]
)
def test_numbers_that_do_not_fit_are_refused(broken: dict[str, Any]) -> None:
    _, head, rest = frames.opened(b"".join(frames.page_frame(page_of([("a", {}), ("b", {})]), {})))
    with pytest.raises(ValueError, match=r"numbers do not fit|sizes are none"):
        frames.page_from(head | broken, rest, lambda _: Download())
