"""Garment photos as references for image editors: each at its own aspect, or all on one board.

A megapixel is 1024 x 1024 pixels, as in ComfyUI's own nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageOps

MEGAPIXEL = 1024 * 1024
WHITE = (255, 255, 255)
CELL_STEP = 16  # pixels; the coarsest VAE of the editors reduces by 16, so a board is never cropped
_BORDER = 0.02  # of a cell's shorter side, left white on every side


def white_outside(photo: Image.Image, mask: Image.Image | None) -> Image.Image:
    """Turn what lies outside a photo's mask white; without a mask, the photo stays as it is.

    Args:
        photo: RGB.
        mask: L of the photo's size, 255 = the garment; between 0 and 255 it is blended.
    """
    if mask is None:
        return photo
    return Image.composite(photo, Image.new("RGB", photo.size, WHITE), mask)


def shrink(picture: Image.Image, megapixels: float) -> Image.Image:
    """Scale the picture down (Lanczos) to at most so many megapixels; it is never enlarged."""
    scale = math.sqrt(megapixels * MEGAPIXEL / (picture.width * picture.height))
    if scale >= 1:
        return picture
    # Rounded down, so that the limit holds whatever the aspect.
    size = max(1, int(picture.width * scale)), max(1, int(picture.height * scale))
    return picture.resize(size, Image.Resampling.LANCZOS)


def board(pictures: Sequence[Image.Image], megapixels: float = 1.0) -> Image.Image:
    """Set all pictures on one white board of about so many megapixels, in even cells, row by row.

    Each picture is fitted into its cell at its own aspect (Lanczos) with a narrow white border.
    Width and height are multiples of 16 pixels.

    Raises:
        ValueError: there are no pictures.
    """
    if not pictures:
        raise ValueError("A board needs at least one picture.")
    logs = [math.log(picture.width / picture.height) for picture in pictures]
    aspect = math.exp(sum(logs) / len(logs))
    columns = _columns(len(pictures), aspect)
    rows = math.ceil(len(pictures) / columns)
    width = math.sqrt(megapixels * MEGAPIXEL / (columns * rows) * aspect)
    width, height = _stepped(width), _stepped(width / aspect)
    border = round(_BORDER * min(width, height))
    sheet = Image.new("RGB", (columns * width, rows * height), WHITE)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        inside = (width - 2 * border, height - 2 * border)
        fitted = ImageOps.pad(picture, inside, Image.Resampling.LANCZOS, color=WHITE)
        sheet.paste(fitted, (column * width + border, row * height + border))
    return sheet


def pad_to_step(picture: Image.Image, step: int) -> Image.Image:
    """Centre the picture on white, its sides the next multiples of `step` pixels.

    A VAE crops what its step does not divide; a garment would lose its hem.
    """
    width, height = (math.ceil(side / step) * step for side in picture.size)
    size = (width, height)
    if size == picture.size:
        return picture
    sheet = Image.new("RGB", size, WHITE)
    sheet.paste(picture, ((size[0] - picture.width) // 2, (size[1] - picture.height) // 2))
    return sheet


def _columns(count: int, aspect: float) -> int:
    """Choose how many cells stand in a row: few empty cells, and a board not far from square."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        return 1 - count / (columns * rows) + abs(math.log2(aspect * columns / rows)) / 4

    return min(range(1, count + 1), key=cost)


def _stepped(side: float) -> int:
    return max(CELL_STEP, round(side / CELL_STEP) * CELL_STEP)
