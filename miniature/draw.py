"""Drawing a garment alone and on a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from .backdrops import draw_backdrop, ground_shadow, wall_shadow
from .body import IN_SHOP, Figure
from .cloth import cast_shadow
from .cuts import SLEEVE_ENDS, Cut
from .fabrics import Fabric
from .faces import Head, draw_face
from .garments import Wearing
from .hair import draw_back_hair, draw_front_hair
from .people import Person, draw_arm, draw_legs, draw_torso
from .raster import Canvas
from .shapes import ellipse
from .world import Garment, Scene

#: Width and height that the views are laid out in: the frame of Dress Code's keypoints.
FRAME = (384, 512)
#: A bare shoulder lies under the edge of the garment; from here on the arm lies over it.
_BARE_ARM_IN_FRONT = 0.7


@dataclass(frozen=True)
class ModelPhoto:
    """A drawn model photo with its truth.

    labels: (H, W) uint8 with ATR ids. keypoints: (18, 3): x, y in FRAME; 1, or 0 if unseen.
    """

    picture: Image.Image
    labels: np.ndarray
    keypoints: np.ndarray


def draw_garment(garment: Garment, size: tuple[int, int] = FRAME) -> Image.Image:
    """Draw the in-shop photo: the empty garment on white, width x height pixels."""
    figure = Figure(IN_SHOP)
    shape = (figure, garment.shape, garment.fabric, garment.trim_colour)
    outlines = Wearing(_canvas(size, 1, 0, 0), *shape).outlines()
    corners = np.concatenate(outlines)
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = min(0.86 * FRAME[0] / (high - low)[0], 0.8 * FRAME[1] / (high - low)[1], 150.0)
    corner = np.array(FRAME) / 2 - (low + high) / 2 * scale
    canvas = _canvas(size, scale, *corner)
    canvas.rgb[:] = 0.985
    wall_shadow(canvas, outlines, np.array((4, 6)) / scale, 7 / scale)
    wearing = Wearing(canvas, *shape)
    wearing.inside()
    wearing.trunk()
    for side in (0, 1):
        wearing.sleeve(side)
    return _sized(canvas, size)


def draw_model(garment: Garment, scene: Scene, size: tuple[int, int] = FRAME) -> ModelPhoto:
    """Draw the model photo, width x height pixels: a person wearing the garment."""
    person, figure = scene.person, Figure(scene.pose, scene.person.build)
    scale = FRAME[1] / scene.span
    middle = (figure.joints[1, 0] + figure.joints[[8, 11], 0].mean()) / 2
    corner = np.array((FRAME[0] / 2 + (scene.across - middle) * scale, -scene.top * scale))
    canvas = _canvas(size, scale, *corner)
    layers = [_wear(canvas, figure, garment)]
    if scene.other is not None:
        layers.append(_wear(canvas, figure, scene.other, scene.tucked))
    # From the skin outward: a top hangs over what it is not tucked into.
    layers.sort(key=lambda piece: piece.cut.hangs_from_waist == scene.tucked)
    upper = next(piece for piece in layers if not piece.cut.hangs_from_waist)

    feet = [ankle + (0, 0.4) for ankle, _ in figure.ankles]
    ground = max(foot[1] for foot in feet)
    draw_backdrop(canvas, scene.backdrop, (ground - 0.45 - scene.top) / scene.span)
    ground_shadow(canvas, [np.array((foot[0], ground - 0.02)) for foot in feet])
    outlines = [outline for piece in layers for outline in piece.outlines()]
    limbs = figure.legs + figure.arms
    outlines += [np.concatenate([limb.left, limb.right[::-1]]) for limb in limbs]
    outlines.append(ellipse(figure.head, 0.42, 0.5))
    wall_shadow(canvas, outlines, (0.22, 0.14), 0.14)

    head = Head(canvas, figure, person)
    front = [side for side in (0, 1) if not figure.pose.arms[side].behind]
    draw_back_hair(head)
    draw_legs(canvas, figure, person)
    draw_torso(canvas, figure, person)
    for side in {0, 1}.difference(front):
        _draw_arm(canvas, figure, person, upper, side)
    if not upper.sleeved:
        for side in front:
            draw_arm(canvas, figure, person, side)
    for piece in layers:
        if piece.cut.neckline == "lapels":
            undershirt = Cut("tank top", piece.cut.hem, neckline="round")
            Wearing(canvas, figure, undershirt, Fabric((0.95, 0.94, 0.92)), (1, 1, 1)).trunk()
        piece.trunk()
    for side in front:
        _draw_arm(canvas, figure, person, upper, side)
    draw_face(head)
    draw_front_hair(head)

    labels = Image.fromarray(canvas.labels).resize(size, Image.Resampling.NEAREST)
    places = figure.joints * scale + corner
    seen = ((places >= 0) & (places < FRAME)).all(axis=1)[:, None]
    keypoints = np.concatenate([places, seen], axis=1) * seen
    return ModelPhoto(_sized(canvas, size), np.asarray(labels), keypoints)


def _canvas(size: tuple[int, int], scale: float, x: float, y: float) -> Canvas:
    """Make a canvas for a picture of `size`; one smaller than FRAME is drawn twice as large."""
    grow = max(size[0] / FRAME[0], size[1] / FRAME[1])
    grow = grow if grow >= 1 else min(2 * grow, 1.0)
    width, height = round(FRAME[0] * grow), round(FRAME[1] * grow)
    return Canvas(width, height, (float(scale * grow), float(x * grow), float(y * grow)))


def _sized(canvas: Canvas, size: tuple[int, int]) -> Image.Image:
    picture = canvas.picture()
    return picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)


def _wear(canvas: Canvas, figure: Figure, piece: Garment, tucked: bool = False) -> Wearing:
    cut = piece.shape
    if tucked and not cut.hangs_from_waist:
        cut = cut.tucked_in
    return Wearing(canvas, figure, cut, piece.fabric, piece.trim_colour)


def _draw_arm(canvas: Canvas, figure: Figure, person: Person, upper: Wearing, side: int) -> None:
    """Draw an arm and its sleeve; of a bare arm in front of the trunk only the lower part."""
    arm = figure.arms[side]
    if upper.sleeved:
        start = SLEEVE_ENDS[upper.cut.sleeve] - 0.2
    else:
        start = -0.2 if figure.pose.arms[side].behind else _BARE_ARM_IN_FRONT
    if upper.mask is not None and not upper.sleeved:
        rows = arm.v > start
        outline = np.concatenate([arm.left[rows], arm.right[rows][::-1]])
        cast_shadow(canvas, outline, upper.mask, (0.04, 0.05), 0.05)
    draw_arm(canvas, figure, person, side, start)
    upper.sleeve(side)
