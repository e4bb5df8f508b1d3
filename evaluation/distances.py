"""Distances between two sets of features: Fréchet (FID) and kernel (KID).

The formulas are clean-fid's; they are worked out so that thousands of resampled sets cost little.
"""

from __future__ import annotations

import numpy as np

from .statistics import Figure, resampled_distance

_WIDE = 512  # features from which on fewer resamples have to do


def frechet_distance(features: np.ndarray, truth: np.ndarray) -> float:
    """Compute the Fréchet distance of Gaussians fitted to (n, d), (m, d); Heusel et al. 2017.

    The trace of the covariances' geometric mean is taken as the sum of the singular values of
    (X - mean)(Y - mean)^T, scaled: the same, also where there are fewer samples than features.
    """
    x, y = (np.asarray(part, np.float64) for part in (features, truth))
    means = x.mean(axis=0) - y.mean(axis=0)
    x, y = ((part - part.mean(axis=0)) / np.sqrt(len(part) - 1) for part in (x, y))
    if len(x) > x.shape[1]:  # then a triangle (d, d) has the same covariance
        x, y = (np.linalg.qr(part, mode="r") for part in (x, y))
    shared = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(means @ means + (x * x).sum() + (y * y).sum() - 2 * shared)


def kernel_distance(features: np.ndarray, truth: np.ndarray) -> float:
    """Compute the squared maximum mean discrepancy of whole sets (n, d), (m, d), without bias.

    The kernel is (x·y / d + 1)^3; Bińkowski et al. 2018.
    """
    return _Kernel(features, truth).distance()


class _Kernel:
    def __init__(self, features: np.ndarray, truth: np.ndarray):
        x, y = (np.asarray(part, np.float64) for part in (features, truth))
        self.xx, self.yy, self.xy = (
            (a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))
        )

    def distance(self, rows: np.ndarray | None = None) -> float:
        """Return the distance of the whole sets, or of the same `rows` of both."""
        xx, yy, xy = self.xx, self.yy, self.xy
        if rows is not None:
            grid = np.ix_(rows, rows)
            xx, yy, xy = xx[grid], yy[grid], xy[grid]
        within = (
            (part.sum() - np.trace(part)) / (len(part) * (len(part) - 1)) for part in (xx, yy)
        )
        return float(sum(within) - 2 * xy.mean())


def distance_figures(features: np.ndarray, truth: np.ndarray) -> tuple[Figure, Figure]:
    """Compute Fréchet and kernel distance of pictures to truths, both (n, d) in the same order.

    For the intervals pictures and truths are drawn together.
    """
    count = len(features)
    resamples = 20 if features.shape[1] >= _WIDE else 200
    kernel = _Kernel(features, truth)
    return (
        resampled_distance(
            frechet_distance(features, truth),
            lambda rows: frechet_distance(features[rows], truth[rows]),
            count,
            resamples,
        ),
        resampled_distance(kernel.distance(), kernel.distance, count, resamples),
    )
