"""Drawing trims: collars, bands, buttons, pockets, belts and bows."""

from __future__ import annotations

import numpy as np

from .body import SIGNS, Chart
from .cloth import Sides, cast_shadow, lay
from .cuts import NECKLINES, PANTS, SKIRT, UPPER, WAISTBAND, WAISTS, across_leg
from .fabrics import Fabric
from .raster import Mask
from .shapes import box, closed, curve, ellipse, mirrored, points, stroke
from .worn_cut import WornCut

_GOLD = (0.88, 0.76, 0.42)
_WHITE = (0.97, 0.96, 0.93)


def trunk_trims(worn: WornCut) -> None:
    """Draw the trims on the trunk of a top, a dress or a skirt."""
    cut, chart, mask = worn.cut, worn.figure.body, worn.mask
    if not cut.hangs_from_waist:
        _neck(worn)
        if worn.sleeved:
            for sign in SIGNS:
                worn.seam(chart, cut.armhole() * (sign, 1), 0.014, 0.35, mask)
    if cut.label == SKIRT:
        waistband(worn)
    elif cut.name in WAISTS and cut.trim != "belt":
        waist = WAISTS[cut.name]
        worn.seam(chart, cut.hem_line(waist, float(cut.half_width(waist))), 0.018, 0.5, mask)
    if cut.name in ("sweater", "hoodie") and cut.trim != "hem band":
        _hem_band(worn, 0.17, worn.plain)
    if cut.name == "hoodie":
        v = min(cut.hem - 0.18, 2.15)
        pouch = points("-.3,-.55 .3,-.55 .44,-.2 .44,0 -.44,0 -.44,-.2 -.3,-.55") + (0, v)
        worn.seam(chart, pouch, 0.018, 0.5, mask)
    if cut.trim == "buttons" or cut.name in ("shirt", "jacket"):
        _buttons(worn)
    if cut.trim == "hem band":
        _hem_band(worn, 0.22 if cut.label == UPPER else 0.26, worn.trim)
    elif cut.trim == "pocket":
        _pockets(worn)
    elif cut.trim == "belt" and not cut.hangs_from_waist:
        waist = WAISTS.get(cut.name, 1.58)
        _belt(worn, waist - 0.07, waist + 0.08, worn.trim)
    elif cut.trim == "bow":
        _bow(worn)


def _strip(worn: WornCut, chart: Chart, top, bottom, fabric: Fabric, within=None) -> None:
    """Draw a strip between two lines (n, 2) in rest coordinates."""
    x = np.concatenate([top, bottom])[:, 0]
    sides = Sides.flat((x.max() - x.min()) / 2, (x.max() + x.min()) / 2)
    outline = chart.at(np.concatenate([top, bottom[::-1]]))
    worn.part(chart, outline, sides, fabric, within=within)


def _hem_band(worn: WornCut, depth: float, fabric: Fabric) -> None:
    cut = worn.cut
    start, end = (float(half) for half in cut.half_width([cut.hem - depth, cut.hem]))
    top, bottom = cut.hem_line(cut.hem - depth, start + 0.03), cut.hem_line(cut.hem, end + 0.03)
    _strip(worn, worn.figure.body, top, bottom + (0, 0.12), fabric, worn.mask)


def waistband(worn: WornCut) -> None:
    """Draw the waistband or belt of trousers and skirts, and the seams below it."""
    cut, chart, canvas = worn.cut, worn.figure.body, worn.canvas
    if cut.label == PANTS:
        worn.seam(chart, curve(points("0,1.66 .005,2.1 0,2.62")), 0.018, 0.55)
        for sign in SIGNS:
            pocket = curve(points(".3,1.68 .4,1.9 .56,2.02") * (sign, 1))
            worn.seam(chart, pocket, 0.018, 0.55, worn.mask)
    middle = _belt(worn, *WAISTBAND, worn.trim if cut.trim == "belt" else worn.plain)
    if cut.trim != "belt" and cut.label == PANTS:
        canvas.fill(canvas.mask(ellipse(chart.at([(0, middle)])[0], 0.03, 0.03)), worn.fabric.line)


