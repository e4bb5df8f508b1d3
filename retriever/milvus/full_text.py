"""The words of garments in a collection, found by Milvus's own full-text search.

A garment's words are those by which a local index finds it (see store/text_table.py). They stand in
one field of texts, of which Milvus's function BM25 makes a sparse vector. Each word is stored as a
code of eight letters and digits: every analyzer of every version takes that for one word, whatever
the word's script, and nothing that a user types enters an expression.

Every word is stored once and lengths don't count (b = 0), so that Milvus ranks as word_search.py
does. It counts removed rows too, and milvus-lite counts within a segment; so its scores only tell
which garments to look at, and the scores are computed of counts of the whole collection.
"""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..photos.catalogue import Garment
from ..store.text_table import fts5_is_there, texts_of, words_asked, words_said
from .server import Server

logger = logging.getLogger(__name__)

WORDS, SPARSE = "words", "bm25"
FIELDS = 2

_MOST_BYTES = 65_535  # of a VARCHAR
_CODE_BYTES = 5  # eight characters of base 32
_MOST_WORDS = (_MOST_BYTES + 1) // 9
_NO_WORD = "0"  # a digit of no code: a text without words is one of a word that nobody asks for


def add_fields(schema: Any, indexes: Any) -> None:
    """Add the words, and the sparse vector that Milvus makes of them, to a new collection."""
    from pymilvus import DataType, Function, FunctionType

    schema.add_field(
        WORDS, DataType.VARCHAR, max_length=_MOST_BYTES, enable_analyzer=True, enable_match=True
    )
    schema.add_field(SPARSE, DataType.SPARSE_FLOAT_VECTOR)
    schema.add_function(
        Function(
            name=f"{SPARSE}_of_{WORDS}",
            function_type=FunctionType.BM25,
            input_field_names=[WORDS],
            output_field_names=[SPARSE],
        )
    )
    parameters = {"bm25_k1": 1.2, "bm25_b": 0.0}
    indexes.add_index(
        SPARSE, "SPARSE_INVERTED_INDEX", SPARSE, metric_type="BM25", params=parameters
    )


def stored_words(garments: Sequence[Garment]) -> list[str]:
    """Return what the field of words holds, for each garment."""
    stored = []
    said = words_said([texts_of(garment) for garment in garments])
    for garment, words in zip(garments, said, strict=True):
        if len(words) > _MOST_WORDS:
            logger.warning(
                "The garment %r has %d different words: it is found by the first %d of them.",
                garment.id,
                len(words),
                _MOST_WORDS,
            )
        stored.append(" ".join(map(_code, words[:_MOST_WORDS])) or _NO_WORD)
    return stored


def asked_codes(text: str) -> list[str]:
    """Return the codes of the words in a user's text, as they are stored."""
    return [_code(word) for word in words_asked(text)]


def holding_any(codes: Iterable[str], server: Server) -> str:
    """Return an expression that is true of garments which hold any of the words."""
    if server.has_text_match:
        return f'text_match({WORDS}, "{" ".join(codes)}")'
    # Codes are of one length, with spaces between them: none is a part of others.
    return " or ".join(f'({WORDS} like "%{code}%")' for code in codes)


def holding_these(codes: Sequence[str], patterns: np.ndarray, server: Server) -> str:
    """Return an expression that is true of garments which hold just the words of a pattern.

    Args:
        patterns: (p, len(codes)) bool, none without any word.
    """
    parts = (_holding(codes, pattern, server) for pattern in np.unique(patterns, axis=0))
    return " or ".join(f"({part})" for part in parts)


def check_words(manifest: Mapping[str, Any], server: Server, address: str) -> None:
    """Raise ValueError where the words of a collection can't be searched, with the remedies."""
    shop = f"The collection {manifest['collection']!r} at {address}"
    others = "set words to 0 (`--words 0`), or use a local index (`fashion-rag index pull`)"
    if not server.has_full_text:
        raise ValueError(
            f"{shop} is searched by its vectors alone: Milvus has full-text search from version "
            f"2.5, and this one is {server.version}. Push the index to a newer server, {others}."
        )
    if not manifest.get("words"):
        raise ValueError(
            f"{shop} was pushed without the words of its texts, by an earlier version or with as "
            "many columns as it has room for. Push the index again (`fashion-rag index push` makes "
            f"a new collection then), {others}."
        )
    if not fts5_is_there():
        raise ValueError(
            "The SQLite of this Python has no FTS5, which reads the words of a text: use another "
            "Python, or set words to 0 (`--words 0`)."
        )


def _holding(codes: Sequence[str], pattern: np.ndarray, server: Server) -> str:
    held = {code for code, there in zip(codes, pattern, strict=True) if there}
    parts = [holding_any([code], server) for code in sorted(held)]
    if others := sorted(set(codes) - held):
        parts.append(f"not ({holding_any(others, server)})")
    return " and ".join(parts)


def _code(word: str) -> str:
    digest = hashlib.blake2b(word.encode(), digest_size=_CODE_BYTES).digest()
    return base64.b32encode(digest).decode().lower()
