"""Do a text tower and a vision tower belong together? Eight colour cards tell."""

from __future__ import annotations

from typing import NamedTuple

import torch
from PIL import Image

from .open_clip import Encoder

CARDS = {
    "red": "#e01010",
    "orange": "#ff8c00",
    "yellow": "#ffe600",
    "green": "#109020",
    "blue": "#1030e0",
    "purple": "#8010a0",
    "black": "#000000",
    "white": "#ffffff",
}


class ColorCheck(NamedTuple):
    """How well an encoder matches the 8 colour cards to their names.

    right: how many cards are nearest to their own name (chance: 1). highest_wrong: the highest
    cosine similarity of a card and the name of another one.
    """

    right: int
    highest_wrong: float


def check_cards(encoder: Encoder) -> ColorCheck:
    """Compare the colour cards with their names."""
    cards = [Image.new("RGB", (224, 224), colour) for colour in CARDS.values()]
    texts = [f"the color {name}" for name in CARDS]
    similarity = encoder.encode_images(cards) @ encoder.encode_texts(texts).T
    own = torch.eye(len(CARDS), dtype=torch.bool)
    right = (similarity.argmax(dim=1) == torch.arange(len(CARDS))).sum()
    return ColorCheck(int(right), float(similarity[~own].max()))


def check_text_image_pair(encoder: Encoder) -> int:
    """Count the colour cards, of 8, that are nearest to their own name (chance: 1)."""
    return check_cards(encoder).right
