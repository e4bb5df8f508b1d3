"""The least score that a match has: measured on the catalogue itself when an index is built.

How similar a text and a photo that belong together are differs from encoder to encoder, and the
best of many garments is more similar to any text than the best of few. So a sample of the
catalogue's captions is searched in the index, and the score that nearly all of them reach is taken.
People ask for less than a caption says, and a shorter text is less similar to its best photo: the
same is done with the captions' first noun chunks, and the lower score of the two is the least one.
A catalogue without captions has nothing to ask: there the colour cards' most similar wrong pair is
taken, which shuts out little more than what is no text about clothes at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..encoders.color_check import ColorCheck, check_cards
from ..encoders.open_clip import Encoder
from ..store.part import Part
from ..vectors.blocks import Vectors
from ..vectors.exact import exact_search
from ..words import noun_chunks

SAMPLE = 256
"""How many captions are encoded; on a CPU they take some 0.1 of the time of as many photos."""

FEWEST = 20
"""With fewer captions the colour cards are used instead."""

REACHED_BY = 0.95
"""The share of the captions whose best garment reaches the least score."""

_LOOKED_AT = 4096  # garments whose captions are read


def calibrate(
    encoder: Encoder, parts: Sequence[Part], cards: ColorCheck | None = None
) -> dict[str, Any]:
    """Measure the least score of a match in an index.

    Args:
        encoder: with which the parts' embeddings were made.
        cards: its colour check, if it was made already.

    Returns:
        What the manifest records as `least_score`: score, a cosine similarity; by, `captions` or
        `colour cards`; texts, how many were asked; garments, how many there were.
    """
    vectors = Vectors([part.embeddings for part in parts], [part.removed for part in parts])
    texts = _captions(parts)
    if len(texts) < FEWEST:
        score, by, texts = (cards or check_cards(encoder)).highest_wrong, "colour cards", ()
    else:
        firsts = list(dict.fromkeys((noun_chunks(text) or (text,))[0] for text in texts))
        scores = []
        for asked in (texts, firsts):
            best = exact_search(vectors, encoder.encode_texts(asked).float().cpu(), 1)[0].numpy()
            scores.append(np.quantile(best, 1 - REACHED_BY))
        score, by = min(scores), "captions"
    score = round(float(score), 4)
    return {"score": score, "by": by, "texts": len(texts), "garments": len(vectors)}


def is_outdated(measured: Mapping[str, Any] | None, parts: Sequence[Part]) -> bool:
    """Tell whether the least score of an index, now of `parts`, is to be measured again.

    So it is if none was measured, if the number of garments has doubled or halved since, or if
    captions are new.
    """
    match measured:
        case {"by": by, "garments": int(count)} if count > 0:
            if not 0.5 < sum(map(len, parts)) / count < 2:
                return True
            return by != "captions" and len(_captions(parts)) >= FEWEST
    return True


def _captions(parts: Sequence[Part]) -> Sequence[str]:
    """Return different captions of garments that lie evenly over the parts, at most SAMPLE."""
    count = sum(map(len, parts))
    captions: dict[str, None] = {}
    for part in parts:
        rows = part.rows()[:: -(-count // _LOOKED_AT)]
        found = part.records.values_at(rows, "caption")
        captions |= dict.fromkeys(text for _, text in sorted(found.items()) if text.strip())
    texts = list(captions)
    return texts[:: -(-len(texts) // SAMPLE)] if texts else ()
