"""Colour profiles: every picture becomes sRGB, which is what models and screens take."""

from __future__ import annotations

import io
import logging
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

logger = logging.getLogger(__name__)

# Colour spaces of a profile (bytes 16 to 20 of it) and the mode of the pixels that it describes.
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK", b"Lab ": "LAB"}
_SAME = 2
"""A profile that changes no colour by more than this, of 255, is sRGB under another name."""


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an opaque picture, of any mode with 8 bits a channel, to RGB in sRGB.

    Args:
        profile: the ICC profile of the pixels. With None, or one that is damaged or of another
            colour space than the pixels, they are taken to be sRGB.

    Returns:
        A new picture, or `image` itself, without its `info`, where nothing had to change.
    """
    transform = None if not profile else _transform(profile)
    if transform is not None:
        mode, convert = transform
        grey = image.mode in ("L", "1", "I;16")
        if mode == "L" and not grey or mode == "CMYK" and image.mode != "CMYK":
            transform = None
        elif mode == "RGB" and image.mode == "CMYK":
            transform = None
    if transform is None:
        result = image if image.mode == "RGB" else image.convert("RGB")
    else:
        pixels = image if image.mode == mode else image.convert(mode)
        result = convert.apply(pixels)
    result.info.clear()
    return result


@lru_cache
def srgb_profile() -> bytes:
    """Return the ICC profile of sRGB, to be written into files beside the pixels."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@lru_cache(maxsize=32)
def _transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """Return the pixels' mode and the way to sRGB; None where there is nothing to convert."""
    mode = _MODES.get(profile[16:20])
    if mode is None:
        logger.debug("A profile of the colour space %r is left out.", profile[16:20])
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        convert = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError) as error:
        logger.debug("A colour profile can't be used (%s): its numbers are taken as sRGB.", error)
        return None
    if mode in ("RGB", "L"):
        steps = np.arange(0, 256, 51, dtype=np.uint8)
        cube = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(6, 36, 3)
        probe = Image.fromarray(cube).convert(mode)
        change = np.asarray(convert.apply(probe), np.int16)
        if np.abs(change - np.asarray(probe.convert("RGB"), np.int16)).max() <= _SAME:
            return None
    return mode, convert
