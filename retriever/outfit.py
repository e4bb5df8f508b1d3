"""An outfit in words: one garment a line, each searched in its own category.

    upper_body: white linen shirt
    dark blue jeans

A line may name its category before a colon. For one that does not, the encoder decides: the text
is searched among all garments, and the category of most of the nearest ones is taken.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .backends import SearchBackend
from .encoders.open_clip import Encoder
from .photos.catalogue import CATEGORIES
from .query import retrieve, spelt_category
from .query_types import Query, Result

VOTERS = 3
"""How many of the nearest garments decide on a line's category."""
_CATEGORY = re.compile(r"\s*([\w-]+)\s*:\s*(.*)", re.DOTALL)


@dataclass(frozen=True)
class OutfitLine:
    """One garment that an outfit's text asks for.

    number: of its line, from 1. category: "" where the line names none. written: the whole line.
    """

    number: int
    text: str
    category: str = ""
    written: str = field(default="", compare=False)


@dataclass(frozen=True)
class OutfitPart:
    """What was found for one line.

    category: named by the line, or chosen by the encoder; "" where the garments have none.
    """

    line: OutfitLine
    category: str
    result: Result

    def __str__(self) -> str:
        how = "" if self.line.category else " (chosen)"
        where = f"{self.category}{how}: " if self.category else ""
        return f"line {self.line.number}, {where}{self.line.text}"


@dataclass(frozen=True)
class Outfit:
    """What was found for an outfit's text.

    parts: one a line that found a garment, in the order of the lines. notes: why lines were left
    out.
    """

    parts: tuple[OutfitPart, ...]
    notes: tuple[str, ...]


def read_outfit(text: str) -> tuple[OutfitLine, ...]:
    """Read an outfit, one garment a line; empty lines are passed over.

    A single word before a colon is a category, Dress Code's in any case of letters; several words
    there belong to the text. Whether the index has the category is for the search to say.

    Raises:
        ValueError: no line at all, or a category without words.
    """
    known = {name.casefold(): name for name in CATEGORIES}
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        # A full-width colon too, as a Chinese keyboard types it.
        words, category = line.replace("\uff1a", ":").strip(), ""
        found = _CATEGORY.fullmatch(words)
        if found is not None:
            category, words = known.get(found[1].casefold(), found[1]), found[2].strip()
            if not words:
                raise ValueError(
                    f"line {number}, {line.strip()!r}: the category is named, but no garment; say "
                    f"what it should be, such as '{category}: white'."
                )
        if words:
            lines.append(OutfitLine(number, words, category, line.strip()))
    if not lines:
        raise ValueError("The outfit is empty: write one garment a line.")
    return tuple(lines)


def retrieve_outfit(
    backend: SearchBackend, encoder: Encoder, lines: Sequence[OutfitLine], options: Query
) -> Outfit:
    """Search every line's garments.

    Args:
        options: the query's settings that all lines share; its text and category are not used, and
            pinned garments, which belong to no line, are not allowed.

    Raises:
        ValueError: nothing is found for any line; pinned garments; see also `retrieve`.
    """
    if options.pinned:
        raise ValueError("An outfit has no pinned garments: search that line by itself.")
    for line in lines:
        _check_category(backend, line)
    categories = _chosen(backend, encoder, lines, options)
    queries = [
        replace(options, text=line.text, category=category or None)
        for line, category in zip(lines, categories, strict=True)
    ]
    parts, notes = [], []
    found = retrieve(backend, encoder, queries)
    for line, category, result in zip(lines, categories, found, strict=True):
        part = OutfitPart(line, category, result)
        if result.hits:
            parts.append(part)
        if result.note:
            left = "" if result.hits else " Left out."
            notes.append(f"{part}: {result.note}{left}")
    if not parts:
        raise ValueError("No line of the outfit found a garment. " + " ".join(notes))
    return Outfit(tuple(parts), tuple(notes))


def _check_category(backend: SearchBackend, line: OutfitLine) -> None:
    """Raise ValueError where the index has no category of the name that a line begins with."""
    remedy = "Write one of these before the colon, or the line without it."
    try:
        spelt_category(backend, line.category or None, remedy)
    except ValueError as error:
        raise ValueError(
            f"line {line.number}, {line.written!r}: a single word before a colon is a category. "
            f"{error}"
        ) from error


def _chosen(
    backend: SearchBackend, encoder: Encoder, lines: Sequence[OutfitLine], options: Query
) -> list[str]:
    """Choose every line's category: its own, or that of most garments nearest to its text."""
    open_ones = [line for line in lines if not line.category]
    asked = [
        replace(
            options,
            text=line.text,
            category=None,
            k=VOTERS,
            draw_from=0,
            diversity=0.0,
            min_score=-1.0,
            auto_min_score=False,
            word_weight=0.0,
            excluded=(),
        )
        for line in open_ones
    ]
    chosen = {}
    for line, result in zip(open_ones, retrieve(backend, encoder, asked), strict=True):
        # Of equally many the category of the nearest one, which is counted first.
        votes = Counter(hit.garment.category for hit in result.hits)
        chosen[line.number] = votes.most_common(1)[0][0] if votes else ""
    return [line.category or chosen[line.number] for line in lines]
