"""Drawing garments on a figure's charts.

The in-shop photo and the model photo come from the same functions: only the figure differs.
"""

from __future__ import annotations

import numpy as np

from .body import ELBOW, SIGNS
from .cloth import Sides, cast_shadow
from .cuts import NECKLINES, PANTS, SLEEVE_TOP, shoulder
from .shapes import box, curve, points, stroke
from .trims import cuff, leg_trims, trunk_trims, waistband
from .worn_cut import WornCut


class Wearing(WornCut):
    """A worn cut that is drawn in layers: `inside`, `trunk`, then each `sleeve`."""

    def inside(self) -> None:
        """Draw what an empty top or dress shows of its back: the inside below the neck."""
        cut, canvas, chart = self.cut, self.canvas, self.figure.body
        if cut.hangs_from_waist or cut.neckline == "turtleneck":
            return
        wide, deep = NECKLINES[cut.neckline]
        top = shoulder(wide)
        x = np.array([-wide, -wide / 2, 0, wide / 2, wide])
        back = curve(np.stack([x, top + np.array((0, 0.05, 0.065, 0.05, 0))], axis=1), 4)
        front = cut.neck()
        mask = canvas.mask(chart.at(np.concatenate([back, front[::-1], front[1:] * (-1, 1)])))
        canvas.fill(mask, tuple(0.55 * channel for channel in self.fabric.base), label=cut.label)
        self.seam(chart, back + (0, 0.025), 0.05, 0.5)
        if deep > 0.15:
            tag = canvas.mask(chart.at(box(-0.05, top + 0.07, 0.05, top + 0.14)))
            canvas.fill(tag.inside(mask), (0.96, 0.95, 0.92))

    def trunk(self) -> None:
        """Draw the garment without its sleeves."""
        cut, chart = self.cut, self.figure.body
        if cut.label == PANTS:
            self._trousers()
            return
        v = np.concatenate([[-0.4, cut.top - 0.02], np.linspace(0.66, 6, 50)])
        half = cut.half_width(v)
        if not cut.hangs_from_waist:
            half[:2] = 0.76
        sides = Sides(v, -half, half)
        self.mask = self.part(chart, chart.at(cut.trunk()), sides, self.fabric, cut.folds())
        trunk_trims(self)

    def _trousers(self) -> None:
        cut, body = self.cut, self.figure.body
        for side in np.argsort([ankle[1] for ankle, _ in self.figure.ankles]):
            sign, leg = SIGNS[side], self.figure.legs[side]
            v, outer, inner = cut.leg_sides(leg)
            edges = (inner, outer) if sign > 0 else (-outer, -inner)
            folds = [fold.mirrored(sign) for fold in cut.leg_folds()]
            outline = self.leg_outline(side)
            mask = self.part(leg, outline, Sides(v, *edges), self.fabric, folds, wrap=(2.5, 3.2))
            leg_trims(self, leg, mask, sign)
        v = np.linspace(1.5, 2.3, 12)
        half = np.interp(v, body.v, body.high) + 0.02
        hips = [np.stack([x, v], axis=1) for x in (half, -half)]
        self.mask = self.canvas.mask(body.at(np.concatenate([hips[0], hips[1][::-1]])))
        waistband(self)

    def sleeve(self, side: int) -> None:
        """Draw one sleeve, over the trunk."""
        if not self.sleeved:
            return
        cut, arm, sign = self.cut, self.figure.arms[side], SIGNS[side]
        v, half = cut.sleeve_sides(arm)
        edges = [np.stack([x, v], axis=1) for x in (half, -half)]
        if self.mask is not None:
            free = arm.at(np.concatenate([edges[0], edges[1][::-1]]))
            cast_shadow(self.canvas, free, self.mask, (0.03, 0.05), 0.05)
        low, high = np.concatenate([[-0.2, -0.2], -half]), np.concatenate([[0.235, 0.24], half])
        v = np.concatenate([[-0.4, SLEEVE_TOP / 2], v])
        sides = Sides(v, low, high) if sign > 0 else Sides(v, -high, -low)
        posed = self.figure.pose.arms[side]
        bend = abs(posed.fore - posed.upper)
        folds = [fold.mirrored(sign) for fold in cut.sleeve_folds(bend)]
        mask = self.part(arm, self.sleeve_outline(side), sides, self.fabric, folds)
        if bend > 50 and v[-1] > ELBOW:
            crease = arm.at(curve(points("-.2,1.26 -.08,1.25 .06,1.22") * (sign, 1)))
            dark = self.canvas.mask(stroke(crease, 0.07, 1, 0), blur=0.015)
            self.canvas.fill(dark.inside(mask), self.fabric.line, 0.5)
        cuff(self, arm, mask)
