"""Reading a filter as people type it: typographic quotes, Chinese punctuation, odd columns."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .store.filters import Filter, parse_filter

_STRAIGHT = str.maketrans("“”„‟«»＂‘’‚‛，（）［］＜＞＝！", '"""""""\'\'\'\',()[]<>=!')
_IN_QUOTES = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""", re.DOTALL)
_COMPARED = re.compile(r"[<>=!]+|\bin\s*(?=[\[(])")
_WORD = re.compile(r"[^\W\d][\w -]*")
_LONGEST_NAME = 100  # characters of a column that an error proposes


def read_filter(text: str) -> Filter:
    """Parse a filter; quotes and punctuation of typesetters and of Chinese are taken as typed.

    Raises:
        ValueError: it is not understood; the message shows where.
    """
    pieces = _split_at_quotes(text)
    pieces[::2] = [piece.translate(_STRAIGHT) for piece in pieces[::2]]
    try:
        return parse_filter("".join(pieces))
    except ValueError as error:
        if name := next((name for piece in pieces[::2] for name in _of_two_words(piece)), ""):
            raise ValueError(
                f"{error} A column whose name has a space or a hyphen stands in backquotes: "
                f"`{name}`."
            ) from error
        raise


def _split_at_quotes(text: str) -> list[str]:
    """Split a filter into what is in quotes, at odd places, and what is not, at even ones."""
    pieces, place, kinds = [], 0, "\"'`"
    while kinds and (opening := re.compile(f"[{kinds}]").search(text, place)):
        quoted = _IN_QUOTES.match(text, opening.start())
        if quoted is None:
            # One that is never closed leaves none behind it that is: each is looked for once.
            kinds = kinds.replace(opening[0], "")
            continue
        pieces += [text[place : quoted.start()], quoted[0]]
        place = quoted.end()
    return [*pieces, text[place:]]


def _of_two_words(piece: str) -> Iterator[str]:
    """Yield what stands before a comparison and has a space or a hyphen, such as a column has."""
    start = 0
    for compared in _COMPARED.finditer(piece):
        before = piece[start : compared.start()].rstrip()
        start = compared.end()
        words = re.match(r"[\w -]*", before[::-1])
        found = _WORD.search(words[0][::-1]) if words else None
        name = re.split(r"\b(?:and|or|not)\b", found[0])[-1].strip() if found else ""
        if re.search(r"[ -]", name) and len(name) <= _LONGEST_NAME:
            yield name
