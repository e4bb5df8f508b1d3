"""Cuts of garments: their outlines and folds in the rest coordinates of body.py.

The tables hold points as text, as SVG does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .body import Chart
from .cloth import Fold, Waves
from .shapes import curve, points, through

UPPER, SKIRT, PANTS, DRESS = 4, 5, 6, 7  # ATR labels

#: Half widths from the armpit or the waist down: rest height, half width.
SIDES = {
    "t-shirt": ".66,.67 1.1,.65 1.55,.61 2.2,.72 3,.75",
    "shirt": ".68,.69 1.1,.67 1.55,.63 2.25,.75 3,.8",
    "sweater": ".72,.74 1.3,.76 1.9,.76 2.25,.71 3,.74",
    "hoodie": ".74,.77 1.4,.8 2,.81 2.3,.74 3,.76",
    "jacket": ".72,.74 1.1,.71 1.55,.66 2.3,.8 3,.86",
    "tank top": ".68,.62 1.1,.58 1.55,.53 2.2,.68 3,.72",
    "blouse": ".66,.65 1.1,.6 1.5,.55 1.75,.66 2.2,.86 3,1",
    "pencil skirt": "1.5,.47 2.2,.67 2.6,.69 3.5,.6 4.9,.5",
    "A-line skirt": "1.5,.47 2.2,.7 3,.9 3.9,1.1 5.7,1.4",
    "pleated skirt": "1.5,.48 2.2,.76 3,1 3.9,1.2 5.7,1.5",
    "sheath dress": ".66,.63 .95,.615 1.55,.49 2.25,.68 2.7,.69 3.6,.6 5.7,.52",
    "A-line dress": ".66,.63 .95,.61 1.55,.48 2.1,.72 3,.96 4.2,1.2 5.7,1.45",
    "shift dress": ".66,.66 1.1,.67 1.6,.69 2.3,.77 3.4,.84 5.7,.9",
    "empire dress": ".66,.63 .9,.61 1.15,.57 1.6,.68 2.3,.84 3.4,1.05 5.7,1.4",
}
#: Trouser legs: rest height, how far the outer and the inner edge stand off the leg.
LEGS = {
    "slim trousers": "1.5,.02,0 2.6,.03,0 4.1,.04,.03 5.8,.04,.03",
    "straight trousers": "1.5,.02,0 2.6,.05,0 4.1,.12,.06 5.8,.15,.1",
    "wide-leg trousers": "1.5,.02,0 2.6,.1,0 4.1,.26,.1 5.8,.42,.13",
    "shorts": "1.5,.02,0 2.6,.06,0 3.4,.14,.06 5.8,.2,.1",
}
#: Sleeves: half width at the top, half width of a long one at its end, how far it swells between.
SLEEVES = {
    "t-shirt": (0.245, 0.225, 0.0),
    "shirt": (0.235, 0.145, 0.03),
    "sweater": (0.26, 0.15, 0.06),
    "hoodie": (0.265, 0.17, 0.06),
    "jacket": (0.26, 0.19, 0.02),
    "blouse": (0.25, 0.15, 0.12),
    "sheath dress": (0.22, 0.15, 0.0),
    "A-line dress": (0.23, 0.19, 0.04),
    "shift dress": (0.24, 0.24, 0.0),
    "empire dress": (0.24, 0.16, 0.12),
}
SLEEVE_TOP = 0.42
SLEEVE_ENDS = {"short": 0.72, "elbow": 1.3, "long": 2.24}
#: Necklines: half width at the shoulder, depth of the front.
NECKLINES = {
    "round": (0.27, 0.17),
    "scoop": (0.36, 0.42),
    "v": (0.28, 0.66),
    "square": (0.37, 0.4),
    "boat": (0.5, 0.1),
    "straps": (0.4, 0.48),
    "collar": (0.24, 0.26),
    "turtleneck": (0.22, 0.02),
    "hood": (0.29, 0.24),
    "lapels": (0.25, 1.12),
}
#: Rest height of the seam between bodice and skirt.
WAISTS = {"sheath dress": 1.55, "A-line dress": 1.55, "empire dress": 1.12}
WAISTBAND = (1.45, 1.64)


@dataclass(frozen=True)
class Cut:
    """The shape of a garment: names from the tables above, and the rest height of its hem."""

    name: str
    hem: float
    sleeve: str = "none"
    neckline: str = "none"
    trim: str = "none"
    tucked: bool = False

    @property
    def label(self) -> int:
        """Its ATR label; a belt has the label of its garment, which it is a part of."""
        if self.name in LEGS:
            return PANTS
        if self.name.endswith("skirt"):
            return SKIRT
        return DRESS if self.name.endswith("dress") else UPPER

    @property
    def hangs_from_waist(self) -> bool:
        """Whether it hangs from the waist, as skirts and trousers do."""
        return self.label in (SKIRT, PANTS)

    @property
    def tucked_in(self) -> Cut:
        """The same top with its hem inside the waistband."""
        return Cut(self.name, 1.7, self.sleeve, self.neckline, tucked=True)

    def half_width(self, v) -> np.ndarray:
        """Return half widths of the trunk at rest heights."""
        v = np.asarray(v, float)
        half = through(points(SIDES[self.name]), v)
        if self.tucked:
            half = np.minimum(half, 0.5 + 0.5 * np.clip(1.65 - v, 0, None))
        return half

    @property
    def top(self) -> float:
        """The rest height of the armpit or the waist."""
        return float(points(SIDES[self.name])[0, 0])

    def neck(self) -> np.ndarray:
        """Return the right half of the neckline (n, 2), from its deepest point to the shoulder."""
        wide, deep = NECKLINES[self.neckline]
        top = shoulder(wide)
        if self.neckline == "turtleneck":
            return points("0,-.27 .12,-.275 .2,-.29 .21,-.15 .27,-.04")
        if self.neckline in ("v", "lapels", "collar"):
            return curve([(0, deep), (wide * 0.48, deep * 0.52 + top * 0.48), (wide, top)], 6)
        if self.neckline in ("square", "straps"):
            edge = wide - 0.03
            return np.array(
                [(0, deep), (edge - 0.02, deep - 0.01), (edge, deep - 0.03), (wide, top)]
            )
        t = np.linspace(0, np.pi / 2, 14)
        return np.stack([wide * np.sin(t), top + (deep - top) * np.cos(t) ** 0.9], axis=1)

    def armhole(self) -> np.ndarray:
        """Return the line (n, 2) from the shoulder's end round the right armhole to the armpit."""
        armpit = (float(self.half_width(0.66)), self.top - 0.02)
        if self.sleeve != "none":
            return curve([(0.64, shoulder(0.64)), (0.71, 0.16), (0.7, 0.46), armpit], 5)
        strap = 0.09 if self.neckline == "straps" else 0.2
        tip = min(max(NECKLINES[self.neckline][0] + strap, 0.5), 0.68)
        return curve([(tip, shoulder(tip) - 0.01), (tip - 0.03, 0.25), (tip, 0.48), armpit], 5)

    def hem_line(self, v: float, half: float) -> np.ndarray:
        """Return a line across the trunk from right to left (n, 2), which sags as it goes round."""
        t = np.linspace(1, -1, 41)
        sag = 0.05 + 0.05 * max(half - 0.6, 0)
        return np.stack([half * t, v + sag * (1 - t**2)], axis=1)

    def trunk(self) -> np.ndarray:
        """Return the outline without sleeves (n, 2)."""
        v = np.linspace(self.top, self.hem, 26)
        side = np.stack([self.half_width(v), v], axis=1)
        if self.hangs_from_waist:
            right = np.concatenate([[(0, self.top + 0.03)], side])
        else:
            right = np.concatenate([self.neck(), self.armhole(), side])
        hem = self.hem_line(self.hem, side[-1, 0])
        for waves in (fold for fold in self.folds() if isinstance(fold, Waves)):
            t = hem[:, 0] / side[-1, 0]
            hem[:, 1] += 0.1 * waves.depth * np.cos(waves.angle(t)) * (1 - t**4)
        return np.concatenate([right, hem[1:-1], right[::-1] * (-1, 1)])

    def sleeve_sides(self, arm: Chart) -> tuple[np.ndarray, np.ndarray]:
        """Return heights on the arm and the sleeve's half widths there, no tighter than the arm."""
        end = SLEEVE_ENDS[self.sleeve]
        top, tip, swell = SLEEVES[self.name]
        v = np.linspace(SLEEVE_TOP, end, 24)
        t = (v - SLEEVE_TOP) / (SLEEVE_ENDS["long"] - SLEEVE_TOP)
        bulge = swell * np.sin(np.pi * (v - SLEEVE_TOP) / (end - SLEEVE_TOP))
        return v, np.maximum(top + (tip - top) * t + bulge, np.interp(v, arm.v, arm.high) + 0.02)

    def sleeve_outline(self, arm: Chart) -> np.ndarray:
        """Return the outline of the left sleeve (n, 2), in the arm's rest coordinates."""
        v, half = self.sleeve_sides(arm)
        cap = np.concatenate([[(-half[0], 0.46)], points("-.21,.33 -.15,.15 -.1,0 -.03,-.06"),
                              points(".07,-.04 .165,.05 .225,.2"), [(half[0], v[0])]])  # fmt: skip
        t = np.linspace(1, -1, 9)
        hem = np.stack([half[-1] * t, v[-1] + 0.045 * (1 - t**2)], axis=1)
        inner = np.stack([-half, v], axis=1)[::-1]
        return np.concatenate([curve(cap, 5), np.stack([half, v], axis=1)[1:-1], hem, inner[1:-1]])

    def leg_sides(self, leg: Chart) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return heights, and rest x of a trouser leg's outer and inner edge, both unsigned."""
        v = np.linspace(1.5, min(self.hem, leg.v[-1]), 40)
        stand = points(LEGS[self.name]).T
        low, high = np.interp(v, leg.v, leg.low), np.interp(v, leg.v, leg.high)
        outer = np.maximum(-low, high) + np.interp(v, stand[0], stand[1])
        inner = np.minimum(np.abs(low), np.abs(high)) - np.interp(v, stand[0], stand[2])
        return v, outer, np.where(v < 2.66, -0.012, np.maximum(inner, -0.01))

    def leg_outline(self, leg: Chart) -> np.ndarray:
        """Return the outline of the left trouser leg (n, 2), in the leg's rest coordinates."""
        v, outer, inner = self.leg_sides(leg)
        hem = across_leg(outer[-1], inner[-1], v[-1])
        edges = [np.stack([edge, v], axis=1) for edge in (outer, inner)]
        return np.concatenate([edges[0][:-1], hem, edges[1][:-1][::-1]])

    def folds(self) -> list[Fold | Waves]:
        """Return the folds that the trunk always shows."""
        match self.name:
            case "pleated skirt":
                return [Waves(5.5, 0.95, 1.45, self.hem)]
            case "A-line skirt":
                return [Waves(2.2, 0.5, 1.6, self.hem + 0.3, 0.6)]
            case "A-line dress":
                return [Waves(2.2, 0.5, 1.6, self.hem + 0.3, 0.6), *_both(_BODICE)]
            case "empire dress":
                return [Waves(2.8, 0.5, 1.1, self.hem + 0.4, 0.3), *_both(_BODICE)]
            case "blouse":
                return [Waves(3.0, 0.5, 1.5, self.hem), *_both(_BODICE)]
            case "pencil skirt":
                return [_fold("-.5,2.5 .45,2.56", 0.06, 0.25), _fold("-.4,2.72 .5,2.66", 0.06, 0.2)]
        hanging = [_fold(f"{x},2.15 {x * 1.3},{self.hem}", 0.1, 0.3) for x in (-0.22, 0.25)]
        return [*_both(_DRAPE), *_CREASES, *(hanging if self.hem > 2.6 else [])]

    def sleeve_folds(self, bend: float) -> list[Fold]:
        """Return the folds of the left sleeve on an arm that is bent by so many degrees."""
        end = SLEEVE_ENDS[self.sleeve]
        folds = [_fold("-.2,.5 .12,.32", 0.06, 0.4), _fold("-.2,.68 .15,.62", 0.05, 0.3)]
        if end > 1.1:
            depth = 0.5 * min(max(bend / 60, 0.25), 1.2)
            elbow = ("-.18,1.1 .14,1.2", "-.18,1.22 .14,1.24", "-.18,1.36 .14,1.28")
            folds += [_fold(line, 0.05, depth) for line in elbow]
        if end > 2:
            folds += [_fold(line, 0.05, 0.35) for line in (".14,1.85 -.1,1.9", ".14,2 -.1,2.05")]
        return folds

    def leg_folds(self) -> list[Fold]:
        """Return the folds of the left trouser leg."""
        ankle = f".12,{self.hem - 0.25} .47,{self.hem - 0.18}"
        lines = (
            ".05,2.62 .45,2.42",
            ".08,2.75 .5,2.66",
            ".17,4 .44,4.1",
            ".47,4.25 .22,4.32",
            ankle,
        )
        folds = [_fold(line, 0.06, 0.4) for line in lines]
        if self.name.startswith("wide"):
            folds.append(_fold(f".32,2.9 .36,{self.hem}", 0.09, 0.5))
        return folds


