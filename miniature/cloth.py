"""Cloth on a chart: its shading, its folds, and the shadows that it casts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .body import Chart
from .fabrics import Fabric
from .raster import Canvas, Colour, Mask
from .shapes import stroke

LIGHT = np.array([-0.4, -0.42, 0.81], np.float32)  # from the upper left, towards the viewer
CLOTH_SHADE: Colour = (0.42, 0.36, 0.5)
SKIN_SHADE: Colour = (0.62, 0.36, 0.34)


class Sides(NamedTuple):
    """The outer edges of a part, where it turns away from the viewer.

    low, high: rest x at the rest heights `v`.
    """

    v: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def flat(cls, half: float, middle: float = 0.0) -> Sides:
        """Make edges that are the same at every height."""
        return cls(np.array([-1.0, 7.0]), np.full(2, middle - half), np.full(2, middle + half))

    def at(self, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the two edges' rest x at rest heights `v`."""
        low, high = (
            np.interp(v, self.v, side).astype(np.float32) for side in (self.low, self.high)
        )
        return low, high


@dataclass(frozen=True)
class Fold:
    """A ridge in cloth along a line in rest coordinates, `width` wide."""

    start: tuple[float, float]
    end: tuple[float, float]
    width: float
    depth: float

    def mirrored(self, sign: int) -> Fold:
        """Return the fold, or its mirror image where `sign` is -1."""
        ends = ((sign * x, v) for x, v in (self.start, self.end))
        return Fold(*ends, self.width, self.depth)

    def tone(self, x: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return how much brighter the fold makes a place; `s` is -1..1 across the part."""
        (x0, v0), (x1, v1) = self.start, self.end
        length = np.hypot(x1 - x0, v1 - v0)
        tx, tv = (x1 - x0) / length, (v1 - v0) / length
        along = ((x - x0) * tx + (v - v0) * tv) / length
        off = ((v - v0) * tx - (x - x0) * tv) / self.width
        taper = np.exp(-30 * np.maximum(np.abs(along - 0.5) - 0.3, 0) ** 2)
        slope = self.depth * off * np.exp(0.5 - off**2 / 2) * taper
        return slope * (tx * LIGHT[1] - tv * LIGHT[0])


@dataclass(frozen=True)
class Waves:
    """Hanging folds: `count` across the front, growing from the height `top` down to `hem`."""

    count: float
    depth: float
    top: float
    hem: float
    phase: float = 0.0

    def angle(self, s: np.ndarray) -> np.ndarray:
        """Return the phase of the folds, in radians, at `s`, -1..1 across the part."""
        return np.arcsin(np.clip(s, -1, 1) * 0.97) * 2 * self.count + self.phase

    def tone(self, x: np.ndarray, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """Return how much brighter the folds make a place; `s` is -1..1 across the part."""
        grow = np.clip((v - self.top) / (self.hem - self.top), 0, 1) ** 0.7
        angle = self.angle(s)
        return -LIGHT[0] * self.depth * grow * (np.sin(angle) + 0.35 * np.sin(1.7 * angle + 1))


def lay(
    canvas: Canvas,
    chart: Chart,
    mask: Mask,
    sides: Sides,
    fabric: Fabric,
    folds: Sequence[Fold | Waves] = (),
    *,
    label: int | None = None,
    shade: Colour = CLOTH_SHADE,
    gloss: float = 0.6,
    wrap: tuple[float, float] | None = None,
) -> None:
    """Draw a fabric on the part of a chart under the mask.

    `wrap` = (v0, v1) makes the inner edge of a leg turn away only between these heights: above,
    the two legs are one body.
    """
    pixels = np.flatnonzero(mask.alpha > 0)
    if pixels.size == 0:
        return
    x, v, across_x, across_y = chart.locate(canvas, mask, pixels)
    low, high = sides.at(v)
    s = np.clip((x - low) / np.maximum(high - low, 1e-3) * 2 - 1, -1, 1)
    if wrap is not None:
        one = 1 - np.clip((v - wrap[0]) / (wrap[1] - wrap[0]), 0, 1)
        outward = -1 if high.mean() + low.mean() < 0 else 1
        s = s * (1 - one) + (s + outward) / 2 * one
    sine = 0.93 * s
    tone = (across_x * LIGHT[0] + across_y * LIGHT[1]) * sine + np.sqrt(1 - sine**2) * LIGHT[2]
    if folds:
        tone += _relief(folds, sides, v, s)
    rgb = fabric.at(x, v, 1 / canvas.scale)
    dark = np.clip((0.8 - tone) * 0.6, 0, 0.8)[:, None]
    rgb *= 1 - (1 - np.asarray(shade, np.float32)) * dark
    rgb += (1 - rgb) * np.clip((tone - 0.83) * gloss, 0, 0.5)[:, None]
    canvas.paint(mask, pixels, rgb, label=label)


def _relief(
    folds: Sequence[Fold | Waves], sides: Sides, v: np.ndarray, s: np.ndarray
) -> np.ndarray:
    """Compute the folds' tone at places (v, s), on a coarse grid over the part."""
    height, width = 72, 64
    top, bottom = float(v.min()), float(v.max()) + 1e-3
    rows, columns = np.meshgrid(
        np.linspace(top, bottom, height, dtype=np.float32),
        np.linspace(-1, 1, width, dtype=np.float32),
        indexing="ij",
    )
    low, high = sides.at(rows)
    x = (columns + 1) / 2 * (high - low) + low
    grid = sum(fold.tone(x, rows, columns) for fold in folds).astype(np.float32).ravel()
    fy = np.clip((v - top) / (bottom - top) * (height - 1), 0, height - 1.001)
    fx = np.clip((s + 1) / 2 * (width - 1), 0, width - 1.001)
    iy, ix = fy.astype(np.intp), fx.astype(np.intp)
    fy, fx = fy - iy, fx - ix
    corner = iy * width + ix
    upper = grid[corner] * (1 - fx) + grid[corner + 1] * fx
    lower = grid[corner + width] * (1 - fx) + grid[corner + width + 1] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def contour(
    canvas: Canvas, mask: Mask, outline: np.ndarray, colour: Colour, width=0.02, whole=True
) -> None:
    """Draw a thin darker line just inside the edge of a part.

    whole: join its end to its start.
    """
    line = np.concatenate([outline, outline[:2]]) if whole else outline
    edge = canvas.mask(stroke(line, width)).inside(mask)
    canvas.paint(edge, np.flatnonzero(edge.alpha), np.asarray(colour, np.float32), opacity=0.45)


def cast_shadow(
    canvas: Canvas,
    outline: np.ndarray,
    onto: Mask,
    offset: tuple[float, float] = (0.02, 0.04),
    blur: float = 0.03,
    opacity: float = 0.45,
    tint: Colour = CLOTH_SHADE,
) -> None:
    """Draw the soft shadow of an outline on a part that lies behind it."""
    shadow = canvas.mask(outline + offset, blur=blur)
    canvas.multiply(shadow.inside(onto), tint, opacity)
