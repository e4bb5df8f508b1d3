"""Choosing a query's garments among the photos that are near: views, pins, draws, diversity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .backends import SearchBackend
from .query_notes import note_of_fewer, note_of_nothing
from .query_types import MOST_VIEWS, Query, Result, short_list
from .search import Hit
from .word_search import join_rankings

GROUP = "item_group_id"
"""The column that views of one product share."""


def choose(
    backend: SearchBackend,
    query: Query,
    vector: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
) -> Result:
    """Choose a query's garments among the nearest photos.

    Args:
        vector: the query's, (dim,) float32.
        scores, rows: of the photos, best first; rows are -1 where there are no more.

    Raises:
        ValueError: the index does not hold a pinned or excluded id.
    """
    pinned = _rows_of(backend, query.pinned, "pinned")
    excluded = _rows_of(backend, query.excluded, "excluded")
    blocked = np.concatenate([pinned, excluded])
    scores, rows, whole = nearest_garments(
        backend, vector, query, query.pool, blocked, (scores, rows)
    )
    good, all_rows = scores >= query.min_score, rows
    near, rows = scores[good], rows[good]
    wanted = min(query.k - len(pinned), len(rows))
    # With words the order is another: the scores that there are tell how far apart its ranks are.
    relevance = np.sort(near.astype(np.float64))[::-1].copy()
    if query.draw_from and query.temperature:
        # The k highest of these sums are a draw of k without replacement (Gumbel-top-k).
        relevance += query.temperature * _gumbel(query.seed, len(rows))
    if query.diversity and wanted:
        vectors = backend.vectors_at(np.concatenate([pinned, rows]))
        taken = _most_diverse(relevance, vectors, len(pinned), wanted, query.diversity)
    else:
        taken = (-relevance).argsort(kind="stable")[:wanted]
    taken = np.sort(taken)
    rows, chosen = np.concatenate([pinned, rows[taken]]), near[taken]
    if len(pinned):
        exact = backend.vectors_at(pinned).astype(np.float64) @ vector.astype(np.float64)
        chosen = np.concatenate([exact.astype(np.float32), chosen])
    found = zip(backend.garments_at(rows), chosen.tolist(), rows.tolist(), strict=True)
    hits = [Hit(garment, score, row) for garment, score, row in found]
    if not hits and len(scores) and query.auto_min_score:
        nearest = int(scores.argmax())
        (garment,) = backend.garments_at(all_rows[nearest : nearest + 1])
        return Result(query, hits, vector, note_of_nothing(query, garment, float(scores[nearest])))
    return Result(query, hits, vector, note_of_fewer(query, len(hits), scores, whole))


def nearest_garments(
    backend: SearchBackend,
    vector: np.ndarray,
    query: Query,
    count: int,
    blocked: np.ndarray,
    found: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Find the `count` garments nearest to a vector, each in its best view, best first.

    Args:
        vector: (dim,) float32, of unit length.
        query: its category and filter hold.
        blocked: rows that are passed over, with the other views of their products.
        found: scores and rows of the nearest photos, best first, where they are known already.

    Returns:
        scores, float32; rows, int64; and whether all photos that there are were looked through,
        where the garments are fewer than `count`.
    """
    of_groups = GROUP in backend.columns()
    taken = set(backend.values_at(blocked, GROUP)) if of_groups and len(blocked) else set()
    wanted = query.depth(count + len(blocked)) if found is None else len(found[0])
    while True:
        if found is None:
            near = backend.nearest(vector[None], wanted, query.category, query.filter)
            found = with_words(backend, query, vector, near[0][0], near[1][0])
        there = found[1] >= 0
        scores, rows = found[0][there], found[1][there]
        left = ~np.isin(rows, blocked)
        scores, rows = scores[left], rows[left]
        if of_groups:
            first = _first_views(backend.values_at(rows, GROUP), taken)
            scores, rows = scores[first], rows[first]
        whole = not there.all() or wanted >= len(backend)
        if len(rows) >= count or whole or wanted >= MOST_VIEWS:
            return scores[:count], rows[:count], whole
        wanted, found = min(max(4 * wanted, 64), MOST_VIEWS), None


def with_words(
    backend: SearchBackend, query: Query, vector: np.ndarray, scores: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Join the nearest photos with those whose texts hold the query's words."""
    if not (query.word_weight and query.words):
        return scores, rows
    count = len(rows)
    by_words = backend.nearest_by_words(query.words, vector, count, query.category, query.filter)
    return join_rankings((scores, rows), by_words, query.word_weight, count)


def _first_views(groups: Sequence[str], taken: set[str]) -> np.ndarray:
    """Return the places of the first view of each product that is not taken; '' is no product."""
    seen = taken - {""}
    places = []
    for place, group in enumerate(groups):
        if not group or group not in seen:
            places.append(place)
            seen.add(group)
    return np.array(places, dtype=np.int64)


def _rows_of(backend: SearchBackend, ids: Sequence[str], what: str) -> np.ndarray:
    ids = list(dict.fromkeys(ids))
    rows = backend.rows_of_ids(ids)
    missing = [name for name, row in zip(ids, rows.tolist(), strict=True) if row < 0]
    if missing:
        raise ValueError(
            f"{short_list(missing)} is {what}, but no garment of the index has that id: the ids "
            "are those of the catalogue's table, or the file names relative to the catalogue."
        )
    return rows


def _gumbel(seed: int, count: int) -> np.ndarray:
    # Of the generator only the raw uniform numbers are taken: they are the same everywhere.
    uniform = np.random.Generator(np.random.PCG64(seed)).random(count)
    return -np.log(-np.log(np.clip(uniform, 1e-300, 1 - 1e-16)))


def _most_diverse(
    relevance: np.ndarray, vectors: np.ndarray, pinned: int, count: int, diversity: float
) -> np.ndarray:
    """Choose positions in `relevance` by maximal marginal relevance, in the order they are taken.

    vectors: those of the pinned garments, which count as taken, and then of the candidates.
    """
    vectors = vectors.astype(np.float64)
    candidates = vectors[pinned:]
    if pinned:
        nearest = (candidates @ vectors[:pinned].T).max(axis=1)
        taken = []
    else:  # there is nothing to differ from yet
        taken = [int(relevance.argmax())]
        nearest = candidates @ candidates[taken[0]]
    while len(taken) < count:
        value = (1 - diversity) * relevance - diversity * nearest
        value[taken] = -np.inf
        taken.append(int(value.argmax()))
        nearest = np.maximum(nearest, candidates @ candidates[taken[-1]])
    return np.array(taken, dtype=np.int64)
