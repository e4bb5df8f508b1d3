"""Exact search with half the reading: scores from 8 bits a number, ranked exactly, and proven.

Every garment's score is off by no more than the length of what the 8 bits leave out. Candidates are
scored exactly; if the k-th of them is better than the last candidate's score and that bound, no
other garment can be among the k best.
"""

from __future__ import annotations

import numpy as np
import torch

from .exact import rerank

FEWEST, MOST = 5_000, 250_000
"""Garments between which this pays: fewer take no time, more would hold much memory."""

_SPARE = 64
_CANDIDATES = 4096
_BLOCK = 1 << 13
_SUMMING = 1e-4  # a bound on the rounding of the float32 sums


class EightBit:
    """Rows of (n, dim) float16 unit vectors, 8 bits a number, shared among the threads.

    Raises:
        ImportError: faiss is missing.
    """

    def __init__(self, embeddings: torch.Tensor):
        import faiss

        count, dim = embeddings.shape
        self._embeddings = embeddings
        blocks = embeddings.split(_BLOCK)
        largest = torch.stack([block.abs().amax(dim=0) for block in blocks]).amax(dim=0).float()
        self._scale = largest.clamp(min=1e-6) / 127
        left_out = 0.0
        self._shards = faiss.IndexShards(dim, True, True)
        self._parts = []
        kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
        for part in embeddings.split(-(-count // torch.get_num_threads())):
            shard = faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_INNER_PRODUCT)
            shard.is_trained = True
            for block in part.split(_BLOCK):
                single = block.float()
                codes = (single / self._scale).round()
                shard.add(codes.numpy())
                rest = torch.linalg.vector_norm(single - codes * self._scale, dim=1)
                left_out = max(left_out, float(rest.max()))
            self._shards.add_shard(shard)
            self._parts.append(shard)
        self._left_out = left_out

    def search(self, query: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The k best scores and rows for one query (dim,), ties by row; None if not proven."""
        scaled = (query * self._scale)[None].numpy()
        bound = float(query.norm()) * self._left_out + _SUMMING
        count = len(self._embeddings)
        taken = min(count, k + _SPARE)
        while taken <= max(_CANDIDATES, k):
            scores, rows = self._shards.search(scaled, taken)
            best = rerank(self._embeddings, query, torch.from_numpy(np.sort(rows[0])), k)
            if taken == count or float(best[0][-1]) > float(scores[0, -1]) + bound:
                return best
            taken = min(count, 4 * taken)
        return None
