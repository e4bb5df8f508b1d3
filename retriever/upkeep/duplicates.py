"""Near-duplicates: garments whose embeddings are almost the same, such as one photo saved twice."""

from __future__ import annotations

import numpy as np
import torch

from ..search import nearest
from ..store.index import GarmentIndex
from .build import Progress

THRESHOLD = 0.98
"""Cosine similarity from which two photos are taken for one garment: the same photo in another
size or compression is above it, another photo of the same garment mostly below."""

_NEIGHBOURS = 32
_QUERIES = 256


def find_duplicates(
    index: GarmentIndex, threshold: float = THRESHOLD, progress: Progress | None = None
) -> list[list[int]]:
    """Group rows; the first row of a group has `threshold` or more similarity to all others of it.

    A garment is in one group at most: the first that it fits into.

    Raises:
        ValueError: the threshold is not within 0 to 1.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"The threshold is {threshold}: expected a cosine similarity of 0 to 1.")
    groups: dict[int, list[int]] = {}
    grouped: set[int] = set()
    for start in range(0, len(index), _QUERIES):
        rows = index.rows[start : start + _QUERIES]
        rows = rows[np.array([row not in grouped for row in rows.tolist()], dtype=bool)]
        block = torch.nn.functional.normalize(index.vectors.at(rows).float(), dim=1)
        for row, near in zip(rows.tolist(), _above(index, block, threshold), strict=True):
            if row not in grouped:
                members = [other for other in near if other > row and other not in grouped]
                if members:
                    groups[row] = [row, *members]
                    grouped.update(members)
        if progress:
            progress(min(start + _QUERIES, len(index)), len(index))
    return list(groups.values())


def _above(index: GarmentIndex, block: torch.Tensor, threshold: float) -> list[list[int]]:
    """Return for every query the rows of at least `threshold` similarity, ascending."""
    found: list[list[int]] = [[] for _ in block]
    k, left = min(_NEIGHBOURS, len(index)), torch.arange(len(block))
    while len(left):
        scores, rows = nearest(index, block[left], k)
        near = scores >= threshold - 5e-4  # the stored vectors are rounded to half precision
        whole = ~near[:, -1] if k < len(index) else torch.ones(len(left), dtype=torch.bool)
        for place in whole.nonzero()[:, 0].tolist():
            found[left[place]] = sorted(rows[place][near[place]].tolist())
        k, left = min(len(index), 4 * k), left[~whole]
    return found
