"""Contact sheets: photos on cards with a few lines below each."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from PIL import Image, ImageDraw

from .fonts import draw_text, printable, text_length

Tile = tuple[Image.Image, str]

PAPER, CARD, EDGE = "#f4f2ee", "#ffffff", "#dedad2"
INK, SOFT_INK = "#23211e", "#6d6860"
PHOTO_WIDTH, PHOTO_HEIGHT = 240, 320  # 3:4, as garment photos are
PADDING, GAP, MARGIN = 12, 20, 36
TITLE_SIZE, TEXT_SIZE, LINE = 26, 15, 21
LINES = 3
# Chinese and Japanese letters, between which a line may break, with the punctuation that follows.
_IDEOGRAPH = "\u2e80-\u2fff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(
    rf"[{_IDEOGRAPH}\U00020000-\U0003ffff][\u3000-\u303f\uff00-\uff0f\uff1a-\uff20]*"
    rf"|[^\s{_IDEOGRAPH}\U00020000-\U0003ffff]+|\s+"
)


def contact_sheet(
    tiles: Sequence[Tile], columns: int | None = None, title: str = ""
) -> Image.Image:
    """Set photos with their captions in a grid of white cards, in the given order.

    Args:
        tiles: RGB photos of any size with a caption each; it is wrapped, its own line breaks are
            kept, and it is cut after three lines.
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
    photo_height = max(_fitted_size(photo)[1] for photo, _ in tiles)
    card_height = photo_height + 2 * PADDING + (lines * LINE + 8 if lines else 0)
    top = MARGIN + (TITLE_SIZE + GAP if title else 0)
    width = 2 * MARGIN + columns * (card_width + GAP) - GAP
    height = top + rows * (card_height + GAP) - GAP + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    if title:
        line = _cut(" ".join(printable(title).split()), TITLE_SIZE, width - 2 * MARGIN)
        draw_text(draw, (MARGIN, MARGIN - 6), line, TITLE_SIZE, INK)
    for number, (photo, caption) in enumerate(tiles):
        row, column = divmod(number, columns)
        x = MARGIN + column * (card_width + GAP)
        y = top + row * (card_height + GAP)
        box = (x, y, x + card_width - 1, y + card_height - 1)
        draw.rounded_rectangle(box, radius=8, fill=CARD, outline=EDGE)
        size = _fitted_size(photo)
        left = x + PADDING + (PHOTO_WIDTH - size[0]) // 2
        above = y + PADDING + (photo_height - size[1]) // 2
        sheet.paste(photo.convert("RGB").resize(size, Image.Resampling.LANCZOS), (left, above))
        for place, line in enumerate(_wrapped(caption)):
            position = (x + PADDING, y + PADDING + photo_height + 8 + place * LINE)
            draw_text(draw, position, line, TEXT_SIZE, SOFT_INK if place else INK)
    return sheet


def _fitted_size(photo: Image.Image) -> tuple[int, int]:
    scale = min(PHOTO_WIDTH / photo.width, PHOTO_HEIGHT / photo.height)
    return max(1, round(photo.width * scale)), max(1, round(photo.height * scale))


def _wrapped(caption: str) -> list[str]:
    """Wrap the caption to at most LINES lines of the photo's width."""
    lines: list[str] = []
    for paragraph in printable(caption).splitlines():
        line = ""
        for piece in _PIECE.findall(paragraph):
            if piece.isspace():
                line += " " if line else ""
            elif line and text_length(line + piece, TEXT_SIZE) > PHOTO_WIDTH:
                lines.append(line.rstrip())
                line = piece
            else:
                line += piece
        if line.strip():
            lines.append(line.rstrip())
    if len(lines) > LINES:
        lines[LINES - 1 :] = [" ".join(lines[LINES - 1 :])]
    return [_cut(line, TEXT_SIZE, PHOTO_WIDTH) for line in lines]


def _cut(line: str, size: int, width: int) -> str:
    """Cut the line, with an ellipsis, to at most `width` pixels."""
    if text_length(line, size) <= width:
        return line
    low, high = 0, len(line)
    while low < high:
        middle = (low + high + 1) // 2
        if text_length(line[:middle] + "…", size) <= width:
            low = middle
        else:
            high = middle - 1
    return line[:low].rstrip() + "…"
