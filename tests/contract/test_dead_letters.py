"""What every store promises about dead letters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from connectors.backends.ports import DeadLetter, Store
from connectors.errors import NotFoundError

NOW: Final = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


def letter(id_: str, reason: str = "r", *, connector_id: str = "one", body: bytes | None = b'{"a":1}') -> DeadLetter:
    return DeadLetter(connector_id, id_, "index", reason, "job", NOW, body)


async def test_dead_letters_are_kept_whole(store: Store) -> None:
    letters = [letter("b", body=b"[" + b"1," * 5000 + b"1]"), letter("a", body=None), letter("c", body=b"")]
    await store.add_dead_letters(letters)
    assert await store.dead_letters("one", bodies=True) == sorted(letters, key=lambda each: each.id)
    assert await store.count_dead_letters("one") == 3


async def test_one_dead_letter_with_all_that_it_takes_to_send_it_again(store: Store) -> None:
    refused = DeadLetter("one", "a/é", "index", "r", "job", NOW, b'{"a":1}', (5 << 40) + 3, b"12345678", "mapping-1")
    await store.add_dead_letters([refused, letter("b", connector_id="two")])
    assert await store.dead_letter("one", "a/é") == refused
    assert refused.replayable
    deletion = DeadLetter("one", "d", "delete", "r", "job", NOW, None, 2**62, bytes(8), "mapping-1")
    await store.add_dead_letters([deletion])
    assert await store.dead_letter("one", "d") == deletion
    assert deletion.replayable
    assert not (await store.dead_letter("two", "b")).replayable
    for connector, id_ in (("one", "b"), ("one", "A/é"), ("", "")):
        with pytest.raises(NotFoundError, match="dead-letters list"):
            await store.dead_letter(connector, id_)


async def test_a_list_has_all_but_the_documents(store: Store) -> None:
    version, stamp = (5 << 40) + 3, b"12345678"
    letters = [
        DeadLetter("one", "a", "index", "r", "job", NOW, b'{"a":1}', version, stamp, "mapping-1"),
        DeadLetter("one", "b", "delete", "r", "job", NOW, None, version, stamp, "mapping-1"),
        DeadLetter("one", "c", "index", "r", "job", NOW, b""),
        DeadLetter("one", "d", "download", "r", "job", NOW),
    ]
    await store.add_dead_letters(letters)
    listed = await store.dead_letters("one")
    assert [each.body for each in listed] == [None] * 4
    assert [each.size for each in listed] == [7, None, 0, None]
    assert [each.replayable for each in listed] == [each.replayable for each in letters] == [True, True, False, False]
    assert listed == [each.listed() for each in letters]
    assert await store.dead_letters("one", bodies=True) == letters


async def test_a_newer_dead_letter_replaces_the_older(store: Store) -> None:
    await store.add_dead_letters([letter("a", "old"), letter("a", "newer")])
    await store.add_dead_letters([letter("a", "newest"), letter("a", connector_id="two")])
    assert [each.reason for each in await store.dead_letters("one")] == ["newest"]
    assert await store.count_dead_letters("one") == 1


async def test_dead_letters_are_paged(store: Store) -> None:
    await store.add_dead_letters([letter(f"{n:03}") for n in range(25)] + [letter("", "empty id")])
    seen: list[str] = []
    after: str | None = None
    while page := await store.dead_letters("one", limit=10, after=after):
        seen += [each.id for each in page]
        after = page[-1].id
    assert seen == ["", *(f"{n:03}" for n in range(25))]


async def test_dead_letters_are_removed(store: Store) -> None:
    await store.add_dead_letters([letter(f"{n}") for n in range(700)] + [letter("1", connector_id="two")])
    assert await store.remove_dead_letters("one", ["1", "2", "missing"]) == 2
    assert await store.remove_dead_letters("one", []) == 0
    assert await store.remove_dead_letters("one", [f"{n}" for n in range(600)]) == 598
    assert await store.remove_dead_letters("one") == 100
    assert await store.count_dead_letters("two") == 1
    assert await store.count_all_dead_letters() == {"two": 1}


async def test_ids_of_dead_letters(store: Store) -> None:
    await store.add_dead_letters([letter("a"), letter("b"), letter("c", connector_id="two")])
    assert await store.dead_letter_ids("one") == {"a": "job", "b": "job"}


async def test_a_dead_letter_whose_id_is_no_unicode(store: Store) -> None:
    await store.add_dead_letters([letter("caf\udce9", "cannot store caf\udce9")])
    (kept,) = await store.dead_letters("one")
    assert (kept.id, kept.reason) == ("caf\\udce9", "cannot store caf\\udce9")
    assert await store.remove_dead_letters("one", ["caf\udce9"]) == 1
