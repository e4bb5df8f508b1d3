"""Exact search that reads half as much: candidates by 8-bit scores, ranked exactly and proven.

Every garment's score is off by no more than the length of what the 8 bits leave out. Candidates are
scored exactly; if the k-th of them is better than the last candidate's score and that bound, no
other garment can be among the k best.
"""

from __future__ import annotations

import numpy as np
import torch

from .blocks import Vectors
from .exact import rerank

FEWEST, MOST = 5_000, 250_000
"""Numbers of garments between which this pays: fewer take no time, more would take much memory."""

_SPARE = 64
_FIRST = 6
_CANDIDATES = 4096
_BLOCK = 1 << 13
_SUMMING = 1e-4  # a bound on the rounding of the float32 sums


class EightBit:
    """Unit vectors of an index in 8 bits a number, in one list a thread.

    Raises:
        ImportError: faiss is missing.
    """

    def __init__(self, vectors: Vectors):
        import faiss

        dim = vectors.dim
        self._vectors = vectors
        blocks = [block.abs().amax(dim=0) for _, block in vectors.copied(_BLOCK)]
        largest = torch.stack(blocks).amax(dim=0).float()
        self._scale = largest.clamp(min=1e-6) / 127
        left_out = 0.0
        # Of faiss's 8-bit kinds the fastest that leaves the query as it is: the direct ones round
        # it to 8 bits too, which turns a unit vector into zeros.
        kind = faiss.ScalarQuantizer.QT_8bit_uniform
        lists = torch.get_num_threads()
        self._index = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim), dim, lists, kind, faiss.METRIC_INNER_PRODUCT, False
        )
        # A code is decoded as the first number and (code + 0.5) / 255 of the second.
        faiss.copy_array_to_vector(np.array([-128.5, 255], np.float32), self._index.sq.trained)
        self._index.quantizer.add(np.zeros((lists, dim), np.float32))
        self._index.is_trained = True
        # All lists are read for every query, each by a thread.
        self._index.nprobe, self._index.parallel_mode = lists, 1
        for rows, block in vectors.copied(_BLOCK):
            single = block.float()
            codes = (single / self._scale).round()
            of_list = (rows - vectors.first) * lists // (vectors.end - vectors.first)
            self._index.add_core(len(rows), *map(faiss.swig_ptr, (codes.numpy(), rows, of_list)))
            rest = torch.linalg.vector_norm(single - codes * self._scale, dim=1)
            left_out = max(left_out, float(rest.max()))
        self._left_out = left_out

    def search(self, query: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Find the k best scores and rows for one query (dim,), ties by row; None if not proven."""
        scaled = (query * self._scale)[None].numpy()
        bound = float(query.norm()) * self._left_out + _SUMMING
        count = len(self._vectors)
        taken = min(count, k + _SPARE)
        while taken <= max(_CANDIDATES, k):
            scores, rows = (found[0] for found in self._index.search(scaled, taken))
            # At least this good is the k-th: the best by 8 bits, less what those may be off by.
            worst = self._rank(query, rows[: k + _FIRST], k)[0][-1].item()
            if taken == count or worst > float(scores[-1]) + bound:
                return self._rank(query, rows[scores + bound >= worst], k)
            taken = min(count, 4 * taken)
        return None

    def _rank(self, query: torch.Tensor, rows: np.ndarray, k: int):
        return rerank(self._vectors, query, np.sort(rows), k)
