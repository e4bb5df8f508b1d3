"""Exact search: every garment is scored.

The scores are first taken in half precision, straight from the memory-mapped embeddings, which is
as fast as memory can be read; all that could be among the best by the bound of that rounding are
then scored exactly. The result is that of exact scores, ties in the order of the rows.
"""

from __future__ import annotations

import numpy as np
import torch

from .blocks import Vectors

FEW_QUERIES = 6
"""Up to this many queries are scored one by one in half precision; more share float32 blocks."""

_ROWS = 512  # of float32 embeddings at a time: they stay in the cache of one core
_GATHERED = 4096  # rows of half-precision embeddings that are copied together
_HALF_ERROR = 1e-3  # of a half-precision score of unit vectors: 2**-11 and 2**-12 of rounding
_SINGLE_ERROR = 1e-5  # of a float32 sum of a unit vector's products
_SPARE = 64  # scores beyond the k-th that may be as good but for rounding
_SCORES = 1 << 26  # scores held at a time
_QUERIES = 4096  # queries at a time

Found = tuple[torch.Tensor, torch.Tensor]


def exact_search(
    vectors: Vectors, queries: torch.Tensor, k: int, rows: np.ndarray | None = None
) -> Found:
    """Find the `k` rows of the highest cosine similarity for every query, best first.

    Args:
        queries: (q, dim) float32 unit vectors, on the CPU.
        k: at most the number of rows to search among.
        rows: the rows to search among, int64, ascending, none of them removed; None: all.

    Returns:
        (q, k) float32 scores and (q, k) int64 rows.
    """
    found = [_search(vectors, part, k, rows) for part in queries.split(_QUERIES) if len(part)]
    return torch.cat([scores for scores, _ in found]), torch.cat([near for _, near in found])


def _search(vectors: Vectors, queries: torch.Tensor, k: int, rows: np.ndarray | None) -> Found:
    """Score block by block of the garments, so that each is read once and few scores are held."""
    size = max(_ROWS, _SCORES // len(queries))
    scores, near = [], []
    for start, block, local in vectors.blocks(size) if rows is None else vectors.chosen(rows, size):
        there = len(block) - len(local) if rows is None else len(local)
        if there:
            wanted, removed = (None, local) if rows is None else (torch.from_numpy(local), None)
            best = _search_block(block, queries, min(k, there), wanted, removed)
            scores.append(best[0])
            near.append(best[1] + start)
    if len(scores) == 1:
        return scores[0], near[0]
    joined = torch.cat(scores, dim=1)  # equal scores are in the order of the rows already
    order = joined.argsort(dim=1, descending=True, stable=True)[:, :k]
    return joined.gather(1, order), torch.cat(near, dim=1).gather(1, order)


def _search_block(
    embeddings: torch.Tensor,
    queries: torch.Tensor,
    k: int,
    rows: torch.Tensor | None,
    removed: np.ndarray | None,
) -> Found:
    few = len(queries) <= FEW_QUERIES
    scores = (_half_scores if few else _single_scores)(embeddings, queries, rows)
    error = _HALF_ERROR if few else _SINGLE_ERROR
    found = _best(embeddings, queries, scores, k, rows, removed, error)
    return torch.stack([s for s, _ in found]), torch.stack([r for _, r in found])


def rerank(vectors: Vectors, query: torch.Tensor, candidates: np.ndarray, k: int) -> Found:
    """Find the `k` best of the candidate rows (int64, ascending) for one query (dim,), exactly."""
    exact = exact_scores(vectors, query, candidates)
    order = exact.argsort(descending=True, stable=True)[:k]
    return exact[order], torch.from_numpy(candidates)[order]


def exact_scores(vectors: Vectors, query: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """Compute cosine similarities of rows to one query, float32.

    A row's score does not depend on which other rows are asked for.
    """
    # By numpy, on one thread: torch would wake the others for a fraction of a millisecond's work.
    scores = [np.empty(0, np.float32)]
    for start in range(0, len(rows), _GATHERED):
        gathered = vectors.at(rows[start : start + _GATHERED]).numpy().astype(np.float64)
        gathered *= query.double().numpy()
        scores.append(gathered.sum(axis=1).astype(np.float32))
    return torch.from_numpy(np.concatenate(scores))


def _best(
    embeddings: torch.Tensor,
    queries: torch.Tensor,
    scores: torch.Tensor,
    k: int,
    rows: torch.Tensor | None,
    removed: np.ndarray | None,
    error: float,
) -> list[Found]:
    found = []
    if removed is not None and len(removed):
        scores[:, torch.from_numpy(removed)] = -torch.inf
    top = scores.topk(min(scores.shape[1], k + _SPARE), dim=1)
    worst = top.values[:, k - 1].float() - 2 * error
    for number, query in enumerate(queries):
        values = top.values[number].float()
        if len(values) == scores.shape[1] or values[-1] < worst[number]:
            near = top.indices[number][values >= worst[number]].sort().values
        else:
            near = (scores[number] >= worst[number]).nonzero().squeeze(1)
        rough, near = scores[number, near], (near if rows is None else rows[near])
        exact = exact_scores(Vectors([embeddings]), query, near.numpy())
        if error == _HALF_ERROR and (exact - rough).abs().max() > error:
            # A processor that also adds up in half precision: its scores choose nothing.
            precise = _single_scores(embeddings, query[None], rows)
            found += _best(embeddings, query[None], precise, k, rows, removed, _SINGLE_ERROR)
            continue
        order = exact.argsort(descending=True, stable=True)[:k]
        found.append((exact[order], near[order]))
    return found


def _half_scores(
    embeddings: torch.Tensor, queries: torch.Tensor, rows: torch.Tensor | None
) -> torch.Tensor:
    if rows is not None:
        parts = (embeddings.index_select(0, part) for part in rows.split(_GATHERED))
        return torch.cat([_half_scores(part, queries, None) for part in parts], dim=1)
    return torch.stack([embeddings @ query for query in queries.half()])


def _single_scores(
    embeddings: torch.Tensor, queries: torch.Tensor, rows: torch.Tensor | None
) -> torch.Tensor:
    if rows is None:
        blocks = embeddings.split(_ROWS)
    else:
        blocks = (embeddings.index_select(0, part) for part in rows.split(_ROWS))
    return torch.cat([queries @ block.float().T for block in blocks], dim=1)
