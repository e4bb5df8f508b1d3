"""The drawn world: which garments, people and scenes there are, each from (seed, number) alone."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np

from ..categories import CATEGORIES
from .backdrops import KINDS, Backdrop
from .body import Arm, Build, Leg, Pose
from .cuts import Cut
from .fabrics import MOTIFS, PLAIN, Fabric
from .people import HAIRS, SKINS, STYLES, Person
from .raster import Colour

#: Numbers from here on are test garments, those below train garments: the two never meet.
FIRST_TEST_NUMBER = 600_000
LAST_NUMBER = 999_999

#: Colour words and the part of OKLCh each one covers: lightness, chroma, hue in degrees.
COLOURS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "white": ((0.94, 0.98), (0.0, 0.012), (0, 360)),
    "grey": ((0.50, 0.76), (0.0, 0.012), (0, 360)),
    "black": ((0.22, 0.30), (0.0, 0.015), (0, 360)),
    "beige": ((0.80, 0.90), (0.03, 0.06), (70, 90)),
    "brown": ((0.36, 0.52), (0.05, 0.09), (45, 65)),
    "red": ((0.46, 0.62), (0.15, 0.20), (18, 30)),
    "orange": ((0.67, 0.77), (0.13, 0.17), (48, 66)),
    "yellow": ((0.82, 0.91), (0.12, 0.16), (88, 102)),
    "green": ((0.42, 0.80), (0.07, 0.14), (132, 168)),
    "blue": ((0.36, 0.76), (0.07, 0.14), (232, 265)),
    "purple": ((0.38, 0.70), (0.09, 0.15), (295, 318)),
    "pink": ((0.70, 0.86), (0.07, 0.13), (345, 368)),
}

TRIMS = {
    "dresses": ("none", "belt", "hem band", "contrast trim", "pocket", "buttons", "bow"),
    "upper_body": ("none", "hem band", "contrast trim", "pocket", "buttons", "bow"),
    "lower_body": ("none", "belt", "hem band", "side stripe"),
}
#: Cuts of a category with the sleeves, necklines, lengths and trims that each one can have.
_SLEEVES = ("none", "short", "elbow", "long")
_NECKS = ("round", "scoop", "v", "square", "boat")
CUTS: dict[str, dict[str, tuple[tuple[str, ...], ...]]] = {
    "dresses": {
        "sheath dress": (_SLEEVES, (*_NECKS, "straps"), ("mini", "knee", "midi")),
        "A-line dress": (_SLEEVES, (*_NECKS, "straps", "collar"), ("mini", "knee", "midi", "maxi")),
        "shift dress": (_SLEEVES, (*_NECKS, "collar"), ("mini", "knee", "midi")),
        "empire dress": (_SLEEVES, (*_NECKS, "straps"), ("mini", "knee", "midi", "maxi")),
    },
    "upper_body": {
        "t-shirt": (("short", "elbow", "long"), _NECKS, ("cropped", "regular", "long")),
        "shirt": (("short", "elbow", "long"), ("collar",), ("regular", "long")),
        "sweater": (
            ("elbow", "long"),
            ("round", "v", "turtleneck"),
            ("cropped", "regular", "long"),
        ),
        "hoodie": (("long",), ("hood",), ("cropped", "regular")),
        "jacket": (("elbow", "long"), ("lapels",), ("regular", "long")),
        "tank top": (("none",), ("round", "scoop", "v", "straps"), ("cropped", "regular")),
        "blouse": (("none", "short", "elbow", "long"), _NECKS, ("cropped", "regular")),
    },
    "lower_body": {
        "slim trousers": (("none",), ("none",), ("cropped", "long")),
        "straight trousers": (("none",), ("none",), ("cropped", "long")),
        "wide-leg trousers": (("none",), ("none",), ("cropped", "long")),
        "shorts": (("none",), ("none",), ("mini",)),
        "pencil skirt": (("none",), ("none",), ("mini", "knee", "midi")),
        "A-line skirt": (("none",), ("none",), ("mini", "knee", "midi")),
        "pleated skirt": (("none",), ("none",), ("mini", "knee", "midi")),
    },
}
#: Rest height of the hem (see body.py), by category and length.
HEMS: dict[str, dict[str, float]] = {
    "dresses": {"mini": 3.1, "knee": 3.9, "midi": 4.7, "maxi": 5.45},
    "upper_body": {"cropped": 1.8, "regular": 2.28, "long": 2.8},
    "lower_body": {"mini": 3.15, "knee": 3.95, "midi": 4.75, "cropped": 4.85, "long": 5.72},
}
#: Sizes of one repeat of a pattern, in head heights: wide enough to survive 96 x 128 pixels.
REPEATS = {"dresses": (0.50, 0.85), "upper_body": (0.38, 0.66), "lower_body": (0.42, 0.72)}
#: Cuts in which nobody steps wide.
_NARROW = ("pencil skirt", "sheath dress")
#: Tops that are worn inside a waistband as well as over it.
_TUCKABLE = ("t-shirt", "shirt", "tank top")
#: Motifs that need more room for one repeat, or less.
_REPEAT_FACTOR = {
    "flowers": 1.35,
    "dots": 1.2,
    "diamonds": 1.1,
    "checks": 1.1,
    "vertical stripes": 0.8,
}


@dataclass(frozen=True)
class Garment:
    """A drawn garment: its shape by name, its colours as sRGB triples in 0..1."""

    number: int
    category: str
    cut: str
    sleeve: str
    neckline: str
    length: str
    trim: str
    colour: str
    base: Colour
    pattern: str
    print_word: str
    print_colour: Colour
    repeat: float
    trim_word: str
    trim_colour: Colour
    hem: float

    @property
    def shape(self) -> Cut:
        """The garment's cut."""
        return Cut(self.cut, self.hem, self.sleeve, self.neckline, self.trim)

    @property
    def fabric(self) -> Fabric:
        """The garment's fabric."""
        return Fabric(self.base, self.pattern, self.print_colour, self.repeat)


