"""Captions of drawn garments: noun chunks that name only part of what a garment is.

As captions of real photos do, they name a colour by a word and not its hue, call a garment
patterned and leave out the motif. What they leave out only the photo holds.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from string import Formatter

from .fabrics import PLAIN
from .world import Garment, to_oklab

#: All that fine captions tell: for each category three chunks, for each chunk the phrases that it
#: may be, with their weights. A phrase that does not apply to a garment is passed over. The fields
#: are those of `words`; more of them, or finer ones, raise the recall that a caption can reach
#: (`best_recall`). After a change, every model trained on captions has to be trained again.
FINE: dict[str, tuple[dict[str, float], dict[str, float], dict[str, float]]] = {
    "dresses": (
        {"{colour} {cut}": 1.0},
        {"{sleeve}": 0.4, "{neckline}": 0.2, "{length}": 0.4},
        {"{pattern} fabric": 0.1, "{print}": 0.75, "{trim}": 0.15},
    ),
    "upper_body": (
        {"{colour} {cut}": 1.0},
        {"{sleeve}": 0.5, "{neckline}": 0.3, "{length}": 0.2},
        {"{pattern} fabric": 0.1, "{print}": 0.75, "{trim}": 0.15},
    ),
    "lower_body": (
        {"{colour} {cut}": 1.0},
        {"{length}": 0.5, "{trim}": 0.5},
        {"{pattern} fabric": 0.3, "{print}": 0.7},
    ),
}
#: Coarse captions: the same three chunks for every garment.
COARSE = ("{colour} {kind}", "{pattern} {kind}", "{kind}")

_SLEEVES = {
    "none": "no sleeves",
    "short": "short sleeves",
    "elbow": "elbow sleeves",
    "long": "long sleeves",
}
_NECKLINES = {
    "round": "round neckline",
    "scoop": "scoop neckline",
    "v": "v-neckline",
    "square": "square neckline",
    "boat": "boat neckline",
    "straps": "shoulder straps",
    "collar": "collar",
    "turtleneck": "turtleneck",
    "hood": "hood",
    "lapels": "lapels",
}
_MOTIFS = {
    "plain": "plain",
    "stripes": "striped",
    "vertical stripes": "vertically striped",
    "checks": "checked",
    "dots": "dotted",
    "flowers": "floral",
    "zigzag": "zigzag",
    "diamonds": "diamond",
}
_TRIMS = {
    "belt": "belt",
    "hem band": "band at the hem",
    "contrast trim": "contrast trim",
    "pocket": "patch pocket",
    "buttons": "row of buttons",
    "bow": "bow",
    "side stripe": "side stripes",
}


def words(garment: Garment) -> dict[str, str]:
    """Return the words for a garment's properties, by field; a field without words is missing."""
    kind = {"dresses": "dress", "upper_body": "top"}.get(garment.category)
    if kind is None:
        kind = "skirt" if garment.cut.endswith("skirt") else "trousers"
    lightness = to_oklab(garment.base)[0]
    plain = garment.pattern == PLAIN
    found = {
        "colour": garment.colour,
        "tone": "light" if lightness > 0.72 else "dark" if lightness < 0.48 else "mid",
        "kind": kind,
        "cut": garment.cut,
        "length": f"{garment.length} length",
        "pattern": "plain" if plain else "patterned",
        "motif": _MOTIFS[garment.pattern],
    }
    if not plain:
        found["print"] = f"{garment.print_word} print"
    if garment.category != "lower_body":
        found["sleeve"] = _SLEEVES[garment.sleeve]
        found["neckline"] = _NECKLINES[garment.neckline]
    if garment.trim != "none":
        found["trim"] = _TRIMS[garment.trim]
        found["trim_colour"] = f"{garment.trim_word} trim"
    return found


def _fields(phrase: str) -> list[str]:
    return [field for _, field, _, _ in Formatter().parse(phrase) if field]


def _phrases(seed: int, garment: Garment) -> list[str]:
    """Draw the three phrases of a garment's fine caption."""
    rng = random.Random(f"caption {seed} {garment.number}")
    known = words(garment)
    chosen = []
    for phrases in FINE[garment.category]:
        fitting = {p: w for p, w in phrases.items() if all(f in known for f in _fields(p))}
        chosen.append(rng.choices(list(fitting), list(fitting.values()))[0])
    return chosen


def fine_caption(seed: int, garment: Garment) -> list[str]:
    """Return the three noun chunks of a garment's fine caption."""
    return [phrase.format(**words(garment)) for phrase in _phrases(seed, garment)]


def caption_fields(seed: int, garment: Garment, chunks: int = 3) -> tuple[str, ...]:
    """Return the fields of `words` that the first chunks of a garment's fine caption name."""
    return tuple(f for phrase in _phrases(seed, garment)[:chunks] for f in _fields(phrase))


def coarse_caption(garment: Garment) -> list[str]:
    """Return three noun chunks that say little more than the kind of garment."""
    return [phrase.format(**words(garment)) for phrase in COARSE]


def best_recall(seed: int, garments: Sequence[Garment], chunks: int = 3) -> float:
    """Compute the recall@1 of a retriever that reads captions and sees garments without fault.

    It takes one of the garments that answer a caption at random; all garments should be of one
    category.
    """
    known = [words(garment) for garment in garments]
    counts: dict[tuple[str, ...], Counter] = {}
    total = 0.0
    for garment, own in zip(garments, known, strict=True):
        fields = caption_fields(seed, garment, chunks)
        if fields not in counts:
            counts[fields] = Counter(tuple(other.get(f) for f in fields) for other in known)
        total += 1 / counts[fields][tuple(own[f] for f in fields)]
    return total / len(garments)
