"""Measuring the painted pictures of one setting: every sample in every column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image

from ..adapter.person.framing import frame
from ..adapter.person.inpainting import composite
from ..adapter.person.masks import MODES
from ..progress import Progress, silent
from .columns import Column
from .dresscode import Sample, Scene, fitted_region, garment_region, inner_region, load_scene
from .networks import Features
from .picture_errors import colour_error, fabric_patch, masked_garment, region_error, ssim
from .results import Measured, Values
from .world import World

FEATHER = 8
"""Pixels at a height of 512, as the pack's own default."""
_PART = 32  # samples whose pictures are in memory at a time


@dataclass(frozen=True)
class Instruments:
    """The networks and settings of the measures; a measure without its network is left out.

    size: height and width of the pictures. mask: one of `adapter.person.masks.MODES`.
    """

    size: tuple[int, int]
    mask: str = MODES[0]
    clip: Features | None = None
    caption_features: Callable[[Sequence[str]], np.ndarray] | None = None
    garment_features: Callable[[str], np.ndarray] | None = None
    fidelity: Callable[[np.ndarray, np.ndarray, str], float] | None = None
    inception: Features | None = None
    lpips: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], np.ndarray] | None = None
    world: World | None = None


@dataclass(frozen=True)
class _Truth:
    """How a person looks in a garment.

    garment: its number. photo: (H, W, 3). inner: where the garment surely is, (H, W) bool.
    """

    garment: str
    photo: np.ndarray
    inner: np.ndarray


def measure(
    samples: Sequence[Sample],
    columns: Sequence[Column],
    picture_of: Callable[[Sample, Column], Path],
    garments_of: Callable[[Sample, Column], Sequence[str]],
    captions: Sequence[str],
    tools: Instruments,
    progress: Progress = silent,
) -> Measured:
    """Measure every column's picture of every sample.

    Args:
        picture_of: where a column's picture of a sample is.
        garments_of: the photos of the garments that a column gave a sample, best first.
        captions: of the samples, for CLIP-S.
        progress: called with (samples measured, samples in all).
    """
    rows: dict[str, list[dict[str, float]]] = {column.key: [] for column in columns}
    features: dict[str, dict[str, list[np.ndarray]]] = {}
    for start in range(0, len(samples), _PART):
        part = [
            _open_sample(sample, columns, picture_of, tools)
            for sample in samples[start : start + _PART]
        ]
        texts = captions[start : start + _PART]
        for column in columns:
            given = [garments_of(one.sample, column) for one in part]
            rows[column.key] += _measure_column(part, column, given, texts, tools)
        for name, of in (("clip", tools.clip), ("inception", tools.inception)):
            if of is not None:
                kept = features.setdefault(name, {})
                kept.setdefault("", []).append(of([one.scene.photo.numpy() for one in part]))
                for column in columns:
                    shown = of([one.pictures[column.key] for one in part])
                    kept.setdefault(column.key, []).append(shown)
        progress(start + len(part), len(samples))
    return Measured(
        list(samples),
        {key: _columns_of(found) for key, found in rows.items()},
        {
            name: {key: np.concatenate(parts) for key, parts in kept.items()}
            for name, kept in features.items()
        },
    )


@dataclass
class _OpenedSample:
    """A sample with its scene, its pictures by column, and the truths worked out so far."""

    sample: Sample
    scene: Scene
    pictures: dict[str, np.ndarray]
    truths: dict[str, _Truth | None] = field(default_factory=dict)

    def truth(self, garment: str, tools: Instruments) -> _Truth | None:
        if garment not in self.truths:
            self.truths[garment] = _truth(self.sample, self.scene, garment, tools)
        return self.truths[garment]


def _open_sample(sample: Sample, columns, picture_of, tools: Instruments) -> _OpenedSample:
    pictures = {c.key: read_picture(picture_of(sample, c), tools.size) for c in columns}
    return _OpenedSample(sample, load_scene(sample, tools.size, tools.mask), pictures)


