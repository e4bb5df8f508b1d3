"""The words of garments: an SQLite FTS5 table beside the records, of the same row numbers.

It indexes what the catalogue says of a garment: its caption and every other column of texts (brand,
title, colour, ...), without ids, files, categories, numbers and links. The table keeps no text of
its own (`content=''`) and no lengths, since the records hold the texts: 20 to 50 bytes a garment.

FTS5's own tokenizer `unicode61` reads the letters of every language, without case and accents, and
`porter` takes `dresses` for `dress`. Neither that tokenizer nor `trigram`, which misses the many
words of two letters, finds words in a script that has no spaces: such letters are stored one by
one, and asked for in pairs of neighbours.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

TABLE = "words"
MOST_TERMS = 64
"""The most different words of a text that are searched; an encoder reads about as many."""

_TABLE = (
    f"CREATE VIRTUAL TABLE {TABLE} USING fts5(text, content='', columnsize=0, "
    "tokenize=\"porter unicode61 remove_diacritics 2 categories 'L* N* M*'\")"
)
_OTHERS = ("id", "file", "category", "item_group_id")
_LINK = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Thai, Lao, Burmese, Khmer, kana, Chinese characters; and Korean, whose particles follow the word
# without a space.
_CLOSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"[{_CLOSE}]+")


@cache
def fts5_is_there() -> bool:
    """Tell whether this Python's SQLite has FTS5; nearly all have."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(_TABLE)
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def is_text_column(column: str) -> bool:
    """Tell whether the words of a column are searched, unless they are numbers or links."""
    return column not in _OTHERS


def fill(connection: sqlite3.Connection, rows: Iterable[tuple[int, Sequence[str]]]) -> None:
    """Create the table from (row, texts of its columns) pairs."""
    connection.execute(_TABLE)
    sql = f"INSERT INTO {TABLE} (rowid, text) VALUES (?, ?)"
    connection.executemany(sql, _searchable(rows))
    connection.execute(f"INSERT INTO {TABLE} ({TABLE}) VALUES ('optimize')")


def terms_of(text: str) -> tuple[str, ...]:
    """Split a user's text into terms for FTS5, each in quotes, so that it is nothing but words.

    Only letters, marks and digits are left, so that no operator of FTS5 can stand in it.
    """
    words = []
    for word in _letters(text).split():
        start = 0
        for run in _RUN.finditer(word):
            words += [word[start : run.start()], *_pairs(run[0])]
            start = run.end()
        words.append(word[start:])
    terms = {word.lower(): f'"{word}"' for word in words if word}
    return tuple(terms.values())[:MOST_TERMS]


class _Letters(dict[int, int]):
    """A table for `str.translate`: letters, marks and digits stay, all else becomes a space.

    SQLite's own table is of an older Unicode: texts and queries go by Python's alike.
    """

    def __missing__(self, code: int) -> int:
        kept = unicodedata.category(chr(code))[0] in "LNM"
        self[code] = code if kept else ord(" ")
        return self[code]


_LETTERS = _Letters()


def _searchable(rows: Iterable[tuple[int, Sequence[str]]]) -> Iterator[tuple[int, str]]:
    for row, texts in rows:
        text = " ".join(text for text in texts if not _LINK.match(text))
        if not text.isascii():
            text = _RUN.sub(lambda run: f" {' '.join(run[0])} ", _letters(text))
        if text:
            yield row, text


def _letters(text: str) -> str:
    """Remove what is no letter from a text, and unify full-width and composed letters."""
    return unicodedata.normalize("NFKC", text).translate(_LETTERS)


def _pairs(run: str) -> list[str]:
    return [f"{a} {b}" for a, b in zip(run, run[1:], strict=False)] or [run]
