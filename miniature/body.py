"""Posed figures: charts that map flat patterns onto the body, and its 18 keypoints.

The unit is the height of the head. Every chart has rest coordinates (x, v) on an upright figure of
average build: v runs down from the base of the neck (along the limb for the arms, from the
shoulder), x across, to the right on the picture. A garment cut once in rest coordinates can so be
laid on any pose and build, and on the empty figure of the in-shop photo.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .raster import Canvas, Mask
from .shapes import across, points, step, through, turned

#: Rest heights of the joints, on the body and on the arm.
SHOULDER, HIP, KNEE, ANKLE = 0.15, 2.2, 4.1, 5.7
ELBOW, WRIST = 1.25, 2.3
#: Which way is outward, on the picture, for the person's right and left side.
SIGNS = (-1, 1)
#: Rest half widths as (v, width): the trunk, the two sides of a leg's bone, an arm.
_TRUNK = points(
    "-.35,.74 .35,.73 .62,.62 .9,.6 1.25,.5 1.55,.455 1.85,.54 2.25,.655 2.62,.67 3.2,.64"
)
_LEG_OUT = points("2.2,.33 2.7,.33 3.2,.28 4.1,.155 4.6,.175 5.3,.11 5.7,.085 6,.085")
_LEG_IN = points("2.2,.3 2.8,.28 3.3,.23 4.1,.15 4.55,.165 5.2,.11 5.7,.085 6,.085")
_LEG_BONE = points("2.2,.33 4.1,.3 5.7,.255 6,.25")
_ARM = points("-.3,.17 .15,.175 .5,.155 1,.13 1.25,.12 1.5,.125 1.9,.1 2.3,.075 2.5,.075")
_BODY_ROWS = np.concatenate([np.linspace(-0.35, HIP, 34), np.linspace(2.28, 6.0, 46)])
_ARM_ROWS = np.linspace(-0.3, 2.5, 44)


@dataclass(frozen=True)
class Build:
    """A person's build: half widths as factors of the average figure's, and the legs' length."""

    shoulders: float = 1.0
    chest: float = 1.0
    waist: float = 1.0
    hips: float = 1.0
    limbs: float = 1.0
    legs: float = 1.0

    @property
    def is_broad(self) -> bool:
        """Whether the shoulders are broad."""
        return self.shoulders > 1.08


@dataclass(frozen=True)
class Arm:
    """How an arm is posed.

    Angles are in degrees from straight down, outward positive; lengths are shortened by
    perspective.
    """

    upper: float = 10.0
    fore: float = 6.0
    upper_length: float = 1.0
    fore_length: float = 1.0
    behind: bool = False
    on_hip: bool = False  # the angles then follow from where the hip is


@dataclass(frozen=True)
class Leg:
    """How a leg is posed.

    Angles are in degrees from straight down, outward positive; lengths are shortened by
    perspective.
    """

    thigh: float = 1.0
    shin: float = 1.0
    thigh_length: float = 1.0
    shin_length: float = 1.0


@dataclass(frozen=True)
class Pose:
    """How a figure is posed: right limbs before left ones.

    lean and tilts: in degrees. turn: of the head, -1..1.
    """

    lean: float = 0.0
    shoulders: float = 0.0
    hips: float = 0.0
    head: float = 0.0
    turn: float = 0.0
    arms: tuple[Arm, Arm] = (Arm(), Arm())
    legs: tuple[Leg, Leg] = (Leg(), Leg())


