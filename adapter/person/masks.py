"""A person's label map and keypoints to the inpainting mask, as Fashion-RAG's training made it.

Labels are Dress Code's, which are ATR's (segformer_b2_clothes): see `LABELS`.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import maximum_filter

from .pose import DRESSCODE_FRAME, POSE_CHANNELS, present

LABELS = {
    "background": 0,
    "hat": 1,
    "hair": 2,
    "sunglasses": 3,
    "upper_clothes": 4,
    "skirt": 5,
    "pants": 6,
    "dress": 7,
    "belt": 8,
    "left_shoe": 9,
    "right_shoe": 10,
    "face": 11,
    "left_leg": 12,
    "right_leg": 13,
    "left_arm": 14,
    "right_arm": 15,
    "bag": 16,
    "scarf": 17,
}
MODES = ("bounding_box", "mask", "garment")
CATEGORIES = ("dresses", "upper_body", "lower_body", "outfit")
"""Dress Code's three, and `outfit`: all that is worn, as for `dresses`."""
GARMENT_LABELS = ("upper_clothes", "skirt", "pants", "dress", "belt")
GROWTH = 10
"""Pixels at a height of 512 by which the official code grows what is repainted."""

_HEAD = ("hat", "hair", "sunglasses", "face")
_ARMS = ("left_arm", "right_arm")
_LEGS = ("left_leg", "right_leg")
_KEPT = ("hair", "left_shoe", "right_shoe", "hat", "sunglasses", "scarf", "bag")
_KEPT_BY = {
    "dresses": (),
    "upper_body": ("skirt", "pants"),
    "lower_body": ("upper_clothes", *_ARMS),
    "outfit": (),
}
_GARMENTS = {
    "dresses": GARMENT_LABELS,
    "upper_body": ("upper_clothes",),
    "lower_body": ("skirt", "pants"),
    "outfit": GARMENT_LABELS,
}
_BARED = {"dresses": _LEGS, "upper_body": (), "lower_body": _LEGS, "outfit": _LEGS}
_REPAINTED = {category: (*_GARMENTS[category], *_BARED[category]) for category in CATEGORIES}
_REPAINTED_IN_PAPER = {**_REPAINTED, "dresses": ("dress", *_LEGS), "lower_body": ("pants", *_LEGS)}
# From the left wrist over both shoulders to the right one, in OpenPose's numbers.
_ARM_CHAIN = (7, 6, 5, 2, 3, 4)
_SHOULDERS = (2, 5)
# Pixels at a height of 512.
_ARM_WIDTH, _NECK = 45, 20


class NothingToRepaintError(ValueError):
    """A label map has nothing of the category."""


def inpainting_mask(
    labels: np.ndarray,
    keypoints: np.ndarray | None,
    category: str,
    mode: str = "bounding_box",
    *,
    frame: tuple[int, int] = DRESSCODE_FRAME,
    paper: bool = False,
    grow: int = GROWTH,
) -> np.ndarray:
    """What to repaint for a garment of a category.

    The garment's labels, for `dresses` and `upper_body` the arms along their joints and the neck,
    all grown by 10 pixels (`mask`), or the box around that (`bounding_box`, what the official run
    uses), or the garment's own pixels alone, grown (`garment`); all without hair, shoes,
    accessories and the face, without the other half of the outfit, and the first two without the
    hands.

    By default the official code's faults are put right: `lower_body` also covers a skirt, and
    `dresses` the separates that the dress replaces; missing joints are passed over, where the
    official code may draw a line to the picture's corner; lengths follow the picture's height, and
    each axis of the keypoints has its own scale; without both shoulders the neck is left alone.

    Args:
        labels: (H, W) integers, see LABELS.
        keypoints: (18, 3), x and y in pixels of `frame`, confidence; None: arms are repainted by
            their labels, hands included, and the neck is left alone.
        category: one of CATEGORIES.
        mode: one of MODES.
        frame: height and width that the keypoints refer to.
        paper: bug for bug as the official code; needs keypoints.
        grow: pixels at a height of 512, 0 or more.

    Returns:
        (H, W) uint8, 1 = repaint.

    Raises:
        NothingToRepaintError: there is nothing of the category.
        ValueError: an unknown category or mode, wrong shapes.
    """
    _check(labels, keypoints, category, mode, paper)
    scale = labels.shape[0] / 512
    lengths = 1.0 if paper else scale
    if mode == "garment":
        repainted = _any(labels, _GARMENTS[category])
    else:
        repainted = _any(labels, (_REPAINTED_IN_PAPER if paper else _REPAINTED)[category])
    kept = _any(labels, _KEPT) | _any(labels, _KEPT_BY[category])
    if mode == "garment":
        kept |= _any(labels, _HEAD)
    elif category != "lower_body":
        head = _any(labels, _HEAD)
        joints = _joints(keypoints, labels.shape, frame, paper)
        arms = _any(labels, _ARMS)
        if joints is not None:
            drawn = _arm_line(joints, labels.shape, round(_ARM_WIDTH * lengths), paper)
            repainted, kept = repainted | drawn, kept | (arms & ~drawn)
            neck = head & _below_shoulders(joints, labels.shape, _NECK * scale, paper)
            repainted, kept = repainted | neck, (kept | head) & ~(neck & ~_any(labels, _KEPT))
        else:
            repainted, kept = repainted | arms, kept | head
    growth = 2 * round(grow * lengths) + 1
    shape = maximum_filter(repainted, size=growth, mode="constant") & ~kept
    if not shape.any():
        raise NothingToRepaintError(
            f"There is nothing of the category {category!r} in the label map (labels present: "
            f"{', '.join(map(str, np.unique(labels)))}). Check the category, and that the labels "
            "are ATR's (segformer_b2_clothes)."
        )
    return (_box(shape) & ~kept if mode == "bounding_box" else shape).astype(np.uint8)


