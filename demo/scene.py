"""The demo's inputs: model folder, catalogue and person, drawn or the user's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..adapter.person.mask_files import read_mask
from ..adapter.person.pose import photo_keypoints
from ..categories import CATEGORIES
from ..files import write_text
from ..miniature.examples import (
    FIRST_GARMENT,
    FIRST_PERSON,
    garment_of,
    person_for,
    write_catalogue,
    write_photo,
)
from ..miniature.trained import GUIDANCE, SIZE, STEPS, is_miniature, write_miniature
from ..pictures.photos import open_photo
from ..progress import Progress

GARMENTS = 360
"""Garments of the drawn catalogue, a third of each category."""
FULL_SIZE, FULL_STEPS, FULL_GUIDANCE = (384, 512), 50, 7.5
"""The paper's picture size (width, height), steps and guidance scale."""
TO_FETCH = (
    "sd2-community/stable-diffusion-2-inpainting, with CLIP ViT-H/14 as image_encoder, "
    "Fashion-RAG's adapter as inversion_adapter.safetensors and a retrieval encoder as encoder "
    "(docs/nodes.md, Weights and licences; docs/headless.md)"
)


@dataclass(frozen=True)
class Models:
    """A model folder in diffusers layout, and how to sample with it.

    size: width and height of its pictures. title: its name for people. full_size: whether it is
    another one than the miniature, and so slow without a GPU.
    """

    folder: Path
    size: tuple[int, int]
    steps: int
    guidance: float
    title: str
    full_size: bool = False

    @property
    def encoder(self) -> Path | None:
        """The encoder folder in the model folder; None: its text and image encoders retrieve."""
        own = self.folder / "encoder"
        return own if own.is_dir() else None


def open_models(weights: Path | None, folder: Path) -> Models:
    """Open the user's weights, or the trained miniature, written to `folder`.

    Raises:
        FileNotFoundError: the weights are missing.
    """
    if weights is None or is_miniature(weights):
        return Models(write_miniature(folder), SIZE, STEPS, GUIDANCE, "the trained miniature")
    if not (weights / "unet").is_dir():
        raise FileNotFoundError(
            f"--weights {weights} is no model folder in diffusers layout (it has no unet). Needed: "
            f"{TO_FETCH}."
        )
    name = weights.resolve().name
    return Models(weights, FULL_SIZE, FULL_STEPS, FULL_GUIDANCE, name, full_size=True)


def check_own_photos(
    person: Path | None, mask: Path | None, catalogue: Path | None, weights: Path | None
) -> None:
    """Refuse photos that the miniature can't paint.

    Raises:
        ValueError: photos without full-size weights, or a person without a mask.
    """
    own = {"--person": person, "--mask": mask, "--catalogue": catalogue}
    given = [name for name, value in own.items() if value is not None]
    if given and (weights is None or is_miniature(weights)):
        raise ValueError(
            f"{' and '.join(given)} can't be used with the miniature, which has only seen its own "
            f"drawn world. Name full-size models with --weights FOLDER: {TO_FETCH}."
        )
    if (person is None) != (mask is None):
        raise ValueError("--person and --mask belong together: white in the mask is repainted.")


def draw_catalogue(folder: Path, progress: Progress | None = None) -> Path:
    """Draw a catalogue of garments that no model was trained on."""
    numbers = range(FIRST_GARMENT, FIRST_GARMENT + GARMENTS)
    return write_catalogue(folder, numbers, progress=progress)


def drawn_category(category: str | None) -> str:
    """Return a category of the drawn world: this one, or tops for a category that it lacks."""
    return category if category in CATEGORIES else "upper_body"


def draw_person(folder: Path, garment_file: str | None, category: str) -> Path:
    """Draw the photo of a person for a garment of the drawn catalogue, or for any of a category."""
    if garment_file is None:
        number = FIRST_PERSON + CATEGORIES.index(category)
    else:
        number = person_for(garment_of(garment_file))
    return write_photo(folder, number)


def copy_person(folder: Path, photo: Path, mask: Path, pose: Path | None) -> Path:
    """Copy the user's own person into a person's folder (see miniature/examples.py)."""
    folder.mkdir(parents=True)
    picture = open_photo(photo)
    picture.save(folder / "photo.png")
    values = read_mask(mask, picture.size)
    Image.fromarray((values * 255).round().astype(np.uint8)).save(folder / "mask.png")
    found = None if pose is None else photo_keypoints(pose, 0, picture.size)
    people = [] if found is None else [{"pose_keypoints_2d": found.flatten().tolist()}]
    size = {"canvas_width": picture.width, "canvas_height": picture.height}
    write_text(folder / "pose.json", json.dumps([{**size, "people": people}]))
    return folder


def photo_of(person: Path) -> Image.Image:
    """Find the photo in a person's folder."""
    return open_photo(next(person.glob("photo.*")))
