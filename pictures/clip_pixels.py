"""The mean and standard deviation by which CLIP's vision towers normalise pixels."""

from __future__ import annotations

import torch

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and standard deviation of red, green and blue in 0..1 over CLIP's training photos."""


def clip_pixels(pixels: torch.Tensor) -> torch.Tensor:
    """Normalise pixels (..., 3) in 0..1 for a CLIP tower: (pixels - mean) / std, float32."""
    return (pixels - pixels.new_tensor(CLIP_MEAN)) / pixels.new_tensor(CLIP_STD)
