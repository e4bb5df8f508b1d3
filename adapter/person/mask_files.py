"""Reading inpainting masks, as people draw, paint, cut and export them, to values from 0 to 1.

`read_mask` reads files and `mask_from_picture` pictures; `normalise_mask` is for tensors.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...pictures.photos import open_values

logger = logging.getLogger(__name__)

THRESHOLD = 0.5
"""From this value on a mask's pixel is repainted."""

_PAINT_WHITE = "Paint the part to be dressed white on black."
_SHAPE_SLACK = 0.02
_CELL_ROUNDING = 4.01
# Colours are told apart by their four highest bits; a colour counts from this share on.
_STEP, _SHARE = 16, 0.005
_GREY = 24
"""Channels that differ by less than this make a grey."""


def read_mask(path: Path, photo: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask file; see `mask_from_picture`.

    Args:
        path: PNG, WebP, JPEG or any other format that photos have.
        photo: width and height of the photo that the mask belongs to, which it must fit.

    Returns:
        (h, w) float32 in 0..1 of the file's own size, 1 = repaint.

    Raises:
        FileNotFoundError, PermissionError: from the file system.
        ValueError: no picture; none that can be understood as a mask; an empty mask; or one of
            another shape than the photo.
    """
    picture = open_values(path)
    try:
        mask = mask_from_picture(picture)
        check_not_empty(float(mask.max()))
        if photo is not None:
            check_mask_size(picture.size, photo)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return mask


def mask_from_picture(picture: Image.Image) -> np.ndarray:
    """Turn a mask picture of any mode into (h, w) float32 in 0..1, 1 = repaint.

    - grey, or black and white: as it is; numbers from 0 to 1 are shares, not shades;
    - a palette of dark or bright colours: the colour of index 0 is background, the other is meant;
    - one colour on black: what is painted;
    - a layer with transparency: what is painted on it (white on it, where there is black too);
    - a photo with holes in its alpha, as ComfyUI's mask editor saves it: the holes.

    Raises:
        ValueError: a photo, a label map, a cut-out person or anything else of no single meaning.
    """
    alpha = _varying_alpha(picture)
    if alpha is not None:
        return _with_alpha(np.asarray(picture.convert("RGBA"))[..., :3], alpha)
    if picture.mode in ("P", "PA"):
        return _palette(picture)
    if picture.mode in ("1", "L", "F") or picture.mode.startswith("I"):
        return _numbers(np.asarray(picture))
    if picture.mode == "LA":
        return _numbers(np.asarray(picture.getchannel("L")))
    pixels = np.asarray(picture.convert("RGB"))
    if not _is_coloured(pixels):
        return _numbers(np.asarray(picture.convert("L")))
    return _painted_on_black(pixels)


def check_not_empty(largest: float, name: str = "the mask") -> None:
    """Refuse a mask whose largest value is below THRESHOLD.

    Raises:
        ValueError: nothing would be repainted.
    """
    if not largest >= THRESHOLD:
        raise ValueError(
            f"{name} is empty: its largest value is {largest:.3g}, and only pixels from "
            f"{THRESHOLD} on are repainted. Paint the part to be dressed white (1); if the mask "
            "was made for another picture, give the right one."
        )


def check_mask_size(mask: tuple[int, int], photo: tuple[int, int]) -> None:
    """Refuse a mask of another shape than its photo; both are (width, height) in pixels.

    A scaled mask is fine, also where one of them was rounded to the latent's cells of 8 pixels.

    Raises:
        ValueError: the proportions differ.
    """
    (width, height), (wide, high) = mask, photo
    if abs(width * high / (height * wide) - 1) <= _SHAPE_SLACK:
        return
    (w, h), (across, down) = sorted((mask, photo), key=lambda size: size[0] * size[1])
    # By how much both sides of the smaller miss the larger, scaled as well as can be.
    if abs(w * down - h * across) / (across + down) > _CELL_ROUNDING:
        raise ValueError(
            f"the mask is {width}x{height} pixels and the photo {wide}x{high}: they have other "
            "proportions, so the mask would be squeezed. Give the mask of this very photo, or "
            "crop or scale both alike."
        )


def normalise_mask(mask: torch.Tensor) -> torch.Tensor:
    """Bring a mask tensor to 0..1: NaN becomes 0, and numbers from 0 to 255 are scaled.

    A mask of 0 and 1/255 is a file of 0 and 1 that was read as 8-bit shades: 1/255 becomes 1.
    """
    mask = mask.float()
    if not mask.numel():
        return mask
    least, largest = (value.item() for value in mask.aminmax())
    if 0 <= least and 1.5 / 255 < largest <= 1:  # as it should be; NaN is not
        return mask
    mask = torch.nan_to_num(mask, nan=0.0, posinf=1.0, neginf=0.0)
    largest = mask.max().item()
    if largest > 1.5:  # a little more than 1 is a resampling filter's overshoot
        mask = mask / 255
    elif 0 < largest and abs(largest * 255 - 1) < 0.01:
        shades = mask * 255
        if bool(((shades < 0.01) | (shades > 0.99)).all()):
            mask = shades.round()
    return mask.clamp(0, 1)


def _varying_alpha(picture: Image.Image) -> np.ndarray | None:
    if not picture.has_transparency_data:
        return None
    alpha = np.asarray(picture.convert("RGBA").getchannel("A"), dtype=np.float32) / 255
    return None if alpha.max() - alpha.min() < 2 / 255 else alpha


def _numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype == bool:
        return values.astype(np.float32)
    numbers = values.astype(np.float32)
    # In place: those of a photo of 100 megapixels are 400 MB.
    if values.dtype.kind == "f":
        np.nan_to_num(numbers, copy=False, nan=0, posinf=0, neginf=0)
    np.maximum(numbers, 0, out=numbers)
    largest = numbers.max(initial=0)
    numbers /= np.float32(next((full for full in (1, 255, 65535) if largest <= full), largest))
    return numbers


def _palette(picture: Image.Image) -> np.ndarray:
    indexes = np.asarray(picture.getchannel(0) if picture.mode == "PA" else picture)
    pixels = np.asarray(picture.convert("RGB"))
    used = np.unique(indexes)
    bright = pixels.max(axis=-1)
    if not _is_coloured(pixels) and bright.min() < 128 <= bright.max():
        return bright.astype(np.float32) / 255
    if len(used) <= 2 and used[0] == 0:
        return (indexes > 0).astype(np.float32)
    if len(used) == 1:
        return _numbers(bright)
    if not _is_coloured(pixels) and bright.max() > len(used):
        return _numbers(bright)
    shown = ", ".join(map(str, used[:8])) + (", ..." if len(used) > 8 else "")
    raise ValueError(
        f"it is a palette picture with the indexes {shown}, such as a label map: a mask has two "
        "values. Make a mask from a label map of ATR's numbers with `fashion-rag mask`, or keep "
        f"the one label. {_PAINT_WHITE}"
    )


def _painted_on_black(pixels: np.ndarray) -> np.ndarray:
    colours = _colours(pixels)
    bright = pixels.max(axis=-1)
    black = [colour for colour in colours if max(colour) < 2 * _STEP]
    if len(colours) == 2 and black and bright.min() < 2 * _STEP:
        return bright.astype(np.float32) / bright.max()
    raise ValueError(
        f"it is a coloured picture of {len(colours)} or more main colours, such as a photo or "
        f"strokes on white, not a mask. {_PAINT_WHITE}"
    )


def _with_alpha(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Read a picture with transparency: strokes on a layer, or a photo with holes."""
    alpha = alpha / alpha.max()
    solid = alpha >= 0.5
    colours, coloured = _colours(pixels[solid]), _is_coloured(pixels[solid])
    border = np.concatenate([solid[0], solid[-1], solid[:, 0], solid[:, -1]])
    framed = border.mean() > 0.5
    if len(colours) > 3 and coloured and not framed:
        raise ValueError(
            "it is a cut-out picture: nobody can tell whether its visible or its clear part is to "
            f"be repainted. {_PAINT_WHITE}"
        )
    bright = pixels.max(axis=-1)
    black_and_white = not coloured and bright[solid].min() < 128 <= bright[solid].max()
    if black_and_white and not (framed and len(colours) > 3):
        return bright.astype(np.float32) / 255 * alpha
    return 1 - alpha if framed else alpha


def _is_coloured(pixels: np.ndarray) -> bool:
    """Tell whether more than a few stray pixels (..., 3) uint8 are other than grey."""
    if pixels.size == 0:
        return False
    chroma = pixels.max(axis=-1).astype(np.int16) - pixels.min(axis=-1)
    return bool((chroma > _GREY).mean() > _SHARE / 5)


def _colours(pixels: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the main colours of pixels (..., 3) uint8, to four bits a channel."""
    steps = (pixels.reshape(-1, 3) // _STEP).astype(np.int32)
    if not len(steps):
        return []
    names, counts = np.unique(steps @ np.array([256, 16, 1]), return_counts=True)
    main = names[counts > _SHARE * len(steps)]
    return [(n // 256 * _STEP, n // 16 % 16 * _STEP, n % 16 * _STEP) for n in main.tolist()]
