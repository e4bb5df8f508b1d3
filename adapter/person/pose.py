"""Keypoints of people as pose detectors and editors write them, to (18, 3) in COCO-18 order.

Three things are found out, each from what the data says of it and not from one number: which joints
there are, the frame that coordinates refer to, and their unit (pixels, or shares of the frame).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...files import parse_json
from .pose_map import CONFIDENT, DRESSCODE_FRAME, POSE_CHANNELS, SIGMA, pose_map, present

__all__ = [
    "BODY_25",
    "CONFIDENT",
    "CUT_OUT",
    "DRESSCODE_FRAME",
    "POSE_CHANNELS",
    "Pose",
    "SIGMA",
    "Size",
    "keypoints_from_dresscode",
    "photo_keypoints",
    "pose_map",
    "pose_of_frame",
    "present",
    "read_people",
    "read_pose",
]

logger = logging.getLogger(__name__)

BODY_25 = (*range(8), *range(9, 19))
"""Where COCO-18's joints stand among OpenPose's BODY_25, which adds mid-hip (8) and feet."""

_FRAME_KEYS = (
    ("canvas_height", "canvas_width"),
    ("image_height", "image_width"),
    ("height", "width"),
)
# Numbers of a flat list, to joints and numbers of a joint.
_FLAT = {54: (18, 3), 75: (25, 3), 36: (18, 2), 50: (25, 2)}
_FAR, _MANY = 0.1, 0.25
"""A stated frame is refused where over a quarter of the joints lie outside by a tenth of it."""
_FAR_OF_ASSUMED = 0.05
"""A frame that is not stated but assumed (Dress Code's) is refused for a single such joint."""
CUT_OUT = "cut_out"
"""Key of a POSE_KEYPOINT frame that was cut out of a larger one: its joints may lie far outside,
and its people keep the order that they had there."""

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Pose:
    """The people of one frame, the largest first.

    Attributes:
        people: (18, 3) each, x, y, confidence, in pixels of `frame`.
        frame: height and width; None where it is not stated, or refused: it is the photo's then.
        refused: a frame, stated or assumed, outside of which the joints lie.
        shares: whether coordinates were given as shares of the frame.
        entries: the people as they stand in a POSE_KEYPOINT frame, in the order of `people`.
    """

    people: tuple[np.ndarray, ...]
    frame: Size | None
    refused: Size | None = None
    shares: bool = False
    entries: tuple[Any, ...] = ()

    def on_photo(self, photo: Size) -> list[np.ndarray]:
        """Return the people's keypoints in pixels of a photo of the size (height, width).

        Raises:
            ValueError: the joints lie far outside the photo, which is taken for a frame that is
                not told.
        """
        frame = self.frame
        if frame is None and self.people:
            frame = photo
            joints = np.concatenate([person[present(person)] for person in self.people])
            if _leaves(joints, photo, _FAR, _MANY):
                raise ValueError(
                    f"the joints reach to {joints[:, 0].max():.0f}, {joints[:, 1].max():.0f} and "
                    f"the photo is {photo[1]}x{photo[0]}: they are of another picture. Give the "
                    "pose of this photo, or write canvas_width and canvas_height (the size of the "
                    "picture in which the joints were found) into the pose."
                )
        frame = frame or photo
        return [person * (photo[1] / frame[1], photo[0] / frame[0], 1) for person in self.people]


def pose_of_frame(frame: Mapping[str, Any] | None) -> Pose:
    """Read a POSE_KEYPOINT frame as DWPose, OpenPose, SDPose and pose editors give it.

    A joint is missing where a coordinate is null or no number, both are zero or negative, or its
    confidence is below 0.3. Bodies of 18 joints (COCO-18) and of 25 (BODY_25) are read; a person of
    whom only a face or a hand was found does not count, and one that can't be read is passed over.
    In a frame that was cut out of another one (`CUT_OUT`) joints may lie anywhere.

    Raises:
        ValueError: no frame at all, or none of its people can be read, such as animals.
    """
    if frame is None:
        return Pose((), None)
    if not isinstance(frame, Mapping):
        raise ValueError(
            f"a frame of the pose is {_short(frame)}; expected POSE_KEYPOINT, which has `people`."
        )
    entries = frame.get("people")
    if entries is None:
        if frame.get("animals"):
            raise ValueError(
                "the pose holds animals: use a body pose (DWPose, OpenPose, SDPose), not an animal "
                "pose."
            )
        entries = []
    if isinstance(entries, Mapping):
        entries = [entries]
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"`people` is {_short(entries)}; expected a list.")
    people, errors, read = [], [], []
    for number, entry in enumerate(entries):
        body = entry
        if isinstance(entry, Mapping):
            body = entry.get("pose_keypoints_2d") or entry.get("pose_keypoints")
        if body is None or (isinstance(body, Sequence) and not len(body)):
            continue
        try:
            people.append(_joints(body))
            read.append(entry)
        except ValueError as error:
            errors.append(f"Person {number} of the pose {error}")
    if errors and not people:
        raise ValueError(errors[0])
    for error in errors:
        logger.warning("%s That person is passed over.", error)
    size = _frame_of(frame)
    if frame.get(CUT_OUT) is True and size is not None:
        return Pose(tuple(people), size, entries=tuple(read))
    return _pose(people, size, entries=read)


