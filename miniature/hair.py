"""Drawing hair in two layers: behind the shoulders, and around the face."""

from __future__ import annotations

import numpy as np

from .body import SIGNS
from .cloth import SKIN_SHADE, cast_shadow, contour
from .faces import Head
from .people import HAIR, mixed, round_fill
from .raster import Mask
from .shapes import closed, curve, ellipse, mirrored, points, stroke

_SHADE = (0.45, 0.36, 0.42)
#: The right half of what falls behind the shoulders.
_BACKS = {
    "bob": "0,-.57 .3,-.5 .45,-.22 .49,.12 .5,.36 .4,.52 .2,.5",
    "long": "0,-.57 .3,-.5 .45,-.22 .49,.15 .53,.55 .6,.95 .55,1.35 .35,1.5 .1,1.45",
    "wavy": "0,-.58 .32,-.5 .49,-.2 .5,.05 .6,.25 .56,.5 .7,.72 .62,.95 .66,1.2 .45,1.38 .2,1.32",
}
_BACKS["fringe"] = _BACKS["long"]
_TAIL = points(".1,-.5 .36,-.52 .5,-.3 .58,0 .6,.4 .52,.75 .44,.9 .42,.6 .4,.3 .34,0 .2,-.3")
#: The locks beside the face, on the right, by how far down they hang.
_LOCK = ".26,-.34 .37,-.12 .365,.12 .36,.3 .39,{0} .47,{1} .485,.25 .46,-.08 .36,-.36"
_LOCK_ENDS = {
    "bob": (0.46, 0.42),
    "long": (0.62, 0.58),
    "wavy": (0.6, 0.56),
    "fringe": (0.62, 0.58),
}
#: Hairlines from the right temple to the left one; those with a parting have it on the right.
_HAIRLINES = {
    "bob": ".35,.06 .325,-.1 .24,-.24 .14,-.36 -.24,-.25 -.325,-.1 -.35,.06",
    "fringe": ".36,.1 .33,-.08 .2,-.115 0,-.13 -.2,-.115 -.33,-.08 -.36,.1",
    "bun": ".37,.02 .34,-.12 .26,-.27 0,-.35 -.26,-.27 -.34,-.12 -.37,.02",
    "pixie": ".35,.12 .33,-.06 .27,-.2 -.05,-.19 -.27,-.16 -.33,-.06 -.35,.12",
    "short": ".355,.02 .34,-.14 .29,-.26 .1,-.31 -.29,-.26 -.34,-.14 -.355,.02",
}
for _name, _like in {"long": "bob", "wavy": "bob", "ponytail": "bun", "crop": "short"}.items():
    _HAIRLINES[_name] = _HAIRLINES[_like]
#: Top of the head, half width and lower end of the hair over the skull, where not the usual.
_CAPS = {
    "bun": (-0.56, 0.395, 0.06),
    "ponytail": (-0.56, 0.395, 0.06),
    "pixie": (-0.58, 0.42, 0.12),
    "short": (-0.6, 0.385, 0.02),
    "crop": (-0.53, 0.385, 0.02),
}


def draw_back_hair(head: Head) -> None:
    """Draw the hair that falls behind the shoulders, or stands out around the head."""
    style = head.person.style
    if style in _BACKS:
        shape = closed(mirrored(points(_BACKS[style])), 6)
        mask = _tress(head, shape, radius=(0.6, 0.7 if style == "bob" else 1.4))
        for x in (-0.5, -0.42, 0.42, 0.5):
            _strands(
                head, mask, [(x * 0.7, -0.3), (x * 1.05, 0.3), (x * 1.1, 0.8), (x, 1.3)], x > 0
            )
    elif style == "ponytail":
        _tress(head, closed(_TAIL * (head.person.parting, 1), 6), radius=(0.7, 1.0))
    elif style == "bun":
        mask = _tress(head, ellipse((0, -0.62), 0.23, 0.2), (0.26, 0.24), (0, -0.6))
        _strands(head, mask, points("-.2,-.62 0,-.7 .2,-.6"), False)
        _strands(head, mask, points("-.16,-.52 .02,-.6 .18,-.5"), True)
    elif style == "curls":
        angles = np.linspace(-0.2 * np.pi, 1.2 * np.pi, 13)
        _puffs(head, [(0.44 * np.cos(a), -0.1 - 0.42 * np.sin(a)) for a in angles], 0.185)


