"""The inpainting mask of Fashion-RAG's training, made from a person's label map and keypoints.

Labels are Dress Code's, which are ATR's (segformer_b2_clothes): see `LABELS`.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import maximum_filter

from ... import categories
from ...pictures.photos import open_values
from .pose_map import DRESSCODE_FRAME, POSE_CHANNELS, present

logger = logging.getLogger(__name__)

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
CATEGORIES = (*categories.CATEGORIES, "outfit")
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
_OWN = {
    "dresses": ("dress", "upper_clothes", "skirt", "pants"),
    "upper_body": ("upper_clothes", "dress"),
    "lower_body": ("skirt", "pants", "dress"),
    "outfit": ("dress", "upper_clothes", "skirt", "pants"),
}
"""Labels of which at least one must occur; arms, legs and belt are only repainted with them."""
_LARGEST = {"sunglasses": 0.03, "left_shoe": 0.15, "right_shoe": 0.15, "belt": 0.15}
"""Shares of the person beyond which a label is something else in another numbering."""
# From the left wrist over both shoulders to the right one, in OpenPose's numbers.
_ARM_CHAIN = (7, 6, 5, 2, 3, 4)
_SHOULDERS, _HIPS = (2, 5), (8, 11)
# How far a top reaches below the hips and a skirt above them, in lengths from shoulders to hips.
_BELOW_HIPS, _ABOVE_HIPS = 0.1, 0.3
# Where no hips are known: the waist of a dress, and how far a top reaches below it, in its height.
_WAIST, _BELOW_WAIST = 0.35, 0.15
# Pixels at a height of 512.
_ARM_WIDTH, _NECK = 45, 20


class NothingToRepaintError(ValueError):
    """A label map has no garment of the category."""


def inpainting_mask(
    labels: np.ndarray,
    keypoints: np.ndarray | None,
    category: str,
    mode: str = "bounding_box",
    *,
    frame: tuple[int, int] = DRESSCODE_FRAME,
    paper: bool = False,
    strict: bool = True,
    grow: int = GROWTH,
) -> np.ndarray:
    """Make the mask of what to repaint for a garment of a category.

    The garment's labels, for `dresses` and `upper_body` the arms along their joints and the neck,
    all grown by 10 pixels (`mask`), or the box around that (`bounding_box`, what the official run
    uses), or the garment's own pixels alone, grown (`garment`); all without hair, shoes,
    accessories and the face, without the other half of the outfit, and the first two without the
    hands.

    By default the official code's faults are put right: `lower_body` also covers a skirt, and
    `dresses` the separates that the dress replaces; missing joints are passed over, where the
    official code may draw a line to the picture's corner; lengths follow the picture's height, and
    each axis of the keypoints has its own scale; without both shoulders the neck is left alone. Of
    a dress, `upper_body` covers what is above the hips and `lower_body` what is below the waist.

    Args:
        labels: (H, W) integers, see LABELS.
        keypoints: (18, 3), x and y in pixels of `frame`, confidence; None: arms are repainted by
            their labels, hands included, and the neck is left alone.
        category: one of CATEGORIES.
        mode: one of MODES.
        frame: height and width that the keypoints refer to.
        paper: bug for bug as the official code; needs keypoints.
        strict: refuse what `check_labels` does. Without, a map in which the category's garment is
            missing gives a mask of the arms or legs, as training and the official run have it.
        grow: pixels at a height of 512, 0 or more.

    Returns:
        (H, W) uint8, 1 = repaint.

    Raises:
        NothingToRepaintError: there is nothing of the category.
        ValueError: an unknown category or mode, wrong shapes, or labels of another numbering.
    """
    _check(labels, keypoints, category, mode, paper)
    if strict and not paper:
        check_labels(labels, category)
    scale = labels.shape[0] / 512
    lengths = 1.0 if paper else scale
    if mode == "garment":
        repainted = _any(labels, _GARMENTS[category])
    else:
        repainted = _any(labels, (_REPAINTED_IN_PAPER if paper else _REPAINTED)[category])
    kept = _any(labels, _KEPT) | _any(labels, _KEPT_BY[category])
    joints = _joints(keypoints, labels.shape, frame, paper)
    if not paper:
        worn, left = _part_of_dress(labels, joints, category, warn=strict)
        repainted, kept = repainted | worn, kept | left
    if mode == "garment":
        kept |= _any(labels, _HEAD)
    elif category != "lower_body":
        head = _any(labels, _HEAD)
        arms = _any(labels, _ARMS)
        if joints is not None:
            drawn = _arm_line(joints, labels.shape, round(_ARM_WIDTH * lengths), paper)
            repainted, kept = repainted | drawn, kept | (arms & ~drawn)
            neck = head & _below_shoulders(joints, labels.shape, _NECK * scale, paper)
            repainted, kept = repainted | neck, (kept | head) & ~(neck & ~_any(labels, _KEPT))
        else:
            repainted, kept = repainted | arms, kept | head
    growth = 2 * round(grow * lengths) + 1
    shape = maximum_filter(repainted, size=growth, mode="constant").astype(bool) & ~kept
    if not shape.any():
        raise NothingToRepaintError(
            f"There is nothing of the category {category!r} in the label map (labels present: "
            f"{', '.join(map(str, np.unique(labels)))}). Check the category, and that the labels "
            "are ATR's (segformer_b2_clothes)."
        )
    return (_box(shape) & ~kept if mode == "bounding_box" else shape).astype(np.uint8)


def read_labels(path: Path) -> np.ndarray:
    """Read a label map of ATR's numbers from a picture: grey, or a palette's indexes.

    Returns:
        (H, W) integers.

    Raises:
        FileNotFoundError, PermissionError: from the file system.
        ValueError: no picture, or one of colours; or parts of a size or at a place that no body
            has, as where LIP's, CIHP's or FASHN's numbers are read as ATR's.
    """
    picture = open_values(path)
    values = np.asarray(picture)
    if picture.mode in ("LA", "PA"):
        values = values[..., 0]
    elif values.ndim == 3:
        if (values[..., :1] != values[..., :3]).any():
            raise ValueError(
                f"{path} is a picture of colours; expected one channel of label numbers: save the "
                "label map itself, not its coloured drawing."
            )
        values = values[..., 0]
    if values.dtype.kind == "f" and (values == values.round()).all():
        values = values.astype(np.int32)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if why := _other_numbering(values):
        raise ValueError(
            f"{path} is of another numbering than ATR's, such as LIP's, CIHP's or FASHN's: {why}. "
            f"Expected {_legend()}, as segformer_b2_clothes gives them."
        )
    return values


def check_labels(labels: np.ndarray, category: str) -> None:
    """Refuse a label map with numbers that ATR lacks, or without a garment of the category.

    Raises:
        NothingToRepaintError: there is no garment of the category; the message lists the labels
            found.
        ValueError: there are numbers that ATR lacks.
    """
    numbers = np.unique(labels)
    shown = ", ".join(map(str, numbers[:20].tolist())) + (", ..." if len(numbers) > 20 else "")
    remedy = (
        f"The map holds {shown}; expected ATR's numbers ({_legend()}), as segformer_b2_clothes "
        "gives them."
    )
    unknown = numbers[(numbers < 0) | (numbers >= len(LABELS))]
    if len(unknown):
        raise ValueError(
            f"The label map holds {', '.join(map(str, unknown[:8].tolist()))}, which ATR does not "
            f"have: it is of another numbering, such as LIP's or CIHP's 20 labels. {remedy}"
        )
    if not numbers.any():
        raise NothingToRepaintError(
            f"There is nothing of the category {category!r} in the label map: it holds nothing but "
            f"background. {remedy}"
        )
    if not _any(labels, _OWN[category]).any():
        raise NothingToRepaintError(
            f"There is nothing of the category {category!r} in the label map: none of "
            f"{', '.join(_OWN[category])}. Check the category. {remedy}"
        )


def garment_pixels(
    labels: np.ndarray,
    category: str,
    keypoints: np.ndarray | None = None,
    frame: tuple[int, int] = DRESSCODE_FRAME,
) -> np.ndarray:
    """Find a category's garment in a label map (H, W), as (H, W) bools.

    Of a dress it is, for a top or a bottom, the part that is repainted. Keypoints and frame as in
    `inpainting_mask`.
    """
    joints = _joints(keypoints, labels.shape, frame, paper=False)
    return _any(labels, _GARMENTS[category]) | _part_of_dress(labels, joints, category)[0]


def kept_pixels(
    labels: np.ndarray,
    category: str,
    keypoints: np.ndarray | None = None,
    frame: tuple[int, int] = DRESSCODE_FRAME,
) -> np.ndarray:
    """Find what a mask of the category may keep in a label map (H, W), as (H, W) bools.

    That is head, arms with their hands, shoes, accessories, and the other half of the outfit or of
    the dress. Keypoints and frame as in `inpainting_mask`.
    """
    joints = _joints(keypoints, labels.shape, frame, paper=False)
    kept = _any(labels, (*_KEPT, *_HEAD, *_ARMS, *_KEPT_BY[category]))
    return kept | _part_of_dress(labels, joints, category)[1]


def _legend() -> str:
    return ", ".join(f"{number} {name}" for name, number in LABELS.items())


def _other_numbering(labels: np.ndarray) -> str:
    """Say what shows that the numbers are not ATR's; "" where nothing does."""
    person = max(np.count_nonzero(labels), 1)
    unknown = np.setdiff1d(labels, list(LABELS.values()))
    if len(unknown):
        return f"it holds {', '.join(map(str, unknown[:8].tolist()))}"
    for name, largest in _LARGEST.items():
        share = np.count_nonzero(labels == LABELS[name]) / person
        if share > largest:
            return f"{share:.0%} of the person would be {name.replace('_', ' ')}"
    rows = np.arange(labels.shape[0])[:, None]
    legs, clothes = _any(labels, _LEGS), _any(labels, ("upper_clothes", "skirt", "pants", "dress"))
    if legs.any() and clothes.any():
        higher = (rows * clothes).sum() / clothes.sum() - (rows * legs).sum() / legs.sum()
        if higher > 0.1 * labels.shape[0] and not _any(labels, ("face",)).any():
            return "the legs would be above the clothes"
    hair = np.count_nonzero(labels == LABELS["hair"]) / person
    if hair > 0.25 and labels.max() <= LABELS["pants"]:
        return f"{hair:.0%} of the person would be hair, without a face"
    return ""


