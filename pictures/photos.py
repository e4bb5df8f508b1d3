"""Opening photos of any format, normalised in one place: upright RGB on white, in sRGB."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from .colours import to_srgb

MAX_PIXELS = 80_000_000
"""Larger photos are refused: below Pillow's own warning, above any product photo."""

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff",
)  # fmt: skip
"""Endings of photos that are read."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF")
_WITH_A_PLUGIN = ("HEIF",)  # pillow-heif, where something in this process has registered it
# What Pillow's readers of these formats raise on damaged files, AVIF's a RuntimeError.
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error, RuntimeError)

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
    """Open a photo as RGB in sRGB on white, upright, at its full size.

    Args:
        convert: what is made of the opened picture.

    Raises:
        FileNotFoundError, PermissionError: from the file system.
        ValueError: of a format that SUFFIXES does not name, damaged, or of more than MAX_PIXELS
            pixels.
    """
    with _opened(path) as image:
        if convert is not None:
            return convert(image)
        if image.mode == "RGB" and not image.has_transparency_data and not _is_turned(image):
            image.load()
            return to_srgb(image, image.info.get("icc_profile"))
        return to_rgb_on_white(image)


def open_values(path: Path) -> Image.Image:
    """Open a mask or a label map with its numbers as they are stored.

    Its mode is the file's (palette indexes, transparency and 16 bits are kept), it is upright, and
    a colour profile is not applied.

    Raises:
        FileNotFoundError, PermissionError, ValueError: see `open_photo`.
    """
    with _opened(path) as image:
        image.load()
        return upright(image)


def photo_size(path: Path) -> tuple[int, int]:
    """Return width and height as stored in the file; its pixels are not read.

    Raises:
        FileNotFoundError, PermissionError, ValueError: see `open_photo`.
    """
    with _opened(path) as image:
        return image.size


def to_rgb_on_white(image: Image.Image) -> Image.Image:
    """Make an RGB picture of any other.

    EXIF rotation is applied, transparency laid on white, 16 bits scaled to 8, and another colour
    profile converted to sRGB.
    """
    profile = image.info.get("icc_profile")
    image = upright(image)
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips it to white
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray((values / 257).round().clip(0, 255).astype(np.uint8))
        rgb = to_srgb(image, profile)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        colours = to_srgb(image.convert("RGB"), profile)
        colours.putalpha(image.getchannel("A"))
        white = Image.new("RGBA", image.size, "white")
        rgb = Image.alpha_composite(white, colours).convert("RGB")
    else:
        rgb = to_srgb(image, profile)
    if rgb is image:
        rgb = rgb.copy()
    rgb.info.clear()  # it still tells the orientation, which must not be applied again
    return rgb


def upright(image: Image.Image) -> Image.Image:
    """Turn the picture as its EXIF orientation says; an upright one is returned itself."""
    orientation = _orientation(image)
    if orientation not in _UPRIGHT:
        return image
    return image.transpose(_UPRIGHT[orientation])


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Yield the opened picture; errors in reading it name the file."""
    formats = [name for name in (*_FORMATS, *_WITH_A_PLUGIN) if name in _readers()]
    with open(path, "rb") as file:
        try:
            image = Image.open(file, formats=formats)
            pixels = image.width * image.height
            if pixels <= MAX_PIXELS:
                yield image
                return
        except Image.DecompressionBombError as error:
            raise ValueError(f"{path}: {error} Save it smaller.") from error
        except Image.UnidentifiedImageError as error:
            raise ValueError(f"{path} is not a {_names(formats)} picture{_what(path)}.") from error
        except _DAMAGE as error:
            raise ValueError(f"{path} is damaged ({error}): save it anew.") from error
    raise ValueError(
        f"{path} has {image.width} x {image.height} = {pixels} pixels, the limit is {MAX_PIXELS}: "
        "save it smaller."
    )


def _readers() -> dict:
    Image.init()
    return Image.OPEN


def _names(formats: list[str]) -> str:
    names = {"WEBP": "WebP"}
    words = [names.get(name, name) for name in formats]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _what(path: Path) -> str:
    """Say what a file of no known format seems to be, and what helps."""
    with open(path, "rb") as file:
        start = file.read(32)
    if start[4:8] == b"ftyp":
        brands = start[8:]
        if b"avif" in brands:
            return " (it is AVIF, not whole or for Pillow 11.3 and newer: save it as JPEG)"
        if any(brand in brands for brand in (b"heic", b"heix", b"mif1", b"msf1", b"hevc")):
            return " (it is HEIC, as phones save it: save it as JPEG)"
    if start.lstrip()[:5].lower() in (b"<?xml", b"<svg ", b"<!doc", b"<html"):
        return " (it is text, such as SVG or a web page: save the photo itself)"
    return "" if start else " (it is empty: save it anew)"


def _is_turned(image: Image.Image) -> bool:
    return _orientation(image) in _UPRIGHT


def to_alpha(image: Image.Image) -> Image.Image:
    """Return the opacity of an upright picture as L: 255 is opaque, as all is without alpha."""
    image = upright(image)
    if not image.has_transparency_data:
        return Image.new("L", image.size, 255)
    return image.convert("RGBA").getchannel("A")


def to_mask(image: Image.Image) -> Image.Image:
    """Turn a mask picture into L, upright: its alpha if anything is transparent, else its grey."""
    alpha = to_alpha(image)
    if np.asarray(alpha).min(initial=255) < 255:
        return alpha
    return to_rgb_on_white(image).convert("L")


def _orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(ExifTags.Base.Orientation)
    except _DAMAGE:  # the picture itself may well be whole
        return None
