"""Three masks of a photo for a garment: what is repainted, what is the garment, what is kept.

They are made from a person's labels, or from masks of the garment and of what is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes, find_objects, label, maximum_filter

from .face import chin_row
from .hands import find_hands
from .masks import (
    CATEGORIES,
    GROWTH,
    LABELS,
    NothingToRepaintError,
    check_labels,
    garment_pixels,
    inpainting_mask,
    kept_pixels,
)
from .pose import Size, pose_of_frame, present

MUCH = 0.7
"""A mask of at least this share of the person gets a note that it covers much."""
_SPECK = 0.05
_LEAST = 0.004
"""Share of the picture below which a region is no person, but a speck on an empty wall."""
_ISLAND = 0.0005
"""Share of a person below which a region apart from it is a speck of the parser's."""
_HOLE = 0.001
"""Share of the picture up to which a hole in a mask is filled, as it is not meant."""
_ABOVE = 0.3
_HEADS = [LABELS[name] for name in ("face", "hair", "hat")]
# Nose, eyes, ears, in OpenPose's numbers.
_FACE_JOINTS = (0, 14, 15, 16, 17)
_WORN = {
    "dresses": LABELS["dress"],
    "upper_body": LABELS["upper_clothes"],
    "lower_body": LABELS["pants"],
    "outfit": LABELS["dress"],
}
_PINK, _GOLD, _TEAL = (0.88, 0.33, 0.54), (0.94, 0.71, 0.16), (0.16, 0.63, 0.6)


@dataclass(frozen=True)
class GarmentMasks:
    """Three masks of one photo, (H, W) bools, and notes for the user."""

    mask: np.ndarray
    """What is repainted."""
    garment: np.ndarray
    """The garment alone, as it is on the photo."""
    keep: np.ndarray
    """Face, hair, hands, shoes, bag, and the other half of the outfit."""
    notes: tuple[str, ...]
    """One sentence each: nobody found, an empty mask, a large one, one that touches the face."""


def masks_from_labels(
    labels: np.ndarray,
    category: str,
    mode: str,
    grow: int = GROWTH,
    *,
    person: int = 0,
    pose: Mapping[str, Any] | None = None,
    photo: Size | None = None,
) -> GarmentMasks:
    """Make the masks of one person of a label map.

    Args:
        labels: (H, W) integers, see `masks.LABELS`.
        category, mode, grow: see `masks.inpainting_mask`.
        person: 0 is the largest, 1 the next.
        pose: a frame of POSE_KEYPOINT; of its people the one is taken who stands there. Without
            it, the neck is found by its place below the face, and hands by their place at the
            arms' ends.
        photo: height and width of the photo, to which a pose refers that does not tell its frame;
            the labels' without.

    Raises:
        ValueError: an unknown category or mode, or a pose that is none.
    """
    _check_category(category)
    people = largest_first(labels)
    if person >= len(people):
        found = f"{len(people)} found" if people else "the parser sees nothing but background"
        note = f"nobody numbered {person} is there ({found}): the mask is empty"
        return _empty(labels.shape, note if people else f"nobody is there: {found}")
    own = _without_islands(people[person])
    notes = []
    if len(people) > 1:
        notes.append(f"{len(people)} people are there, number {person} (0 is the largest) is taken")
    keypoints = None
    if pose is not None:
        keypoints = _pose_of(_people(pose, own.shape, photo), own)
        if keypoints is None:
            notes.append("the pose has nobody where this person stands, and is not used")
    others = (labels > 0) & ~people[person]
    found = _masks(np.where(own, labels, 0), others, category, mode, grow, keypoints)
    mask = found.mask | (_specks_in(found.mask) & ~others)
    if mask.any():
        share = (mask & own).sum() / own.sum()
        if share > MUCH:
            notes.append(f"the mask covers {share:.0%} of the person")
    return GarmentMasks(mask, found.garment, found.keep & ~mask, (*notes, *found.notes))


