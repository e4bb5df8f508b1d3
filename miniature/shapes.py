"""Outlines (n, 2): smooth curves, tapered strokes, ellipses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np


@cache
def points(text: str) -> np.ndarray:
    """Parse points (n, m) written as in SVG, "x,y x,y ..."; the array is shared and read-only."""
    found = np.array([[float(number) for number in group.split(",")] for group in text.split()])
    found.flags.writeable = False
    return found


@cache
def _basis(steps: int) -> np.ndarray:
    """Return Catmull-Rom weights (steps, 4) of four neighbouring points."""
    t = np.linspace(0, 1, steps, endpoint=False)
    powers = np.stack([np.ones_like(t), t, t**2, t**3], axis=1)
    return powers @ (np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2)


def _catmull_rom(p: np.ndarray, steps: int) -> np.ndarray:
    """Draw the curve through p[1:-1]; the first and the last point give its end slopes."""
    windows = np.stack([p[i : len(p) - 3 + i] for i in range(4)], axis=1)
    return (_basis(steps) @ windows).reshape(-1, 2)


def closed(p: np.ndarray, steps: int = 8) -> np.ndarray:
    """Return a smooth closed outline through the points."""
    return _catmull_rom(np.concatenate([p[-1:], p, p[:2]]), steps)


def curve(p: np.ndarray, steps: int = 8) -> np.ndarray:
    """Return a smooth open line through the points, both ends included."""
    p = np.asarray(p, float)
    ends = np.concatenate([[2 * p[0] - p[1]], p, [2 * p[-1] - p[-2]]])
    return np.concatenate([_catmull_rom(ends, steps), p[-1:]])


def mirrored(p: np.ndarray) -> np.ndarray:
    """Complete the right half of an outline, top to bottom, by its mirror image."""
    return np.concatenate([p, p[::-1] * (-1, 1)])


def _along(p: np.ndarray) -> np.ndarray:
    """Return unit tangents (n, 2) of a line."""
    step = np.empty_like(p)
    step[1:-1] = p[2:] - p[:-2]
    step[0], step[-1] = p[1] - p[0], p[-1] - p[-2]
    return step / np.maximum(np.sqrt((step**2).sum(axis=1, keepdims=True)), 1e-9)


def across(p: np.ndarray) -> np.ndarray:
    """Return unit vectors (n, 2) across a line: to the picture's right for one that runs down."""
    return _along(p)[:, ::-1] * (1, -1)


def stroke(line: np.ndarray, width: float, start: float = 1.0, end: float = 1.0) -> np.ndarray:
    """Return a line as an outline of some width, tapering to `start` and `end` times the width."""
    p = np.asarray(line, float)
    half = across(p) * (width / 2)
    if start != 1 or end != 1:
        t = np.linspace(-1, 1, len(p))[:, None]
        half *= np.where(t < 0, start, end) * t**2 + (1 - t**2)
    return np.concatenate([p + half, (p - half)[::-1]])


def ellipse(centre: Sequence, rx: float, ry: float, angle: float = 0.0, n: int = 40) -> np.ndarray:
    """Return an ellipse; `angle` in degrees turns it clockwise on the picture."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    outline = np.stack([rx * np.cos(t), ry * np.sin(t)], axis=1)
    return (turned(outline, angle) if angle else outline) + np.asarray(centre)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return an upright rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def turned(p: np.ndarray, angle: float) -> np.ndarray:
    """Turn points about the origin by `angle` degrees, clockwise on the picture."""
    a = np.deg2rad(angle)
    return np.asarray(p, float) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])


def through(knots: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate a smooth curve through knots (position, value) at `at`, flat beyond the ends."""
    x, y = knots.T
    slope = np.gradient(y, x)
    slope[0] = slope[-1] = 0
    i = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    t = np.clip((at - x[i]) / h, 0, 1)
    return (
        (1 + 2 * t) * (1 - t) ** 2 * y[i]
        + t * (1 - t) ** 2 * h * slope[i]
        + t**2 * (3 - 2 * t) * y[i + 1]
        + t**2 * (t - 1) * h * slope[i + 1]
    )


def step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Return 0 below `low`, 1 above `high`, and a smooth transition between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
