"""The pack's own socket types and the plain values that travel on them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from comfy_api.latest import io
from PIL import Image

from ..retriever.backends import SearchBackend
from ..retriever.encoders.open_clip import Encoder
from ..retriever.photos.catalogue import Garment

Index = io.Custom("FASHIONRAG_INDEX")
Garments = io.Custom("FASHIONRAG_GARMENTS")
Adapter = io.Custom("FASHIONRAG_ADAPTER")
Tokens = io.Custom("FASHIONRAG_TOKENS")
Frame = io.Custom("FASHIONRAG_FRAME")
"""Its value is a tuple of one `adapter.person.cut_out.Frame` a photo."""
Parser = io.Custom("FASHIONRAG_PARSER")
Labels = io.Custom("FASHIONRAG_LABELS")
"""Its value is (b, H, W) uint8, numbers of adapter.person.masks.LABELS."""


KEPT_MEGAPIXELS = 4.0
"""The largest size of a photo among the garments found; no editor takes more."""


@dataclass(frozen=True)
class LoadedIndex:
    """An index together with the encoder that it was built with.

    name: of its folder in models/fashion_rag/indexes.
    """

    index: SearchBackend
    encoder: Encoder
    name: str


@dataclass(frozen=True)
class RetrievedGarments:
    """Garments in retrieval order.

    images: (n, H, W, 3) float32 in 0..1, the very rows of the IMAGE output beside it.
    scores: cosine similarities; strengths: factors of each garment's pseudo-words, 1 = the paper.
    photos: RGB on white, each at its own size, of at most KEPT_MEGAPIXELS.
    masks: L of the photo's size, 255 = the garment; None where the catalogue knows no cut-out.
    """

    records: tuple[Garment, ...]
    scores: tuple[float, ...]
    strengths: tuple[float, ...]
    images: torch.Tensor
    photos: tuple[Image.Image, ...]
    masks: tuple[Image.Image | None, ...]


@dataclass(frozen=True)
class GarmentTokens:
    """Pseudo-words as token embeddings (n, width) float32, in prompt order, strengths applied."""

    pseudo_words: torch.Tensor
