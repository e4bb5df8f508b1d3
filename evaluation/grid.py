"""Grids of pictures: for a few samples the person, the garments found, every column, the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, SOFT_INK, OWN_INK = "#f4f2ee", "#23211e", "#6d6860", "#3c7a4b"
_MASK = (224, 85, 138)
_TILE = (168, 224)
_SMALL = (82, 109)
_GAP, _MARGIN, _HEAD, _CAPTION = 10, 32, 46, 26


@dataclass(frozen=True)
class GridRow:
    """One sample as a row of the grid.

    person, mask: the photo, and (H, W), which is not 0 where it is repainted. garments: photos
    found, best first. own: the place among them of the sample's own garment, or None. pictures: one
    a column of the table, then the truth.
    """

    caption: str
    person: Image.Image
    mask: np.ndarray
    garments: Sequence[Image.Image]
    own: int | None
    pictures: Sequence[Image.Image]


def picture_grid(rows: Sequence[GridRow], titles: Sequence[str], heading: str) -> Image.Image:
    """Draw the grid.

    titles: one for each of the rows' `pictures`. heading: a line above the grid.
    """
    garments = max(len(row.garments) for row in rows)
    found_width = _found_width(garments)
    count = len(titles)
    width = 2 * _MARGIN + _TILE[0] + _GAP + found_width + count * (_TILE[0] + _GAP)
    row_height = _CAPTION + _TILE[1] + 2 * _GAP
    sheet = Image.new("RGB", (width, _MARGIN + 2 * _HEAD + len(rows) * row_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 8), heading, fill=INK, font=_font(24))
    places = [_MARGIN, _MARGIN + _TILE[0] + _GAP]
    places += [places[1] + found_width + _GAP + n * (_TILE[0] + _GAP) for n in range(count)]
    widths = [_TILE[0], found_width, *[_TILE[0]] * count]
    names = ["person and mask", "garments found, best first", *titles]
    for x, tile, name in zip(places, widths, names, strict=True):
        middle = (x + tile // 2, _MARGIN + _HEAD - 4)
        draw.multiline_text(
            middle, _wrapped(name, tile), fill=SOFT_INK, font=_font(14), anchor="ma", align="center"
        )
    for number, row in enumerate(rows):
        top = _MARGIN + 2 * _HEAD + number * row_height
        draw.text((_MARGIN, top), f"“{row.caption}”", fill=INK, font=_font(16))
        _draw_row(sheet, row, top + _CAPTION, places)
    return sheet


def _draw_row(sheet: Image.Image, row: GridRow, top: int, places: Sequence[int]) -> None:
    person = np.asarray(row.person.convert("RGB"), dtype=np.float32)
    shade = 0.72 * (row.mask[..., None] > 0)
    masked = Image.fromarray((person * (1 - shade) + np.array(_MASK) * shade).astype(np.uint8))
    sheet.paste(_fitted(masked, _TILE), (places[0], top))
    for place, garment in enumerate(row.garments):
        x = places[1] + (place % 2) * (_SMALL[0] + 4)
        y = top + (place // 2) * (_SMALL[1] + 6)
        sheet.paste(_fitted(garment, _SMALL), (x, y))
        if place == row.own:
            box = (x - 2, y - 2, x + _SMALL[0] + 1, y + _SMALL[1] + 1)
            ImageDraw.Draw(sheet).rectangle(box, outline=OWN_INK, width=3)
    for x, picture in zip(places[2:], row.pictures, strict=True):
        sheet.paste(_fitted(picture, _TILE), (x, top))


def _found_width(garments: int) -> int:
    across = min(2, max(1, garments))
    return max(across * _SMALL[0] + (across - 1) * 4, 120)


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    scale = min(size[0] / picture.width, size[1] / picture.height)
    inner = (round(picture.width * scale), round(picture.height * scale))
    resample = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    tile = Image.new("RGB", size, "white")
    place = ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2)
    tile.paste(picture.convert("RGB").resize(inner, resample), place)
    return tile


def _wrapped(text: str, width: int) -> str:
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and _font(14).getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return "\n".join([*lines, line])


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
