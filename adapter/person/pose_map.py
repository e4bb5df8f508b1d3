"""The 18-channel pose map that the 27-channel U-Net reads, drawn from a person's keypoints.

Keypoints are float arrays (18, 3) in OpenPose's COCO-18 order, which is Dress Code's too: x and y
in pixels of a frame, and a confidence; below 0.3 a joint counts as missing. `pose` reads them.
"""

from __future__ import annotations

import numpy as np
import torch

POSE_CHANNELS = 18
CONFIDENT = 0.3
SIGMA = 9.0
"""Pixels at a height of 512; the heat is exp(-d^2 / sigma^2), without a factor of 2."""
DRESSCODE_FRAME = (512, 384)
"""Height and width of the frame in which Dress Code's keypoints are given."""


def present(keypoints: np.ndarray) -> np.ndarray:
    """Tell which joints (18, 3) count, as (18,) bools."""
    return keypoints[:, 2] >= CONFIDENT


def pose_map(
    keypoints: np.ndarray, frame: tuple[int, int], size: tuple[int, int], paper: bool = False
) -> torch.Tensor:
    """Draw one channel of heat for each joint, at latent size.

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
