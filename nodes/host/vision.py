"""The CLIP_VISION socket: garment photos through the vision tower."""

from __future__ import annotations

import comfy.clip_vision
import torch

from ...adapter.garment.garment_images import garment_pixels
from ...retriever.encoders.batches import in_smaller_batches
from .progress import progress_bar

BATCH = 16
"""Photos that go through the vision tower at a time."""

ClipVision = comfy.clip_vision.ClipVisionModel


def vision_features(clip_vision: ClipVision, images: torch.Tensor, preprocess: str) -> torch.Tensor:
    """Encode garment photos with the vision tower, for the inversion adapter.

    Args:
        images: (n, H, W, 1, 3 or 4) float in 0..1.
        preprocess: one of adapter.garment.garment_images.PREPROCESS.

    Returns:
        (n, tokens, width) float32 on the CPU, before the tower's post-layernorm.

    Raises:
        ValueError: no image, or images of another shape.
    """
    report = progress_bar()
    pixels = garment_pixels(images, preprocess, clip_vision.image_size)
    features = []
    for start in range(0, len(pixels), BATCH):
        report(start, len(pixels))
        features.append(encode(clip_vision, pixels[start : start + BATCH], "last_hidden_state"))
    report(len(pixels), len(pixels))
    return torch.cat(features)


def encode(clip_vision: ClipVision, pixels: torch.Tensor, output: str) -> torch.Tensor:
    """Encode pixels of the tower's own size, in smaller batches where memory is short.

    Args:
        pixels: (n, size, size, 3) float in 0..1.
        output: `last_hidden_state` (n, tokens, width), or `image_embeds` (n, dim).

    Returns:
        The output, float32 on the CPU.
    """
    return in_smaller_batches(
        lambda part: clip_vision.encode_image(part)[output].float().cpu(), pixels
    )
