"""How well drawn people of a large photo are dressed: cut out, framed by hand, and not framed.

    python -m fashion_rag.benchmarks.framing --out FOLDER [--people 60]

Every person stands somewhere in a drawn scene, a fifth of its height, and is given the garment that
another one wears, so that the truth can be drawn. Measured in the whole photo after pasting: the
colour error (CIEDE2000 of mean colours where the garment surely is) and the pixels that changed
outside the mask. Columns:

    by hand      the canvas lies where the miniature's training pictures have it
    frame        `find_frames` with the pose
    no pose      `find_frames` without
    whole photo  the photo is scaled to the canvas
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..adapter.garment.prompts import PAPER_PROMPT, category_words, split_prompt
from ..adapter.headless.pipeline import FashionRAGPipeline
from ..adapter.person.cut_out import (
    Frame,
    cut_image,
    cut_mask,
    find_frames,
    move_keypoints,
    paste_back,
)
from ..adapter.person.framing import frame, unframe
from ..adapter.person.inpainting import CELL
from ..adapter.person.masks import inpainting_mask
from ..evaluation.dresscode import garment_region, inner_region
from ..evaluation.picture_errors import colour_error
from ..files import write_text
from ..miniature.draw import FRAME, draw_garment, draw_model
from ..miniature.examples import SEED
from ..miniature.trained import GUIDANCE, SIZE, STEPS, write_miniature
from ..miniature.world import CATEGORIES, FIRST_TEST_NUMBER, make_garment, make_scene
from ..pictures.contact_sheet import contact_sheet

FIRST = FIRST_TEST_NUMBER + 90_000
"""The first of the people: held out, and apart from examples and evaluation."""
PHOTO = (960, 1280)
"""Width and height of the photos in pixels."""
STATURE = 7.6
"""Height of a standing person in heads."""
COLUMNS = ("by hand", "frame", "no pose", "whole photo")
CANVAS = SIZE[::-1]
FEATHER = 4
BATCH = 10


@dataclass(frozen=True)
class Case:
    """A person in a large photo. truth: the photo with the other garment; by_hand: the frame."""

    number: int
    category: str
    photo: Image.Image
    mask: np.ndarray
    keypoints: np.ndarray
    truth: np.ndarray
    inner: np.ndarray
    garment: Image.Image
    by_hand: Frame


def make_case(number: int) -> Case:
    """The person with this number, somewhere in a scene of five times the height."""
    worn, other = make_garment(SEED, number), make_garment(SEED, number + len(CATEGORIES))
    near = make_scene(SEED, number)
    rng = random.Random(f"framing {number}")
    span = 5 * STATURE
    top = -1.5 - rng.uniform(0.2, 0.9) * (span - STATURE)
    far = replace(near, top=top, span=span, across=rng.uniform(-0.35, 0.35) * span)
    photo, truth = (draw_model(garment, far, PHOTO) for garment in (worn, other))
    by_hand = _box_of(near, far)

    drawn = draw_model(worn, near)
    mask = inpainting_mask(drawn.labels, drawn.keypoints, worn.category)
    left, top, right, bottom = by_hand.box
    small = Image.fromarray(mask * 255).resize((right - left, bottom - top), Image.Resampling.BOX)
    whole = Image.new("L", PHOTO, 0)
    whole.paste(small, (left, top))
    hard = (np.asarray(whole) >= 128).astype(np.float32)
    region = garment_region(truth.labels, worn.category)
    return Case(
        number,
        worn.category,
        photo.picture,
        hard,
        photo.keypoints * (PHOTO[0] / FRAME[0], PHOTO[1] / FRAME[1], 1),
        np.asarray(truth.picture) / 255,
        inner_region(region, hard),
        draw_garment(other),
        by_hand,
    )


def _box_of(near, far) -> Frame:
    """Where the picture of a scene lies in that of a wider one: both are drawn about one place."""
    scale = PHOTO[1] / far.span
    height = near.span * scale
    width = height * FRAME[0] / FRAME[1]
    middle = PHOTO[0] / 2 + (far.across - near.across) * scale
    left, top = round(middle - width / 2), round((near.top - far.top) * scale)
    return Frame(PHOTO[::-1], CANVAS, (left, top, left + round(width), top + round(height)))


@dataclass(frozen=True)
class Canvas:
    """A case as the model gets it. frame: None for the whole photo."""

    image: torch.Tensor
    mask: torch.Tensor
    keypoints: np.ndarray
    frame: Frame | None
    box: tuple[int, int, int, int] | None = None


def canvas_of(case: Case, column: str) -> Canvas:
    """The case on the model's canvas, as a column frames it."""
    if column == "whole photo":
        whole = frame(case.photo, case.mask, case.keypoints, CANVAS)
        return Canvas(whole.image, whole.mask, whole.keypoints, None, whole.box)
    mask = torch.from_numpy(case.mask)
    if column == "by hand":
        found = case.by_hand
    else:
        joints = case.keypoints if column == "frame" else None
        (found,) = find_frames(mask[None], [joints], CANVAS)
    pixels = torch.from_numpy(np.array(case.photo))
    return Canvas(
        cut_image(pixels, found)[None],
        cut_mask(mask, found)[None],
        move_keypoints(case.keypoints, found),
        found,
    )