def garment_pixels(labels: np.ndarray, category: str) -> np.ndarray:
    """Where a label map (H, W) has a garment of the category, as (H, W) bools."""
    return _any(labels, _GARMENTS[category])


def kept_pixels(labels: np.ndarray, category: str) -> np.ndarray:
    """Where a label map (H, W) has what a mask of the category may keep, as (H, W) bools: head,
    arms with their hands, shoes, accessories, the other half of the outfit."""
    return _any(labels, (*_KEPT, *_HEAD, *_ARMS, *_KEPT_BY[category]))


def _check(labels, keypoints, category: str, mode: str, paper: bool) -> None:
    if category not in CATEGORIES:
        raise ValueError(f"category is {category!r}; expected one of {', '.join(CATEGORIES)}.")
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; expected one of {', '.join(MODES)}.")
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"The label map has shape {labels.shape} and type {labels.dtype}; expected one channel "
            "of label numbers."
        )
    if keypoints is not None and keypoints.shape != (POSE_CHANNELS, 3):
        raise ValueError(f"The keypoints have shape {keypoints.shape}; expected (18, 3).")
    if paper and (mode == "garment" or category == "outfit"):
        raise ValueError(
            f"The official code makes no mask of mode {mode!r} for {category!r}: choose another, "
            "or leave out `paper`."
        )
    if paper and keypoints is None:
        raise ValueError("The official mask can't be made without keypoints.")


def _any(labels: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    return np.isin(labels, [LABELS[name] for name in names])


def _joints(keypoints, size, frame, paper: bool) -> np.ndarray | None:
    """(18, 2) in pixels of the picture; missing ones NaN, in the official way their own numbers."""
    if keypoints is None:
        return None
    if paper:
        return keypoints[:, :2] * (size[0] / 512)
    joints = keypoints[:, :2] * (size[1] / frame[1], size[0] / frame[0])
    return np.where(present(keypoints)[:, None], joints, np.nan)


def _arm_line(joints: np.ndarray, size, width: int, paper: bool) -> np.ndarray:
    if paper:
        # Only the ends are looked at: one missing wrist, and the elbow beside it.
        missing = (joints <= 1).all(axis=1)
        ends = (4, 3) if missing[4] else (7, 6) if missing[7] else ()
        dropped = {joint for joint in ends if missing[joint]}
        chain = joints[[joint for joint in _ARM_CHAIN if joint not in dropped]]
        points = chain.astype(np.uint16)
    else:
        chain = joints[list(_ARM_CHAIN)]
        points = chain[~np.isnan(chain).any(axis=1)]
    canvas = Image.new("1", (size[1], size[0]))
    if len(points) > 1:
        ImageDraw.Draw(canvas).line(points.flatten().tolist(), 1, max(width, 1), joint="curve")
    return np.asarray(canvas).copy()


def _below_shoulders(joints: np.ndarray, size, margin: float, paper: bool) -> np.ndarray:
    """Pixels under the line through both shoulders, moved up by `margin`."""
    (x1, y1), (x2, y2) = joints[list(_SHOULDERS)]
    if np.isnan([x1, x2]).any():
        return np.zeros(size, dtype=bool)
    columns = np.arange(size[1])
    if paper:
        # Least squares, which for equal x takes the shortest solution.
        slope, start = np.linalg.lstsq([[x1, 1], [x2, 1]], [y1, y2], rcond=None)[0]
        line = columns * slope + start
    else:
        ends = (y1, y2) if x1 <= x2 else (y2, y1)
        line = np.interp(columns, sorted((x1, x2)), ends)
    first = np.trunc(line - margin).astype(int)
    first = np.where(first < 0, (size[0] + first).clip(0) if paper else 0, first)
    return np.arange(size[0])[:, None] >= first


def _box(shape: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(shape.any(axis=1)), np.flatnonzero(shape.any(axis=0))
    box = np.zeros_like(shape)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box
