"""Garment photos as they come, normalised once to RGB on white."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

MAX_PIXELS = 80_000_000
"""Larger photos are refused: below Pillow's own warning, above any product photo."""

_FORMATS = ("JPEG", "PNG", "WEBP")
# What Pillow's readers of these formats raise on damaged files, beside OSError and ValueError.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error)

# ImageOps.exif_transpose also writes the other tags anew, and fails where one of them is odd.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_photo(
    path: Path, convert: Callable[[Image.Image], Image.Image] | None = None
) -> Image.Image:
    """The photo at `path` as RGB on white, upright, at its full size.

    Args:
        convert: makes something else of the opened picture than `to_rgb_on_white` does.

    Raises:
        FileNotFoundError, PermissionError: from the file system.
        ValueError: not a JPEG, PNG or WebP, damaged, or of more than MAX_PIXELS pixels.
    """
    with open(path, "rb") as file:
        try:
            image = Image.open(file, formats=_FORMATS)
            pixels = image.width * image.height
            if pixels <= MAX_PIXELS:
                return (convert or to_rgb_on_white)(image)
        except Image.DecompressionBombError as error:
            raise ValueError(f"{path}: {error} Save it smaller.") from error
        except Image.UnidentifiedImageError as error:
            raise ValueError(f"{path} is not a JPEG, PNG or WebP picture.") from error
        except _DAMAGE as error:
            raise ValueError(f"{path} is damaged ({error}): save it anew.") from error
    raise ValueError(
        f"{path} has {image.width} x {image.height} = {pixels} pixels, the limit is {MAX_PIXELS}: "
        "save it smaller."
    )


def to_rgb_on_white(image: Image.Image) -> Image.Image:
    """A new RGB picture: EXIF rotation applied, transparency on white, 16 bit scaled to 8."""
    image = _upright(image)
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips it to white
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / 257).round().clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    rgb = image.convert("RGB")
    rgb.info.clear()  # it still tells the orientation, which must not be applied again
    return rgb


def to_alpha(image: Image.Image) -> Image.Image:
    """The opacity of an upright picture, L: 255 is opaque, everywhere where it has no alpha."""
    image = _upright(image)
    if not image.has_transparency_data:
        return Image.new("L", image.size, 255)
    return image.convert("RGBA").getchannel("A")


def to_mask(image: Image.Image) -> Image.Image:
    """A mask picture as L, upright: its alpha where anything is transparent, else its grey."""
    alpha = to_alpha(image)
    if alpha.getextrema()[0] < 255:
        return alpha
    return to_rgb_on_white(image).convert("L")


def _upright(image: Image.Image) -> Image.Image:
    transpose = _UPRIGHT.get(_orientation(image))
    return image if transpose is None else image.transpose(transpose)


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:  # the picture itself may well be whole
        return None
