"""A garment on a figure, a cut in some fabric: its parts, and drawing fabric and seams on them."""

from __future__ import annotations

import numpy as np

from .body import SIGNS, Figure
from .cloth import Sides, contour, lay
from .cuts import PANTS, Cut
from .fabrics import Fabric
from .raster import Canvas, Colour, Mask
from .shapes import stroke


class WornCut:
    """A garment on a figure: a cut in some fabric.

    mask: of the trunk, once it is drawn.
    """

    def __init__(
        self, canvas: Canvas, figure: Figure, cut: Cut, fabric: Fabric, trim_colour: Colour
    ):
        self.canvas, self.figure, self.cut, self.fabric = canvas, figure, cut, fabric
        self.plain, self.trim = Fabric(fabric.base), Fabric(trim_colour)
        self.mask: Mask | None = None

    @property
    def sleeved(self) -> bool:
        """Whether the garment has sleeves."""
        return self.cut.sleeve != "none"

    def outlines(self) -> list[np.ndarray]:
        """Return the outlines of its parts on the figure, each (n, 2)."""
        figure, cut = self.figure, self.cut
        if cut.label == PANTS:
            return [self.leg_outline(side) for side in (0, 1)]
        parts = [figure.body.at(cut.trunk())]
        if self.sleeved:
            parts += [self.sleeve_outline(side) for side in (0, 1)]
        return parts

    def leg_outline(self, side: int) -> np.ndarray:
        """Return the outline of a trouser leg on the figure (n, 2)."""
        leg = self.figure.legs[side]
        return leg.at(self.cut.leg_outline(leg) * (SIGNS[side], 1))

    def sleeve_outline(self, side: int) -> np.ndarray:
        """Return the outline of a sleeve on the figure (n, 2)."""
        arm = self.figure.arms[side]
        return arm.at(self.cut.sleeve_outline(arm) * (SIGNS[side], 1))

    def part(self, chart, outline, sides: Sides, fabric: Fabric, folds=(), within=None, **how):
        """Draw a fabric with an edge within an outline (n, 2) on the figure; return its mask."""
        mask = self.canvas.mask(outline)
        if within is not None:
            mask = mask.inside(within)
        lay(self.canvas, chart, mask, sides, fabric, folds, label=self.cut.label, **how)
        contour(self.canvas, mask, outline, fabric.line)
        return mask

    def seam(self, chart, line: np.ndarray, width: float, opacity: float, within=None) -> None:
        """Draw a line (n, 2) in rest coordinates, in the colour of the fabric's seams."""
        mask = self.canvas.mask(stroke(chart.at(line), width))
        if within is not None:
            mask = mask.inside(within)
        self.canvas.fill(mask, self.fabric.line, opacity)
