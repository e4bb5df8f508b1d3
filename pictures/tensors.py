"""Batches of pictures as hosts pass them on, with any number of channels."""

from __future__ import annotations

import torch


def rgb_on_white(images: torch.Tensor) -> torch.Tensor:
    """Pictures (..., channels) float in 0..1 as (..., 3): transparency is laid on white.

    Three channels stay as they are; one is grey, two are grey with alpha, four RGB with alpha, as
    background removers and loaders of single channels give them.

    Raises:
        ValueError: another number of channels.
    """
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