def _belt(worn: WornCut, top: float, bottom: float, fabric: Fabric) -> float:
    """Draw a band round the waist, with a buckle if it is a belt; return its middle's height."""
    cut, chart, canvas = worn.cut, worn.figure.body, worn.canvas
    v = [top, bottom]
    half = np.interp(v, chart.v, chart.high) if cut.label == PANTS else cut.half_width(v)
    lines = [cut.hem_line(height, float(x) + 0.022) for height, x in zip(v, half, strict=True)]
    _strip(worn, chart, *lines, fabric)
    middle = (top + bottom) / 2 + 0.045
    if cut.trim == "belt":
        buckle = chart.at(box(-0.08, middle - 0.085, 0.08, middle + 0.085))
        canvas.fill(canvas.mask(stroke(np.concatenate([buckle, buckle[:2]]), 0.03)), _GOLD)
    return middle


def leg_trims(worn: WornCut, leg: Chart, mask: Mask, sign: int) -> None:
    """Draw the trim of one trouser leg."""
    v, outer, inner = worn.cut.leg_sides(leg)
    if worn.cut.trim == "hem band":
        row = np.searchsorted(v, worn.cut.hem - 0.24)
        top = across_leg(outer[row] + 0.02, inner[row] - 0.02, v[row])
        end = across_leg(outer[-1] + 0.02, inner[-1] - 0.02, v[-1] + 0.03)
        _strip(worn, leg, top * (sign, 1), end * (sign, 1), worn.trim, mask)
    elif worn.cut.trim == "side stripe":
        edge = np.stack([outer + 0.01, v], axis=1)
        _strip(worn, leg, edge * (sign, 1), (edge - (0.12, 0)) * (sign, 1), worn.trim, mask)


def cuff(worn: WornCut, arm: Chart, mask: Mask) -> None:
    """Draw the end of a sleeve, if it has a band of its own."""
    cut = worn.cut
    v, half = cut.sleeve_sides(arm)
    ribbed, contrast = cut.name in ("sweater", "hoodie"), cut.trim == "contrast trim"
    long = v[-1] > 2
    if not (ribbed or contrast or (long and cut.name in ("shirt", "blouse"))):
        return
    start = v[-1] - (0.16 if ribbed or long else 0.11)
    t = np.linspace(-1, 1, 9)
    sag = 0.045 * (1 - t**2)
    top = np.stack([(np.interp(start, v, half) + 0.02) * t, start + sag], axis=1)
    end = np.stack([(half[-1] + 0.02) * t, v[-1] + 0.01 + sag], axis=1)
    _strip(worn, arm, top, end, worn.trim if contrast else worn.plain, mask)


def _neck(worn: WornCut) -> None:
    cut, chart, mask, canvas = worn.cut, worn.figure.body, worn.mask, worn.canvas
    contrast = cut.trim == "contrast trim"
    match cut.neckline:
        case "turtleneck":
            tube = mirrored(points("0,-.275 .2,-.295 .215,-.15 .26,-.045 .14,.03 0,.05"))
            fabric = worn.trim if contrast else worn.plain
            worn.part(chart, chart.at(tube), Sides.flat(0.24), fabric)
            worn.seam(chart, curve(points("-.21,-.17 0,-.14 .21,-.17")), 0.02, 0.4)
        case "collar":
            flap = points(
                "0,.27 .09,.12 .19,-.02 .23,-.13 .29,-.06 .335,.04 .3,.16 .245,.31 .13,.24"
            )
            _flaps(worn, flap, Sides.flat(0.6), worn.trim if contrast else worn.fabric)
        case "lapels":
            flap = points(
                ".02,1.12 .12,.62 .2,.12 .24,-.1 .3,-.05 .38,.14 .46,.3 .36,.34 .42,.42 .22,.84"
            )
            _flaps(worn, flap, Sides.flat(0.7), worn.trim if contrast else worn.fabric)
        case "hood":
            roll = points("0,.3 .08,.18 .2,.03 .26,-.12 .34,-.16 .42,-.04 .38,.1 .24,.24 .1,.34")
            _flaps(worn, closed(roll, 5), Sides.flat(0.5), worn.fabric)
            for sign in SIGNS:
                cord = chart.at(curve(points(".08,.27 .1,.5 .09,.72") * (sign, 1)))
                colour = worn.trim.base if contrast else _WHITE
                canvas.fill(canvas.mask(stroke(cord, 0.03)), colour)
        case _:
            half = cut.neck()
            line = chart.at(np.concatenate([half[::-1] * (-1, 1), half[1:]]))
            wide = contrast or cut.name in ("sweater", "t-shirt")
            band = canvas.mask(stroke(line, 0.18 if wide else 0.08)).inside(mask)
            fabric = worn.trim if contrast else worn.plain
            lay(canvas, chart, band, Sides.flat(0.8), fabric)
            canvas.fill(canvas.mask(stroke(line, 0.02)).inside(mask), worn.fabric.line, 0.35)


