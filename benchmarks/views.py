"""What the recipe `views` finds on the miniature, beside the plain encoder, and what it costs.

    python benchmarks/views.py --json views.json

Held-out drawn garments, as many of each category, each looked for by its own caption among those of
its category: recall at 1, 3 and 10 with 95 % bootstrap intervals, and the difference to the plain
encoder over the same captions. The parts of the recipe are measured one by one, and so is the plain
mean of the views, from the same embeddings. Photos a second are the encoder's alone, preparing
included, by this process's own time: other programs don't count. The plain encoder is measured
before and after. (The miniature pads every photo to a square on white by itself.)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fashion_rag.evaluation.statistics import mean_figure
from fashion_rag.files import write_text
from fashion_rag.miniature.captions import fine_caption
from fashion_rag.miniature.draw import draw_garment
from fashion_rag.miniature.trained import WEIGHTS
from fashion_rag.miniature.world import category_of, make_garment, numbers
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.encoders.recipe import PROMPT, ViewsEncoder, views_of
from PIL import Image

CUTOFFS = (1, 3, 10)
_BATCH = 32
_TIMED = 256

PHOTOS = {
    "whole": (1, 0, 0),
    "views": (1, 0.25, 0.25),
    "mean of the views": (1, 1, 1),
    "padded alone added": (1, 0.25, 0),
    "cropped alone added": (1, 0, 0.25),
}
"""Weights of the whole, the padded and the cropped view."""
MEASURED = [
    ("plain", "whole", 0.0),
    ("the prompt alone", "whole", 0.25),
    ("the views alone", "views", 0.0),
    ("views, the recipe", "views", 0.25),
    ("mean of the views, with the prompt", "mean of the views", 0.25),
    ("padded alone added", "padded alone added", 0.0),
    ("cropped alone added", "cropped alone added", 0.0),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--encoder", type=Path, default=WEIGHTS, help="its folder (default: the miniature's)")
    add("--garments", type=int, default=1800, help="drawn ones, of all categories (default: 1800)")
    add("--seed", type=int, default=0, help="of the drawn world (default: 0)")
    add("--chunks", type=int, default=3, help="noun chunks of a caption (default: 3)")
    add("--width", type=int, default=384, help="of a photo, in pixels (default: 384)")
    add("--threads", type=int, default=1, help="of torch (default: 1)")
    add("--json", type=Path, help="where the figures go too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = measure(args)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    if args.json is not None:
        write_text(args.json, json.dumps(figures, indent=2) + "\n")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The rates of every row of MEASURED, and photos a second with and without the recipe."""
    encoder = load_encoder(args.encoder)
    garments = [make_garment(args.seed, number) for number in numbers(args.garments, "test")]
    captions = [", ".join(sorted(fine_caption(args.seed, g))[: args.chunks]) for g in garments]
    size = (args.width, args.width * 4 // 3)
    views, timed = [], []
    for start in range(0, len(garments), _BATCH):
        photos = [draw_garment(garment, size) for garment in garments[start : start + _BATCH]]
        timed += photos[: _TIMED - len(timed)]
        found = encoder.encode_images([view for photo in photos for view in views_of(photo)])
        views.append(found.unflatten(0, (-1, 3)))
    photos = torch.cat(views).double()
    texts = encoder.encode_texts(captions).double()
    prompts = encoder.encode_texts([PROMPT.format(caption) for caption in captions]).double()
    categories = np.array([category_of(garment.number) for garment in garments])
    hits = {
        name: _hits(_mixed(photos, PHOTOS[weights]), texts + weight * prompts, categories)
        for name, weights, weight in MEASURED
    }
    return {
        "garments": len(garments),
        "encoder": encoder.name,
        "rates": {name: _figures(found, hits["plain"]) for name, found in hits.items()},
        "photos a second of processor time": _speeds(encoder, timed),
    }


def _mixed(views: torch.Tensor, weights: tuple[float, ...]) -> torch.Tensor:
    """(n, 3, dim) -> (n, dim), normalised."""
    mixed = (views * torch.tensor(weights, dtype=views.dtype)[:, None]).sum(dim=1)
    return torch.nn.functional.normalize(mixed, dim=-1)


def _hits(photos: torch.Tensor, texts: torch.Tensor, categories: np.ndarray) -> np.ndarray:
    """The rank of each caption's own garment among those of its category, from 0: int64 (n,)."""
    ranks = np.zeros(len(photos), dtype=np.int64)
    for category in np.unique(categories):
        rows = np.flatnonzero(categories == category)
        scores = (texts[rows] @ photos[rows].T).numpy()
        ranks[rows] = (scores > scores.diagonal()[:, None]).sum(axis=1)
    return ranks


def _figures(ranks: np.ndarray, plain: np.ndarray) -> Mapping[str, Any]:
    found = {}
    for k in CUTOFFS:
        rate = mean_figure(ranks < k)
        gain = mean_figure((ranks < k).astype(float) - (plain < k))
        found[f"recall@{k}"] = [round(x, 4) for x in (rate.value, rate.low, rate.high)]
        found[f"gain@{k}"] = [round(x, 4) for x in (gain.value, gain.low, gain.high)]
    return found


def _speeds(encoder: Any, photos: list[Image.Image]) -> dict[str, float]:
    """Photos a second, one run after the other; the plain encoder twice."""
    runs = {"plain": encoder, "views": ViewsEncoder(encoder), "plain again": encoder}
    return {name: _speed(used.encode_images, photos) for name, used in runs.items()}


def _speed(encode: Callable[[list[Image.Image]], torch.Tensor], photos: list[Image.Image]) -> float:
    encode(photos[:_BATCH])
    started = time.process_time()
    for start in range(0, len(photos), _BATCH):
        encode(photos[start : start + _BATCH])
    return round(len(photos) / (time.process_time() - started), 1)


if __name__ == "__main__":
    main()