def keypoints_from_dresscode(content: Mapping[str, Any] | np.ndarray | list) -> np.ndarray:
    """Read the keypoints of a Dress Code JSON (`{"keypoints": [[x, y, ...], ...]}`) or its array.

    The frame is 384x512 (`DRESSCODE_FRAME`). A joint whose coordinates are both at most 1 is
    missing; its confidence becomes 0, that of the others 1.

    Raises:
        ValueError: not 18 rows of at least x and y.
    """
    rows = content["keypoints"] if isinstance(content, Mapping) else content
    try:
        array: np.ndarray = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[0] != POSE_CHANNELS or array.shape[1] < 2:
        raise ValueError(f"Dress Code keypoints are 18 rows of x, y, ...; got {array.shape}.")
    there = np.isfinite(array[:, :2]).all(axis=1) & (array[:, :2] > 1).any(axis=1)
    return np.column_stack([np.nan_to_num(array[:, :2], posinf=0, neginf=0), there])


def read_people(path: Path) -> Pose:
    """Read the people of a pose file.

    Args:
        path: JSON: POSE_KEYPOINT (one frame, or a list whose first is taken), OpenPose's own
            output, a pose editor's (`width`, `height`, `keypoints`) or Dress Code's keypoints,
            whose frame is 384x512 where the joints fit it. UTF-8 or UTF-16, with or without a mark.

    Raises:
        FileNotFoundError, PermissionError: from the file system.
        ValueError: the file is none of these.
    """
    try:
        content = parse_json(path.read_bytes())
        while isinstance(content, list) and content and _holds_frames(content[0]):
            content = content[0]
        if isinstance(content, Mapping) and "people" in content:
            return pose_of_frame(content)
        if isinstance(content, Mapping) and "keypoints" not in content:
            raise ValueError(
                "it has neither `people` (POSE_KEYPOINT, OpenPose) nor `keypoints` (Dress Code, "
                "pose editors)."
            )
        return _pose_of_keypoints(content)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path} holds no pose: {error}") from error


def read_pose(
    path: Path, person: int = 0, photo: Size | None = None
) -> tuple[np.ndarray, Size | None] | None:
    """Read keypoints (18, 3) of one person of a pose file, and their frame's (height, width).

    Args:
        path: see `read_people`.
        person: 0 for the largest.
        photo: height and width of the photo, to whose pixels the keypoints are brought.

    Returns:
        None where there is no such person. Without `photo`, the frame is None where the file does
        not tell it (it is the photo's).

    Raises:
        ValueError: see `read_people`; or the joints are of another picture than the photo.
    """
    pose = read_people(path)
    if person >= len(pose.people):
        return None
    if photo is None:
        if pose.refused is not None:
            raise ValueError(
                f"{path} holds keypoints of another frame than {pose.refused[1]}x{pose.refused[0]}"
                f"{_whose(pose.refused)}: the joints lie far outside. Write the size of the "
                "picture in which they were found into the file, as `canvas_width` and "
                "`canvas_height`."
            )
        return pose.people[person], pose.frame
    try:
        return pose.on_photo(photo)[person], photo
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def photo_keypoints(path: Path, number: int, size: tuple[int, int]) -> np.ndarray | None:
    """Read keypoints (18, 3) in pixels of a photo of `size` (width, height).

    None, with a warning: the file has no such person.
    """
    found = read_pose(path, number, (size[1], size[0]))
    if found is None:
        logger.warning("%s has nobody numbered %d: no pose is used.", path, number)
        return None
    return found[0]


def _pose_of_keypoints(content: Any) -> Pose:
    """Read the people of a file with `keypoints`, or of their bare list."""
    rows, frame = content, None
    if isinstance(content, Mapping):
        rows, frame = content["keypoints"], _frame_of(content)
    try:
        people = [_joints(person) for person in _people_of_rows(rows)]
    except ValueError as error:
        raise ValueError(
            f"Dress Code keypoints are 18 rows of x, y, ...; this one {error}"
        ) from error
    for joints in people:
        joints[:, 2] = joints[:, 2] > 0  # a detector's score of any range
    return _pose(people, frame, assumed=DRESSCODE_FRAME, smallest=1)


def _people_of_rows(rows: Any) -> list:
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise ValueError(f"is {_short(rows)}.")
    first = next((row for row in rows if row is not None), "")
    nested = isinstance(first, Sequence) and not isinstance(first, str)
    if nested and any(
        isinstance(value, Sequence) and not isinstance(value, str) for value in first
    ):
        return list(rows)
    if nested and len(rows) > POSE_CHANNELS and len(rows) % POSE_CHANNELS == 0:
        return [rows[n : n + POSE_CHANNELS] for n in range(0, len(rows), POSE_CHANNELS)]
    return [rows]