def draw_front_hair(head: Head) -> None:
    """Draw the hair around the face, and its shadow on the forehead."""
    style, side = head.person.style, head.person.parting
    brow = curve(points("-.33,-.1 -.22,-.27 0,-.34 .22,-.27 .33,-.1"))
    face = head.canvas.mask(head.place(ellipse((0, 0), 0.34, 0.45)))
    shadow = head.place(stroke(brow, 0.1, 0.6, 0.6))
    cast_shadow(head.canvas, shadow, face, (0.02, 0.03), 0.04, 0.4, SKIN_SHADE)
    if style == "curls":
        _puffs(head, [(0.36 * x, -0.38 + 0.17 * x * x) for x in np.linspace(-1, 1, 9)], 0.115)
        _curls(head)
        return
    line = points(_HAIRLINES[style])
    if side < 0:
        line = line[::-1] * (-1, 1)
    top, half, low = _CAPS.get(style, (-0.56, 0.42, 0.06))
    skull = [(-half + 0.015, low), (-half, -0.15), (-0.33, -0.41), (-0.17, top + 0.04), (0.02, top)]
    skull += [(0.2, top + 0.04), (0.34, -0.4), (half, -0.15), (half - 0.015, low)]
    mask = _tress(head, np.concatenate([curve(skull), curve(line)]))
    if style in _LOCK_ENDS:
        lock = closed(points(_LOCK.format(*_LOCK_ENDS[style])), 6)
        for sign in SIGNS:
            strand = points(".38,-.2 .43,.1 .42,.4") * (sign, 1)
            _strands(head, _tress(head, lock * (sign, 1)), strand, False)
    for i, strand in enumerate(_flow(style, side)):
        _strands(head, mask, strand, i % 2 > 0)


def _flow(style: str, side: int) -> list[list[tuple[float, float]]]:
    """Return the lines along which the hair over the skull runs."""
    if style in ("bob", "long", "wavy"):
        root = (0.14 * side, -0.5)
        flow = [[root, (s * 0.24, -0.38), (s * 0.38, -0.15)] for s in SIGNS]
        return flow + [[root, (s * 0.2, -0.47), (s * 0.36, -0.3)] for s in SIGNS]
    if style == "fringe":
        ends = (-0.28, -0.17, -0.06, 0.06, 0.17, 0.28)
        return [[(x * 0.4, -0.52), (x * 0.85, -0.35), (x, -0.12)] for x in ends]
    if style in ("bun", "ponytail"):
        ends = (-0.3, -0.18, -0.06, 0.06, 0.18, 0.3)
        return [[(x, -0.29 + abs(x) * 0.3), (x * 0.75, -0.4), (x * 0.4, -0.53)] for x in ends]
    if style == "pixie":
        ends = (-0.3, -0.15, 0.0, 0.15, 0.3)
        return [[(0.15 * side, -0.54), (x * 0.8, -0.4), (x, -0.18)] for x in ends]
    ends = (-0.24, -0.12, 0.0, 0.12, 0.24)
    return [
        [(x, -0.28), (x * 0.9 + 0.06 * side, -0.42), (x * 0.8 + 0.14 * side, -0.55)] for x in ends
    ]


def _tress(head: Head, shape: np.ndarray, radius=(0.5, 0.6), centre=(0.0, -0.1)) -> Mask:
    """Draw a mass of hair, shaded and edged."""
    outline, hair = head.place(shape), head.person.hair
    mask = head.canvas.mask(outline)
    middle = head.place(np.array([centre]))[0]
    round_fill(head.canvas, mask, middle, radius, hair, _SHADE, HAIR)
    contour(head.canvas, mask, outline, mixed(hair, (0.05, 0.03, 0.05), 0.5), 0.018)
    return mask


def _strands(head: Head, mask: Mask, line, dark: bool) -> None:
    """Draw a light or a dark streak along a line."""
    tint = ((1, 0.93, 0.8), 0.3) if not dark else ((0.05, 0.02, 0.03), 0.35)
    streak = stroke(curve(line), 0.05 if dark else 0.024, 0, 0)
    head.fill(streak, mixed(head.person.hair, *tint), 0.6, blur=0.006, inside=(mask,))


def _puffs(head: Head, spots: list[tuple[float, float]], radius: float) -> None:
    mask = head.canvas.mask(*(head.place(ellipse(spot, radius, radius)) for spot in spots))
    middle = head.place(np.array([(0, -0.1)]))[0]
    round_fill(head.canvas, mask, middle, (0.65, 0.65), head.person.hair, _SHADE, HAIR)


def _curls(head: Head) -> None:
    tone = mixed(head.person.hair, (1, 0.9, 0.8), 0.25)
    for i, angle in enumerate(np.linspace(0.05 * np.pi, 0.95 * np.pi, 22)):
        radius = (0.4, 0.5, 0.56)[i % 3]
        spot = (radius * np.cos(angle), -0.1 - radius * np.sin(angle) * 0.92)
        ring = curve(points("-.05,0 0,-.045 .05,0") + spot)
        head.fill(stroke(ring, 0.022, 0, 0), tone, 0.4)
