"""Search by cosine similarity, exact or by the index's approximate kind; scores are exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .catalogue import Garment
from .exact import as_rows, exact_search
from .index import GarmentIndex

BACKENDS = ("auto", "exact")


@dataclass(frozen=True)
class Hit:
    """A garment that was found. score: cosine similarity; position: its row in the index."""

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
    """The `k` garments of the highest cosine similarity for every query, best first.

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
    """The `k` rows of the highest cosine similarity for every query, best first, ties by row.

    Args:
        queries: (q, dim) float32 unit vectors of the index's encoder.
        rows: the rows to search among, int64, ascending, each once; None: all.
        backend: `auto` searches as the index's kind does, `exact` scores every row.

    Returns:
        (q, k) float32 scores and (q, k) int64 rows, filled with -inf and -1 where there are fewer.

    Raises:
        ValueError: queries of another shape or not finite, k < 1, or an unknown backend.
    """
    dim = index.embeddings.shape[1]
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
    rows = as_rows(rows)
    there = min(k, len(index) if rows is None else len(rows))
    scores = torch.full((len(queries), k), -torch.inf)
    found = torch.full((len(queries), k), -1)
    if there and len(queries):
        scores[:, :there], found[:, :there] = exact_search(index.embeddings, queries, there, rows)
    return scores, found
