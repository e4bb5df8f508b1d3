"""How much a second and a third garment found tell a reader that makes no mistake.

    fashion-rag miniature render --out WORLD --count 1800 --test 1800
    python -m fashion_rag.benchmarks.several --data WORLD --out FOLDER

In the drawn world it is known how a caption comes from a garment. So a reader can be imagined that
sees without fault which of the garments found answer the caption, knows how often the own one is
among them at which place, and knows how colours and patterns are spread over garments with such
captions. It names the colour with the least expected error (CIEDE2000 of mean colours) and the
likeliest pattern. A painter adds its own error: `painted` adds that of the oracle, in quadrature.
A model that errs with one garment may gain more by three than this reader does.

Places are counted on the people that are not judged: the first PAIRS of each category are.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab

from ..categories import CATEGORIES
from ..evaluation.columns import THIRD
from ..evaluation.job import Job, settings_for
from ..evaluation.measuring import garment_number
from ..evaluation.painting import Sampling
from ..evaluation.run import Evaluation
from ..evaluation.statistics import shared_figure
from ..files import write_text
from ..miniature.captions import caption_fields, words
from ..miniature.fabrics import MOTIFS, PLAIN
from ..miniature.trained import write_miniature
from ..miniature.world import Garment, make_garment

SEED = 0
PAIRS = 200
COUNTS = (0, 1, 2, 3, 10)
DRAWN = 60_000
"""Garments that the reader's knowledge of colours and patterns comes from."""
KNOWN = 150
"""Of those that answer a caption, so many are thought of."""
PAINTING = 4.0
"""Colour error of what is painted from the own garment (docs/evaluation.md)."""
TOLD = ("colour", "print", "pattern", "motif")
"""Fields of a caption that bear on colour and pattern; cut and length are drawn apart from them."""


@dataclass(frozen=True)
class Case:
    """A person's garment, its caption's fields, and the garments that the caption finds."""

    own: Garment
    fields: tuple[str, ...]
    found: tuple[Garment, ...]

    @cached_property
    def place(self) -> int:
        """Of the own garment among those found; -1 where it isn't."""
        numbers = [garment.number for garment in self.found]
        return numbers.index(self.own.number) if self.own.number in numbers else -1

    @cached_property
    def answers(self) -> tuple[bool, ...]:
        """Whether each garment found has all that the caption says."""
        said = values(self.own, self.fields)
        return tuple(values(garment, self.fields) == said for garment in self.found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="for the index, and the figures")
    parser.add_argument("--data", type=Path, required=True, help="a drawn world, all held out")
    args = parser.parse_args()
    cases = [find_cases(args.out, args.data, category) for category in CATEGORIES]
    judged = [case for some in cases for case in some[:PAIRS]]
    others = [case for some in cases for case in some[PAIRS:]]
    figures = best_figures(judged, others)
    text = json.dumps(figures, indent=2)
    sys.stdout.write(text + "\n")
    write_text(args.out / "several.json", text + "\n")


def find_cases(out: Path, data: Path, category: str) -> list[Case]:
    """Every person of a category, with the garments that the three noun chunks find."""
    setting = settings_for((THIRD,), "paired", 3, False)
    job = Job(
        model=write_miniature(out / "model"),
        root=data,
        out=out,
        json=out / "several.json",
        settings=setting,
        categories=(category,),
        sampling=Sampling((128, 96), "mask", 1, 1.0, 0, 1),
        device="cpu",
        title="",
    )
    evaluation = Evaluation(job)
    evaluation.rank()
    ranking = evaluation.rankings[category, 3]
    cases = []
    for sample in evaluation.pool[category]:
        own = make_garment(SEED, int(sample.garment))
        found = [int(garment_number(file)) for file in ranking[sample.caption(3)][: max(COUNTS)]]
        garments = tuple(make_garment(SEED, number) for number in found)
        cases.append(Case(own, caption_fields(SEED, own), garments))
    return cases