@dataclass(frozen=True)
class Scene:
    """The scene of a model photo: who, how, where, and what is worn beside the garment.

    `top` and `span` are the upper edge of the picture and its height, in head heights from the
    base of the neck; `across` is the person's place from the middle, in head heights.
    """

    person: Person
    pose: Pose
    backdrop: Backdrop
    other: Garment | None
    tucked: bool
    top: float
    span: float
    across: float


def from_oklch(lightness: float, chroma: float, hue: float) -> Colour:
    """Convert an OKLCh colour to sRGB, with less chroma where the screen cannot show it."""
    angle = np.deg2rad(hue)
    while True:
        a, b = chroma * np.cos(angle), chroma * np.sin(angle)
        lms = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                        [1, -0.0894841775, -1.2914855480]]) @ (lightness, a, b)  # fmt: skip
        linear = np.array([[4.0767416621, -3.3077115913, 0.2309699292],
                           [-1.2684380046, 2.6097574011, -0.3413193965],
                           [-0.0041960863, -0.7034186147, 1.7076147010]]) @ lms**3  # fmt: skip
        if chroma < 1e-3 or (linear.min() >= -1e-4 and linear.max() <= 1 + 1e-4):
            break
        chroma *= 0.96
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple(float(c) for c in srgb)


def to_oklab(colour: Colour) -> np.ndarray:
    """Convert sRGB to OKLab (3,), where distances are near to those that people see."""
    c = np.asarray(colour, float)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    lms = np.array([[0.4122214708, 0.5363325363, 0.0514459929],
                    [0.2119034982, 0.6806995451, 0.1073969566],
                    [0.0883024619, 0.2817188376, 0.6299787005]]) @ linear  # fmt: skip
    return np.array([[0.2104542553, 0.7936177850, -0.0040720468],
                     [1.9779984951, -2.4285922050, 0.4505937099],
                     [0.0259040371, 0.7827717662, -0.8086757660]]) @ np.cbrt(lms)  # fmt: skip


