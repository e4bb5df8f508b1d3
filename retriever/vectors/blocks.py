"""Unit vectors of an index: rows in several tensors, numbered through, some of them removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np
import torch

Block = tuple[int, torch.Tensor, np.ndarray]
"""The number of a tensor's first row, the tensor, and rows of it: int64, ascending, from 0."""

_NONE = np.empty(0, np.int64)


class Vectors:
    """Rows of float16 unit vectors in tensors (n, dim) that follow each other, some rows removed.

    first, end: the number of the first row, and the number after the last one, removed ones
    included. starts: the numbers of the tensors' first rows, and `end`. dim: numbers in a vector.
    len(): how many rows are not removed.
    """

    def __init__(
        self,
        tensors: Sequence[torch.Tensor],
        removed: Sequence[np.ndarray] | None = None,
        first: int = 0,
    ):
        """
        Args:
            removed: for each tensor its removed rows, int64, ascending.
            first: the number of the first row.
        """
        self.tensors = list(tensors)
        self.removed = list(removed) if removed is not None else [_NONE] * len(self.tensors)
        self.starts = np.array([*accumulate(map(len, self.tensors), initial=first)], np.int64)
        self.first, self.end = first, int(self.starts[-1])
        self.dim = self.tensors[0].shape[1]

    def __len__(self) -> int:
        return self.end - self.first - sum(map(len, self.removed))

    def rows(self) -> np.ndarray:
        """Return the numbers of the rows that are not removed: int64, ascending."""
        there = np.ones(self.end - self.first, dtype=bool)
        for start, gone in zip(self.starts - self.first, self.removed, strict=False):
            there[start + gone] = False
        return np.flatnonzero(there) + self.first

    def later(self, row: int) -> Vectors:
        """Return the tensors that start at `row` or after it; there must be one."""
        skipped = int(np.searchsorted(self.starts, row))
        return Vectors(self.tensors[skipped:], self.removed[skipped:], int(self.starts[skipped]))

    def at(self, rows: np.ndarray) -> torch.Tensor:
        """Copy the vectors of rows, in their order: (len(rows), dim) float16."""
        # By numpy, on one thread: torch would wake the others for a fraction of a millisecond.
        if len(self.tensors) == 1:
            return torch.from_numpy(self.tensors[0].numpy()[rows - self.first])
        found = np.empty((len(rows), self.dim), np.float16)
        of_tensor = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(of_tensor):
            wanted = of_tensor == number
            found[wanted] = self.tensors[number].numpy()[rows[wanted] - self.starts[number]]
        return torch.from_numpy(found)

    def blocks(self, size: int) -> Iterator[Block]:
        """Yield all rows in tensors of at most `size`: (first row, tensor, places removed)."""
        for start, tensor, gone in zip(
            self.starts.tolist(), self.tensors, self.removed, strict=False
        ):
            for first in range(0, len(tensor), size):
                low, high = np.searchsorted(gone, (first, first + size))
                yield start + first, tensor[first : first + size], gone[low:high] - first

    def chosen(self, rows: np.ndarray, size: int) -> Iterator[Block]:
        """Yield given rows (ascending), at most `size` at a time: (first row, tensor, places)."""
        cuts = np.searchsorted(rows, self.starts)
        for number, tensor in enumerate(self.tensors):
            start = int(self.starts[number])
            for first in range(cuts[number], cuts[number + 1], size):
                last = min(first + size, cuts[number + 1])
                yield start, tensor, rows[first:last] - start

    def copied(self, size: int) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Yield the rows that are not removed, about `size` at a time: (numbers, vectors)."""
        for start, block, gone in self.blocks(size):
            there = np.delete(np.arange(len(block)), gone)
            if len(there):
                yield start + there, block if not len(gone) else block[torch.from_numpy(there)]
