"""A drawn Dress Code folder: each garment's pattern, and how it looks on any person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...files import read_object
from ...miniature.draw import draw_model
from ...miniature.dresscode import WORLD_VERSION
from ...miniature.world import make_garment, make_scene
from ..columns import CLAIM, Column
from ..results import Measured
from ..world import Verdict
from .claim import claim_lines, judge, void_measures
from .patterns import PatternClassifier, garment_view


@dataclass(frozen=True)
class DrawnWorld:
    """The world that a folder was rendered from; an `evaluation.world.World`.

    size: width and height of its pictures. classifier: tells patterns; without one they are not
    measured.
    """

    root: Path
    seed: int
    size: tuple[int, int]
    classifier: PatternClassifier | None = None

    @classmethod
    def open(cls, root: Path, classifier: PatternClassifier | None = None) -> DrawnWorld | None:
        """Open the world of a folder; None where its pictures are not drawn.

        Raises:
            ValueError: it was drawn by another version, which drew other garments.
        """
        mark = root / "miniature.json"
        if not mark.is_file():
            return None
        found = read_object(mark, "render it again with `fashion-rag miniature render`")
        if found.get("world") != WORLD_VERSION:
            raise ValueError(
                f"{root} holds version {found.get('world')} of the drawn world, this is version "
                f"{WORLD_VERSION}: render it again with `fashion-rag miniature render`."
            )
        return cls(root, found["seed"], tuple(found["size"]), classifier)

    def pattern(self, garment: str) -> str:
        """Return the pattern of the garment with this number."""
        return make_garment(self.seed, int(garment)).pattern

    def worn(self, person: str, garment: str) -> tuple[Image.Image, np.ndarray]:
        """Draw a person's photo with another garment: the picture and its label map (H, W).

        All else in it is as in the person's own photo.
        """
        photo = draw_model(
            make_garment(self.seed, int(garment)), make_scene(self.seed, int(person)), self.size
        )
        return photo.picture, photo.labels

    @property
    def unmeasured(self) -> dict[str, str]:
        """The measures that are left out of this world's tables, each with the reason."""
        photos = "made for photos; the drawn world has measures of its own"
        reasons = {"FID, KID": photos, "LPIPS": photos}
        if self.classifier is None:
            reasons["pattern"] = "no pattern classifier is given: --classifier"
        return reasons

    @property
    def judged(self) -> Sequence[Column]:
        """The columns that the claim is judged on."""
        return CLAIM

    def measure(self, picture: np.ndarray, mask: np.ndarray, garment: str) -> dict[str, float]:
        """Measure `pattern`: 1 where the classifier sees the garment's pattern, else 0.

        Args:
            picture: (H, W, 3) in 0..1. mask: (H, W), its inpainting mask.
        """
        if self.classifier is None:
            return {}
        (seen,) = self.classifier.name(garment_view(picture, mask)[None])
        return {"pattern": float(seen == self.pattern(garment))}

    def judge(self, measured: Measured, own: np.ndarray) -> Verdict:
        """Judge the paper's claim on a paired setting; see `claim.judge`."""
        patterns = [self.pattern(sample.garment) for sample in measured.samples]
        targets = judge(measured, own, patterns)
        return Verdict(
            [asdict(target) for target in targets], claim_lines(targets), void_measures(measured)
        )
