"""The face in a label map, whose label it shares with neck and chest."""

from __future__ import annotations

import numpy as np

_HEIGHT = 1.25
"""Of a face, in its widths."""


def face_width(face: np.ndarray) -> int:
    """Return the width of a face, (H, W) bools, in pixels; neck and chest are left out."""
    rows = np.flatnonzero(face.any(axis=1))
    if not len(rows):
        return 0
    upper = face[rows[0] : rows[0] + max(1, len(rows) // 2)]
    return int(upper.sum(axis=1).max())


def chin_row(face: np.ndarray) -> int:
    """Return the row below a face, (H, W) bools, neck and chest left out; 0 without a face.

    A face is taken to be not much longer than it is wide.
    """
    rows = np.flatnonzero(face.any(axis=1))
    return int(rows[0]) + round(_HEIGHT * face_width(face)) if len(rows) else 0