def shoulder(x: float) -> float:
    """Return the rest height of the shoulder line at x."""
    return -0.04 + (x - 0.25) * 0.3


def across_leg(outer: float, inner: float, v: float) -> np.ndarray:
    """Return a line round a trouser leg, from its outer to its inner edge (n, 2)."""
    t = np.linspace(0, 1, 9)
    return np.stack([outer + (inner - outer) * t, v + 0.12 * t * (1 - t)], axis=1)


def _fold(line: str, width: float, depth: float) -> Fold:
    start, end = points(line).tolist()
    return Fold(tuple(start), tuple(end), width, depth)


def _both(folds: list[Fold]) -> list[Fold]:
    """Return folds on the right of the picture, and their mirror images."""
    return [fold.mirrored(sign) for fold in folds for sign in (1, -1)]


_BODICE = [_fold(".6,.74 .28,1", 0.07, 0.4), _fold(".36,1.45 .24,1", 0.06, 0.35)]
_DRAPE = [_fold(".62,.72 .25,1.15", 0.08, 0.5)]
_CREASES = [
    _fold(".58,1.5 .05,1.48", 0.07, 0.4),
    _fold("-.58,1.46 -.02,1.56", 0.07, 0.4),
    _fold(".6,1.75 .1,1.74", 0.08, 0.35),
    _fold("-.62,1.7 -.15,1.78", 0.08, 0.35),
]