def pick_colour(rng: random.Random, words: tuple[str, ...] = tuple(COLOURS)) -> tuple[str, Colour]:
    """Draw a colour word and one of the colours that it covers."""
    word = rng.choice(words)
    return word, from_oklch(*(rng.uniform(*part) for part in COLOURS[word]))


def _contrasting(rng: random.Random, base: Colour, least: float) -> tuple[str, Colour]:
    """Draw a colour that can be told from `base` at a glance: `least` away from it in OKLab."""
    quiet = ("white", "black", "beige", "blue", "white")
    while True:
        word, colour = pick_colour(rng, quiet if rng.random() < 0.4 else tuple(COLOURS))
        if np.linalg.norm(to_oklab(colour) - to_oklab(base)) >= least:
            return word, colour


def category_of(number: int) -> str:
    """Return the category of the garment with this number."""
    return CATEGORIES[number % len(CATEGORIES)]


def split_of(number: int) -> str:
    """Return the split of a garment: "train" or "test"."""
    return "test" if number >= FIRST_TEST_NUMBER else "train"


def numbers(count: int, split: str = "train") -> range:
    """Return the first `count` garment numbers of a split; the categories take turns.

    Raises:
        ValueError: the split has fewer numbers.
    """
    first, last = {"train": (0, FIRST_TEST_NUMBER), "test": (FIRST_TEST_NUMBER, LAST_NUMBER + 1)}[
        split
    ]
    if not 0 <= count <= last - first:
        raise ValueError(f"{count} {split} garments asked for; there are 0 to {last - first}")
    return range(first, first + count)


def make_garment(seed: int, number: int) -> Garment:
    """Make the garment with this number in the world with this seed."""
    rng = random.Random(f"garment {seed} {number}")
    return _garment(rng, number, category_of(number))


def _garment(rng: random.Random, number: int, category: str) -> Garment:
    cut = rng.choice(tuple(CUTS[category]))
    sleeves, necklines, lengths = CUTS[category][cut]
    sleeve, neckline, length = (rng.choice(options) for options in (sleeves, necklines, lengths))
    if neckline == "straps":
        sleeve = "none"
    trims = [t for t in TRIMS[category] if _suits(t, cut, neckline, sleeve)]
    trim = rng.choice(trims)
    colour, base = pick_colour(rng)
    pattern = PLAIN if rng.random() < 0.3 else rng.choice(tuple(MOTIFS))
    # Half of a check is a mixture of its two colours.
    print_word, print_colour = _contrasting(rng, base, 0.34 if pattern == "checks" else 0.28)
    trim_word, trim_colour = _contrasting(rng, base, 0.25)
    repeat = rng.uniform(*REPEATS[category]) * _REPEAT_FACTOR.get(pattern, 1.0)
    hem = HEMS[category][length] + rng.uniform(-0.06, 0.06)
    return Garment(
        number, category, cut, sleeve, neckline, length, trim, colour, base, pattern, print_word,
        print_colour, repeat, trim_word, trim_colour, hem,
    )  # fmt: skip


def _suits(trim: str, cut: str, neckline: str, sleeve: str) -> bool:
    if trim == "side stripe":
        return cut.endswith("trousers") or cut == "shorts"
    if trim == "bow":
        return cut in ("blouse", "sheath dress", "A-line dress", "empire dress") and neckline in (
            "round", "boat", "scoop", "square")  # fmt: skip
    if trim == "buttons":
        return cut in ("shirt", "jacket", "blouse", "A-line dress", "shift dress")
    if trim == "pocket":
        return cut not in ("hoodie", "tank top", "blouse", "sheath dress", "empire dress")
    if trim == "contrast trim":
        return neckline != "straps"
    if trim == "hem band":
        return cut not in ("blouse", "pleated skirt")
    return True


