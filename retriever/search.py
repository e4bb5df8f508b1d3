"""Exact search by cosine similarity, through faiss or torch, with the same result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .catalogue import Garment
from .index import GarmentIndex

BACKENDS = ("auto", "faiss", "torch")

_ROWS = 2048  # of float32 embeddings at a time: they stay in the cache of one core
_SCORES = 1 << 26  # scores held at a time
_ROUNDING = 1e-5  # a bound on what float32 sums of a unit vector's products may be off

Candidates = Callable[[int], tuple[torch.Tensor, torch.Tensor]]


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
) -> list[list[Hit]]:
    """The `k` garments of the highest cosine similarity for every query, best first.

    Ties are in the order of the garments. A `k` above the number of garments gives all of them.

    Args:
        queries: (q, dim) float32 unit vectors of the index's encoder.
        category: search among the garments of this category alone; None: among all.
        backend: `auto` is faiss where it can be used, else torch; both give the same hits.

    Raises:
        ValueError: no garments of that category, queries of another shape or not finite, k < 1.
        ImportError: backend `faiss` is asked for and missing.
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
    if backend == "auto":
        backend = "faiss" if _faiss_is_usable() else "torch"
    rows = None if category is None else index.rows_of(category)
    count = len(index) if rows is None else len(rows)
    prepare = _with_faiss if backend == "faiss" else _with_torch
    queries = queries.detach().to("cpu", torch.float32).contiguous()
    hits: list[list[Hit]] = []
    for part in queries.split(max(1, _SCORES // count)):
        candidates = prepare(index, part, rows)
        hits += _best(index, part, candidates, min(k, count), count)
    return hits


def _best(
    index: GarmentIndex, queries: torch.Tensor, candidates: Candidates, k: int, count: int
) -> list[list[Hit]]:
    """Rank candidates by scores that don't depend on the backend or a row's neighbours."""
    taken = min(count, k + 8)
    while True:
        scores, rows = candidates(taken)
        worst = scores[:, k - 1] - 2 * _ROUNDING
        # All that may tie with the k-th must be among the candidates.
        if taken == count or bool((scores[:, -1] < worst).all()):
            break
        taken = min(count, 4 * taken)
    hits = []
    for query, near, among in zip(queries, scores >= worst[:, None], rows, strict=True):
        among = among[near].sort().values
        exact = (index.embeddings[among].double() * query.double()).sum(dim=1).float()
        order = exact.argsort(descending=True, stable=True)[:k]
        found = zip(among[order].tolist(), exact[order].tolist(), strict=True)
        hits.append([Hit(index.garments[row], score, row) for row, score in found])
    return hits


def _with_torch(
    index: GarmentIndex, queries: torch.Tensor, rows: torch.Tensor | None
) -> Candidates:
    blocks = index.embeddings.split(_ROWS)
    if rows is not None:
        blocks = (index.embeddings[part] for part in rows.split(_ROWS))
    scores = torch.cat([queries @ block.float().T for block in blocks], dim=1)

    def candidates(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        best = scores.topk(count, dim=1)
        return best.values, best.indices if rows is None else rows[best.indices]

    return candidates


def _with_faiss(
    index: GarmentIndex, queries: torch.Tensor, rows: torch.Tensor | None
) -> Candidates:
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "The backend 'faiss' needs the package faiss-cpu: pip install faiss-cpu, or use "
            "'torch', which finds the same."
        ) from error
    parameters = None
    if rows is not None:
        wanted = torch.zeros(len(index), dtype=torch.bool)
        wanted[rows] = True
        bits = np.packbits(wanted.numpy(), bitorder="little")
        parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bits))

    def candidates(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        scores, found = index.faiss.search(queries.numpy(), count, params=parameters)
        return torch.from_numpy(scores), torch.from_numpy(found)

    return candidates


def _faiss_is_usable() -> bool:
    # On macOS the OpenMP runtimes of faiss and torch end the process when both are loaded.
    if sys.platform == "darwin":
        return False
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True
