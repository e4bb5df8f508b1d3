"""Drawing faces; coordinates start at the face's centre: x right, y down, chin at 0.5."""

from __future__ import annotations

import numpy as np

from .body import SIGNS, Figure
from .cloth import SKIN_SHADE, contour
from .people import FACE, SUNGLASSES, Person, mixed, round_fill
from .raster import Canvas, Mask
from .shapes import closed, curve, ellipse, mirrored, points, stroke, turned

_DARK = (0.16, 0.1, 0.1)
#: The right half of the face, and how much wider a man's jaw makes it.
_FACE = points("0,-.47 .2,-.43 .315,-.28 .352,-.05 .343,.1 .31,.26 .215,.405 .1,.485 0,.505")
_JAW = points("0,0 0,0 0,0 0,0 0,0 .015,0 .03,0 .03,0 0,0")
_BEARD = points(
    ".345,.06 .32,.28 .225,.43 .11,.5 0,.52 -.11,.5 -.225,.43 -.32,.28 -.345,.06 -.27,.2 -.13,.235 "
    "0,.225 .13,.235 .27,.2"
)
_EYE = points("-.075,.012 -.04,-.026 .01,-.038 .055,-.018 .078,.006 .04,.03 -.02,.035")
_LID = points("-.085,.02 -.05,-.022 .005,-.042 .055,-.024 .092,-.002")
_BROW = points("-.085,-.095 -.02,-.122 .05,-.118 .105,-.085")
_UPPER_LIP = points(
    "-.1,.294 -.05,.283 -.018,.274 0,.28 .018,.274 .05,.283 .1,.294 .05,.307 0,.313 -.05,.307"
)
_LOWER_LIP = points("-.1,.294 -.05,.308 0,.314 .05,.308 .1,.294 .06,.341 0,.358 -.06,.341")
_SMILE = points("-.115,.284 -.06,.307 0,.314 .06,.307 .115,.284")


class Head:
    """One person's head on a canvas."""

    def __init__(self, canvas: Canvas, figure: Figure, person: Person):
        self.canvas, self.person = canvas, person
        self.centre, self.tilt, self.turn = figure.head, figure.pose.head, figure.pose.turn

    def place(self, shape: np.ndarray, turn: float = 0.0) -> np.ndarray:
        """Map head coordinates to the figure; `turn` is how far a turned head moves the shape."""
        return self.centre + turned(shape + (turn * self.turn, 0), self.tilt)

    def fill(self, shape, colour, opacity=1.0, turn=0.0, blur=0.0, label=None, inside=()) -> Mask:
        """Fill a shape given in head coordinates, and return its mask."""
        mask = self.canvas.mask(self.place(shape, turn), blur=blur).inside(*inside)
        self.canvas.fill(mask, colour, opacity, label)
        return mask


def draw_face(head: Head) -> None:
    """Draw the ears, the face and its features."""
    person, canvas = head.person, head.canvas
    edge = person.skin_edge
    for sign in SIGNS:
        ear = ellipse((sign * 0.355, 0.07), 0.055, 0.1, sign * 8)
        mask = head.fill(ear, mixed(person.skin, (0.85, 0.4, 0.3), 0.12), turn=-0.03, label=FACE)
        contour(canvas, mask, head.place(ear, -0.03), edge, 0.015)
        if person.earrings:
            head.fill(ellipse((sign * 0.365, 0.2), 0.026, 0.035), (0.93, 0.76, 0.35), turn=-0.03)
    half = _FACE + _JAW if person.build.is_broad else _FACE
    outline = head.place(closed(mirrored(half)[:-1], 5))
    face = canvas.mask(outline)
    round_fill(canvas, face, head.centre, (0.46, 0.62), person.skin, SKIN_SHADE, FACE, 0.5)
    contour(canvas, face, outline, edge, 0.016)
    for sign in SIGNS:
        cheek = ellipse((sign * 0.2, 0.17), 0.095, 0.065)
        head.fill(cheek, (0.9, 0.36, 0.33), 0.2, 0.05, blur=0.045, inside=(face,))
    if person.beard:
        beard = mixed(person.hair, person.skin, 0.25)
        head.fill(closed(_BEARD), beard, 0.9, 0.01, blur=0.012, inside=(face,))
    for sign in SIGNS:
        _draw_eye(head, sign, face)
    bridge = curve(points(".035,.02 .05,.11 .06,.16"))
    head.fill(stroke(bridge, 0.045, 0, 0), edge, 0.28, 0.1, blur=0.015)
    tip = curve(points("-.05,.165 -.02,.19 0,.183 .025,.192 .055,.165"))
    head.fill(stroke(tip, 0.017, 0.3, 0.3), edge, 0.75, 0.1)
    head.fill(ellipse((-0.008, 0.13), 0.018, 0.028), (1, 1, 1), 0.25, 0.11, blur=0.01)
    _draw_mouth(head)
    if person.glasses:
        _draw_glasses(head)


def _draw_eye(head: Head, sign: int, face: Mask) -> None:
    person, broad = head.person, head.person.build.is_broad
    place = np.array((sign * 0.15, 0.0))
    eye = head.fill(closed(_EYE * (sign, 1) + place), (0.98, 0.97, 0.95), turn=0.075)
    look = place + (0.012 * head.turn, 0)
    head.fill(ellipse(look, 0.037, 0.037), person.eyes, turn=0.075, inside=(eye,))
    head.fill(ellipse(look, 0.02, 0.02), (0.07, 0.05, 0.06), turn=0.075, inside=(eye,))
    head.fill(ellipse(look - 0.012, 0.01, 0.01), (1, 1, 1), turn=0.075)
    lid = curve(_LID * (sign, 1) + place)
    head.fill(stroke(lid, 0.02 if broad else 0.028, 0.25, 0.55), _DARK, 0.95, 0.075)
    brow = stroke(curve(_BROW * (sign, 1) + place), 0.042 if broad else 0.032, 0.75, 0.15)
    head.fill(brow, mixed(person.hair, _DARK, 0.35), 0.85, 0.075, inside=(face,))


def _draw_mouth(head: Head) -> None:
    broad = head.person.build.is_broad
    lip = mixed(head.person.skin, (0.72, 0.22, 0.24), 0.35 if broad else 0.62)
    head.fill(closed(_UPPER_LIP), mixed(lip, (0.3, 0.05, 0.1), 0.15), 0.95, 0.085)
    head.fill(closed(_LOWER_LIP), lip, 0.95, 0.085)
    line = stroke(curve(_SMILE), 0.013, 0.5, 0.5)
    head.fill(line, mixed(lip, (0.3, 0.05, 0.08), 0.6), 0.9, 0.085)
    head.fill(ellipse((-0.02, 0.333), 0.035, 0.009), (1, 1, 1), 0.25, 0.085, blur=0.006)


def _draw_glasses(head: Head) -> None:
    frame = (0.15, 0.12, 0.13)
    for sign in SIGNS:
        lens = ellipse((sign * 0.155, 0.01), 0.115, 0.095)
        head.fill(lens, (0.85, 0.93, 1.0), 0.18, 0.075, label=SUNGLASSES)
        ring = stroke(np.concatenate([lens, lens[:2]]), 0.022)
        head.fill(ring, frame, 0.9, 0.075, label=SUNGLASSES)
        temple = stroke(curve(points(".265,-.005 .35,0") * (sign, 1)), 0.02)
        head.fill(temple, frame, 0.9, 0.04)
    head.fill(stroke(curve(points("-.045,0 0,-.015 .045,0")), 0.02), frame, 0.9, 0.075)
