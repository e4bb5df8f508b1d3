"""Converting batches of pictures, as hosts pass them on, to RGB and to Pillow's pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image


def rgb_on_white(images: torch.Tensor) -> torch.Tensor:
    """Turn pictures (..., channels) float in 0..1 into (..., 3): transparency is laid on white.

    Three channels stay as they are; one is grey, two are grey with alpha, four RGB with alpha, as
    background removers and loaders of single channels give them.

    Raises:
        ValueError: there is no picture, or another number of channels.
    """
    if 0 in images.shape:
        raise ValueError(
            "There is no picture among the images: the batch is empty, its shape is "
            f"{tuple(images.shape)}. See whether the node before found anything."
        )
    channels = images.shape[-1]
    if channels == 3:
        return images
    if channels not in (1, 2, 4):
        raise ValueError(
            f"the picture has the shape {tuple(images.shape)}, expected (batch, height, width, 3)."
        )
    colours = images[..., : 3 if channels == 4 else 1]
    if channels != 1:
        alpha = images[..., -1:].clamp(0, 1)
        colours = colours * alpha + (1 - alpha)
    return colours.expand(*images.shape[:-1], 3)


def to_pictures(images: torch.Tensor) -> list[Image.Image]:
    """Turn an IMAGE batch into RGB pictures, transparency laid on white.

    Args:
        images: (n, H, W, channels) float in 0..1, see `rgb_on_white`.

    Raises:
        ValueError: the batch is empty, or of another shape.
    """
    if images.ndim != 4:
        raise ValueError(
            f"The images have the shape {tuple(images.shape)}; expected (batch, height, width, "
            "channels)."
        )
    pixels = rgb_on_white(images.float()).clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return [Image.fromarray(picture) for picture in pixels]


def to_batch(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Turn RGB pictures of one size into an IMAGE batch (n, H, W, 3) float32 in 0..1."""
    pixels = np.stack([np.asarray(picture, dtype=np.uint8) for picture in pictures])
    return torch.from_numpy(pixels).float() / 255
