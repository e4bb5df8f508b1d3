"""What the retriever finds for the captions of training, searched once before it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import combinations
from pathlib import Path

import torch
from tqdm import tqdm

from ..retriever.encoders.open_clip import load_encoder
from .dresscode import DressCode, Pair, caption

_BATCH, _SEARCHED = 64, 1024

Searched = tuple[str, str]
"""A category, and a caption that is searched in it."""


def captions_of(pair: Pair, counts: Collection[int]) -> list[str]:
    """List the whole caption of a pair, and all captions of so many of its noun chunks."""
    sizes = {len(pair.chunks), *(count for count in counts if count < len(pair.chunks))}
    return [caption(some) for size in sorted(sizes) for some in combinations(pair.chunks, size)]


class Retrieval:
    """Captions and the garments that they find, best first.

    Args:
        captions: a category and a caption to its row in `rows`.
        rows: (captions, depth) int64, positions in `DressCode.pairs` of the garments.
    """

    def __init__(self, captions: Mapping[Searched, int], rows: torch.Tensor):
        self._captions, self._rows = captions, rows

    def __call__(self, category: str, text: str) -> list[int]:
        """Return the positions of the garments that a caption finds in a category, best first."""
        return self._rows[self._captions[category, text]].tolist()


def searched_captions(data: DressCode, counts: Collection[int]) -> dict[Searched, int]:
    """Number all the captions that are searched, each once, whatever the order of the pairs."""
    found = {(pair.category, text) for pair in data.pairs for text in captions_of(pair, counts)}
    return {searched: row for row, searched in enumerate(sorted(found))}


def retrieve_garments(
    data: DressCode,
    captions: Mapping[Searched, int],
    encoder: Path,
    depth: int,
    device: torch.device,
) -> torch.Tensor:
    """Search every caption among the garments of its category, the own ones included.

    Returns:
        (captions, depth) int64, positions in `data.pairs`, best first. A category with fewer
        garments repeats its last one.
    """
    model = load_encoder(encoder, device)
    images = torch.cat(
        [
            model.encode_images([data.garment(pair) for pair in data.pairs[start : start + _BATCH]])
            for start in _bar("embedding garments", len(data))
        ]
    )
    texts = list(dict.fromkeys(text for _, text in captions))
    queries = torch.cat(
        [
            model.encode_texts(texts[start : start + _BATCH])
            for start in _bar("embedding captions", len(texts))
        ]
    )
    row_of = {text: row for row, text in enumerate(texts)}
    found = torch.zeros(len(captions), depth, dtype=torch.int64)
    for category in {category for category, _ in captions}:
        garments = [i for i, pair in enumerate(data.pairs) if pair.category == category]
        garments = torch.tensor(garments)
        own = [(row, row_of[text]) for (of, text), row in captions.items() if of == category]
        for part in torch.tensor(own).split(_SEARCHED):
            scores = queries[part[:, 1]] @ images[garments].T
            best = scores.topk(min(depth, len(garments))).indices
            best = torch.cat([best, best[:, -1:].expand(-1, depth - best.shape[1])], dim=1)
            found[part[:, 0]] = garments[best]
    return found


def _bar(what: str, count: int) -> tqdm:
    return tqdm(range(0, count, _BATCH), desc=what, leave=False)
