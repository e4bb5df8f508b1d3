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
from itertools import pairwise

from ..photos.catalogue import Garment
from .filters import number_of

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
_LETTER = re.compile(f"[{_CLOSE}]")


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


def texts_of(garment: Garment) -> list[str]:
    """Return what is searched of a garment: its caption and columns of texts, without numbers."""
    columns = [text for name, text in garment.metadata.items() if is_text_column(name)]
    return [text for text in (garment.caption, *columns) if text and number_of(text) is None]


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


def words_said(texts: Iterable[Sequence[str]]) -> list[list[str]]:
    """Return the different words of garments as FTS5 reads them, for an index that is not its own.

    Letters of a script without spaces are words, and so is each pair of neighbours.

    Args:
        texts: of each garment, see `texts_of`.
    """
    texts = list(texts)
    said: list[list[str]] = [[] for _ in texts]
    for row, tokens in _tokens(_searchable(enumerate(texts))).items():
        words = dict.fromkeys(tokens[:1])
        for former, token in pairwise(tokens):
            words[token] = None
            if _LETTER.fullmatch(former) and _LETTER.fullmatch(token):
                words[former + token] = None
        said[row] = list(words)
    return said


def words_asked(text: str) -> list[str]:
    """Return the words of a user's text, each as `words_said` gives it of a garment that holds it.

    A term of `terms_of` is one; one that FTS5 takes apart, its parts. Words of one stem are the
    same one several times.
    """
    terms = [term.strip('"') for term in terms_of(text)]
    words = []
    for number, tokens in sorted(_tokens(enumerate(terms)).items()):
        words += ["".join(tokens)] if " " in terms[number] else tokens
    return words


def _tokens(rows: Iterable[tuple[int, str]]) -> dict[int, list[str]]:
    """Return what FTS5's tokenizer makes of the text of each row, in its order."""
    connection = sqlite3.connect(":memory:")
    try:
        # A token of 32 kB is cut, maybe within a letter.
        connection.text_factory = lambda value: value.decode("utf-8", "replace")
        connection.execute(_TABLE)
        connection.executemany(f"INSERT INTO {TABLE} (rowid, text) VALUES (?, ?)", rows)
        connection.execute(f"CREATE VIRTUAL TABLE tokens USING fts5vocab({TABLE}, 'instance')")
        found: dict[int, list[str]] = {}
        for row, token in connection.execute("SELECT doc, term FROM tokens ORDER BY doc, offset"):
            found.setdefault(row, []).append(token or "")  # of an accent that stands alone
        return found
    finally:
        connection.close()


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