_ARMS = {
    "relaxed": Arm(9, 4),
    "away": Arm(22, 14),
    "hip": Arm(40, -46, 0.98, on_hip=True),
    "back": Arm(16, -34, 0.97, 0.9, behind=True),
    "swing": Arm(12, -10, 0.98, 0.9),
    "raised": Arm(52, 172, 0.86, 0.86),
}
#: Poses: right arm, left arm, lean, shoulders, hips, right leg, left leg.
_POSES = (
    ("relaxed", "relaxed", 0, 0, 0, Leg(2, 1), Leg(2, 1)),
    ("relaxed", "away", 1, -2, 3, Leg(-1, 0), Leg(7, 3)),
    ("hip", "relaxed", 3, -4, 6, Leg(-3, -1), Leg(10, 4)),
    ("hip", "hip", 0, 0, 0, Leg(6, 5), Leg(6, 5)),
    ("relaxed", "hip", -2, 3, -5, Leg(9, 3), Leg(-2, -1)),
    ("back", "back", 0, 1, -2, Leg(4, 1), Leg(0, 0)),
    ("swing", "away", 1, -2, 3, Leg(2, 0), Leg(4, 7, 0.98, 0.84)),
    ("away", "away", 0, 0, 0, Leg(11, 9), Leg(11, 9)),
    ("raised", "relaxed", 2, -5, 5, Leg(-2, 0), Leg(9, 3)),
    ("relaxed", "back", -1, 2, -3, Leg(6, 2), Leg(-1, 0)),
)


def _pose(rng: random.Random) -> Pose:
    right, left, lean, shoulders, hips, *legs = rng.choice(_POSES)

    def near(angle: float, by: float) -> float:
        return angle + rng.uniform(-by, by)

    arms = [_ARMS[name] for name in (right, left)]
    arms = [replace(arm, upper=near(arm.upper, 3.5), fore=near(arm.fore, 4)) for arm in arms]
    legs = [replace(leg, thigh=near(leg.thigh, 1.7)) for leg in legs]
    tilts = near(lean, 1), near(shoulders, 1.5), near(hips, 1.5)
    head, turn = near(0, 7), near(0, 1)
    if rng.random() < 0.5:
        tilts, arms, legs = tuple(-tilt for tilt in tilts), arms[::-1], legs[::-1]
    return Pose(*tilts, head, turn, tuple(arms), tuple(legs))


def _person(rng: random.Random, broad: bool) -> Person:
    weight = rng.choice((-0.4, -0.2, 0.0, 0.0, 0.2, 0.5, 0.9))
    width = 1 + 0.16 * weight
    shoulders, chest, waist, hips = (rng.uniform(0.97, 1.03) for _ in range(4))
    if broad:
        shoulders, chest, waist, hips = 1.17 * shoulders, 1.13 * chest, 1.22 * waist, 0.97 * hips
    limbs = (1.12 if broad else 1.0) * (1 + 0.12 * weight)
    legs = rng.uniform(0.96, 1.05)
    build = Build(shoulders, chest * width, waist * width, hips * width, limbs, legs)
    styles = ("short", "crop", "short", "curls", "pixie") if broad else STYLES[:8]
    skin = rng.choice(SKINS)
    hair = rng.choice(HAIRS if sum(skin) > 1.9 else HAIRS[:4])
    _, shoe_colour = pick_colour(rng, ("black", "brown", "white", "red", "beige", "grey"))
    return Person(
        build=build,
        skin=skin,
        hair=hair,
        style=rng.choice(styles),
        shoes=rng.choice(
            ("sneakers", "boots") if broad else ("flats", "flats", "sneakers", "boots")
        ),
        shoe_colour=shoe_colour,
        eyes=rng.choice(
            ((0.28, 0.18, 0.12), (0.25, 0.4, 0.55), (0.3, 0.42, 0.3), (0.2, 0.13, 0.1))
        ),
        parting=rng.choice((-1, 1)),
        beard=broad and rng.random() < 0.4,
        glasses=rng.random() < 0.12,
        earrings=not broad and rng.random() < 0.4,
    )


