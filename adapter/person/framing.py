"""Fitting a whole photo onto the model's canvas, and pasting the model's picture back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ...pictures.photos import to_rgb_on_white
from .inpainting import composite, fit_mask, resize, resize_mask
from .mask_files import mask_from_picture


@dataclass(frozen=True)
class Framed:
    """A photo, its mask and its keypoints on a canvas that the photo fits into."""

    image: torch.Tensor
    """(1, height, width, 3) float32 in 0..1; beside the photo its edge goes on."""
    mask: torch.Tensor
    """(1, height, width) float32 in 0..1, continued likewise, so that no garment is cut off."""
    keypoints: np.ndarray | None
    """(18, 3): x, y in pixels of the canvas, confidence."""
    box: tuple[int, int, int, int]
    """Where the photo lies on the canvas: left, top, right, bottom."""


def frame(
    photo: Image.Image,
    mask: Image.Image | np.ndarray,
    keypoints: np.ndarray | None,
    size: tuple[int, int],
) -> Framed:
    """Fit a photo into the canvas `size` (height, width), centred; the same size stays as it is.

    Args:
        photo: any mode.
        mask: white = repaint (a picture is read as `mask_from_picture` does); an array is (h, w)
            in 0..1, or 0..255 if it is of integers. Of another size than the photo, it is resized
            to it.
        keypoints: (18, 3), x and y in pixels of the photo.

    Raises:
        ValueError: the mask has other proportions than the photo, or is none.
    """
    height, width = size
    photo = rgb_photo(photo)
    scale = min(height / photo.height, width / photo.width)
    inner = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    box = (left, top, left + inner[0], top + inner[1])
    edge = ((top, height - box[3]), (left, width - box[2]))

    pixels = photo
    if pixels.size != inner:
        pixels = pixels.resize(inner, Image.Resampling.BICUBIC)
    image = np.pad(np.asarray(pixels, dtype=np.float32) / 255, (*edge, (0, 0)), mode="edge")
    inside = fit_mask(mask_tensor(mask), (photo.height, photo.width))
    inside = resize_mask(inside, (inner[1], inner[0]))[0].numpy()
    if keypoints is not None:
        keypoints = np.array(keypoints, dtype=np.float32)
        keypoints[:, 0] = keypoints[:, 0] * inner[0] / photo.width + left
        keypoints[:, 1] = keypoints[:, 1] * inner[1] / photo.height + top
    return Framed(
        image=torch.from_numpy(image)[None],
        mask=torch.from_numpy(np.pad(inside, edge, mode="edge"))[None],
        keypoints=keypoints,
        box=box,
    )


def unframe(
    generated: torch.Tensor,
    box: tuple[int, int, int, int],
    photo: Image.Image,
    mask: Image.Image | np.ndarray,
    feather: int,
) -> Image.Image:
    """Cut the photo out of the model's picture (1, height, width, 3) and paste it back.

    The result has the photo's size and, outside the mask, its very pixels (see `composite`).
    """
    left, top, right, bottom = box
    photo = rgb_photo(photo)
    generated = generated[:, top:bottom, left:right].movedim(-1, 1)
    if generated.shape[-2:] != (photo.height, photo.width):
        generated = resize(generated, (photo.height, photo.width))
    pixels = torch.from_numpy(np.array(photo, dtype=np.float32) / 255)[None]
    return to_picture(composite(pixels, generated.movedim(1, -1), mask_tensor(mask), feather))


def mask_tensor(mask: Image.Image | np.ndarray) -> torch.Tensor:
    """Return a mask as float32 (1, h, w) in 0..1."""
    if isinstance(mask, Image.Image):
        return torch.from_numpy(mask_from_picture(mask))[None]
    values = np.asarray(mask)
    full = 255 if values.dtype == np.uint8 and values.max(initial=0) > 1 else 1
    return torch.from_numpy(values.astype(np.float32) / full)[None]


def rgb_photo(photo: Image.Image) -> Image.Image:
    """Return a photo as RGB, itself if it is RGB already; transparency is laid on white."""
    if photo.mode == "RGB" and not photo.has_transparency_data:
        return photo
    return to_rgb_on_white(photo) if photo.has_transparency_data else photo.convert("RGB")


def to_picture(image: torch.Tensor) -> Image.Image:
    """Turn the first of a batch (b, H, W, 3) float in 0..1 into a picture."""
    pixels = image[0].float().clamp(0, 1).mul(255).round().byte().cpu().numpy()
    return Image.fromarray(pixels)
