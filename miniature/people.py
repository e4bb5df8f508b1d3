"""Drawing people: skin, hands and shoes on a posed figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import SIGNS, WRIST, Build, Chart, Figure
from .cloth import LIGHT, SKIN_SHADE, Sides, contour, lay
from .fabrics import Fabric
from .raster import Canvas, Colour, Mask
from .shapes import closed, curve, ellipse, mirrored, points, stroke, turned

#: ATR labels; of pairs the person's right side comes first. Neck and chest count as face.
HAIR, SUNGLASSES, SHOES, FACE, LEGS, ARMS = 2, 3, (10, 9), 11, (13, 12), (15, 14)

SKINS: tuple[Colour, ...] = (
    (0.99, 0.87, 0.79),
    (0.96, 0.81, 0.70),
    (0.92, 0.74, 0.60),
    (0.84, 0.64, 0.48),
    (0.74, 0.53, 0.39),
    (0.62, 0.43, 0.31),
    (0.50, 0.34, 0.25),
    (0.40, 0.27, 0.21),
)
HAIRS: tuple[Colour, ...] = (
    (0.13, 0.11, 0.12),
    (0.22, 0.15, 0.12),
    (0.35, 0.22, 0.15),
    (0.50, 0.33, 0.20),
    (0.66, 0.46, 0.27),
    (0.85, 0.68, 0.42),
    (0.62, 0.28, 0.15),
    (0.72, 0.70, 0.70),
)
STYLES = ("bob", "long", "wavy", "bun", "ponytail", "fringe", "curls", "pixie", "short", "crop")
SHOE_KINDS = ("flats", "sneakers", "boots")

_HAND = closed(
    points(
        "-.07,-.05 .07,-.05 .1,.1 .115,.24 .1,.38 .06,.5 0,.545 -.045,.5 -.06,.38 -.085,.22 "
        "-.08,.08"
    )
)
_THUMB = closed(points("-.05,.04 -.1,.12 -.135,.24 -.12,.31 -.085,.3 -.07,.22 -.02,.16"))
_FOOT = closed(
    points("-.1,-.02 .1,-.02 .125,.16 .16,.32 .13,.42 .02,.45 -.1,.42 -.125,.3 -.11,.14")
)
_UPPERS = {
    "flats": "-.13,.2 -.07,.27 .03,.29 .11,.26 .145,.2 .165,.33 .12,.44 0,.47 -.11,.43 -.14,.32",
    "sneakers": "-.12,-.02 -.05,.03 .05,.03 .12,-.03 .135,.16 .175,.32 .14,.44 .02,.46 -.11,.44 "
    "-.14,.3 -.125,.14",
    "boots": "-.11,-.1 .11,-.1 .13,.15 .17,.33 .13,.45 .02,.47 -.1,.45 -.13,.32 -.12,.14",
}
_SOLE = points("-.145,.33 -.1,.4 .02,.425 .13,.4 .18,.33 .175,.42 .13,.48 .02,.5 -.11,.48 -.15,.41")
_NECK_AND_TRUNK = points(
    ".19,-.6 .185,-.3 .2,-.14 .3,-.03 .5,.04 .66,.08 .74,.16 .74,.4 .64,.66 .6,.9 .5,1.25 "
    ".455,1.55 .54,1.85 .65,2.25 .66,2.6"
)


@dataclass(frozen=True)
class Person:
    """Who wears the garment; `style` is one of STYLES, `shoes` of SHOE_KINDS."""

    build: Build
    skin: Colour
    hair: Colour
    style: str
    shoes: str
    shoe_colour: Colour
    eyes: Colour = (0.3, 0.2, 0.15)
    parting: int = 1
    beard: bool = False
    glasses: bool = False
    earrings: bool = False

    @property
    def skin_edge(self) -> Colour:
        """The colour of the thin line along the edges of the skin."""
        return mixed(self.skin, (0.35, 0.12, 0.1), 0.55)


def mixed(a: Colour, b: Colour, t: float) -> Colour:
    """Return the colour that lies the share `t` of the way from `a` to `b`."""
    return tuple((1 - t) * x + t * y for x, y in zip(a, b, strict=True))


def round_fill(
    canvas: Canvas, mask: Mask, centre, radius, colour, shade: Colour, label=None, depth=0.55
) -> None:
    """Fill a mask as if it were a ball: light from the upper left, shade at the lower right."""
    if mask.alpha.size == 0:
        return
    height, width = mask.alpha.shape
    xs = (np.arange(width, dtype=np.float32) + mask.x + 0.5 - canvas.x) / canvas.scale
    ys = (np.arange(height, dtype=np.float32)[:, None] + mask.y + 0.5 - canvas.y) / canvas.scale
    nx, ny = (xs - centre[0]) / radius[0] * 0.85, (ys - centre[1]) / radius[1] * 0.85
    nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0.02, 1))
    tone = (nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2])[..., None].astype(np.float32)
    dark = np.clip((0.78 - tone) * depth, 0, 0.75)
    rgb = np.asarray(colour, np.float32) * (1 - (1 - np.asarray(shade, np.float32)) * dark)
    rgb += (1 - rgb) * np.clip((tone - 0.84) * 0.55, 0, 0.3)
    canvas.fill(mask, rgb, label=label)


def _edges(chart: Chart, start: float, end: float) -> list[np.ndarray]:
    """Return both edges of a limb on the figure between two rest heights, low x first."""
    v = np.linspace(start, end, 40)
    lines = (np.interp(v, chart.v, side) for side in (chart.low, chart.high))
    return [chart.at(np.stack([x, v], axis=1)) for x in lines]


def _skin(canvas: Canvas, chart: Chart, outline, edges, person: Person, label: int, wrap=None):
    """Lay skin within an outline and draw a thin line along its edges; returns the mask."""
    mask = canvas.mask(outline)
    sides = Sides(chart.v, chart.low, chart.high)
    fabric = Fabric(person.skin)
    lay(canvas, chart, mask, sides, fabric, label=label, shade=SKIN_SHADE, gloss=0.4, wrap=wrap)
    for edge in edges:
        contour(canvas, mask, edge, person.skin_edge, 0.016, whole=False)
    return mask


def draw_legs(canvas: Canvas, figure: Figure, person: Person) -> None:
    """Draw bare legs and shoes, the nearer leg last."""
    for side in np.argsort([ankle[1] for ankle, _ in figure.ankles]):
        chart = figure.legs[side]
        edges = _edges(chart, 2.2, 5.85)
        outline = np.concatenate([edges[0], edges[1][::-1]])
        _skin(canvas, chart, outline, edges, person, LEGS[side], wrap=(2.5, 3.1))
        _draw_shoe(canvas, figure, person, side)


def _draw_shoe(canvas: Canvas, figure: Figure, person: Person, side: int) -> None:
    (ankle, angle), sign, chart = figure.ankles[side], SIGNS[side], figure.legs[side]
    colour, label = person.shoe_colour, SHOES[side]

    def place(shape: np.ndarray) -> np.ndarray:
        return ankle + turned(shape * (sign, 1), -angle * 0.5 - sign * 7)

    middle = place(np.array([(0, 0.2)]))[0]
    if person.shoes == "flats":
        foot = canvas.mask(place(_FOOT))
        round_fill(canvas, foot, middle, (0.2, 0.4), person.skin, SKIN_SHADE, LEGS[side])
    if person.shoes == "boots":
        edges = _edges(chart, 4.9, 5.85)
        shaft = np.concatenate([edges[0], edges[1][::-1]])
        shaft = (shaft - shaft.mean(axis=0)) * (1.16, 1) + shaft.mean(axis=0)
        sides = Sides(chart.v, chart.low * 1.1, chart.high * 1.1)
        lay(canvas, chart, canvas.mask(shaft), sides, Fabric(colour), label=label)
    upper = place(closed(points(_UPPERS[person.shoes])))
    mask = canvas.mask(upper)
    round_fill(canvas, mask, middle, (0.22, 0.4), colour, (0.4, 0.36, 0.45), label)
    contour(canvas, mask, upper, mixed(colour, (0.1, 0.08, 0.12), 0.6), 0.016)
    if person.shoes == "sneakers":
        sole = canvas.mask(place(closed(_SOLE)))
        white = (0.97, 0.96, 0.94)
        round_fill(canvas, sole, middle, (0.3, 0.5), white, (0.6, 0.6, 0.65), label)
        for y in (0.1, 0.16, 0.22):
            lace = curve(points("-.06,0 .01,.025 .08,0") + (0, y))
            canvas.fill(canvas.mask(place(stroke(lace, 0.022))).inside(mask), white)


def draw_torso(canvas: Canvas, figure: Figure, person: Person) -> None:
    """Draw neck, shoulders and trunk, and the shadow of the chin on them."""
    chart = figure.body
    outline = chart.at(mirrored(curve(_NECK_AND_TRUNK, 4)))
    # The rows end below the chin: from there on the neck follows the head.
    outline[outline[:, 1] < -0.3] += turned(points("0,-.4"), figure.pose.head / 2)[0] + (0, 0.4)
    chin = figure.head + (0, 0.3)
    whole = np.concatenate([outline, [chin - (0.19, 0), chin + (0.19, 0)]])
    skin = _skin(canvas, chart, whole, [outline], person, FACE)
    line = mixed(person.skin, (0.45, 0.18, 0.12), 0.5)
    for sign in SIGNS:
        bone = chart.at(curve(points(".1,.12 .3,.075 .5,.09") * (sign, 1)))
        canvas.fill(canvas.mask(stroke(bone, 0.03, 0, 0), blur=0.008), line, 0.4)
    shadow = canvas.mask(ellipse(figure.head + (0.03, 0.42), 0.25, 0.26), blur=0.05)
    canvas.multiply(shadow.inside(skin), SKIN_SHADE, 0.75)


def draw_arm(canvas: Canvas, figure: Figure, person: Person, side: int, start=-0.2) -> None:
    """Draw a bare arm from `start` (rest height on the arm) to the wrist, and the hand."""
    chart, sign = figure.arms[side], SIGNS[side]
    inner, outer = _edges(chart, max(start, 0.3), WRIST + 0.05)[::sign]
    outline, edges = np.concatenate([outer, inner[::-1]]), [inner, outer]
    if start < 0:
        half = np.interp([0.3, 0.15], chart.v, chart.high)
        cap = [(-half[0], 0.3), *points("-.13,.08 -.05,-.02 .05,-.03 .13,.03"), (half[1], 0.15)]
        shoulder = chart.at(curve(np.array(cap) * (sign, 1), 4))
        outline = np.concatenate([shoulder, outline])
        edges[1] = np.concatenate([shoulder[len(shoulder) * 3 // 4 :], outer])
    _skin(canvas, chart, outline, edges, person, ARMS[side])
    _draw_hand(canvas, figure, person, side)


def _draw_hand(canvas: Canvas, figure: Figure, person: Person, side: int) -> None:
    """Draw a relaxed hand, fingers together, thumb towards the body."""
    (wrist, angle), sign = figure.wrists[side], SIGNS[side]

    def place(shape: np.ndarray) -> np.ndarray:
        return wrist + turned(shape * (0.95 * sign, 0.95), -angle * 0.9)

    middle = place(np.array([(0, 0.2)]))[0]
    root = canvas.mask(place(ellipse((0, -0.03), 0.1, 0.075)))
    for shape in (_HAND, _THUMB):
        outline = place(shape)
        mask = canvas.mask(outline)
        skin, label = person.skin, ARMS[side]
        round_fill(canvas, mask, middle, (0.2, 3.0), skin, SKIN_SHADE, label, depth=0.45)
        contour(canvas, mask.outside(root), outline, person.skin_edge, 0.014)
    for x in (-0.02, 0.03, 0.07):
        finger = place(curve([(x, 0.27), (x * 0.9, 0.38), (x * 0.6, 0.48)]))
        canvas.fill(canvas.mask(stroke(finger, 0.013, 0, 0)), person.skin_edge, 0.5)
