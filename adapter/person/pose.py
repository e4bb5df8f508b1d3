"""Keypoints of a person and the 18-channel pose map that the 27-channel U-Net reads.

Keypoints are float arrays (18, 3) in OpenPose's COCO-18 order, which is Dress Code's too: x and y
in pixels of a frame, and a confidence; below 0.3 a joint counts as missing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)

POSE_CHANNELS = 18
CONFIDENT = 0.3
SIGMA = 9.0
"""Pixels at a height of 512; the heat is exp(-d^2 / sigma^2), without a factor of 2."""
DRESSCODE_FRAME = (512, 384)
"""Height and width of the frame in which Dress Code's keypoints are given."""


def keypoints_from_dresscode(content: Mapping[str, Any] | np.ndarray | list) -> np.ndarray:
    """Keypoints of a Dress Code JSON (`{"keypoints": [[x, y, ...], ...]}`) or its array.

    The frame is 384x512 (`DRESSCODE_FRAME`). A joint whose coordinates are both at most 1 is
    missing; its confidence becomes 0.

    Raises:
        ValueError: not 18 rows of at least x and y.
    """
    rows = content["keypoints"] if isinstance(content, Mapping) else content
    try:
        array: np.ndarray = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[0] != POSE_CHANNELS or array.shape[1] < 2:
        raise ValueError(f"Dress Code keypoints are 18 rows of x, y, ...; got {array.shape}.")
    present = (array[:, :2] > 1).any(axis=1)
    return np.column_stack([array[:, :2], present])


def keypoints_from_pose_keypoint(
    frame: Mapping[str, Any], person: int = 0
) -> tuple[np.ndarray, tuple[int, int]] | None:
    """One person of a POSE_KEYPOINT frame, and the frame's (height, width) in pixels.

    Args:
        frame: a dict with `people`, `canvas_height`, `canvas_width`, as DWPose, OpenPose and
            SDPose give it; coordinates in pixels or, where no joint exceeds 1, in 0..1.
        person: 0 for the largest person, 1 for the next.

    Returns:
        None where there is no such person.

    Raises:
        ValueError: a person's keypoints are not 18 triples, or the canvas has no size.
    """
    height, width = frame.get("canvas_height", 0), frame.get("canvas_width", 0)
    if not (height and width):
        raise ValueError(
            f"The pose's canvas is {width}x{height}: expected POSE_KEYPOINT with canvas_width and "
            "canvas_height in pixels."
        )
    people = [_body(entry, width, height) for entry in frame.get("people", [])]
    people = sorted((p for p in people if present(p).any()), key=_extent, reverse=True)
    return (people[person], (height, width)) if person < len(people) else None


def read_pose(path: Path, person: int = 0) -> tuple[np.ndarray, tuple[int, int]] | None:
    """Keypoints (18, 3) of a JSON file and their frame's (height, width).

    Args:
        path: POSE_KEYPOINT (one frame, or a list whose first is taken) or Dress Code keypoints.
        person: of POSE_KEYPOINT, 0 for the largest.

    Returns:
        None where there is no such person.

    Raises:
        ValueError: the file is neither.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, list) and content and isinstance(content[0], dict):
            content = content[0]
        if isinstance(content, dict) and "people" in content:
            return keypoints_from_pose_keypoint(content, person)
        return keypoints_from_dresscode(content), DRESSCODE_FRAME
    except KeyError as error:
        raise ValueError(
            f"{path} has neither `people` (POSE_KEYPOINT) nor `keypoints` (Dress Code)."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} holds no pose: {error}") from error


def photo_keypoints(path: Path, number: int, size: tuple[int, int]) -> np.ndarray | None:
    """Keypoints (18, 3) in pixels of a photo of `size` (width, height); None, with a warning,
    where the file has no such person."""
    found = read_pose(path, number)
    if found is None:
        logger.warning("%s has nobody numbered %d: no pose is used.", path, number)
        return None
    keypoints, (height, width) = found
    return keypoints * (size[0] / width, size[1] / height, 1)


def present(keypoints: np.ndarray) -> np.ndarray:
    """Which joints (18, 3) count, as (18,) bools."""
    return keypoints[:, 2] >= CONFIDENT


def pose_map(
    keypoints: np.ndarray, frame: tuple[int, int], size: tuple[int, int], paper: bool = False
) -> torch.Tensor:
    """One channel of heat a joint, at latent size.

    At the picture's size the heat is exp(-d^2 / sigma^2), divided by its largest value; at latent
    size it is the mean of the four middle pixels of each 8x8 cell (bilinear, no antialias). A
    missing joint's channel is zero.

    Args:
        keypoints: (18, 3), x and y in pixels of `frame`.
        frame: height and width that the coordinates refer to.
        size: height and width of the picture in pixels, multiples of 8.
        paper: as the official code: sigma is 9 px at every size (by default 9 px at a height of
            512 and proportional to it), a joint outside the picture is raised to full heat at its
            border (by default it keeps what reaches in), and a joint is missing only where neither
            coordinate is above 0.

    Returns:
        (18, height / 8, width / 8) float32 in 0..1.
    """
    height, width = size
    sigma = SIGMA if paper else SIGMA * height / 512
    maps = np.zeros((POSE_CHANNELS, height // 8, width // 8))
    there = (keypoints[:, :2] > 0).any(axis=1) if paper else present(keypoints)
    for channel in np.flatnonzero(there):
        x = keypoints[channel, 0] * width / frame[1]
        y = keypoints[channel, 1] * height / frame[0]
        across, down = _heat(x, width, sigma), _heat(y, height, sigma)
        inside = 0 <= x <= width - 1 and 0 <= y <= height - 1
        peak = across.max() * down.max() + np.finfo(np.float32).eps if inside or paper else 1.0
        maps[channel] = np.outer(_middle(down), _middle(across)) / peak
    return torch.from_numpy(maps).float()


def _heat(centre: float, length: int, sigma: float) -> np.ndarray:
    return np.exp(-(((np.arange(length) - centre) / sigma) ** 2))


def _middle(line: np.ndarray) -> np.ndarray:
    return line.reshape(-1, 8)[:, 3:5].mean(axis=1)


def _body(person: Mapping[str, Any], width: int, height: int) -> np.ndarray:
    flat = np.array(person.get("pose_keypoints_2d") or [], dtype=np.float64)
    if flat.size != 3 * POSE_CHANNELS:
        raise ValueError(
            f"A person of the pose has {flat.size} body values; expected 54 (18 joints of x, y, "
            "confidence): use a body pose (DWPose, OpenPose, SDPose), not an animal pose."
        )
    body = np.nan_to_num(flat.reshape(POSE_CHANNELS, 3))
    # OpenPose gives 0..1, and joints outside the picture a little beyond.
    if np.abs(body[present(body), :2]).max(initial=0) <= 2:
        body[:, :2] *= (width, height)
    return body


def _extent(body: np.ndarray) -> float:
    joints = body[present(body), :2]
    return float(np.prod(joints.max(axis=0) - joints.min(axis=0)))