def masks_from_masks(
    garment: np.ndarray,
    keep: np.ndarray | None,
    category: str,
    mode: str,
    grow: int = GROWTH,
    *,
    person: int = 0,
    pose: Mapping[str, Any] | None = None,
    photo: Size | None = None,
) -> GarmentMasks:
    """Make the masks from the garment's pixels and those to keep, (H, W) bools, as of SAM 3.

    Where both are set the pixel is kept. Of the pose's people, `person` is taken: 0 is the largest.

    Raises:
        ValueError: as `masks_from_labels`, and two masks of different sizes.
    """
    _check_category(category)
    if keep is not None and keep.shape != garment.shape:
        raise ValueError(
            f"keep has the size {keep.shape[::-1]}, the garment {garment.shape[::-1]}: make both "
            "of the same photo."
        )
    labels = np.where(garment, _WORN[category], 0).astype(np.uint8)
    if keep is not None:
        labels[keep] = LABELS["bag"]
    notes, keypoints = (), None
    if pose is not None:
        people = _people(pose, labels.shape, photo)
        if person < len(people):
            keypoints = people[person]
        else:
            notes = (f"the pose has nobody numbered {person}, and is not used",)
    nobody = np.zeros(labels.shape, dtype=bool)
    found = _masks(labels, nobody, category, mode, grow, keypoints)
    notes += found.notes
    if keep is None and (found.mask & ~found.garment).any():
        notes += ("nothing is kept, no face and no hand: connect keep",)
    return GarmentMasks(found.mask, found.garment, found.keep, notes)


def largest_first(labels: np.ndarray) -> list[np.ndarray]:
    """Find the people of a label map (H, W): each as (H, W) bools, the largest first.

    A region without a head belongs to the head above or below it, so that a shirt that the parser
    missed does not part a person. People who touch each other count as one.
    """
    there = labels > 0
    # Nor does a belt without a label, or a shoe below wide trousers.
    reach = 2 * round(0.01 * max(labels.shape)) + 1
    regions = np.zeros(labels.shape, dtype=np.int32)
    label(maximum_filter(there, size=reach), structure=np.ones((3, 3)), output=regions)
    count = int(regions.max())
    regions[~there] = 0
    heads = set(np.unique(regions[np.isin(labels, _HEADS)])) - {0}
    spans = {region: columns for region, (_, columns) in enumerate(find_objects(regions), 1)}
    for region in set(spans) - heads:
        shared = {head: _shared(spans[region], spans[head]) for head in heads}
        nearest = max(shared, key=lambda head: shared[head], default=None)
        if nearest is not None and shared[nearest] > _ABOVE:
            regions[regions == region] = nearest
    sizes = np.bincount(regions.flatten(), minlength=count + 1)[1:]
    order = [region for region in np.argsort(-sizes, kind="stable") + 1 if sizes[region - 1]]
    least = max(_SPECK * sizes.max(initial=0), _LEAST * labels.size)
    people = [region for region in order if sizes[region - 1] >= least]
    return [regions == region for region in people]


def _without_islands(person: np.ndarray) -> np.ndarray:
    """Take regions (H, W) out of a person that are specks: grown, they would be large squares."""
    regions = np.zeros(person.shape, dtype=np.int32)
    label(person, structure=np.ones((3, 3)), output=regions)
    kept = np.bincount(regions.flatten()) >= _ISLAND * person.sum()
    kept[0] = False
    return kept[regions]


def _shared(one: slice, other: slice) -> float:
    """Return how much of the narrower of two spans lies in the other, 0..1."""
    both = min(one.stop, other.stop) - max(one.start, other.start)
    return max(both, 0) / min(one.stop - one.start, other.stop - other.start)


