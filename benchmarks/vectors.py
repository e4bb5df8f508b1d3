"""Vectors like those of garment photos and texts under CLIP, as many as are wanted.

Photos: a common mean, around which the garments lie in clusters whose variances fall off
exponentially over the directions; their participation ratio, (sum of variances)^2 / sum of
squares, is the intrinsic dimension, some 50. Texts: apart from all photos (the text-image gap), and
only partly in the direction of any garment, so that the best cosine similarity is about 0.3.
"""

from __future__ import annotations

import torch

DIM = 768
CLUSTERS = 2000

_DIRECTIONS = 256
_FALL = 25.0  # directions over which the variance falls by e; the participation ratio is twice it
_IN_CLUSTER = 0.5  # of the variance
_MEAN, _SPREAD = 0.65, 0.76  # of a photo
_GAP, _COMMON, _MEANING = 0.83, 0.05, 0.56  # of a text: its own mean, the photos', the garment


class Generator:
    """The same vectors each time, in blocks of any numbers."""

    def __init__(self, seed: int = 0):
        random = torch.Generator().manual_seed(seed)
        axes = torch.linalg.qr(torch.randn(DIM, _DIRECTIONS + 2, generator=random))[0].T
        self._photo_mean, self._text_mean, self._axes = axes[0], axes[1], axes[2:]
        variance = torch.exp(-torch.arange(_DIRECTIONS) / _FALL)
        self._scale = (variance / variance.sum()).sqrt()
        self._centres = torch.randn(CLUSTERS, _DIRECTIONS, generator=random)
        shares = 1 / torch.arange(1, CLUSTERS + 1) ** 0.7
        self._shares = shares / shares.sum()
        self._seed = seed

    def photos(self, block: int, count: int) -> torch.Tensor:
        """(count, DIM) float32 unit vectors of the block of that number."""
        random = torch.Generator().manual_seed(self._seed + 1_000_003 * (1 + block))
        garments = self._garments(count, random) * self._scale
        return torch.nn.functional.normalize(
            _MEAN * self._photo_mean + _SPREAD * (garments @ self._axes), dim=1
        )

    def texts(self, count: int) -> torch.Tensor:
        """(count, DIM) float32 unit vectors."""
        random = torch.Generator().manual_seed(self._seed + 999_999_937)
        garments = self._garments(count, random)
        vague = torch.randn(garments.shape, generator=random)
        meant = 0.7 * (garments + vague) * self._scale
        return torch.nn.functional.normalize(
            _GAP * self._text_mean + _COMMON * self._photo_mean + _MEANING * (meant @ self._axes),
            dim=1,
        )

    def _garments(self, count: int, random: torch.Generator) -> torch.Tensor:
        cluster = torch.multinomial(self._shares, count, replacement=True, generator=random)
        own = torch.randn(count, _DIRECTIONS, generator=random)
        return _IN_CLUSTER**0.5 * self._centres[cluster] + (1 - _IN_CLUSTER) ** 0.5 * own


def intrinsic_dimension(vectors: torch.Tensor) -> float:
    """The participation ratio of the variances of (n, dim) float32 vectors."""
    variances = torch.linalg.eigvalsh(torch.cov(vectors.T))
    return float(variances.sum() ** 2 / (variances**2).sum())
