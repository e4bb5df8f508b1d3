"""What only a drawn world knows: its garments' patterns, and how any one looks on any person."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...miniature.draw import draw_model
from ...miniature.dresscode import WORLD_VERSION
from ...miniature.world import make_garment, make_scene


@dataclass(frozen=True)
class DrawnWorld:
    """The world that a folder was rendered from. size: width and height of its pictures."""

    root: Path
    seed: int
    size: tuple[int, int]

    @classmethod
    def open(cls, root: Path) -> DrawnWorld | None:
        """The world of a folder, or None where its pictures are not drawn ones.

        Raises:
            ValueError: it was drawn by another version, which drew other garments.
        """
        mark = root / "miniature.json"
        if not mark.is_file():
            return None
        found = json.loads(mark.read_text(encoding="utf-8"))
        if found.get("world") != WORLD_VERSION:
            raise ValueError(
                f"{root} holds version {found.get('world')} of the drawn world, this is version "
                f"{WORLD_VERSION}: render it again with `fashion-rag miniature render`."
            )
        return cls(root, found["seed"], tuple(found["size"]))

    def pattern(self, garment: str) -> str:
        """The pattern of the garment with this number."""
        return make_garment(self.seed, int(garment)).pattern

    def worn(self, person: str, garment: str) -> tuple[Image.Image, np.ndarray]:
        """A person's photo with another garment instead of the own one: the picture and its
        label map (H, W). All else in it is the same."""
        photo = draw_model(
            make_garment(self.seed, int(garment)), make_scene(self.seed, int(person)), self.size
        )
        return photo.picture, photo.labels
