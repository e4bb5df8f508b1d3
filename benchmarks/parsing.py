"""How well and how fast a human parser sees the people of a drawn Dress Code.

    fashion-rag miniature render --count 300 --test 300 --out WORLD
    python benchmarks/parsing.py --world WORLD --record miniature/weights/parser/training.json

Held-out photos go through the parser as the nodes and `fashion-rag mask --parser` use it: from
its folder, one photo at a time. For each label that occurs the intersection over union is that of
all photos' pixels together; their mean counts every label alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from fashion_rag.adapter.person.masks import LABELS
from fashion_rag.adapter.person.parsing import load_parser
from fashion_rag.files import write_text
from fashion_rag.miniature.train import processor
from fashion_rag.miniature.trained import PARSER
from fashion_rag.training.dresscode import DressCode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--world", type=Path, required=True, help="a drawn Dress Code with held-out pairs")
    add("--parser", type=Path, default=PARSER, help="a parser's folder (default: the miniature's)")
    add("--people", type=int, default=300, help="held-out photos (default: 300)")
    add("--threads", type=int, default=2, help="of torch (default: 2)")
    add("--record", type=Path, help="a JSON file to add the figures to, as `held_out`")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    figures = measure(args.parser, args.world, args.people)
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    if args.record is not None:
        known = args.record.is_file()
        record = json.loads(args.record.read_text(encoding="utf-8")) if known else {}
        write_text(args.record, json.dumps(record | {"held_out": figures}, indent=2) + "\n")


def measure(folder: Path, world: Path, people: int) -> dict:
    """IoU by label and their mean, the share of pixels that are right, and seconds a photo.

    Raises:
        ValueError: the world has fewer held-out people.
    """
    parser, data = load_parser(folder), DressCode(world, "paired", need=("photos", "labels"))
    if len(data) < people:
        raise ValueError(f"{world} holds out {len(data)} people, {people} were asked for.")
    # The categories come one after the other: take as many of each.
    pairs = [data.pairs[i * len(data) // people] for i in range(people)]
    count = len(LABELS)
    confusion, seconds = torch.zeros(count, count, dtype=torch.int64), []
    for pair in pairs:
        photo, truth = data.photo(pair), torch.from_numpy(data.labels(pair))
        started = time.perf_counter()
        seen = torch.from_numpy(parser.labels_of(photo))
        seconds.append(time.perf_counter() - started)
        places = truth.flatten().long() * count + seen.flatten().long()
        confusion += torch.bincount(places, minlength=count * count).view(count, count)
    right = confusion.diagonal()
    union = confusion.sum(dim=0) + confusion.sum(dim=1) - right
    occurs = confusion.sum(dim=1) > 0
    ious = {
        name: round((right[number] / union[number]).item(), 4)
        for name, number in LABELS.items()
        if occurs[number]
    }
    return {
        "people": len(pairs),
        "mean_iou": round(statistics.fmean(ious.values()), 4),
        "iou": ious,
        "right_pixels": round((right.sum() / confusion.sum()).item(), 4),
        "seconds_a_photo": round(statistics.median(seconds), 4),
        "photo": list(photo.size),
        "hardware": f"{processor()}, {torch.get_num_threads()} threads",
    }


if __name__ == "__main__":
    main()
