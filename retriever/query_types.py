"""What a query asks for, and its answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .filter_text import read_filter
from .search import Hit
from .store.filters import Filter
from .word_search import DEPTH
from .words import noun_chunks, plain_words

CHUNKS = ("together", "singly")
MAX_POOL = 4096
"""The most garments that one query may draw from or ask for."""

MOST_VIEWS = 16_384
"""The most of the nearest photos that are looked through for different garments."""

LONGEST_TEXT = 10_000
"""The most characters of a text; an encoder reads some hundreds of them."""


@dataclass(frozen=True)
class Query:
    """What to look for, and how to choose among what is near.

    text: in plain words; may be empty where there are images. Its noun chunks are the parts
        between commas, semicolons and line ends, of any script; the paper joins 1, 2 or 3 of them
        by ", ". Weights and embeddings of prompts are taken out of it (see words.py).
    chunks: `together` encodes the text whole, as the paper does with its chunks; `singly` encodes
        every chunk by itself and takes their mean, so that none outweighs the others.
    negative: what the garment should not look like; negative_weight: from 0 (ignored) to 2.
    images: reference photos, RGB; image_weight: from 0 (the text alone) to 1 (the images alone).
    category: search this category alone; None: all.
    where: a filter over the catalogue's columns, see filters.py; empty: all.
    k: how many garments, 1 or more; views of one product are one garment.
    diversity: from 0 (the best) to 1: maximal marginal relevance (Carbonell and Goldstein, SIGIR
        1998) with lambda = 1 - diversity over the `draw_from` best, or the 64 or 8 k best: the
        next garment is the one of the highest (1 - diversity) * score - diversity * (highest
        cosine similarity to a garment that is taken already).
    draw_from: 0, or draw the k from so many best, without replacement, with probabilities
        proportional to exp(score / temperature). seed: the same seed, the same draw.
    temperature: 0 (the best) or more, in units of cosine similarity.
    pinned: ids of garments that are taken in any case, first and in this order, whatever the
        filters say; each counts towards k, and of their products no other view is taken.
        excluded: ids of garments that are never taken, nor other views of them.
    min_score: garments of a lower cosine similarity are left out (not the pinned ones).
    word_weight: from 0 (the embedding alone) to 1 (the words alone): what the words of the text
        count against its embedding.
    auto_min_score: take the index's own least score of a match (see upkeep/calibration.py) as
        min_score, where that is higher. It holds for texts: with images, min_score stays.

    Raises:
        ValueError: a value out of range; a text that is no valid Unicode, or too long; nothing to
            look for; an id both pinned and excluded; a filter that can't be read.
    """

    text: str = ""
    chunks: str = "together"
    negative: str = ""
    negative_weight: float = 0.3
    images: tuple[Image.Image, ...] = ()
    image_weight: float = 0.3
    category: str | None = None
    where: str = ""
    k: int = 3
    diversity: float = 0.0
    draw_from: int = 0
    seed: int = 0
    temperature: float = 0.05
    pinned: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    min_score: float = -1.0
    word_weight: float = 0.0
    auto_min_score: bool = False

    def __post_init__(self):
        for name in ("images", "pinned", "excluded"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("text", "negative"):
            _check_unicode(name, getattr(self, name))
            _check_length(name, getattr(self, name))
        if not self.text.strip() and not self.images:
            raise ValueError(
                "The text is empty: say what the person should wear, or show it in a reference "
                "image."
            )
        if not self.words and not self.images:
            raise ValueError(
                f"The text {self.text!r} holds no words: say what the person should wear; "
                "embeddings and LoRA tags are not searched for."
            )
        if self.chunks not in CHUNKS:
            raise ValueError(f"chunks is {self.chunks!r}: expected one of {', '.join(CHUNKS)}.")
        if self.chunks == "singly" and self.text.strip() and not self.noun_chunks:
            raise ValueError(f"The text {self.text!r} has no noun chunk: expected words.")
        _check_range("negative_weight", self.negative_weight, 0, 2)
        _check_range("image_weight", self.image_weight, 0, 1)
        _check_range("diversity", self.diversity, 0, 1)
        _check_range("temperature", self.temperature, 0, math.inf)
        _check_range("min_score", self.min_score, -1, 1)
        _check_range("word_weight", self.word_weight, 0, 1)
        _check_range("k", self.k, 1, MAX_POOL)
        _check_range("draw_from", self.draw_from, 0, MAX_POOL)
        _check_range("seed", self.seed, 0, 2**64 - 1)
        if 0 < self.draw_from < self.k:
            raise ValueError(
                f"draw_from is {self.draw_from}, but top_k is {self.k}: draw from as many or more, "
                "or set it to 0 to take the best."
            )
        if len(set(self.pinned)) > self.k:
            raise ValueError(
                f"{len(set(self.pinned))} garments are pinned, but top_k is {self.k}: raise it, or "
                "pin fewer."
            )
        both = sorted(set(self.pinned) & set(self.excluded))
        if both:
            raise ValueError(f"{short_list(both)} is both pinned and excluded: choose one.")
        self.filter  # noqa: B018  a filter that can't be read is an error of the query

    def __str__(self) -> str:
        """Describe the query in words."""
        parts = [f"“{text}”" for text in self.texts]
        words = " and ".join(part.replace("\n", " ") for part in parts)
        if self.images:
            what = "a photo" if len(self.images) == 1 else f"{len(self.images)} photos"
            words = f"{words} with {what}" if words else what
        negative = self.negative_words
        return f"{words}, not “{negative}”" if negative else words

    @property
    def words(self) -> str:
        """The text as the encoder gets it."""
        return plain_words(self.text.strip())[0]

    @property
    def negative_words(self) -> str:
        """The negative text as the encoder gets it."""
        return plain_words(self.negative.strip())[0]

    @property
    def noun_chunks(self) -> tuple[str, ...]:
        """The parts of the text between commas, semicolons and line ends, without empty ones."""
        return noun_chunks(self.words)

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts that are encoded: the noun chunks, or the text whole; none without words."""
        if self.chunks == "singly":
            return self.noun_chunks
        return (self.words,) if self.words else ()

    @property
    def filter(self) -> Filter | None:
        """`where`, parsed; None where it is empty."""
        return read_filter(self.where) if self.where.strip() else None

    @property
    def pool(self) -> int:
        """How many of the best garments the k are chosen from, pinned and excluded ones aside."""
        if self.draw_from:
            return self.draw_from
        return max(64, 8 * self.k) if self.diversity else self.k

    @property
    def asked(self) -> int:
        """How many of the nearest photos are looked up first."""
        # Ids that are dropped afterwards are asked for in addition.
        return self.depth(self.pool + len(set(self.pinned) | set(self.excluded)))

    def depth(self, count: int) -> int:
        """Return how many of the nearest photos are looked up to find the `count` best ones.

        Words (`word_weight`) change the order, so that more are looked up.
        """
        return max(DEPTH, count) if self.word_weight and self.words else count


@dataclass(frozen=True)
class Result:
    """The answer to a query.

    hits: the pinned garments in their order, then the others, best score first. vector: (dim,)
    float32, the query's q. note: lines on why there are fewer hits than asked for, and on what of
    the query was not read as it stands; or empty.
    """

    query: Query
    hits: list[Hit]
    vector: np.ndarray
    note: str = ""


def short_list(ids: Sequence[str]) -> str:
    """Quote up to five ids, and count the others."""
    shown = ", ".join(map(repr, ids[:5]))
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (isinstance(value, (int, float)) and low <= value <= high):  # also refuses NaN
        limit = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"
        raise ValueError(f"{name} is {value!r}: expected a number {limit}.")


def _check_unicode(name: str, text: str) -> None:
    """Refuse half a character, which a terminal of another encoding or a cut string leaves."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is {text!r}, whose character {error.start + 1} is no valid Unicode: expected "
            "text; a terminal has to use UTF-8."
        ) from error


def _check_length(name: str, text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise ValueError(
            f"{name} has {len(text):,} characters: expected {LONGEST_TEXT:,} at most. An encoder "
            "reads some hundreds: say what the garment looks like, and no more."
        )
