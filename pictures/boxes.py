"""Bounding boxes of masks."""

from __future__ import annotations

import numpy as np


def box_of(mask: np.ndarray) -> tuple[slice, slice]:
    """Return rows and columns (slices) of the smallest box around what is not 0 in a mask (H, W).

    Raises:
        IndexError: all is 0.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
