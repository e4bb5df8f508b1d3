"""Antialiased shapes with soft shading on one picture and its label map."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Mask:
    """Coverage 0..1 of a rectangle of the canvas; `x`, `y` is its top left pixel."""

    x: int
    y: int
    alpha: np.ndarray

    @property
    def window(self) -> tuple[slice, slice]:
        """The mask's rectangle of the canvas, as slices of rows and columns."""
        height, width = self.alpha.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)

    def aligned(self, other: Mask) -> np.ndarray:
        """Return the coverage of `other` on this mask's rectangle, 0 where it does not reach."""
        out = np.zeros_like(self.alpha)
        height, width = self.alpha.shape
        x0, x1 = max(self.x, other.x), min(self.x + width, other.x + other.alpha.shape[1])
        y0, y1 = max(self.y, other.y), min(self.y + height, other.y + other.alpha.shape[0])
        if x0 < x1 and y0 < y1:
            out[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x] = other.alpha[
                y0 - other.y : y1 - other.y, x0 - other.x : x1 - other.x
            ]
        return out

    def inside(self, *others: Mask) -> Mask:
        """Return the part of this mask that lies inside every one of the others."""
        alpha = self.alpha
        for other in others:
            alpha = alpha * self.aligned(other)
        return Mask(self.x, self.y, alpha)

    def outside(self, *others: Mask) -> Mask:
        """Return the part of this mask that none of the others covers."""
        alpha = self.alpha
        for other in others:
            alpha = alpha * (1 - self.aligned(other))
        return Mask(self.x, self.y, alpha)


class Canvas:
    """A picture (H, W, 3) float32 in 0..1 and its label map (H, W) uint8.

    Points are given in figure units; `view` = (scale, x, y) puts the unit origin at pixel (x, y)
    and makes one unit `scale` pixels.
    """

    def __init__(self, width: int, height: int, view: tuple[float, float, float]):
        try:
            import aggdraw
        except ImportError as error:
            raise ImportError(
                "Drawing the miniature world needs aggdraw: pip install aggdraw."
            ) from error
        self._agg = aggdraw
        self.width, self.height = width, height
        self.scale, self.x, self.y = view
        self.rgb = np.ones((height, width, 3), np.float32)
        self.labels = np.zeros((height, width), np.uint8)

    def seen_as(self, view: tuple[float, float, float]) -> Canvas:
        """Return the same picture in other units."""
        other = copy(self)
        other.scale, other.x, other.y = view
        return other

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2) in units to pixel coordinates."""
        return np.asarray(points, np.float64) * self.scale + (self.x, self.y)

    def _window(self, points: np.ndarray, margin: float) -> tuple[int, int, int, int]:
        low = np.floor(points.min(axis=0) - margin).astype(int)
        high = np.ceil(points.max(axis=0) + margin).astype(int) + 1
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        return (
            x0,
            y0,
            max(min(int(high[0]), self.width), x0),
            max(min(int(high[1]), self.height), y0),
        )

    def mask(self, *polygons: Sequence, blur: float = 0.0) -> Mask:
        """Cover the union of polygons (n, 2) in units; `blur` in units softens its edge."""
        outlines = [self.pixels(polygon) for polygon in polygons]
        margin = 2.5 * blur * self.scale + 1
        x0, y0, x1, y1 = self._window(np.concatenate(outlines), margin)
        if x0 >= x1 or y0 >= y1:
            return Mask(x0, y0, np.zeros((0, 0), np.float32))
        draw = self._agg.Draw("L", (x1 - x0, y1 - y0), 0)
        brush = self._agg.Brush(255)
        for outline in outlines:
            draw.polygon((outline - (x0, y0)).ravel().tolist(), None, brush)
        cover = np.frombuffer(draw.tobytes(), np.uint8).reshape(y1 - y0, x1 - x0)
        if blur > 0:
            soft = Image.fromarray(cover).filter(ImageFilter.GaussianBlur(float(blur * self.scale)))
            cover = np.asarray(soft)
        return Mask(x0, y0, cover.astype(np.float32) / 255)

    def fill(
        self,
        mask: Mask,
        colour: Colour | np.ndarray,
        opacity: float = 1.0,
        label: int | None = None,
    ) -> None:
        """Lay a colour, or a picture (h, w, 3) of the mask's size, over the canvas."""
        if mask.alpha.size == 0:
            return
        area = self.rgb[mask.window]
        alpha = (mask.alpha * opacity)[..., None] if opacity != 1 else mask.alpha[..., None]
        area += (np.asarray(colour, np.float32) - area) * alpha
        if label is not None:
            self.labels[mask.window][mask.alpha >= 0.5] = label

    def paint(
        self,
        mask: Mask,
        pixels: np.ndarray,
        rgb: np.ndarray,
        opacity: float = 1.0,
        label: int | None = None,
    ) -> None:
        """Lay one colour (3,), or colours (n, 3), over some of the mask's pixels.

        `pixels` (n,) are indices into the flattened mask.
        """
        alpha = mask.alpha.ravel()[pixels]
        rows, columns = np.divmod(pixels, mask.alpha.shape[1])
        places = (rows + mask.y) * self.width + (columns + mask.x)
        picture = self.rgb.reshape(-1, 3)
        under = picture[places]
        picture[places] = under + (rgb - under) * (alpha * opacity)[:, None]
        if label is not None:
            self.labels.reshape(-1)[places[alpha >= 0.5]] = label

    def multiply(self, mask: Mask, tint: Colour, opacity: float = 1.0) -> None:
        """Darken what lies under the mask by a tint, as a cast shadow does."""
        if mask.alpha.size:
            area = self.rgb[mask.window]
            area *= 1 - (1 - np.asarray(tint, np.float32)) * (mask.alpha * opacity)[..., None]

    def picture(self) -> Image.Image:
        """Return the picture as 8-bit RGB."""
        return Image.fromarray(np.rint(np.clip(self.rgb, 0, 1) * 255).astype(np.uint8))