@torch.no_grad()
def paint(pipeline: FashionRAGPipeline, cases: list[Case], column: str) -> list[np.ndarray]:
    """The pasted photos (H, W, 3) uint8 of a column."""
    canvases = [canvas_of(case, column) for case in cases]
    pictures = []
    for start in range(0, len(cases), BATCH):
        some = range(start, min(start + BATCH, len(cases)))
        contexts, noises = [], []
        for row in some:
            parts = split_prompt(PAPER_PROMPT, category_words([cases[row].category]))
            contexts.append(
                pipeline.encode_prompt(parts, pipeline.pseudo_words([cases[row].garment]))
            )
            generator = torch.Generator().manual_seed(cases[row].number)
            shape = (1, 4, CANVAS[0] // CELL, CANVAS[1] // CELL)
            noises.append(torch.randn(shape, generator=generator))
        latents = pipeline.denoise(
            torch.cat(noises),
            torch.cat(
                [pipeline.inpainting_channels(canvases[r].image, canvases[r].mask) for r in some]
            ),
            torch.cat([pipeline.pose_channels(canvases[r].keypoints, CANVAS) for r in some]),
            torch.cat(contexts),
            steps=STEPS,
            guidance_scale=GUIDANCE,
        )
        pictures += list(pipeline.decode(latents))
    return [_pasted(*parts) for parts in zip(cases, canvases, pictures, strict=True)]


def _pasted(case: Case, canvas: Canvas, picture: torch.Tensor) -> np.ndarray:
    if canvas.frame is None:
        return np.asarray(unframe(picture[None], canvas.box, case.photo, case.mask, FEATHER))
    pixels, mask = torch.from_numpy(np.array(case.photo)), torch.from_numpy(case.mask)
    return paste_back(pixels, picture, mask, canvas.frame, FEATHER).numpy()


def measure(case: Case, picture: np.ndarray) -> tuple[float, int]:
    """Colour error against the truth, and pixels that changed outside the mask."""
    changed = (picture != np.asarray(case.photo)).any(axis=-1) & (case.mask == 0)
    return colour_error(picture / 255, case.truth, case.inner), int(changed.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for figures and pictures")
    parser.add_argument("--people", type=int, default=60)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = FashionRAGPipeline.from_pretrained(write_miniature(Path(folder) / "miniature"))
    rows: dict[str, list[tuple[str, float, int]]] = {column: [] for column in COLUMNS}
    for start in range(0, args.people, BATCH):
        numbers = range(FIRST + start, FIRST + min(start + BATCH, args.people))
        cases = [make_case(number) for number in numbers]
        shown = {column: paint(pipeline, cases, column) for column in COLUMNS}
        for column, pictures in shown.items():
            for case, picture in zip(cases, pictures, strict=True):
                rows[column].append((case.category, *measure(case, picture)))
        figures = {column: summary(found) for column, found in rows.items()}
        write_text(args.out / "framing.json", json.dumps(figures, indent=1) + "\n")
        if start == 0:
            _save_sheet(cases, shown, args.out / "framing.jpg")


def summary(rows: list[tuple[str, float, int]]) -> dict[str, float]:
    """Mean colour errors, of all and by category, and the pixels that changed outside."""
    by_category = {
        name: [error for category, error, _ in rows if category == name] for name in CATEGORIES
    }
    return {
        "people": len(rows),
        "colour error": round(float(np.mean([error for _, error, _ in rows])), 3),
        **{name: round(float(np.mean(found)), 3) for name, found in by_category.items() if found},
        "changed outside": sum(changed for *_, changed in rows),
    }


def _save_sheet(cases: list[Case], shown: dict, path: Path) -> None:
    tiles = []
    for row, case in enumerate(cases):
        left, top, right, bottom = case.by_hand.box
        margin = (bottom - top) // 4
        box = (left - margin, top - margin, right + margin, bottom + margin)
        tiles.append((case.photo.crop(box), f"{case.number} {case.category}"))
        truth = Image.fromarray((case.truth * 255).round().astype(np.uint8))
        tiles.append((truth.crop(box), "truth"))
        tiles += [(Image.fromarray(shown[c][row]).crop(box), c) for c in COLUMNS]
    contact_sheet(tiles, columns=2 + len(COLUMNS), title="Framing").save(path, quality=90)


if __name__ == "__main__":
    main()
