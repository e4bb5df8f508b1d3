"""Garment photos as input of the vision tower, prepared as for the published weights' training.

All resizing is Pillow's bicubic on 8-bit pixels, as CLIP's own processor does it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageOps

from ...pictures.photos import to_rgb_on_white
from ...pictures.tensors import to_batch, to_pictures

PREPROCESS = ("fit", "whole", "paper_stretch")
GARMENT_SIZE = (384, 512)
"""Width and height in pixels that garments are fitted into first, as in training."""
CANVAS = (768, 1024)
"""Width and height of the common canvas for photos of different sizes."""
LARGEST = max(CANVAS)
"""The most pixels that a batch's photos have in height and in width."""
WHITE = (255, 255, 255)


def garment_pixels(images: torch.Tensor, mode: str = "fit", size: int = 224) -> torch.Tensor:
    """Prepare photos for the vision tower, except for its mean and std.

    `fit` puts each photo on 384x512 (padded on white, as Dress Code's photos are), takes the
    shortest edge to `size` and cuts the centre square: a photo of 3:4 loses 12.4 % at the top and
    at the bottom, as in training. `whole` pads to a square on white and loses nothing.
    `paper_stretch` stretches to 384x512 first, as the official code does.

    Args:
        images: (n, H, W, 1, 3 or 4) float in 0..1: grey, RGB, or RGBA, which is laid on white.
        mode: one of PREPROCESS.
        size: of the vision tower's input in pixels.

    Returns:
        (n, size, size, 3) float32, every value k / 255.

    Raises:
        ValueError: an unknown mode, no image, or images of another shape.
    """
    if mode not in PREPROCESS:
        raise ValueError(f"preprocess is {mode!r}; expected one of {', '.join(PREPROCESS)}.")
    return to_batch([_prepare(photo, mode, size) for photo in to_pictures(images)])


def photos_to_batch(photos: Sequence[Image.Image]) -> torch.Tensor:
    """Make one batch (n, H, W, 3) float32 in 0..1 of photos; transparency is laid on white.

    A photo larger than LARGEST is scaled down to it, in its own shape. Photos that are of one size
    then are the batch. Others are fitted, centred on white, to one canvas: to a square of LARGEST
    where none is higher than wide, else to 768x1024 (3:4, twice the size at which the method sees
    them).
    """
    photos = [photo if photo.mode == "RGB" else to_rgb_on_white(photo) for photo in photos]
    photos = [_scaled_down(photo) for photo in photos]
    if len({photo.size for photo in photos}) > 1:
        upright = any(photo.height > photo.width for photo in photos)
        photos = [_pad(photo, CANVAS if upright else (LARGEST, LARGEST)) for photo in photos]
    return to_batch(photos)


def _scaled_down(photo: Image.Image) -> Image.Image:
    scale = LARGEST / max(photo.size)
    if scale >= 1:
        return photo
    width, height = (max(1, round(side * scale)) for side in photo.size)
    return _resize(photo, (width, height))


def _prepare(photo: Image.Image, mode: str, size: int) -> Image.Image:
    if mode == "whole":
        return _pad(photo, (size, size))
    if mode == "paper_stretch":
        photo = _resize(photo, GARMENT_SIZE)
    else:
        photo = _pad(photo, GARMENT_SIZE)
    photo = _resize(photo, (size, int(size * photo.height / photo.width)))
    top = (photo.height - size) // 2
    return photo.crop((0, top, size, top + size))


def _pad(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    if photo.size == size:
        return photo
    return ImageOps.pad(photo, size, Image.Resampling.BICUBIC, color=WHITE)


def _resize(photo: Image.Image, size: tuple[int, int]) -> Image.Image:
    return photo if photo.size == size else photo.resize(size, Image.Resampling.BICUBIC)