def _flaps(worn: WornCut, shape: np.ndarray, sides: Sides, fabric: Fabric) -> None:
    """Draw a pair of collar points, lapels or rolls of a hood."""
    for sign in SIGNS:
        outline = worn.figure.body.at(shape * (sign, 1))
        cast_shadow(worn.canvas, outline, worn.mask)
        worn.part(worn.figure.body, outline, sides, fabric)


def _buttons(worn: WornCut) -> None:
    cut, canvas, chart = worn.cut, worn.canvas, worn.figure.body
    top = NECKLINES[cut.neckline][1] + 0.08
    seam = curve([(0, top - 0.08), (0, (top + cut.hem) / 2), (0, cut.hem + 0.06)])
    worn.seam(chart, seam, 0.016, 0.5, worn.mask)
    large = cut.trim == "buttons" or cut.name == "jacket"
    size = 0.055 if large else 0.028
    if cut.trim == "buttons":
        colour = worn.trim.base
    else:
        colour = _WHITE if np.mean(worn.fabric.base) < 0.7 else (0.45, 0.4, 0.4)
    heights = np.arange(top + 0.06, min(cut.hem - 0.1, 3.2), 0.33)
    for spot in chart.at(np.stack([0 * heights, heights], axis=1)):
        shadow = canvas.mask(ellipse(spot + (0.008, 0.014), size, size), blur=0.01)
        canvas.fill(shadow, worn.fabric.line, 0.5)
        canvas.fill(canvas.mask(ellipse(spot, size, size, n=20)), colour)
        glint = canvas.mask(ellipse(spot - size * 0.3, size * 0.3, size * 0.3, n=12))
        canvas.fill(glint, (1, 1, 1), 0.35)


def _pockets(worn: WornCut) -> None:
    chart = worn.figure.body
    spots = [(0.3, 0.78)] if worn.cut.label == UPPER else [(-0.34, 2.2), (0.34, 2.2)]
    shape = points("-.17,0 .17,0 .17,.27 0,.36 -.17,.27")
    for spot in spots:
        worn.part(chart, chart.at(shape + spot), Sides.flat(0.7), worn.trim, within=worn.mask)


def _bow(worn: WornCut) -> None:
    chart, canvas = worn.figure.body, worn.canvas
    knot = np.array((0, NECKLINES[worn.cut.neckline][1] + 0.1))
    tail = points("0,0 .05,.02 .17,.36 .06,.4")
    loop = closed(points("0,0 .1,-.09 .24,-.12 .26,0 .22,.1 .1,.06"), 5)
    for shape in (tail, loop):
        for sign in SIGNS:
            outline = chart.at(shape * (sign, 1) + knot)
            worn.part(chart, outline, Sides.flat(0.4), worn.trim)
    centre = canvas.mask(ellipse(chart.at([knot])[0], 0.055, 0.065))
    canvas.fill(centre, tuple(0.85 * channel for channel in worn.trim.base), label=worn.cut.label)
