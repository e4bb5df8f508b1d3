"""Notes to an answer: what of the query was not read as it stands, and why garments are few."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .backends import SearchBackend
from .encoders.open_clip import Encoder
from .photos.catalogue import Garment
from .query_types import MOST_VIEWS, Query
from .store.filters import And, Comparison, Filter, Membership, Not, Or, Value, is_number
from .words import plain_words, remarks


def notes_of_text(query: Query, encoder: Encoder) -> list[str]:
    """Say what of the texts was not read as it stands."""
    notes = [*plain_words(query.text.strip())[1], *plain_words(query.negative.strip())[1]]
    if query.auto_min_score and query.images:
        notes.append(
            "The index's own least score is one of texts and photos: with reference images it is "
            "not used. Name a number as min_score."
        )
    for text in (*query.texts, query.negative_words):
        notes += remarks(text, encoder) if text else []
    return list(dict.fromkeys(notes))


def notes_of_words(backend: SearchBackend, query: Query) -> list[str]:
    """Say that words are asked for which not all of an index has."""
    if not (query.word_weight and query.words) or backend.has_words:
        return []
    return [
        "Not all garments of the index can be found by words, as an earlier version made it: "
        "`fashion-rag index update`, or Garment Index Build, adds them."
    ]


def notes_of_filter(backend: SearchBackend, query: Query) -> list[str]:
    """Say why a filter that finds nothing may not mean what its columns hold."""
    notes = []
    for column, value in dict.fromkeys(_compared(query.filter)):
        seen = backend.values_of(column)
        examples = ", ".join(map(repr, seen.examples))
        if is_number(value) and seen.texts and not seen.numbers:
            notes.append(
                f"No value of the column {column!r} is a number, so none can be compared with "
                f"{value:g}; it holds {examples}. Write numbers alone in the table, with a point "
                "before the decimals, and build the index anew."
            )
        elif is_number(value) and seen.texts > seen.numbers:
            notes.append(
                f"{seen.texts - seen.numbers} of {seen.texts} values of the column {column!r} are "
                f"no numbers and are never found by one; it holds {examples}."
            )
        elif not is_number(value) and value:
            notes.append(f"The column {column!r} holds {examples or 'nothing'}, as it is spelt.")
    return notes


def _compared(condition: Filter | None) -> Iterator[tuple[str, Value]]:
    match condition:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _compared(part)
        case Not(part):
            yield from _compared(part)
        case Comparison(column, _, value):
            yield column, value
        case Membership(column, values):
            yield from ((column, value) for value in values[:3])


def note_of_nothing(query: Query, garment: Garment, score: float) -> str:
    """Say that all garments are below the least score, and which is the nearest."""
    of = f" among those of the category {query.category!r}" if query.category else ""
    of += f" that match {query.where.strip()!r}" if query.where.strip() else ""
    name = f"{garment.file} ({garment.caption})" if garment.caption else garment.file
    return (
        f"Nothing in this catalogue matches {query}{of}: the nearest is {name} with a cosine "
        f"similarity of {score:.4f}, a match has {query.min_score:g} or more. Ask in other words, "
        "or turn off auto_min_score (`--min-score -1`) to take it."
    )


def note_of_fewer(query: Query, count: int, scores: np.ndarray, whole: bool) -> str:
    """Say why there are fewer than k; scores: of all that were near, best first; whole: see
    `nearest_garments`."""
    if count == query.k:
        return ""
    of = f" of the category {query.category!r}" if query.category else ""
    of += f" that match {query.where.strip()!r}" if query.where.strip() else ""
    found = f"{count} garment{'' if count == 1 else 's'}"
    note = f"top_k is {query.k}, but only {found} {'is' if count == 1 else 'are'} found"
    if len(scores) and scores.min() < query.min_score:
        return (
            f"{note}: the others{of} have less than the minimum score {query.min_score:g} (the "
            f"best one of all has {scores.max():.4f})."
        )
    if not whole:
        return f"{note}: the nearest {MOST_VIEWS:,} photos{of} are views of these."
    return f"{note}: there are no others{of}."
