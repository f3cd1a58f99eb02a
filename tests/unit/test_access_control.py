"""Permissions in documents and identities."""

from __future__ import annotations

from connectors.access_control import ACCESS_CONTROL, add_access_control, prefix_identity


def test_a_user_and_a_group_of_one_name_differ() -> None:
    assert prefix_identity("user", "kim") == "user:kim" != prefix_identity("group", "kim")
    assert prefix_identity("user", None) is prefix_identity("user", "") is None


def test_the_order_in_which_identities_come_does_not_change_the_document() -> None:
    first = add_access_control({"_id": "1"}, ["user:b", None, "user:a", "user:b"])
    assert first == add_access_control({"_id": "1"}, ["user:a", "", "user:b"])
    assert first[ACCESS_CONTROL] == ["user:a", "user:b"]
    assert add_access_control(first, ["group:c"])[ACCESS_CONTROL] == ["group:c", "user:a", "user:b"]
