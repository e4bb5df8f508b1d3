"""Fabrics, plain or printed. Motifs are computed per pixel, so that they are sharp at any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .raster import Colour

#: Coverage 0..1 of the print at (u, w), in repeats of the motif, antialiased over `soft` repeats.
Motif = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def _inside(distance: np.ndarray, soft: float) -> np.ndarray:
    """Return the coverage of the area where a signed distance is negative."""
    return np.clip(0.5 - distance / soft, 0, 1)


def _off_grid(u: np.ndarray) -> np.ndarray:
    """Return the signed offset from the nearest whole number."""
    return u - np.rint(u)


def _off_stagger(u: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the offset from the nearest point of a lattice, every other row shifted by half."""
    row = np.rint(w * 2)
    return _off_grid(u + np.mod(row, 2) / 2), w - row / 2


def _stripes(u, w, soft):
    return _inside(np.abs(_off_grid(w)) - 0.25, soft)


def _vertical_stripes(u, w, soft):
    return _inside(np.abs(_off_grid(u)) - 0.2, soft)


def _checks(u, w, soft):
    bands = (_inside(np.abs(_off_grid(a)) - 0.25, soft) for a in (u, w))
    return sum(bands) / 2


def _dots(u, w, soft):
    return _inside(np.hypot(*_off_stagger(u, w)) - 0.2, soft)


def _flowers(u, w, soft):
    du, dw = _off_stagger(u, w)
    radius, angle = np.hypot(du, dw), np.arctan2(dw, du)
    petals = _inside(radius - 0.22 - 0.075 * np.cos(5 * angle + 0.9), soft)
    return petals * (1 - _inside(radius - 0.095, soft))


def _zigzag(u, w, soft):
    return _inside(np.abs(_off_grid(w + np.abs(_off_grid(u)))) - 0.24, soft * 1.4)


def _diamonds(u, w, soft):
    return _inside(np.abs(_off_grid(u)) + np.abs(_off_grid(w)) * 0.7 - 0.36, soft * 1.2)


MOTIFS: dict[str, Motif] = {
    "stripes": _stripes,
    "vertical stripes": _vertical_stripes,
    "checks": _checks,
    "dots": _dots,
    "flowers": _flowers,
    "zigzag": _zigzag,
    "diamonds": _diamonds,
}
PLAIN = "plain"
PATTERNS = (PLAIN, *MOTIFS)


@dataclass(frozen=True)
class Fabric:
    """A fabric in one colour, or printed in a second.

    repeat: of the motif, in head heights.
    """

    base: Colour
    pattern: str = PLAIN
    print_colour: Colour = (1.0, 1.0, 1.0)
    repeat: float = 0.5

    @property
    def line(self) -> Colour:
        """The colour of its seams and edges."""
        return tuple(0.45 * channel for channel in self.base)

    def at(self, x: np.ndarray, v: np.ndarray, pixel: float) -> np.ndarray:
        """Return colours (n, 3) at rest coordinates (n,).

        pixel: the size of a pixel in head heights.
        """
        base = np.asarray(self.base, np.float32)
        if self.pattern == PLAIN:
            return np.tile(base, (len(x), 1))
        cover = MOTIFS[self.pattern](x / self.repeat, v / self.repeat, pixel / self.repeat)
        printed = np.asarray(self.print_colour, np.float32)
        return base + (printed - base) * cover[:, None].astype(np.float32)