def pose_frame(keypoints: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    """Make a POSE_KEYPOINT frame of one person from keypoints (18, 3).

    They are in pixels of a picture of `size` (height, width).
    """
    person = {"pose_keypoints_2d": np.asarray(keypoints, float).flatten().tolist()}
    return {"canvas_height": size[0], "canvas_width": size[1], "people": [person]}


def preview(
    photos: torch.Tensor, mask: torch.Tensor, garment: torch.Tensor, keep: torch.Tensor
) -> torch.Tensor:
    """Colour three masks (...) of bools over photos (..., 3) float32 in 0..1.

    What is repainted is pink, the garment golden, what is kept teal.
    """
    picture = photos.clone()
    veils = ((mask, _PINK, 0.45), (garment, _GOLD, 0.5), (keep, _TEAL, 0.45))
    for chosen, colour, strength in veils:
        picture[chosen] = torch.lerp(picture[chosen], torch.tensor(colour), strength)
    return picture


def _check_category(category: str) -> None:
    if category not in CATEGORIES:
        raise ValueError(f"category is {category!r}; expected one of {', '.join(CATEGORIES)}.")


def _masks(labels, others, category, mode, grow, keypoints) -> GarmentMasks:
    frame = labels.shape
    given = labels if keypoints is not None else _as_with_pose(labels)
    try:
        check_labels(labels, category)
        mask = inpainting_mask(
            given, keypoints, category, mode, frame=frame, grow=grow, strict=False
        )
        mask = (mask > 0) & ~others
    except NothingToRepaintError:
        mask = np.zeros(labels.shape, dtype=bool)
    if not mask.any():
        names = {number: name for name, number in LABELS.items()}
        seen = ", ".join(names[number] for number in np.unique(labels[labels > 0]))
        return _empty(
            labels.shape, f"nothing of {category} is there ({seen or 'nothing'}): the mask is empty"
        )
    garment = garment_pixels(labels, category, keypoints, frame)
    keep = kept_pixels(labels, category, keypoints, frame) & ~mask
    notes = []
    left = (labels == LABELS["dress"]) & ~garment
    if left.sum() > _SPECK * np.count_nonzero(labels):
        part = "upper" if category == "upper_body" else "lower"
        notes.append(f"a dress is worn, whose {part} part is repainted (dresses: all of it)")
    if _touches_face(mask, labels, keypoints):
        notes.append("the mask touches the face")
    return GarmentMasks(mask, garment, keep, tuple(notes))


def _specks_in(mask: np.ndarray) -> np.ndarray:
    """Find holes in a mask (H, W) that are too small to be meant.

    They are a parser's specks, and would stay in the picture as dots of the old cloth.
    """
    holes = np.zeros(mask.shape, dtype=np.int32)
    label(binary_fill_holes(mask) & ~mask, output=holes)
    small = np.bincount(holes.flatten()) <= _HOLE * mask.size
    small[0] = False
    return small[holes]


def _empty(size: tuple[int, ...], note: str) -> GarmentMasks:
    nothing = np.zeros(size, dtype=bool)
    return GarmentMasks(nothing, nothing, nothing, (note,))


def _touches_face(mask: np.ndarray, labels: np.ndarray, keypoints) -> bool:
    near = maximum_filter(mask, size=2 * max(1, round(0.004 * mask.shape[0])) + 1)
    if keypoints is not None:
        joints = keypoints[list(_FACE_JOINTS)]
        for x, y in joints[present(joints)][:, :2].astype(int):
            if 0 <= x < mask.shape[1] and 0 <= y < mask.shape[0] and near[y, x]:
                return True
    face = labels == LABELS["face"]
    return bool((near & face)[: chin_row(face)].any())


def _as_with_pose(labels: np.ndarray) -> np.ndarray:
    """Take the neck out of the labels and put the hands among what is kept.

    That is for photos without a pose, which would tell where both begin. Neck and chest have the
    face's label: the edge of what is worn now would stay on them. Hands are part of the arms.
    """
    neck = labels == LABELS["face"]
    neck[: chin_row(neck)] = False
    return np.where(find_hands(labels), LABELS["bag"], np.where(neck, 0, labels))


def _people(pose: Mapping[str, Any], size: Size, photo: Size | None) -> list[np.ndarray]:
    """Return the keypoints (18, 3) of a frame's people in pixels of a label map of `size`."""
    photo = photo or size
    scale = (size[1] / photo[1], size[0] / photo[0], 1)
    return [joints * scale for joints in pose_of_frame(pose).on_photo(photo)]


def _pose_of(people: Sequence[np.ndarray], own: np.ndarray) -> np.ndarray | None:
    """Choose the keypoints (18, 3) with most joints, and more than half, in a region (H, W)."""
    height, width = own.shape
    region = maximum_filter(own, size=2 * round(0.02 * max(own.shape)) + 1)
    best, most = None, 0.5
    for keypoints in people:
        columns, rows = keypoints[present(keypoints)][:, :2].astype(int).T
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        within = region[rows[inside], columns[inside]]
        # Joints beyond the photo's edge say nothing.
        share = within.mean() if len(within) else 0.0
        if share > most:
            best, most = keypoints, share
    return best
