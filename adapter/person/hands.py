"""Finding the hands in a label map, whose arms include them, where no pose says where they begin.

A hand is the far end of an arm: what lies within a hand's length of the tip, along the arm. The tip
is what is farthest, along the arm, from where it leaves the clothes. Where the tip may be an elbow,
or lies at the edge of the photo, nothing is taken for a hand.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image
from scipy.ndimage import binary_dilation, find_objects, generate_binary_structure, label

from .face import chin_row, face_width
from .masks import LABELS

_HAND = 2.1
"""Length of a hand, in mean widths of the arm."""
_HAND_ALONE = 3.6
"""Length up to which all that is seen of an arm is its hand, below a long sleeve; as above."""
_ELBOW = 8.5
"""Way from the chin to the tip below which the tip may be an elbow, the hands on the back."""
_SHOULDER = 1.5
"""Way from the chin to what may be a bit of the shoulder, in widths of the face."""
_SPECK = 0.1
"""Share of a face's square below which a part of an arm is a speck."""
_REACH = 3
"""Pixels within which an arm touches the clothes."""
_WORKED = 160
"""Pixels of an arm's longer side that ways are measured at."""
_CROSS, _SQUARE = generate_binary_structure(2, 1), generate_binary_structure(2, 2)

_Place = tuple[slice, slice]


def find_hands(labels: np.ndarray) -> np.ndarray:
    """Find the hands of one person in a label map (H, W), see `masks.LABELS`.

    Returns:
        (H, W) bools; none for a person without a face or without arms.
    """
    hands = np.zeros(labels.shape, dtype=bool)
    face = labels == LABELS["face"]
    width = face_width(face)
    if not width:
        return hands
    chin = np.array([chin_row(face), np.flatnonzero(face.any(axis=0)).mean()])
    body = np.isin(labels, [LABELS[name] for name in ("upper_clothes", "dress", "face")])
    for place, arm in _arms(labels, _SPECK * width**2):
        hands[place] |= _hand_of(arm, body[place], place, labels.shape, chin, _SHOULDER * width)
    return hands


def _arms(labels: np.ndarray, least: float) -> Iterator[tuple[_Place, np.ndarray]]:
    """Find the arms of at least so many pixels: each one's place, and its pixels there."""
    for side in ("left_arm", "right_arm"):
        regions = np.zeros(labels.shape, dtype=np.int32)
        label(labels == LABELS[side], structure=_SQUARE, output=regions)
        for number, place in enumerate(find_objects(regions), 1):
            arm = regions[place] == number
            if arm.sum() >= least:
                yield place, arm


def _hand_of(
    arm: np.ndarray,
    body: np.ndarray,
    place: _Place,
    size: tuple[int, ...],
    chin: np.ndarray,
    shoulder: float,
) -> np.ndarray:
    """Find the hand of an arm, (h, w) bools that lie at `place` in a label map of `size`.

    body: (h, w), what the arm begins at. chin: its row and column in the map. shoulder: the way
        from there, in pixels, within which an end of an arm is no hand.
    """
    scale = max(1.0, max(arm.shape) / _WORKED)
    small = _resized(arm, scale)
    if not small.any():  # thinner than the pixels that are looked at
        return np.zeros_like(arm)
    corner = np.array([cut.start for cut in place])
    touching = _resized(binary_dilation(body, _SQUARE, _REACH), scale) & small
    begins = np.argwhere(touching if touching.any() else small)
    from_chin = np.hypot(*((begins + 0.5) * scale + corner - chin).T)
    ways = _ways(small, begins[from_chin.argmin()])
    tip = np.array(np.unravel_index(ways.argmax(), ways.shape))
    at = corner + tip * scale
    if (at < 2 * scale).any() or (at + 2 * scale > size).any():
        return np.zeros_like(arm)
    length = max(1, ways.max()) * scale
    thick = arm.sum() / length
    if length <= _HAND_ALONE * thick:
        return arm & (from_chin.min() > shoulder)
    if from_chin.min() + length <= _ELBOW * thick:
        return np.zeros_like(arm)
    back = _ways(small, tip)
    return arm & _resized((back >= 0) & (back * scale <= _HAND * thick), scale, arm.shape)


def _ways(arm: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Measure the way from `start` to every pixel along an arm (h, w), int32; -1 beside it.

    Steps to four and to eight neighbours take turns, which comes near to the true length.
    """
    ways = np.full(arm.shape, -1, dtype=np.int32)
    reached = np.zeros_like(arm)
    reached[tuple(start)] = True
    ways[reached] = count = 0
    while True:
        count += 1
        more = binary_dilation(reached, _SQUARE if count % 2 else _CROSS, mask=arm)
        if (more == reached).all():
            return ways
        ways[np.logical_and(more, ways < 0)] = count
        reached = more


def _resized(pixels: np.ndarray, scale: float, size: tuple[int, ...] | None = None) -> np.ndarray:
    """Make (h, w) bools `scale` times smaller, or bring smaller ones to `size`."""
    height, width = size or (max(1, round(side / scale)) for side in pixels.shape)
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST))
