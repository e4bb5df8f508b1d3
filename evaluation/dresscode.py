"""Samples at the model's size of the test part of a Dress Code folder."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import binary_erosion

from ..adapter.person.framing import frame
from ..adapter.person.inpainting import THRESHOLD
from ..adapter.person.masks import LABELS, MODES
from ..adapter.person.parsing import HumanParser
from ..adapter.person.pose import DRESSCODE_FRAME
from ..categories import CATEGORIES
from ..training.dresscode import DressCode, Pair

CHUNKS = 3
"""Noun chunks of a whole caption."""
GARMENT_LABELS = {
    "dresses": ("dress",),
    "upper_body": ("upper_clothes",),
    "lower_body": ("skirt", "pants"),
}
_FEW = 16  # pixels that a region must keep when its border is taken off


@dataclass(frozen=True)
class Sample:
    """One person to dress in one garment.

    file: the garment's in-shop photo, relative to the folder.
    """

    pair: Pair
    file: str
    data: DressCode = field(repr=False, compare=False)

    @property
    def category(self) -> str:
        """The garment's category."""
        return self.pair.category

    @property
    def person(self) -> str:
        """The number of the person."""
        return self.pair.person

    @property
    def garment(self) -> str:
        """The number of the garment."""
        return self.pair.garment

    @property
    def name(self) -> str:
        """The name of the sample's files."""
        return f"{self.person}_{self.garment}"

    @property
    def paired(self) -> bool:
        """Whether the garment is the one that the person wears."""
        return self.person == self.garment

    def caption(self, chunks: int = CHUNKS) -> str:
        """Join the first `chunks` of the sorted noun chunks, as the official files key captions."""
        return ", ".join(sorted(self.pair.chunks)[:chunks])


@dataclass(frozen=True)
class Scene:
    """A sample's model inputs and truth at the model's size.

    photo: (H, W, 3) float32 in 0..1. mask: (H, W) float32, 1 = repaint. keypoints: (18, 3) in
    pixels of the photo. garment: (H, W) bool, where the worn garment is.
    """

    photo: torch.Tensor
    mask: torch.Tensor
    keypoints: np.ndarray
    garment: np.ndarray


def read_samples(root: Path, split: str, categories: Collection[str] = CATEGORIES) -> list[Sample]:
    """Read the pairs of a split, by category in the order of their lists; a person counts once.

    Raises:
        FileNotFoundError, ValueError: see `training.dresscode.DressCode`; also a garment with
            fewer than three noun chunks, or no pair at all.
    """
    data = DressCode(root, split, categories)
    few = [pair.garment for pair in data.pairs if len(pair.chunks) < CHUNKS]
    if few:
        raise ValueError(
            f"{root}: {len(few)} garments have fewer than {CHUNKS} noun chunks, such as {few[0]}: "
            "the protocol needs three; complete fine_captions.json or coarse_captions.json."
        )
    samples: dict[tuple[str, str], Sample] = {}
    for pair in data.pairs:
        sample = Sample(pair, data.garment_file(pair), data)
        samples.setdefault((pair.category, pair.person), sample)
    if not samples:
        raise ValueError(f"{root} has no pairs of the split {split!r}: its lists are empty.")
    return list(samples.values())


def load_scene(
    sample: Sample,
    size: tuple[int, int],
    mode: str = MODES[0],
    parser: HumanParser | None = None,
) -> Scene:
    """Read a sample's photo, mask and pose at `size` (height, width).

    The mask is made as in training: the pack's own rules at the label map's size, then fitted.

    Args:
        mode: of the mask, one of `adapter.person.masks.MODES`.
        parser: makes the labels that the mask is made of, in place of the label map's.

    Raises:
        ValueError: a damaged file, or a label map without anything to repaint.
    """
    data, pair = sample.data, sample.pair
    photo, labels, keypoints = data.photo(pair), data.labels(pair), data.keypoints(pair)
    seen = labels if parser is None else parser.labels_of(photo)
    mask = data.mask(pair, seen, keypoints, mode)
    scale = (photo.width / DRESSCODE_FRAME[1], photo.height / DRESSCODE_FRAME[0], 1)
    framed = frame(photo, mask.astype(np.float32), keypoints * scale, size)
    return Scene(
        photo=framed.image[0],
        mask=(framed.mask[0] >= THRESHOLD).float(),
        keypoints=framed.keypoints,
        garment=fitted_region(garment_region(labels, pair.category), size),
    )


def fitted_region(region: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a region (h, w) of bools to `size` (height, width), its proportions kept."""
    blank = Image.new("RGB", (region.shape[1], region.shape[0]))
    return frame(blank, region.astype(np.float32), None, size).mask[0].numpy() >= THRESHOLD


def garment_region(labels: np.ndarray, category: str) -> np.ndarray:
    """Find the garment of a category in a label map (H, W), as bools."""
    return np.isin(labels, [LABELS[name] for name in GARMENT_LABELS[category]])


def inner_region(garment: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the garment's pixels inside the mask without a border, which may be mislabelled.

    The border is one pixel for every 128 rows; it stays where almost nothing would be left.
    """
    width = max(1, round(garment.shape[0] / 128))
    inside = mask >= THRESHOLD
    eroded = binary_erosion(garment, iterations=width) & inside
    return eroded if eroded.sum() >= _FEW else garment & inside
