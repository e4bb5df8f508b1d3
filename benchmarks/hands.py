"""How many hands are found without a pose, and how much else is taken for one.

    fashion-rag miniature render --count 240 --test 240 --out WORLD
    python -m fashion_rag.benchmarks.hands --world WORLD

Held-out people in tops and dresses, in the world's own labels and in the miniature's parser's.
Where a hand truly begins is told by the keypoints: it is what a mask leaves of the arms. Shares are
of the pixels of all people.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from ..adapter.person.hands import find_hands
from ..adapter.person.masks import LABELS, inpainting_mask
from ..adapter.person.parsing import load_parser
from ..miniature.trained import PARSER
from ..training.dresscode import DressCode

ARMS = [LABELS["left_arm"], LABELS["right_arm"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", type=Path, required=True, help="a drawn Dress Code")
    args = parser.parse_args()
    sys.stdout.write(json.dumps(measure(args.world), indent=2) + "\n")


def measure(world: Path) -> dict[str, dict[str, float]]:
    """Recall and precision of the hands' pixels, and milliseconds a photo, for both labels."""
    data = DressCode(world, "paired", ("dresses", "upper_body"), ("photos", "labels", "keypoints"))
    human_parser = load_parser(PARSER)
    figures = {}
    for name in ("true labels", "parser's labels"):
        counts, seconds = np.zeros(3), 0.0  # true pixels, found, both
        for pair in data.pairs:
            labels = data.labels(pair)
            if name != "true labels":
                labels = np.asarray(human_parser.labels_of(data.photo(pair)))
            keypoints = data.keypoints(pair)
            mask = inpainting_mask(labels, keypoints, pair.category, "mask", grow=0, strict=False)
            true = np.isin(labels, ARMS) & (mask == 0)
            started = time.perf_counter()
            hands = find_hands(labels)
            seconds += time.perf_counter() - started
            counts += true.sum(), hands.sum(), (true & hands).sum()
        figures[name] = {
            "people": len(data.pairs),
            "recall": round(counts[2] / counts[0], 3),
            "precision": round(counts[2] / counts[1], 3),
            "milliseconds": round(1000 * seconds / len(data.pairs)),
        }
    return figures


if __name__ == "__main__":
    main()
