"""How text is cut into words and folded, by the connector's language."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from connectors.errors import ConfigurationError
from connectors.utils import nearest

__all__ = ["ANALYZER", "LANGUAGES", "analysis"]

#: Name of the analyser that each text field of an index of ours uses.
ANALYZER: Final = "connectors_text"

_STEMMERS: Final = {
    "ar": "arabic", "bg": "bulgarian", "bn": "bengali", "ca": "catalan", "cs": "czech", "da": "danish",
    "de": "light_german", "el": "greek", "en": "english", "es": "light_spanish", "et": "estonian", "eu": "basque",
    "fi": "finnish", "fr": "light_french", "ga": "irish", "gl": "galician", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "light_italian", "lt": "lithuanian", "lv": "latvian", "nl": "dutch",
    "no": "norwegian", "nb": "norwegian", "nn": "light_nynorsk", "pt": "light_portuguese", "ro": "romanian",
    "ru": "russian", "sv": "swedish", "tr": "turkish",
}  # fmt: skip
_TOGETHER: Final = frozenset({"zh", "ja", "ko"})  # written without blanks: pairs of characters are the words
_NORMALIZERS: Final = {
    "ar": "arabic_normalization", "bn": "bengali_normalization", "de": "german_normalization",
    "hi": "hindi_normalization",
}  # fmt: skip
_ARTICLES: Final = {
    "ca": ["d", "l", "m", "n", "s", "t"],
    "fr": ["l", "m", "t", "qu", "n", "s", "j", "d", "c", "jusqu", "quoiqu", "lorsqu", "puisqu"],
    "ga": ["d", "m", "b"],
    "it": ["c", "l", "all", "dall", "dell", "nell", "sull", "coll", "pell", "gl", "agl", "dagl", "degl", "negl", "sugl",
           "un", "m", "t", "s", "v", "d"],
}  # fmt: skip
_LOWERCASE: Final = {"el": "greek", "ga": "irish", "tr": "turkish"}

#: The languages that a connector can name.
LANGUAGES: Final = MappingProxyType({**_STEMMERS, **dict.fromkeys(_TOGETHER, "cjk")})


def analysis(language: str | None) -> dict[str, Any]:
    """Returns the `analysis` settings of an index; without a language, words are only folded.

    Raises:
        ConfigurationError: there is no such language.
    """
    filters: dict[str, Mapping[str, Any]] = {}
    chain = ["lowercase"]
    code = (language or "").lower().replace("_", "-").partition("-")[0]
    if language and code not in LANGUAGES:
        near = nearest(code, LANGUAGES)
        hint = f'did you mean "{near}"?' if near else f"there are {', '.join(sorted(LANGUAGES))}"
        raise ConfigurationError(f'"{language}" is no language that texts can be indexed in; {hint}', field="language")
    if code in _LOWERCASE:
        filters["connectors_lowercase"] = {"type": "lowercase", "language": _LOWERCASE[code]}
        chain = ["connectors_lowercase"]
    if code in _ARTICLES:
        filters["connectors_elision"] = {"type": "elision", "articles": _ARTICLES[code], "articles_case": True}
        chain.append("connectors_elision")
    if code in _NORMALIZERS:
        chain.append(_NORMALIZERS[code])
    if code in _STEMMERS:
        filters["connectors_stemmer"] = {"type": "stemmer", "language": _STEMMERS[code]}
        chain.append("connectors_stemmer")
    if code in _TOGETHER:
        chain[:0] = ["cjk_width"]
        chain.append("cjk_bigram")
    # Without accents "Cafe" finds "Café". Words are not left out: "to be" is a phrase that people look for.
    chain.append("asciifolding")
    return {
        "char_filter": {"connectors_names": {"type": "mapping", "mappings": ["_ => \\u0020"]}},
        "filter": filters,
        "analyzer": {
            ANALYZER: {
                "type": "custom",
                "tokenizer": "standard",
                "char_filter": ["connectors_names"],  # so that a word is found in annual_plan.docx
                "filter": chain,
            }
        },
    }
