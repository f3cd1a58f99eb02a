"""Which values are secrets."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

__all__ = ["looks_secret", "passwords_in_urls"]

_ALWAYS: Final = frozenset({
    "apikey", "authorization", "credential", "credentials", "pass", "passphrase", "passwd", "password", "passwords",
    "pw", "pwd", "secret", "secrets", "token", "tokens",
})  # fmt: skip
_KEYS: Final = frozenset({"key", "keys"})
# A name that ends so tells of a secret, it does not hold one: `token_url`, `password_field`, `access_key_id`.
_ABOUT: Final = frozenset({
    "attribute", "column", "count", "enabled", "env", "expiry", "field", "file", "header", "id", "interval", "length",
    "limit", "method", "mode", "name", "path", "policy", "size", "timeout", "ttl", "type", "uri", "url",
})  # fmt: skip
_LIMITS: Final = frozenset({"max", "min"})
# Keys that open nothing: columns and parts of records.
_HARMLESS_KEYS: Final = frozenset({
    "cache", "composite", "cursor", "foreign", "group", "hash", "order", "partition", "primary", "public", "range",
    "record", "row", "shard", "sort", "tracking", "unique",
})  # fmt: skip
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_URL_PASSWORD: Final = re.compile(r"://[^\s/:@]*:([^\s/]+)@")


@lru_cache(maxsize=1024)
def looks_secret(name: str) -> bool:
    """Whether a configuration key or an environment variable of this name holds a secret."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words or words[-1] in _ABOUT or words[0] in _LIMITS:
        return False
    if not _ALWAYS.isdisjoint(words):
        return True
    return words[-1] in _KEYS and not (len(words) > 1 and words[-2] in _HARMLESS_KEYS)


def passwords_in_urls(text: str) -> set[str]:
    """Returns the passwords of `scheme://user:password@host`, as written and decoded."""
    found: set[str] = set()
    if "://" in text and "@" in text:
        for password in _URL_PASSWORD.findall(text):
            found |= {password, unquote(password)}
    return found
