"""What the words of captions add to retrieval in the drawn world, and a minimum score of its own.

    python benchmarks/words.py --json FILE             # some minutes on two cores

Held-out garments of the miniature are drawn, embedded by the trained miniature's CLIP and searched
by their own caption of three noun chunks, each in its category. The catalogue's captions name two
chunks of the three, drawn at random, as a shop's titles name part of what a customer says.

- words: recall@1, @3 and @10 for each weight of the words: whether a garment with the very same
  three chunks is among the first k, mean over the different texts with a 95 % bootstrap interval.
- minimum: how many texts the least score that is measured on the catalogue refuses: those of its
  garments, by one, two and three chunks, and those of things that it has not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from fashion_rag.categories import CATEGORIES
from fashion_rag.evaluation.retrieval import retrieval_rates
from fashion_rag.evaluation.statistics import mean_figure
from fashion_rag.miniature.captions import fine_caption
from fashion_rag.miniature.draw import draw_garment
from fashion_rag.miniature.trained import WEIGHTS
from fashion_rag.miniature.world import category_of, make_garment, numbers
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.encoders.color_check import check_cards
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query, retrieve
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep.calibration import calibrate

WEIGHTS_OF_WORDS = (0, 0.1, 0.25, 0.5, 0.75, 1)
CUTOFFS = (1, 3, 10)
SIZE = (192, 256)
NO_GARMENTS = (
    "a bowl of soup", "a red sports car", "a spaceship", "a dog in the park", "a laptop computer",
    "a wooden chair", "a mountain at sunset", "a cup of coffee", "a football match", "a blue bird",
    "a city at night", "a loaf of bread", "an oak tree", "a glass bottle", "a railway station",
    "a yellow taxi", "two cats", "a page of a newspaper", "a guitar", "a snowy road",
)  # fmt: skip
_BATCH = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=3000, help="garments to draw (default: 3000)")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn world (default: 0)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    encoder = load_encoder(WEIGHTS)
    chunks = {n: fine_caption(args.seed, make_garment(args.seed, n)) for n in test(args.count)}
    embeddings = embed(encoder, args.seed, list(chunks))
    figures = {
        "garments": args.count,
        "seed": args.seed,
        "words": of_words(encoder, chunks, embeddings),
        "minimum": of_minimum(encoder, chunks, embeddings),
    }
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    if args.json:
        args.json.write_text(text, encoding="utf-8")


def test(count: int) -> range:
    return numbers(count, "test")


def embed(encoder, seed: int, garments: Sequence[int]) -> torch.Tensor:
    parts = []
    for start in range(0, len(garments), _BATCH):
        some = garments[start : start + _BATCH]
        photos = [draw_garment(make_garment(seed, number), SIZE) for number in some]
        parts.append(encoder.encode_images(photos))
    return torch.cat(parts)


def two_of_three(number: int, chunks: Sequence[str]) -> str:
    """Two of a garment's chunks, in their order."""
    left_out = random.Random(f"left out {number}").randrange(3)
    return ", ".join(chunk for place, chunk in enumerate(chunks) if place != left_out)


def catalogue(
    chunks: dict[int, list[str]], embeddings: torch.Tensor, categories: Sequence[str] = CATEGORIES
) -> LocalBackend:
    """An index in memory of the garments of some categories, with captions of two chunks."""
    rows = [row for row, number in enumerate(chunks) if category_of(number) in categories]
    every = list(chunks.items())
    garments = []
    for row in rows:
        number, own = every[row]
        caption = two_of_three(number, own)
        garments.append(Garment(f"{number}", f"{number}.jpg", category_of(number), caption, {}))
    return LocalBackend(GarmentIndex.in_memory(garments, embeddings[rows]))


class Anyone:
    """The encoder, as an index in memory takes any."""

    def __init__(self, encoder):
        self.name, self.dim = encoder.name, encoder.dim
        self.fingerprint = ""
        self.encode_texts, self.encode_images = encoder.encode_texts, encoder.encode_images


def of_words(encoder, chunks: dict[int, list[str]], embeddings: torch.Tensor) -> dict:
    index, figures = catalogue(chunks, embeddings), {}
    whole = {f"{number}.jpg": ", ".join(own) for number, own in chunks.items()}
    for weight in WEIGHTS_OF_WORDS:
        rates: dict[int, list[np.ndarray]] = {k: [] for k in CUTOFFS}
        for category in CATEGORIES:
            texts = sorted(
                {whole[f"{number}.jpg"] for number in chunks if category_of(number) == category}
            )
            queries = [Query(t, category=category, k=20, word_weight=weight) for t in texts]
            results = retrieve(index, Anyone(encoder), queries)
            ranking = {
                text: [hit.garment.file for hit in result.hits]
                for text, result in zip(texts, results, strict=True)
            }
            of_category = {
                f"{number}.jpg": whole[f"{number}.jpg"]
                for number in chunks
                if category_of(number) == category
            }
            found = retrieval_rates(ranking, of_category, texts)
            for k in CUTOFFS:
                rates[k].append(found[f"recall@{k}"])
        figures[f"{weight:g}"] = {
            f"recall@{k}": asdict(mean_figure(np.concatenate(values)))
            for k, values in rates.items()
        }
    return figures


def of_minimum(encoder, chunks: dict[int, list[str]], embeddings: torch.Tensor) -> dict:
    """Shares of texts that are refused, with the minimum of captions and that of colour cards."""
    figures: dict = {}
    minimum_of_cards = check_cards(encoder).highest_wrong
    for category in CATEGORIES:
        index = catalogue(chunks, embeddings, [category])
        minimum = calibrate(encoder, index.index.parts)["score"]
        figures[category] = {"minimum": minimum, "minimum of colour cards": minimum_of_cards}
        for name, count, own in (
            ("1 chunk", 1, True),
            ("2 chunks", 2, True),
            ("3 chunks", 3, True),
            ("another category's, 3 chunks", 3, False),
            ("no garment", 0, False),
        ):
            texts = (
                set(NO_GARMENTS)
                if not count
                else {
                    ", ".join(parts[:count])
                    for number, parts in chunks.items()
                    if (category_of(number) == category) == own
                }
            )
            results = retrieve(index, Anyone(encoder), [Query(t, k=1) for t in sorted(texts)])
            best = np.array([result.hits[0].score for result in results])
            figures[category][name] = {
                "texts": len(best),
                "refused": float((best < minimum).mean()),
                "refused by the colour cards": float((best < minimum_of_cards).mean()),
            }
    return figures


if __name__ == "__main__":
    main()
