"""A contact sheet: photos on cards with a line or two below each."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Tile = tuple[Image.Image, str]

PAPER, CARD, EDGE = "#f4f2ee", "#ffffff", "#dedad2"
INK, SOFT_INK = "#23211e", "#6d6860"
PHOTO_WIDTH, PHOTO_HEIGHT = 240, 320  # 3:4, as garment photos are
PADDING, GAP, MARGIN = 12, 20, 36
TITLE_SIZE, TEXT_SIZE, LINE = 26, 15, 21
LINES = 2


def contact_sheet(
    tiles: Sequence[Tile], columns: int | None = None, title: str = ""
) -> Image.Image:
    """Set photos with their captions in a grid of white cards, in the given order.

    Args:
        tiles: RGB photos of any size with a caption each; captions are cut after two lines.
        columns: cards in a row; None takes up to six, rows filled evenly.
        title: a line above the grid, cut to its width.

    Raises:
        ValueError: there are no tiles.
    """
    if not tiles:
        raise ValueError("A contact sheet needs at least one picture.")
    if columns is None:
        columns = math.ceil(len(tiles) / math.ceil(len(tiles) / 6))
    columns = max(1, min(columns, len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    lines = max(len(_wrapped(caption)) for _, caption in tiles)
    card_width = PHOTO_WIDTH + 2 * PADDING
    card_height = PHOTO_HEIGHT + 2 * PADDING + (lines * LINE + 8 if lines else 0)
    top = MARGIN + (TITLE_SIZE + GAP if title else 0)
    width = 2 * MARGIN + columns * (card_width + GAP) - GAP
    height = top + rows * (card_height + GAP) - GAP + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        font = _font(TITLE_SIZE)
        line = _cut(_printable(title), font, width - 2 * MARGIN)
        draw.text((MARGIN, MARGIN - 6), line, fill=INK, font=font)
    for number, (photo, caption) in enumerate(tiles):
        row, column = divmod(number, columns)
        x = MARGIN + column * (card_width + GAP)
        y = top + row * (card_height + GAP)
        box = (x, y, x + card_width - 1, y + card_height - 1)
        draw.rounded_rectangle(box, radius=8, fill=CARD, outline=EDGE)
        _paste(sheet, photo, x + PADDING, y + PADDING)
        for place, line in enumerate(_wrapped(caption)):
            position = (x + PADDING, y + PADDING + PHOTO_HEIGHT + 8 + place * LINE)
            colour = SOFT_INK if place else INK
            draw.text(position, line, fill=colour, font=_font(TEXT_SIZE))
    return sheet


def _paste(sheet: Image.Image, photo: Image.Image, x: int, y: int) -> None:
    scale = min(PHOTO_WIDTH / photo.width, PHOTO_HEIGHT / photo.height)
    size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
    fitted = photo.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    sheet.paste(fitted, (x + (PHOTO_WIDTH - size[0]) // 2, y + (PHOTO_HEIGHT - size[1]) // 2))


def _wrapped(caption: str) -> list[str]:
    """The caption in at most LINES lines of the photo's width."""
    font = _font(TEXT_SIZE)
    lines: list[str] = []
    words = _printable(caption).split()
    while words and len(lines) < LINES:
        count = 1
        while count < len(words) and font.getlength(" ".join(words[: count + 1])) <= PHOTO_WIDTH:
            count += 1
        if len(lines) == LINES - 1:
            count = len(words)
        lines.append(_cut(" ".join(words[:count]), font, PHOTO_WIDTH))
        words = words[count:]
    return lines


def _cut(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(line + "…") > width:
        line = line[:-1]
    return line.rstrip() + "…"


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
