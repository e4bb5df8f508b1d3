"""A top and a bottom changed at once, in one pass and in two, against the truth.

    python -m fashion_rag.benchmarks.outfit --out FOLDER [--people 120]

Every person is drawn from head to foot and given another top and another bottom. Measured in the
painted picture, for each half: the colour error (CIEDE2000 of mean colours where the garment surely
is), whether the pattern is the right one, and the seconds a person takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..adapter.headless.outfit import Piece, one_pass, two_passes
from ..adapter.headless.pipeline import FashionRAGPipeline
from ..adapter.person.masks import inpainting_mask
from ..evaluation.dresscode import garment_region, inner_region
from ..evaluation.miniature.patterns import garment_view, load_classifier
from ..evaluation.picture_errors import colour_error
from ..files import write_text
from ..miniature.draw import FRAME, draw_garment, draw_model
from ..miniature.examples import SEED
from ..miniature.trained import GUIDANCE, SIZE, STEPS, WEIGHTS, write_miniature
from ..miniature.world import CATEGORIES, FIRST_TEST_NUMBER, make_garment, make_scene
from ..pictures.contact_sheet import contact_sheet

FIRST = FIRST_TEST_NUMBER + 120_000
HALVES = ("upper_body", "lower_body")
WAYS = {"one pass": one_pass, "two passes": two_passes}
_TOP, _SPAN = -1.7, 8.1  # from above the hair to below the shoes, in heads
_CHUNK = 10
CLASSIFIER = WEIGHTS.parent / "pattern_classifier.safetensors"


@dataclass(frozen=True)
class Case:
    """A person with both halves to be changed; truth is drawn at the model's size."""

    number: int
    photo: Image.Image
    keypoints: np.ndarray
    pieces: tuple[Piece, Piece]
    patterns: tuple[str, str]
    truth: np.ndarray
    small_masks: tuple[np.ndarray, np.ndarray]
    inner: tuple[np.ndarray, np.ndarray]


def make_case(row: int) -> Case:
    """The row-th person: drawn in a top with a bottom of its own, and in two other garments."""
    number = _nth(HALVES[0], row)
    scene = replace(make_scene(SEED, number), top=_TOP, span=_SPAN)
    top = make_garment(SEED, _nth(HALVES[0], row + 5000))
    skirt = scene.other.cut.endswith("skirt")
    bottom = next(
        garment
        for step in range(200)
        if (garment := make_garment(SEED, _nth(HALVES[1], row + 5000 + 7 * step))).cut.endswith(
            "skirt"
        )
        == skirt
    )
    photo = draw_model(make_garment(SEED, number), scene)
    masks = [inpainting_mask(photo.labels, photo.keypoints, half) for half in HALVES]
    drawn = draw_model(top, replace(scene, other=bottom), SIZE)
    width, height = SIZE
    cells = [
        mask.reshape(height, mask.shape[0] // height, width, mask.shape[1] // width)
        for mask in masks
    ]
    small = [one.mean(axis=(1, 3)) >= 0.5 for one in cells]
    union = np.logical_or(*small)
    return Case(
        number,
        photo.picture,
        photo.keypoints,
        tuple(
            Piece(mask, [draw_garment(garment, FRAME)], garment.category)
            for mask, garment in zip(masks, (top, bottom), strict=True)
        ),
        (top.pattern, bottom.pattern),
        np.asarray(drawn.picture) / 255,
        tuple(one.astype(np.float32) for one in small),
        tuple(inner_region(garment_region(drawn.labels, half), union) for half in HALVES),
    )


def _nth(category: str, row: int) -> int:
    first = next(n for n in range(FIRST, FIRST + 3) if n % 3 == CATEGORIES.index(category))
    return first + len(CATEGORIES) * row


def paint(pipeline: FashionRAGPipeline, case: Case, way: str) -> tuple[Image.Image, float]:
    """The photo with both halves changed, and the seconds that it took."""
    started = time.perf_counter()
    picture = WAYS[way](
        pipeline,
        case.photo,
        case.pieces,
        keypoints=case.keypoints,
        steps=STEPS,
        guidance_scale=GUIDANCE,
        width=SIZE[0],
        height=SIZE[1],
        seed=case.number,
    )
    return picture, time.perf_counter() - started


def measure(case: Case, picture: np.ndarray, classifier) -> dict[str, float]:
    """Colour error and right pattern of each half of a picture (H, W, 3) of `SIZE` in 0..1."""
    found = {}
    for half, mask, inner, pattern in zip(
        HALVES, case.small_masks, case.inner, case.patterns, strict=True
    ):
        found[f"{half} colour"] = colour_error(picture, case.truth, inner)
        view = garment_view(picture.astype(np.float32), mask)[None]
        found[f"{half} pattern"] = float(classifier.name(view)[0] == pattern)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for figures and pictures")
    parser.add_argument("--people", type=int, default=120)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    classifier = load_classifier(CLASSIFIER)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = FashionRAGPipeline.from_pretrained(write_miniature(Path(folder) / "miniature"))
    rows: dict[str, list[dict[str, float]]] = {"truth": [], **{way: [] for way in WAYS}}
    tiles = []
    for number in range(args.people):
        case = make_case(number)
        rows["truth"].append(measure(case, case.truth, classifier))
        truth = Image.fromarray((case.truth * 255).round().astype(np.uint8))
        shown = [(case.photo, str(case.number)), (truth, "truth")]
        for way in WAYS:
            picture, seconds = paint(pipeline, case, way)
            small = np.asarray(picture.resize(SIZE, Image.Resampling.BOX)) / 255
            rows[way].append({**measure(case, small, classifier), "seconds": seconds})
            shown.append((picture, way))
        if number < _CHUNK:
            tiles += shown
        if (number + 1) % _CHUNK == 0 or number + 1 == args.people:
            figures = {way: _means(found) for way, found in rows.items()}
            figures["people"] = number + 1
            write_text(args.out / "outfit.json", json.dumps(figures, indent=1) + "\n")
            sheet = contact_sheet(tiles, columns=2 + len(WAYS), title="Outfits")
            sheet.save(args.out / "outfit.jpg", quality=90)


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.nanmean([row[name] for row in rows])), 3) for name in rows[0]}


if __name__ == "__main__":
    main()
