"""Colour differences as people see them: CIELAB, and CIEDE2000 between its colours."""

from __future__ import annotations

import numpy as np

_TO_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
)
"""From linear sRGB (IEC 61966-2-1)."""
_D65 = np.array([0.95047, 1.0, 1.08883])


def lab_of(colours: np.ndarray) -> np.ndarray:
    """Convert sRGB colours (..., 3) in 0..1 to CIELAB under D65 (..., 3).

    L is from 0 to 100, a and b lie around 0.
    """
    colours = np.asarray(colours, dtype=np.float64)
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _D65
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute CIEDE2000 between CIELAB colours (..., 3) that broadcast, as (...).

    0 is the same colour, about 2 is just noticeable, above 20 is another colour.

    The formula and its order of steps are those of Sharma, Wu and Dalal (2005), with k = 1.
    """
    (l1, a1, b1), (l2, a2, b2) = (np.moveaxis(np.asarray(lab), -1, 0) for lab in (first, second))
    chroma = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    less_red = 0.5 * (1 - np.sqrt(chroma**7 / (chroma**7 + 25.0**7)))
    a1, a2 = a1 * (1 + less_red), a2 * (1 + less_red)
    c1, c2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    grey = c1 * c2 == 0
    turn = np.where(grey, 0, (h2 - h1 + 180) % 360 - 180)
    hue = np.where(grey, h1 + h2, (h1 + turn / 2) % 360)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    degrees = [hue - 30, 2 * hue, 3 * hue + 6, 4 * hue - 63]
    shares = [-0.17, 0.24, 0.32, -0.20]
    weight = 1 + sum(s * np.cos(np.radians(d)) for s, d in zip(shares, degrees, strict=True))
    off = (lightness - 50) ** 2
    by_l = (l2 - l1) / (1 + 0.015 * off / np.sqrt(20 + off))
    by_c = (c2 - c1) / (1 + 0.045 * chroma)
    by_h = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * weight)
    blue = 2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    turned = np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    return np.sqrt(by_l**2 + by_c**2 + by_h**2 - blue * turned * by_c * by_h)
