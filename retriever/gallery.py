"""An index as a page shows it: live search, browsing, facets. Plain data in, plain data out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from .backends import LocalBackend, SearchBackend
from .choosing import GROUP, nearest_garments
from .encoders.open_clip import Encoder
from .filter_text import read_filter
from .photos.catalogue import Garment
from .query import of_index, retrieve
from .query_types import Query, Result
from .search import Hit
from .store.index import GarmentIndex

MOST_HITS = 200
MOST_ROWS = 200
MOST_FACET_VALUES = 24
"""A column of more texts than this is no facet: ids and captions are not."""

MOST_FACET_NUMBERS = 12
"""Whole numbers of at most so many values are ticked, as sizes; of others a range is asked for."""

_FIELDS = {
    "text": str,
    "chunks": str,
    "negative": str,
    "negative_weight": float,
    "category": str,
    "where": str,
    "k": int,
    "diversity": float,
    "draw_from": int,
    "seed": int,
    "temperature": float,
    "min_score": float,
    "word_weight": float,
    "auto_min_score": bool,
}
_LISTS = ("pinned", "excluded")


def describe(backend: SearchBackend) -> dict[str, Any]:
    """What the page asks first: how many garments, which categories, which facets.

    Returns:
        count; generation: another one after each change of the index; encoder: its name;
        categories: [{value, count}]; facets in the table's order (see `_facet`). An index in Milvus
        has no facets.
    """
    described = {
        "count": len(backend),
        "generation": backend.manifest.get("generation", ""),
        "encoder": backend.manifest["encoder"]["name"],
        "categories": [],
        "facets": [],
    }
    if isinstance(backend, LocalBackend):
        index = backend.index
        described["categories"] = _counted(index.category_counts)
        for column in index.columns():
            if column not in ("id", "file", "category", "caption", GROUP):
                facet = _facet(index, column)
                if facet:
                    described["facets"].append({"column": column, **facet})
    return described


def _facet(index: GarmentIndex, column: str) -> dict[str, Any] | None:
    """Return how a column is chosen from.

    Returns:
        {values: [{value, count}]} of 2 to MOST_FACET_VALUES texts, or of 2 to MOST_FACET_NUMBERS
        whole numbers; {low, high} of other numbers, prices as well as half sizes; None of all else,
        and of whole numbers no two of which are alike: they are names, such as barcodes.
    """
    numbers = index.numbers_of(column)
    if numbers is None:
        counts = index.value_counts(column, MOST_FACET_VALUES)
        return {"values": _counted(counts)} if counts and len(counts) > 1 else None
    if numbers.count == 0 or numbers.low == numbers.high:
        return None
    counts = index.value_counts(column, MOST_FACET_NUMBERS)
    if counts and all(float(value).is_integer() for value in counts):
        return {"values": _counted(dict(sorted(counts.items(), key=lambda one: float(one[0]))))}
    if numbers.names or math.isinf(numbers.low) or math.isinf(numbers.high):
        return None
    return {"low": numbers.low, "high": numbers.high}


def browse(
    backend: SearchBackend, start: int, count: int, category: str = "", where: str = ""
) -> dict[str, Any]:
    """Some garments in the index's order.

    Args:
        start: the first one's place among those that match. count: how many, at most MOST_ROWS.
        category, where: as in `Query`; empty: all.

    Returns:
        total: how many match. garments: their cards (see `card`).

    Raises:
        ValueError: a number out of range, an unknown category or column, an index in Milvus.
    """
    if start < 0 or not 0 <= count <= MOST_ROWS:
        raise ValueError(
            f"start is {start}, count {count}: expected 0 or more, and 0 to {MOST_ROWS}."
        )
    if not isinstance(backend, LocalBackend):
        raise ValueError("A catalogue in Milvus can be searched, not scrolled: type what you want.")
    condition = read_filter(where) if where.strip() else None
    rows = backend.index.rows_where(condition, category or None)
    shown = backend.garments_at(rows[start : start + count])
    return {"total": len(rows), "garments": [card(garment) for garment in shown]}


def query_of(fields: Mapping[str, Any]) -> Query:
    """The query that a page describes by the names of `Query`'s fields, without images.

    Raises:
        ValueError: an unknown field, a value of another type, or one that `Query` refuses.
    """
    values = read_fields(fields)
    if values.get("k", 1) > MOST_HITS:
        raise ValueError(f"k is {values['k']}: the page shows {MOST_HITS} garments at most.")
    return Query(**values)


def read_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Query` from plain data, without images; an empty category is none.

    Raises:
        ValueError: an unknown field, or a value of another type.
    """
    values: dict[str, Any] = {}
    for name, value in fields.items():
        if name in _LISTS:
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise ValueError(f"{name} is {value!r}: expected a list of ids.")
            values[name] = tuple(value)
            continue
        kind = _FIELDS.get(name)
        if kind is None:
            raise ValueError(f"{name!r} is no part of a query: expected {', '.join(_FIELDS)}.")
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number if kind in (int, float) else isinstance(value, kind)):
            raise ValueError(f"{name} is {value!r}: expected {kind.__name__}.")
        if kind is int and value != value // 1:  # NaN and the infinite are no whole numbers either
            raise ValueError(f"{name} is {value!r}: expected a whole number.")
        try:
            values[name] = kind(value)
        except OverflowError as error:
            raise ValueError(
                f"{name} is {str(value)[:20]}... of {len(str(value))} digits: expected a number "
                "that a float can hold."
            ) from error
    if "category" in values:
        values["category"] = values["category"] or None
    return values


def search(backend: SearchBackend, encoder: Encoder, query: Query) -> dict[str, Any]:
    """What a query finds, as the node would: hits (cards with a score) and a note.

    Raises:
        ValueError: as `retrieve` does.
    """
    (result,) = retrieve(backend, encoder, [query])
    return shown(result)


def more_like(backend: SearchBackend, garment_id: str, query: Query) -> dict[str, Any]:
    """The garments whose photos are most similar to one garment's, itself not among them, nor
    other views of it.

    No encoder is needed: the index holds the photo's embedding.

    Args:
        query: its category, where, k and excluded apply; its text does not.

    Raises:
        ValueError: there is no such garment, category or column.
    """
    rows = backend.rows_of_ids([garment_id])
    if rows[0] < 0:
        raise ValueError(f"No garment of the index has the id {garment_id!r}.")
    (vector,) = backend.vectors_at(rows)
    query = of_index(backend, replace(query, word_weight=0.0))  # a photo is compared, not a text
    excluded = backend.rows_of_ids(query.excluded)
    blocked = np.concatenate([rows, excluded[excluded >= 0]])
    scores, found, _ = nearest_garments(backend, vector, query, query.k, blocked)
    near = zip(backend.garments_at(found), scores.tolist(), found.tolist(), strict=True)
    hits = [Hit(*one) for one in near]
    return shown(Result(query, hits, np.asarray(vector)))


def shown(result: Result) -> dict[str, Any]:
    """A result as plain data: hits (cards with a score, 4 decimals), note."""
    hits = [{**card(hit.garment), "score": round(hit.score, 4)} for hit in result.hits]
    return {"hits": hits, "note": result.note}


def card(garment: Garment) -> dict[str, Any]:
    """A garment as plain data: id, file, category, caption, and the table's other columns."""
    return {
        "id": garment.id,
        "file": garment.file,
        "category": garment.category,
        "caption": garment.caption,
        "columns": dict(garment.metadata),
    }


def _counted(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"value": value, "count": count} for value, count in counts.items() if value]
