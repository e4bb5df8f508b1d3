"""Examples from the drawn world in the form of a user's files: a catalogue, people with masks.

```
CATALOGUE/garments.csv                       file, id, category, caption
CATALOGUE/<category>/NNNNNN.jpg              in-shop photos
PERSON/photo.jpg mask.png pose.json          a person, white where to repaint, POSE_KEYPOINT
```
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..categories import CATEGORIES
from ..files import write_text
from ..progress import Progress
from .captions import fine_caption
from .draw import FRAME, draw_garment, draw_model
from .dresscode import draw_each
from .world import (
    FIRST_TEST_NUMBER,
    HEMS,
    Garment,
    category_of,
    make_garment,
    make_scene,
)

SEED = 0
"""The world that the shipped models were trained in."""
#: Held out from training, and apart from what is evaluated.
FIRST_GARMENT, FIRST_PERSON = FIRST_TEST_NUMBER + 20_001, FIRST_TEST_NUMBER + 60_000
#: What comes with the pack: so many garments, small, and these people by name.
SHIPPED, SHIPPED_SIZE, CATALOGUE = 90, (192, 256), "drawn_garments"
PEOPLE = {
    "drawn_dress": FIRST_PERSON + 12,
    "drawn_skirt": FIRST_PERSON + 41,
    "drawn_top": FIRST_PERSON + 37,
    "drawn_trousers": FIRST_PERSON + 17,
}
_CANDIDATES = 240
_SLEEVES = ("none", "short", "elbow", "long")
QUALITY = 92


def write_catalogue(
    folder: Path,
    numbers: Sequence[int],
    size: tuple[int, int] = FRAME,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Draw the in-shop photos of these garments and their table.

    Args:
        size: width and height in pixels, 3:4.
        processes: how many to draw with; by default one for each core.
        progress: called with (garments done, garments in all).
    """
    folder = Path(folder)
    for category in CATEGORIES:
        (folder / category).mkdir(parents=True, exist_ok=True)
    with (folder / "garments.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("file", "id", "category", "caption"))
        for number in numbers:
            garment = make_garment(SEED, number)
            caption = ", ".join(fine_caption(SEED, garment))
            table.writerow((photo_name(number), f"{number:06d}", garment.category, caption))
    for done, _ in enumerate(draw_each(partial(_draw, folder, size), list(numbers), processes), 1):
        if progress is not None:
            progress(done, len(numbers))
    return folder


def write_examples(folder: Path, processes: int | None = None) -> None:
    """Write the examples that come with the pack, in the layout of `models/fashion_rag`."""
    # Garments that the demo's own catalogue does not have.
    numbers = range(FIRST_GARMENT - SHIPPED, FIRST_GARMENT)
    write_catalogue(folder / "catalogues" / CATALOGUE, numbers, SHIPPED_SIZE, processes)
    for name, number in PEOPLE.items():
        write_person(folder / "people" / name, number)


def photo_name(number: int) -> str:
    """Return the name of a garment's file in a catalogue."""
    return f"{category_of(number)}/{number:06d}.jpg"


def garment_of(file: str) -> Garment:
    """Return the garment that was drawn on a catalogue's file."""
    return make_garment(SEED, int(Path(file).stem))


def _draw(folder: Path, size: tuple[int, int], number: int) -> None:
    photo = draw_garment(make_garment(SEED, number), size)
    photo.save(folder / photo_name(number), quality=QUALITY, subsampling=0)


def write_person(folder: Path, number: int, size: tuple[int, int] = FRAME) -> Path:
    """Draw the model photo of this number with the mask and the pose that a user would bring.

    The mask covers the garment worn and, for tops and dresses, the arms (`adapter.person.masks`).
    """
    # Not at the top: the processes that draw a catalogue would wait for torch.
    from ..adapter.person.masks import inpainting_mask

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    garment = make_garment(SEED, number)
    photo = draw_model(garment, make_scene(SEED, number), size)
    mask = inpainting_mask(photo.labels, photo.keypoints, garment.category, "mask")
    photo.picture.save(folder / "photo.jpg", quality=QUALITY, subsampling=0)
    Image.fromarray(mask * 255).save(folder / "mask.png")
    body = [round(float(value), 2) for value in photo.keypoints.flatten()]
    pose = {
        "canvas_width": FRAME[0],
        "canvas_height": FRAME[1],
        "people": [{"pose_keypoints_2d": body}],
    }
    write_text(folder / "pose.json", json.dumps([pose]))
    return folder


def write_photo(folder: Path, number: int, size: tuple[int, int] = FRAME) -> Path:
    """Draw the model photo of this number, and nothing beside it: `folder/photo.jpg`."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = draw_model(make_garment(SEED, number), make_scene(SEED, number), size)
    photo.picture.save(folder / "photo.jpg", quality=QUALITY, subsampling=0)
    return folder


def person_for(garment: Garment) -> int:
    """Choose a held-out person, by number, whose photo the garment fits.

    The person wears a piece of the category and of like cut, but of another colour and pattern:
    trousers are not painted where a skirt was, nor long sleeves where bare arms hang.
    """
    first = FIRST_PERSON + (garment.number - FIRST_PERSON) % len(CATEGORIES)
    candidates = range(first, first + _CANDIDATES * len(CATEGORIES), len(CATEGORIES))
    return min(candidates, key=lambda number: _unlikeness(make_garment(SEED, number), garment))


def _unlikeness(worn: Garment, wanted: Garment) -> float:
    hems = HEMS[wanted.category].values()
    sleeves = _SLEEVES.index(worn.sleeve) - _SLEEVES.index(wanted.sleeve)
    return float(
        3 * (worn.cut.endswith("skirt") != wanted.cut.endswith("skirt"))
        + 2 * (worn.colour == wanted.colour)
        + 2 * (worn.pattern == wanted.pattern)
        + abs(sleeves)
        + 2 * abs(worn.hem - wanted.hem) / (max(hems) - min(hems))
        + (worn.cut != wanted.cut)
        + np.linalg.norm(np.subtract(worn.base, wanted.base)) * -0.5
    )