def _measure_column(
    part: Sequence[_OpenedSample],
    column: Column,
    given: Sequence[Sequence[str]],
    captions: Sequence[str],
    tools: Instruments,
) -> list[dict[str, float]]:
    rows, pictures, garments, patches = [], [], [], []
    for one, files in zip(part, given, strict=True):
        picture, mask = one.pictures[column.key], one.scene.mask.numpy()
        truth = one.truth(one.sample.garment, tools)
        row = _against_truth(picture, one.scene, truth, tools)
        if files:
            retrieved = one.truth(garment_number(files[0]), tools)
            row |= _against_retrieved(picture, one.scene, retrieved, tools)
        if tools.fidelity is not None:
            known = truth is not None and truth.inner.any()
            region = truth.inner if known else mask > 0
            row["fidelity"] = tools.fidelity(picture, region, one.sample.file)
        rows.append(row)
        pictures.append(picture)
        garments.append(masked_garment(picture, mask))
        patches.append(fabric_patch(picture, mask, one.sample.category))
    further = {}
    if tools.clip is not None:
        texts = tools.caption_features(captions)
        further["clip_s"] = 100 * (tools.clip(garments) * texts).sum(axis=1).clip(0)
        if all(given):
            further["clip_i"] = _clip_i(tools.clip(patches), given, tools)
    truths = [one.truth(one.sample.garment, tools) for one in part]
    if tools.lpips is not None and all(truths):
        further["lpips"] = tools.lpips(pictures, [truth.photo for truth in truths])
    for name, values in further.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = float(value)
    return rows


def _columns_of(rows: Sequence[Mapping[str, float]]) -> Values:
    names = {name: None for row in rows for name in row}
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}


def read_picture(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read a painted picture as (H, W, 3) float32 in 0..1.

    Raises:
        ValueError: another size.
    """
    with Image.open(path, formats=("PNG",)) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    if pixels.shape[:2] != tuple(size):
        raise ValueError(
            f"{path} is {pixels.shape[1]}x{pixels.shape[0]}, expected {size[1]}x{size[0]}: it is "
            "of another run; choose another folder for the pictures."
        )
    return pixels


def composited(picture: np.ndarray, scene: Scene) -> np.ndarray:
    """Paste the picture into the photo as Fashion Composite does: (H, W, 3)."""
    feather = round(FEATHER * picture.shape[0] / 512)
    pasted = composite(
        scene.photo[None], torch.from_numpy(picture)[None], scene.mask[None], feather
    )
    return pasted[0].numpy()


def garment_number(file: str) -> str:
    """Return the number in a garment photo's name."""
    return PurePosixPath(file).name.split("_")[0]


def _truth(sample: Sample, scene: Scene, garment: str, tools: Instruments) -> _Truth | None:
    """Return how the sample's person looks in the garment with this number; None if unknown."""
    mask = scene.mask.numpy()
    if garment == sample.person:
        return _Truth(garment, scene.photo.numpy(), inner_region(scene.garment, mask))
    if tools.world is None:
        return None
    picture, labels = tools.world.worn(sample.person, garment)
    framed = frame(picture, np.zeros(labels.shape, np.float32), None, tools.size)
    region = fitted_region(garment_region(labels, sample.category), tools.size)
    return _Truth(garment, framed.image[0].numpy(), inner_region(region, mask))


def _against_truth(
    picture: np.ndarray, scene: Scene, truth: _Truth | None, tools: Instruments
) -> dict[str, float]:
    mask = scene.mask.numpy() > 0
    changed = (composited(picture, scene) != scene.photo.numpy()).any(axis=-1) & ~mask
    found = {"outside_changed": float(changed.sum())}
    if truth is None:
        return found
    found |= {
        "ssim": ssim(picture, truth.photo),
        "mask_error": region_error(picture, truth.photo, mask),
        "garment_error": region_error(picture, truth.photo, truth.inner),
        "rest_error": region_error(picture, truth.photo, mask & ~truth.inner),
        "colour_error": colour_error(picture, truth.photo, truth.inner),
    }
    if tools.world is not None:
        found |= tools.world.measure(picture, scene.mask.numpy(), truth.garment)
    return found


def _against_retrieved(
    picture: np.ndarray, scene: Scene, truth: _Truth | None, tools: Instruments
) -> dict[str, float]:
    if truth is None:
        return {}
    found = {"colour_error": colour_error(picture, truth.photo, truth.inner)}
    if tools.world is not None:
        found |= tools.world.measure(picture, scene.mask.numpy(), truth.garment)
    return {f"retrieved_{name}": value for name, value in found.items()}


def _clip_i(patch: np.ndarray, given: Sequence[Sequence[str]], tools: Instruments) -> np.ndarray:
    """Compute the official `retrieved_score`: the mean cosine of the patch and garment photos."""
    return np.array(
        [
            np.mean([float(row @ tools.garment_features(file)) for file in files])
            for row, files in zip(patch, given, strict=True)
        ]
    )