def _holds_frames(value: Any) -> bool:
    """Tell whether a list's first entry is a frame, or a list of frames."""
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and _holds_frames(value[0])
    )


def _joints(values: Any) -> np.ndarray:
    """Read a list of numbers or rows, COCO-18 or BODY_25, to (18, 3); missing joints are 0.

    Raises:
        ValueError: another number of joints; the message goes on after the name of the list.
    """
    if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)):
        raise ValueError(f"is {_short(values)}; expected a list of joints.")
    rows = [row for row in values if row is not None]
    if rows and isinstance(rows[0], (Sequence, np.ndarray)) and not isinstance(rows[0], str):
        table = [_row(row) for row in values]
    else:
        count, width = _FLAT.get(len(values), (0, 0))
        if not count:
            raise ValueError(
                f"has {len(values)} body values; expected 54 (18 joints of x, y, confidence) or 75 "
                "(OpenPose's BODY_25): use a body pose (DWPose, OpenPose, SDPose), not an animal "
                "pose, and not a whole body's 133 points."
            )
        numbers = [_number(value) for value in values]
        table = [_row(numbers[n : n + width]) for n in range(0, len(numbers), width)]
    if len(table) not in (POSE_CHANNELS, 25):
        raise ValueError(f"has {len(table)} joints; expected 18 rows of x, y, ... or 25 (BODY_25).")
    joints = np.array(table)
    if len(joints) == 25:
        joints = joints[list(BODY_25)]
    x, y, confidence = joints.T
    missing = ~np.isfinite(joints).all(axis=1) | (confidence <= 0)
    missing |= ((x <= 0) & (y <= 0)) | (x == -1) | (y == -1)
    joints[missing] = 0
    return joints


def _row(row: Any) -> tuple[float, float, float]:
    """Return x, y and confidence of a joint, nan where it is missing.

    Rows of four are Dress Code's, whose other columns say nothing.
    """
    if row is None:
        return math.nan, math.nan, math.nan
    if isinstance(row, str) or not isinstance(row, (Sequence, np.ndarray)) or len(row) < 2:
        raise ValueError(f"has a joint {_short(row)}; expected x, y and a confidence.")
    x, y = _number(row[0]), _number(row[1])
    return x, y, _number(row[2]) if len(row) == 3 else 1.0


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"has the value {_short(value)}; expected numbers.") from error


def _frame_of(content: Mapping[str, Any]) -> Size | None:
    """Return the frame's height and width in pixels where a file states them."""
    for keys in _FRAME_KEYS:
        try:
            height, width = (float(content.get(key) or 0) for key in keys)
        except (TypeError, ValueError, OverflowError):
            continue
        if 0 < height < math.inf and 0 < width < math.inf:
            return round(height) or 1, round(width) or 1
    return None


def _pose(
    people: Sequence[np.ndarray],
    frame: Size | None,
    assumed: Size | None = None,
    smallest: float = 0,
    entries: Sequence[Any] = (),
) -> Pose:
    """Find the unit of all people together, bring them to pixels, and check their frame.

    Args:
        assumed: the frame of pixels where none is stated.
        smallest: a joint of pixels is missing where both its coordinates are at most that.
        entries: what each of the people was read from, see `Pose`.
    """
    joints = np.concatenate([p[present(p)] for p in people] or [np.zeros((0, 3))])
    if not len(joints):
        return Pose((), frame)
    refused = None
    shares = bool(np.median(np.abs(joints[:, :2])) <= 1.5)
    if shares:
        # OpenPose gives shares of the frame, and joints outside the picture a little beyond 1.
        frame = frame or (1, 1)
        people = [person * (frame[1], frame[0], 1) for person in people]
    else:
        for person in people:
            person[(person[:, :2] <= smallest).all(axis=1)] = 0
        bounds = (_FAR, _MANY) if frame else (_FAR_OF_ASSUMED, 0)
        frame = frame or assumed
        if frame and _leaves(joints, frame, *bounds):
            logger.warning(
                "The pose's joints lie far outside its frame of %dx%d%s: the photo's size is taken "
                "for the frame.",
                frame[1],
                frame[0],
                _whose(frame),
            )
            frame, refused = None, frame
    there = [number for number, person in enumerate(people) if present(person).any()]
    there.sort(key=lambda number: _extent(people[number]), reverse=True)
    return Pose(
        tuple(people[number] for number in there),
        frame,
        refused,
        shares,
        tuple(entries[number] for number in there) if entries else (),
    )


def _leaves(joints: np.ndarray, frame: Size, margin: float, share: float) -> bool:
    """Tell whether more than `share` of the joints lies more than a margin outside the frame."""
    low, high = -margin, 1 + margin
    places = joints[:, :2] / (frame[1], frame[0])
    outside = ((places < low) | (places > high)).any(axis=1)
    return bool(outside.mean() > share)


def _whose(frame: Size) -> str:
    return " (Dress Code's)" if frame == DRESSCODE_FRAME else ""


def _extent(body: np.ndarray) -> float:
    joints = body[present(body), :2]
    return float(np.prod(joints.max(axis=0) - joints.min(axis=0)))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
