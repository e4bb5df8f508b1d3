"""Search by cosine similarity, exact or by the index's approximate kind; scores are exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .photos.catalogue import Garment
from .store.index import GarmentIndex
from .vectors.approximate import Approximate
from .vectors.exact import FEW_QUERIES, exact_search, rerank

BACKENDS = ("auto", "exact")

FEW_ROWS = 5_000
"""Up to this many rows of a filter are all scored, whatever the kind of the index."""

MOST_CANDIDATES = 4096
"""A search that would need more candidates for its k is exact."""


@dataclass(frozen=True)
class Hit:
    """A garment that was found, with its score.

    score: cosine similarity. position: its row in the index.
    """

    garment: Garment
    score: float
    position: int


def search(
    index: GarmentIndex,
    queries: torch.Tensor,
    k: int,
    category: str | None = None,
    backend: str = "auto",
    rows: np.ndarray | torch.Tensor | None = None,
) -> list[list[Hit]]:
    """Find the `k` garments of the highest cosine similarity for every query, best first.

    Ties are in the order of the garments. A `k` above the number of garments gives all of them.

    Args:
        queries: (q, dim) float32 unit vectors of the index's encoder.
        category: search among the garments of this category alone; None: among all.
        backend: see `nearest`.
        rows: search among these rows alone, int64, ascending; None: among all. With a category,
            among those of both.

    Raises:
        ValueError: no garments of that category, queries of another shape or not finite, k < 1.
    """
    if category is not None:
        of_category = index.rows_where(None, category)
        rows = of_category if rows is None else np.intersect1d(of_category, rows)
    scores, found = nearest(index, queries, k, rows, backend)
    return [
        [Hit(index.garment(row), score, row) for score, row in zip(*pair, strict=True) if row >= 0]
        for pair in zip(scores.tolist(), found.tolist(), strict=True)
    ]


def nearest(
    index: GarmentIndex,
    queries: torch.Tensor,
    k: int,
    rows: np.ndarray | torch.Tensor | None = None,
    backend: str = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the `k` rows of the highest cosine similarity for every query, best first.

    Ties are in the order of the rows.

    Args:
        queries: (q, dim) float32 unit vectors of the index's encoder.
        rows: rows that hold a garment, to search among, int64, ascending, each once; None: all.
        backend: `auto` searches as the index's kind does, `exact` scores every row.

    Returns:
        (q, k) float32 scores and (q, k) int64 rows, filled with -inf and -1 where there are fewer.

    Raises:
        ValueError: queries of another shape or not finite, k < 1, or an unknown backend.
    """
    dim = index.vectors.dim
    if queries.ndim != 2 or queries.shape[1] != dim or not queries.isfinite().all():
        raise ValueError(
            f"The queries have shape {tuple(queries.shape)}; expected (n, {dim}) finite numbers, "
            f"the embeddings of the encoder {index.manifest['encoder']['name']!r}."
        )
    if k < 1:
        raise ValueError(f"k is {k}: ask for at least one garment.")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}: expected one of {', '.join(BACKENDS)}.")
    queries = queries.detach().to("cpu", torch.float32).contiguous()
    if rows is not None:
        rows = np.asarray(rows, dtype=np.int64)
    there = min(k, len(index) if rows is None else len(rows))
    scores = torch.full((len(queries), k), -torch.inf)
    found = torch.full((len(queries), k), -1)
    if there and len(queries):
        approximate = None if backend == "exact" else _worth_it(index, there, rows)
        pair = (
            _exact_search(index, queries, there, rows)
            if approximate is None
            else _approximate_search(index, approximate, queries, there, rows)
        )
        scores[:, :there], found[:, :there] = pair
    return scores, found


def _exact_search(
    index: GarmentIndex, queries: torch.Tensor, k: int, rows: np.ndarray | None
) -> tuple[torch.Tensor, torch.Tensor]:
    if rows is None and len(queries) <= FEW_QUERIES and index.eight_bit is not None:
        found = [index.eight_bit.search(query, k) for query in queries]
        pairs = [pair for pair in found if pair is not None]
        if len(pairs) == len(found):
            return torch.stack([s for s, _ in pairs]), torch.stack([r for _, r in pairs])
    return exact_search(index.vectors, queries, k, rows)


def _worth_it(index: GarmentIndex, k: int, rows: np.ndarray | None) -> Approximate | None:
    """Return the approximate search; None where scoring every row is as fast, or k is too large."""
    if index.kind.name == "exact" or (rows is not None and len(rows) <= FEW_ROWS):
        return None
    return None if 4 * k > MOST_CANDIDATES else index.approximate


def _approximate_search(
    index: GarmentIndex,
    approximate: Approximate,
    queries: torch.Tensor,
    k: int,
    rows: np.ndarray | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    vectors, end = index.vectors, approximate.end
    added, filed = None, len(vectors) - (len(index.added[0]) if index.added else 0)
    if rows is not None and end <= rows[-1]:
        own = rows[np.searchsorted(rows, end) :]
        added = exact_search(vectors, queries, min(k, len(own)), own)[1].numpy()
    elif rows is None and index.added:
        own, theirs = index.added
        added = own[exact_search(theirs, queries, min(k, len(own)))[1].numpy()]
    if rows is None and approximate.filed > filed:
        rows = index.rows  # some of those in the file were removed since
    found = approximate.candidates(queries, max(index.kind.candidates, 4 * k), index.kind, rows)
    if added is not None:
        found = np.concatenate([found, added], axis=1)
    pairs = []
    for query, near in zip(queries, found, strict=True):
        near = np.sort(near[near >= 0])
        if len(near) < k:  # the cells that were looked at hold too few of the wanted rows
            pair = exact_search(vectors, query[None], k, rows)
            pairs.append((pair[0][0], pair[1][0]))
        else:
            pairs.append(rerank(vectors, query, near, k))
    return torch.stack([s for s, _ in pairs]), torch.stack([r for _, r in pairs])
