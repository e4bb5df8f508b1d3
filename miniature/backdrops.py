"""Backdrops of the model photos; lengths are in picture widths: x 0..1, y 0..height/width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .raster import Canvas, Colour
from .shapes import box, closed, ellipse, step

_SHADOW = (0.42, 0.4, 0.48)
_LEAF = (0.45, 0.58, 0.47)


@dataclass(frozen=True)
class Backdrop:
    """What stands behind the person; `kind` is one of KINDS, `chance` in 0..1 varies it."""

    kind: str
    wall: Colour
    floor: Colour
    accent: Colour
    chance: float


def _tone(colour: Colour, factor: float) -> Colour:
    return tuple(min(channel * factor, 1.0) for channel in colour)


def draw_backdrop(canvas: Canvas, backdrop: Backdrop, floor: float) -> None:
    """Fill the canvas; `floor` is where the floor begins, in picture heights from the top."""
    page = canvas.seen_as((canvas.width, 0, 0))
    tall = canvas.height / canvas.width
    horizon = floor * tall
    xs = np.linspace(0, 1, canvas.width, dtype=np.float32)
    ys = np.linspace(0, tall, canvas.height, dtype=np.float32)[:, None]
    glow = (1.04 - 0.36 * (xs - 0.38) ** 2) - 0.21 * (ys - 0.42 * tall) ** 2
    np.multiply(glow[..., None], np.asarray(backdrop.wall, np.float32), out=page.rgb)
    np.clip(page.rgb, 0, 1, out=page.rgb)
    if backdrop.kind == "studio":
        # Paper that runs from the wall onto the floor.
        change = 0.55 * (np.asarray(backdrop.floor) / backdrop.wall - 1)
        fade = step(horizon - 0.12, horizon + 0.12, ys)[..., None]
        page.rgb *= (1 + change * fade).astype(np.float32)
        return
    _WALLS[backdrop.kind](page, backdrop, horizon, tall)
    ground = page.mask(box(0, horizon, 1, tall + 0.1))
    rise = (ys[ground.window[0]] - horizon)[..., None]
    page.fill(ground, np.asarray(backdrop.floor, np.float32) * (0.94 + 0.24 * rise))
    page.fill(page.mask(box(0, horizon, 1, horizon + 0.006)), _tone(backdrop.floor, 0.78), 0.6)
    if backdrop.kind in ("room", "panels"):
        board = box(0, horizon - 0.049, 1, horizon)
        page.fill(page.mask(board), _tone(backdrop.wall, 0.85))
        page.fill(
            page.mask(board + (0, 0.004)).inside(page.mask(board)), _tone(backdrop.wall, 1.05)
        )


def _room(page: Canvas, backdrop: Backdrop, horizon: float, tall: float) -> None:
    """Draw a picture on the wall and a plant beside the person."""
    side = 0.16 if backdrop.chance < 0.5 else 0.84
    top, accent = 0.1 * tall, backdrop.accent
    for inset, tone in ((0.0, 0.72), (0.012, 1.06)):
        frame = box(side - 0.12 + inset, top + inset, side + 0.12 - inset, top + 0.34 - inset)
        page.fill(page.mask(frame), _tone(backdrop.wall, tone))
    page.fill(page.mask(ellipse((side, top + 0.2), 0.06, 0.075)), accent)
    page.fill(page.mask(ellipse((side + 0.02, top + 0.11), 0.035, 0.035)), _tone(accent, 0.85))
    base = np.array((1 - side, horizon - 0.04))
    for i, angle in enumerate(np.deg2rad((-58, -35, -12, 14, 38, 60))):
        tip = base + (0.27 * np.sin(angle), -0.36 * np.cos(angle))
        middle, aside = (base + tip) / 2, np.array((np.cos(angle), np.sin(angle))) * 0.035
        leaf = closed(np.stack([base, middle - aside, tip, middle + aside]), 6)
        page.fill(page.mask(leaf), _tone(_LEAF, (1.0, 0.86, 1.12)[i % 3]))
    pot = base + [(-0.08, -0.02), (0.08, -0.02), (0.06, 0.14), (-0.06, 0.14)]
    page.fill(page.mask(pot), _tone(accent, 0.88))


def _arch(page: Canvas, backdrop: Backdrop, horizon: float, tall: float) -> None:
    """Draw nested arches, as of a painted set."""
    middle = 0.42 + 0.16 * backdrop.chance
    t = np.linspace(np.pi, 2 * np.pi, 30)
    for half, tone in ((0.46, 0.93), (0.36, 1.0)):
        arc = np.stack([middle + half * np.cos(t), 0.12 * tall + 0.46 + half * np.sin(t)], axis=1)
        foot = [(middle + half, tall), (middle - half, tall)]
        page.fill(page.mask(np.concatenate([arc, foot])), _tone(backdrop.accent, tone))


def _window(page: Canvas, backdrop: Backdrop, horizon: float, tall: float) -> None:
    """Draw window light falling across the wall."""
    pane = np.array([(0, 0.05), (0.26, -0.11), (0.26, 0.18), (0, 0.34)])
    left = 0.07 + 0.3 * backdrop.chance
    panes = [
        pane + (left + 0.3 * column, 0.1 + 0.33 * row) for row in range(3) for column in (0, 1)
    ]
    page.fill(page.mask(*panes, blur=0.008), (1.0, 0.98, 0.92), 0.5)


def _circle(page: Canvas, backdrop: Backdrop, horizon: float, tall: float) -> None:
    """Draw a disc like a low sun, and a smaller one."""
    x = 0.35 + 0.3 * backdrop.chance
    page.fill(page.mask(ellipse((x, 0.42 * tall), 0.4, 0.4, n=80)), backdrop.accent)
    small = page.mask(ellipse((1.02 - x, 0.78 * tall), 0.17, 0.17, n=60))
    page.fill(small, _tone(backdrop.accent, 0.92), 0.8)


def _curtain(page: Canvas, backdrop: Backdrop, horizon: float, tall: float) -> None:
    """Draw soft hanging folds."""
    xs = np.linspace(0, 1, page.width, dtype=np.float32)
    page.rgb *= 1 + 0.05 * np.sin(xs * 46 + 2.2 * np.sin(xs * 7 + backdrop.chance * 6))[:, None]
    np.clip(page.rgb, 0, 1, out=page.rgb)


def _panels(page: Canvas, backdrop: Backdrop, horizon: float, tall: float) -> None:
    """Draw a wall with mouldings."""
    for left in np.array((-0.32, 0.1, 0.52, 0.94)) + 0.2 * backdrop.chance:
        for inset, tone in ((0.0, 0.88), (0.008, 1.06), (0.016, 0.98)):
            panel = box(left + inset, 0.09 + inset, left + 0.36 - inset, horizon - 0.12 - inset)
            page.fill(page.mask(panel), _tone(backdrop.wall, tone))


_WALLS = {
    "room": _room,
    "arch": _arch,
    "window": _window,
    "circle": _circle,
    "curtain": _curtain,
    "panels": _panels,
}
KINDS = ("studio", *_WALLS)


def ground_shadow(canvas: Canvas, feet: list[np.ndarray]) -> None:
    """Draw soft shadows on the floor under the feet."""
    for foot in feet:
        shadow = canvas.mask(ellipse(foot + (0.12, 0), 0.42, 0.1), blur=0.07)
        canvas.multiply(shadow, _SHADOW, 0.6)


def wall_shadow(canvas: Canvas, outlines: list[np.ndarray], offset, blur: float) -> None:
    """Draw the soft shadow that outlines throw on what lies behind; lengths in units."""
    canvas.multiply(canvas.mask(*(o + offset for o in outlines), blur=blur), _SHADOW, 0.3)