def _backdrop(rng: random.Random) -> Backdrop:
    hue = rng.uniform(0, 360)
    aside = hue + rng.choice((25, -35, 150))
    return Backdrop(
        kind=rng.choice(("studio", *KINDS)),
        wall=from_oklch(rng.uniform(0.84, 0.94), rng.uniform(0.0, 0.045), hue),
        floor=from_oklch(
            rng.uniform(0.72, 0.84), rng.uniform(0.01, 0.05), hue + rng.uniform(-40, 40)
        ),
        accent=from_oklch(rng.uniform(0.78, 0.9), rng.uniform(0.03, 0.07), aside),
        chance=rng.random(),
    )


def make_scene(seed: int, number: int) -> Scene:
    """Make the scene in which the garment with this number is worn."""
    rng = random.Random(f"scene {seed} {number}")
    garment = make_garment(seed, number)
    category = garment.category
    feminine = category == "dresses" or garment.cut.endswith("skirt") or garment.cut == "blouse"
    broad = not feminine and rng.random() < 0.45
    person, pose, backdrop = _person(rng, broad), _pose(rng), _backdrop(rng)
    if garment.cut in _NARROW:
        legs = (replace(leg, thigh=leg.thigh * 0.4, shin=leg.shin * 0.4) for leg in pose.legs)
        pose = replace(pose, legs=tuple(legs))
    sole = 6.1 + 3.4 * (person.build.legs - 1) + rng.uniform(0.2, 0.45)
    other, tucked = None, False
    if category == "upper_body":
        other = _companion(rng, number, "lower_body", broad)
        plain_end = garment.length == "regular" and garment.trim != "hem band"
        tucked = plain_end and garment.cut in _TUCKABLE and rng.random() < 0.4
        top = rng.uniform(-1.8, -1.4)
        bottom = top + rng.uniform(4.1, 4.8)
    elif category == "lower_body":
        other = _companion(rng, number, "upper_body", broad)
        tucked = other.cut in _TUCKABLE or garment.trim == "belt"
        top = rng.uniform(0.3, 1.0)
        bottom = min(max(garment.hem + rng.uniform(0.6, 1.6), top + 3.5), sole)
    else:
        top = rng.uniform(-1.8, -1.45)
        bottom = min(garment.hem + rng.uniform(0.5, 1.4), top + rng.uniform(6.4, 7.0), sole)
    across = rng.uniform(-0.15, 0.15)
    return Scene(person, pose, backdrop, other, tucked, top, bottom - top, across)


def _companion(rng: random.Random, number: int, category: str, broad: bool) -> Garment:
    """Make the plain piece that is worn with the garment of the photo."""
    if category == "upper_body":
        cuts = (
            ("t-shirt", "t-shirt", "shirt", "sweater")
            if broad
            else ("t-shirt", "tank top", "sweater")
        )
    else:
        cuts = ("slim trousers", "straight trousers", "shorts")
        cuts = cuts if broad else tuple(CUTS[category])
    cut = rng.choice(cuts)
    sleeves, necklines, lengths = CUTS[category][cut]
    length = "regular" if "regular" in lengths else rng.choice(lengths)
    colour, base = pick_colour(rng, ("black", "white", "grey", "beige", "blue", "brown"))
    return Garment(
        number=number,
        category=category,
        cut=cut,
        sleeve=rng.choice(sleeves),
        neckline=necklines[0],
        length=length,
        trim="none",
        colour=colour,
        base=base,
        pattern=PLAIN,
        print_word="",
        print_colour=base,
        repeat=1.0,
        trim_word="",
        trim_colour=base,
        hem=HEMS[category][length],
    )
