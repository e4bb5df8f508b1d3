"""Pictures as ComfyUI's IMAGE tensors, and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_pictures(images: torch.Tensor) -> list[Image.Image]:
    """An IMAGE batch as RGB pictures, transparency laid on white.

    Args:
        images: (n, H, W, channels) float in 0..1, with 1 channel (grey), 3 (RGB) or 4 (RGBA).

    Raises:
        ValueError: the batch is empty, or of another shape.
    """
    if images.ndim != 4 or images.shape[-1] not in _MODES:
        raise ValueError(
            f"The images have the shape {tuple(images.shape)}; expected (batch, height, width, "
            "channels) with 1 (grey), 3 (RGB) or 4 channels (RGBA)."
        )
    if 0 in images.shape:
        raise ValueError(
            f"There is no picture among the images: the batch is empty, its shape is "
            f"{tuple(images.shape)}. See whether the node before found anything."
        )
    mode = _MODES[images.shape[-1]]
    pixels = images.float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    pixels = pixels[..., 0] if mode == "L" else pixels
    return [_on_white(Image.fromarray(picture)) for picture in pixels]


def to_batch(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """RGB pictures of one size as an IMAGE batch (n, H, W, 3) float32 in 0..1."""
    pixels = np.stack([np.asarray(picture, dtype=np.uint8) for picture in pictures])
    return torch.from_numpy(pixels).float() / 255


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")