def _part_of_dress(
    labels: np.ndarray, joints: np.ndarray | None, category: str, warn: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Split a dress into what is repainted for a top or a bottom, and what stays.

    Both are empty where all of the dress is repainted.

    warn: log a warning where the person wears a dress instead of the category's garment.
    """
    dress = _any(labels, ("dress",))
    nothing = np.zeros_like(dress)
    if category not in ("upper_body", "lower_body") or not dress.any():
        return nothing, nothing
    upper = category == "upper_body"
    row = _hip_row(joints, -_BELOW_HIPS if upper else _ABOVE_HIPS)
    if row is None:
        rows = np.flatnonzero(dress.any(axis=1))
        row = round(rows[0] + (rows[-1] - rows[0]) * (_WAIST + (_BELOW_WAIST if upper else 0)))
    above = np.arange(labels.shape[0])[:, None] < row
    if warn and not _any(labels, ("upper_clothes",) if upper else ("skirt", "pants")).any():
        logger.warning(
            "The person wears a dress: its part %s row %d is repainted, the rest stays. Choose the "
            "category dresses to replace all of it.",
            "above" if upper else "below",
            row,
        )
    worn = dress & (above if upper else ~above)
    return worn, dress & ~worn


def _hip_row(joints: np.ndarray | None, higher: float) -> int | None:
    """Return the row of the hips, or `higher` above it, in lengths from shoulders to hips."""
    if joints is None:
        return None
    hips, shoulders = (
        rows[~np.isnan(rows)] for rows in (joints[list(_HIPS), 1], joints[list(_SHOULDERS), 1])
    )
    if not len(hips):
        return None
    torso = max(hips.mean() - shoulders.mean(), 0) if len(shoulders) else 0
    return round(hips.mean() - higher * torso)


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
    """Return (18, 2) in pixels of the picture; missing ones are NaN, with `paper` as given."""
    if keypoints is None:
        return None
    if paper:
        return keypoints[:, :2] * (size[0] / 512)
    joints = keypoints[:, :2] * (size[1] / frame[1], size[0] / frame[0])
    return np.where(present(keypoints)[:, None], joints, np.nan)


def _arm_line(joints: np.ndarray, size: tuple[int, ...], width: int, paper: bool) -> np.ndarray:
    if paper:
        # Only the ends are looked at: one missing wrist, and the elbow beside it.
        missing = [bool(row.all()) for row in joints <= 1]
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
    """Return the pixels under the line through both shoulders, moved up by `margin`."""
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