@dataclass(frozen=True)
class Chart:
    """A posed part in rows: row i joins `left[i]` and `right[i]`, at rest height `v[i]`.

    `low` and `high` are the rest x of the two ends. Beyond them the cloth goes on in full width,
    for at most `reach` units.
    """

    v: np.ndarray
    left: np.ndarray
    right: np.ndarray
    low: np.ndarray
    high: np.ndarray
    reach: float = 0.5

    def at(self, points) -> np.ndarray:
        """Map rest coordinates (n, 2) to points of the posed figure (n, 2)."""
        x, v = np.asarray(points, float).T
        v = np.clip(v, self.v[0], self.v[-1])
        ends = [
            np.interp(v, self.v, side[:, i]) for side in (self.left, self.right) for i in (0, 1)
        ]
        left, right = np.stack(ends[:2], axis=1), np.stack(ends[2:], axis=1)
        low, high = np.interp(v, self.v, self.low), np.interp(v, self.v, self.high)
        aside = right - left
        unit = aside / np.maximum(np.linalg.norm(aside, axis=1, keepdims=True), 1e-6)
        inside = np.clip((x - low) / np.maximum(high - low, 1e-6), 0, 1)
        beyond = np.minimum(x - low, 0) + np.maximum(x - high, 0)
        return left + aside * inside[:, None] + unit * beyond[:, None]

    def locate(self, canvas: Canvas, mask: Mask, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Find rest x and v, and the direction across (x, y), of some of the mask's pixels.

        `pixels` (n,) are indices into the flattened mask; each answer is (n,) float32.
        """
        left, right = self.left, self.right
        aside = right - left
        span = np.linalg.norm(aside, axis=1, keepdims=True)
        aside /= np.maximum(span, 1e-6)
        band = self._bands(canvas, mask, aside).ravel()[pixels].astype(np.intp)
        rows, columns = np.divmod(pixels, mask.alpha.shape[1])
        px = ((columns + (mask.x + 0.5 - canvas.x)) / canvas.scale).astype(np.float32)
        py = ((rows + (mask.y + 0.5 - canvas.y)) / canvas.scale).astype(np.float32)

        # How far between the band's two rows: by the distances to their lines.
        ax, ay = aside.astype(np.float32).T
        offset = (left[:, 1] * ax - left[:, 0] * ay).astype(np.float32)
        above, below = (py * ax[i] - px * ay[i] - offset[i] for i in (band, band + 1))
        gap = above - below
        f = np.clip(above / np.where(np.abs(gap) < 1e-6, 1e-6, gap), -2, 3)

        def between(values: np.ndarray) -> np.ndarray:
            values = values.astype(np.float32)
            return values[band] + np.diff(values)[band] * f

        ax, ay = between(ax), between(ay)
        along = (px - between(left[:, 0])) * ax + (py - between(left[:, 1])) * ay
        span, low, high = between(span[:, 0]), between(self.low), between(self.high)
        x = low + np.clip(along / np.maximum(span, 1e-6), 0, 1) * (high - low)
        x += np.minimum(along, 0) + np.maximum(along - span, 0)
        return x, between(self.v), ax, ay

    def _bands(self, canvas: Canvas, mask: Mask, aside: np.ndarray) -> np.ndarray:
        """Find for each pixel (h, w) the row of the chart that lies just above it."""
        height, width = mask.alpha.shape
        sides = self.left - aside * self.reach, self.right + aside * self.reach
        ends = [canvas.pixels(side) - (mask.x, mask.y) for side in sides]
        quads = np.concatenate([ends[0][:-1], ends[1][:-1], ends[1][1:], ends[0][1:]], axis=1)
        last = len(quads) - 1
        picture = Image.new("L", (width, height), 0)
        draw = ImageDraw.Draw(picture)
        low, high = quads[:, 1::2].min(axis=1), quads[:, 1::2].max(axis=1)
        for i in np.flatnonzero((high >= 0) & (low <= height)):
            draw.polygon(quads[i].tolist(), fill=int(i))
        bands = np.array(picture)
        under = max(0, int(quads[last, 5]))
        bands[under:][bands[under:] == 0] = last
        return bands


def _bent(start, middle, end, t: np.ndarray, radius: float) -> np.ndarray:
    """Return points along two bones, rounded at the joint; `t` is 0..1 on the first, then 1..2."""
    first, second = middle - start, end - middle
    line = np.where(
        (t < 1)[:, None], start + first * t[:, None], middle + second * (t - 1)[:, None]
    )
    a = radius / max(np.linalg.norm(first), 1e-6)
    b = radius / max(np.linalg.norm(second), 1e-6)
    near = (t > 1 - a) & (t < 1 + b)
    u = ((t[near] - 1 + a) / (a + b))[:, None]
    line[near] = (1 - u) ** 2 * (middle - first * a) + 2 * u * (1 - u) * middle
    line[near] += u**2 * (middle + second * b)
    return line


def _elbow(shoulder: np.ndarray, wrist: np.ndarray, upper: float, sign: int) -> np.ndarray:
    """Find where an arm bends outward so that its hand lies at `wrist`."""
    line = wrist - shoulder
    length = np.linalg.norm(line)
    fore = max(upper * (WRIST - ELBOW) / ELBOW, length - upper + 0.02)
    along = (upper**2 - fore**2 + length**2) / (2 * length)
    off = np.sqrt(max(upper**2 - along**2, 0.0))
    return shoulder + (line * along + sign * off * line[::-1] * (1, -1)) / length


def _down(angle: float, length: float) -> np.ndarray:
    return length * np.array([np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])


class Figure:
    """A figure of some build in some pose. Side 0 is the person's right: the left of the picture.

    Attributes:
        body: the trunk, and below it what hangs around both legs.
        legs, arms: one chart a side.
        joints: (18, 2) in OpenPose's COCO-18 order.
        head: (2,) the centre of the face.
        ankles, wrists: point and angle of foot and hand, one a side.
    """

    def __init__(self, pose: Pose, build: Build | None = None):
        self.pose, self.build = pose, build or Build()
        self.joints = np.zeros((18, 2))
        self.joints[1] = (0, SHOULDER)
        self.ankles: list[tuple[np.ndarray, float]] = []
        self.wrists: list[tuple[np.ndarray, float]] = []
        centre, row_across, half = self._trunk()
        self.legs, outer = self._legs(centre, row_across, half)
        self.body = self._around(*outer)
        row = np.searchsorted(_BODY_ROWS, 1.72)
        self.arms = []
        for side, sign in enumerate(SIGNS):
            shoulder = self.joints[1] + sign * row_across[0] * 0.66 * self.build.shoulders
            hip = centre[row] + sign * row_across[row] * (half[row] + 0.04)
            self.arms.append(self._arm(side, sign, shoulder, hip))
        self.head = turned([[0.0, -0.82]], pose.head)[0]
        face = points(".02,.15 -.15,0 .15,0 -.345,.06 .345,.06")
        face = face + points(".1,0 .075,0 .075,0 -.02,0 -.02,0") * pose.turn
        self.joints[[0, 14, 15, 16, 17]] = self.head + turned(face, pose.head)

    def _trunk(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return centre (n, 2), direction across (n, 2), half width (n,) of the body's rows."""
        pose, build, v = self.pose, self.build, _BODY_ROWS
        centre = _down(pose.lean, HIP) * (v / HIP)[:, None]
        bow = np.sin(np.pi * np.clip(v / HIP, 0, 1))
        centre[:, 0] += 0.012 * (pose.shoulders - pose.hips) * bow
        tilt = np.deg2rad(pose.shoulders + (pose.hips - pose.shoulders) * step(0.4, 2.0, v))
        positions = (-0.35, 0.3, 0.8, 1.55, 2.3, 3.2)
        factors = (
            build.shoulders,
            build.shoulders,
            build.chest,
            build.waist,
            build.hips,
            build.hips,
        )
        half = through(_TRUNK, v) * through(np.stack([positions, factors], axis=1), v)
        return centre, np.stack([np.cos(tilt), np.sin(tilt)], axis=1), half

    def _legs(self, centre, row_across, half) -> tuple[list[Chart], list[np.ndarray]]:
        """Return the charts of the legs, and the legs' outer edges on the body's rows."""
        v, limbs = _BODY_ROWS, self.build.limbs
        hip_row = np.searchsorted(v, HIP)
        blend = step(2.15, 2.95, v)[:, None]
        bone, out, inside = (through(knots, v) for knots in (_LEG_BONE, _LEG_OUT, _LEG_IN))
        rest = blend[:, 0]
        rest_outer = through(_TRUNK, v) * (1 - rest) + (bone + out) * rest
        rest_inner = (bone - inside) * rest
        charts, edges = [], []
        for side, sign in enumerate(SIGNS):
            hip = centre[hip_row] + sign * row_across[hip_row] * 0.33 * self.build.hips
            line = self._leg_line(side, sign, hip)
            aside = sign * across(line)
            outer = line + aside * (out * limbs)[:, None]
            inner = line - aside * (inside * limbs)[:, None]
            outer = (centre + sign * row_across * half[:, None]) * (1 - blend) + outer * blend
            inner = centre * (1 - blend) + inner * blend
            ends = [(outer, sign * rest_outer), (inner, sign * rest_inner)]
            (left, low), (right, high) = ends[::-sign]
            rows = v > 1.2
            charts.append(Chart(v[rows], left[rows], right[rows], low[rows], high[rows]))
            edges.append(outer)
        return charts, [*edges, rest_outer]

    def _leg_line(self, side: int, sign: int, hip: np.ndarray) -> np.ndarray:
        leg, long, v = self.pose.legs[side], self.build.legs, _BODY_ROWS
        knee = hip + _down(sign * (leg.thigh - 1), (KNEE - HIP) * leg.thigh_length * long)
        ankle = knee + _down(sign * (leg.shin - 2), (ANKLE - KNEE) * leg.shin_length * long)
        self.joints[8 + 3 * side : 11 + 3 * side] = hip, knee, ankle
        self.ankles.append((ankle, sign * leg.shin))
        t = np.where(v < KNEE, (v - HIP) / (KNEE - HIP), 1 + (v - KNEE) / (ANKLE - KNEE))
        return _bent(hip, knee, ankle, t, 0.4)

    @staticmethod
    def _around(left: np.ndarray, right: np.ndarray, rest: np.ndarray) -> Chart:
        """Make the chart of what hangs around both legs: level, and no narrower than at rest.

        Its rows reach beyond the legs, so that a wide stance widens a skirt over its whole width.
        """
        v = _BODY_ROWS
        below = step(2.3, 3.4, v)
        level = (left + right)[:, 1] / 2
        room = np.maximum(1.1 - rest, 0) * below
        room += np.maximum(rest - (right - left)[:, 0] / 2, 0) * below
        whole = rest + np.maximum(1.1 - rest, 0) * below
        sides = []
        for edge, sign in zip((left, right), SIGNS, strict=True):
            height = level + (edge[:, 1] - level) * (1 - 0.75 * below)
            sides.append(np.stack([edge[:, 0] + sign * room, height], axis=1))
        return Chart(v, *sides, -whole, whole, reach=1.2)

    def _arm(self, side: int, sign: int, shoulder: np.ndarray, hip: np.ndarray) -> Chart:
        arm = self.pose.arms[side]
        elbow = shoulder + _down(sign * arm.upper, ELBOW * arm.upper_length)
        wrist = elbow + _down(sign * arm.fore, (WRIST - ELBOW) * arm.fore_length)
        hand = sign * arm.fore
        if arm.on_hip:
            wrist, hand = hip, -sign * 4.0
            elbow = _elbow(shoulder, wrist, ELBOW * arm.upper_length, sign)
        self.joints[2 + 3 * side : 5 + 3 * side] = shoulder, elbow, wrist
        self.wrists.append((wrist, hand))
        v = _ARM_ROWS
        t = np.where(v < ELBOW, v / ELBOW, 1 + (v - ELBOW) / (WRIST - ELBOW))
        line = _bent(shoulder, elbow, wrist, t, 0.3)
        rest = through(_ARM, v)
        half = across(line) * (rest * self.build.limbs)[:, None]
        return Chart(v, line - half, line + half, -rest, rest, reach=0.2)


#: The empty figure of the in-shop photo: upright, arms held a little away from the body.
IN_SHOP = Pose(arms=(Arm(17, 13), Arm(17, 13)))