def best_figures(judged: Sequence[Case], others: Sequence[Case]) -> dict:
    """What the best reader reaches on `judged`, having counted places on `others`."""
    rng = np.random.default_rng(0)
    errors: dict[int, np.ndarray] = {}
    right: dict[int, np.ndarray] = {}
    for count in COUNTS:
        places = count_places(others, count)
        told = [(case, *best_answer(case, count, places, rng)) for case in judged]
        errors[count] = np.array([difference(c, mean_colour(case.own)) for case, c, _ in told])
        right[count] = np.array([float(p == case.own.pattern) for case, _, p in told])
    pairs = [(case.found[0], case.own) for case in judged]
    first = {
        "colour error": float(
            np.mean([difference(mean_colour(a), mean_colour(b)) for a, b in pairs])
        ),
        "pattern": float(np.mean([a.pattern == b.pattern for a, b in pairs])),
    }
    painted = {count: np.hypot(error, PAINTING) for count, error in errors.items()}

    def lower(values: dict[int, np.ndarray], many: int, few: int) -> list[float]:
        found = shared_figure(lambda a, b: 1 - a / b, values[many], values[few])
        return [found.value, found.low, found.high]

    def more(many: int, few: int) -> list[float]:
        found = shared_figure(lambda a, b: a - b, right[many], right[few])
        return [found.value, found.low, found.high]

    return {
        "people": len(judged),
        "own garment first": float(np.mean([case.place == 0 for case in judged])),
        "own garment among three": float(np.mean([0 <= case.place < 3 for case in judged])),
        "first garment answers the caption": float(np.mean([c.answers[0] for c in judged])),
        "copying the first": first,
        "best": {
            str(count): {
                "colour error": float(errors[count].mean()),
                "painted": float(painted[count].mean()),
                "pattern": float(right[count].mean()),
            }
            for count in COUNTS
        },
        "three against one": {
            "colour error lower by": lower(errors, 3, 1),
            "painted, lower by": lower(painted, 3, 1),
            "pattern higher by": more(3, 1),
        },
    }


def values(garment: Garment, fields: Sequence[str]) -> tuple[str | None, ...]:
    said = words(garment)
    return tuple(said.get(field) for field in fields)


def count_places(cases: Sequence[Case], count: int) -> dict[tuple, Counter]:
    """How often the own garment is at which place, by which of the garments answer the caption."""
    places: dict[tuple, Counter] = defaultdict(Counter)
    for case in cases:
        place = case.place if case.place < count else -1
        places[case.answers[:count]][place] += 1
    return places


def best_answer(
    case: Case, count: int, places: dict[tuple, Counter], rng: np.random.Generator
) -> tuple[np.ndarray, str]:
    """The colour (CIELAB) with the least expected error, and the likeliest pattern."""
    seen = places[case.answers[:count]] or Counter({-1: 1})
    share = np.array([seen[place] / seen.total() for place in range(count)])
    known = known_garments(case.own.category, tuple(f for f in case.fields if f in TOLD))
    alike = known[values(case.own, [f for f in case.fields if f in TOLD])]
    alike = [alike[i] for i in rng.permutation(len(alike))[:KNOWN]]
    garments = [*case.found[:count], *alike]
    weights = np.concatenate([share, np.full(len(alike), (1 - share.sum()) / len(alike))])
    patterns: Counter[str] = Counter()
    for garment, weight in zip(garments, weights, strict=True):
        patterns[garment.pattern] += weight
    colours = np.array([mean_colour(garment) for garment in garments])
    mean = weights @ colours
    # Between each garment and the mean of all that is thought of.
    between = [part * colours + (1 - part) * mean for part in (1.0, 0.75, 0.5, 0.25)]
    options = np.concatenate([*between, mean[None]])
    expected = deltaE_ciede2000(options[:, None], colours[None]) @ weights
    return options[expected.argmin()], patterns.most_common(1)[0][0]


@cache
def known_garments(category: str, fields: tuple[str, ...]) -> dict[tuple, list[Garment]]:
    known: dict[tuple, list[Garment]] = defaultdict(list)
    for garment in drawn_garments()[category]:
        known[values(garment, fields)].append(garment)
    return known


@cache
def drawn_garments() -> dict[str, list[Garment]]:
    drawn: dict[str, list[Garment]] = defaultdict(list)
    for number in range(DRAWN):
        garment = make_garment(SEED, number)
        drawn[garment.category].append(garment)
    return drawn


@cache
def mean_colour(garment: Garment) -> np.ndarray:
    """The mean CIELAB colour of a garment's fabric, (3,)."""
    base, printed = np.array(garment.base), np.array(garment.print_colour)
    if garment.pattern == PLAIN:
        return rgb2lab(base[None])[0]
    cover, share = print_cover(garment.pattern)
    return share @ rgb2lab(base + (printed - base) * cover[:, None])


@cache
def print_cover(pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """How much of the second colour lies over a motif: levels in 0..1 and their shares, (20,)."""
    side = np.linspace(0, 4, 400, endpoint=False)
    u, w = (axis.ravel() for axis in np.meshgrid(side, side))
    count, edges = np.histogram(MOTIFS[pattern](u, w, 0.05), bins=20, range=(0, 1))
    cover = (edges[:-1] + edges[1:]) / 2
    cover[[0, -1]] = 0, 1
    return cover, count / count.sum()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(deltaE_ciede2000(one, other))


if __name__ == "__main__":
    main()
