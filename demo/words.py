"""Texts for the miniature: which category they name, and which of their words it knows."""

from __future__ import annotations

import re
from functools import lru_cache

from ..miniature.captions import FINE, words
from ..miniature.world import make_garment

#: The first of these that a text holds decides; `shirt dress` is a dress.
_CATEGORY_WORDS = (
    ("dresses", r"dress(es)?|gown"),
    ("lower_body", r"trousers|pants|jeans|shorts|skirts?|leggings"),
    ("upper_body", r"t-?shirts?|shirts?|sweaters?|hoodies?|jackets?|tops?|blouses?|coats?"),
)
_SMALL_WORDS = frozenset("a an and at for in of on the with".split())
_SEEN = 300


def category_of_text(text: str) -> str | None:
    """Return the category that a text's words name, or None."""
    for category, pattern in _CATEGORY_WORDS:
        if re.search(rf"\b({pattern})\b", text.lower()):
            return category
    return None


def unknown_words(text: str) -> list[str]:
    """List the words of a text, in any script, that no caption of the drawn world has."""
    known = _vocabulary() | _SMALL_WORDS
    return [word for word in dict.fromkeys(_split(text)) if word not in known]


@lru_cache
def _vocabulary() -> frozenset[str]:
    phrases = [phrase for chunks in FINE.values() for chunk in chunks for phrase in chunk]
    seen = {word for phrase in phrases for word in _split(re.sub(r"\{\w+\}", " ", phrase))}
    for number in range(_SEEN):
        seen.update(
            word for said in words(make_garment(0, number)).values() for word in _split(said)
        )
    return frozenset(seen)


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W\d_](?:[^\W\d_]|-)*", text.lower())
