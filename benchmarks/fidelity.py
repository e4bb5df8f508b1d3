"""Does Garment Fidelity see what is right, and what does the best of several seeds gain?

    python -m fashion_rag.benchmarks.fidelity --out FOLDER [--people 120] [--seeds 4]

Every person of the miniature is given the garment that another one wears, so that the truth can be
drawn: painted from that garment's photo with several seeds, and once from another garment's photo.
Measured: the rank correlation (Spearman) of the score with the colour error (CIEDE2000 of mean
colours, where the garment surely is) and with the right pattern; and both for the first seed, for
the best by score, and for the best that there was.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr

from ..adapter.garment.fidelity import garment_fidelity
from ..adapter.garment.prompts import PAPER_PROMPT, category_words, split_prompt
from ..adapter.headless.pipeline import FashionRAGPipeline
from ..adapter.person.framing import frame
from ..adapter.person.inpainting import CELL
from ..adapter.person.masks import inpainting_mask
from ..adapter.person.parsing import load_parser
from ..evaluation.dresscode import garment_region, inner_region
from ..evaluation.miniature.patterns import garment_view, load_classifier
from ..evaluation.picture_errors import colour_error
from ..files import write_text
from ..miniature.draw import draw_garment, draw_model
from ..miniature.examples import SEED
from ..miniature.trained import GUIDANCE, PARSER, SIZE, STEPS, WEIGHTS, write_miniature
from ..miniature.world import CATEGORIES, FIRST_TEST_NUMBER, make_garment, make_scene
from ..retriever.encoders.open_clip import load_encoder

FIRST = FIRST_TEST_NUMBER + 150_000
CLASSIFIER = WEIGHTS.parent / "pattern_classifier.safetensors"
CANVAS = SIZE[::-1]


@dataclass(frozen=True)
class Case:
    """A person who is to wear another garment. truth: drawn, at the model's size."""

    number: int
    category: str
    pattern: str
    image: torch.Tensor
    mask: torch.Tensor
    keypoints: np.ndarray
    photos: tuple[Image.Image, Image.Image]
    truth: np.ndarray
    inner: np.ndarray


def make_case(number: int) -> Case:
    """The person with this number; the photos are the wanted garment's and a third one's."""
    step = len(CATEGORIES)
    worn, wanted, other = (make_garment(SEED, number + n * step) for n in range(3))
    scene = make_scene(SEED, number)
    photo = draw_model(worn, scene)
    mask = inpainting_mask(photo.labels, photo.keypoints, worn.category, mode="mask")
    framed = frame(photo.picture, mask.astype(np.float32), photo.keypoints, CANVAS)
    drawn = draw_model(wanted, scene, SIZE)
    hard = (framed.mask[0] >= 0.5).float()
    return Case(
        number,
        worn.category,
        wanted.pattern,
        framed.image[0],
        hard,
        framed.keypoints,
        (draw_garment(wanted), draw_garment(other)),
        np.asarray(drawn.picture) / 255,
        inner_region(garment_region(drawn.labels, worn.category), hard.numpy()),
    )


@torch.no_grad()
def paint(pipeline: FashionRAGPipeline, case: Case, seeds: int) -> list[Image.Image]:
    """The wanted garment with each seed, then the other one: pictures at the model's size."""
    parts = split_prompt(PAPER_PROMPT, category_words([case.category]))
    contexts = [
        pipeline.encode_prompt(parts, pipeline.pseudo_words([photo])) for photo in case.photos
    ]
    rows = [0] * seeds + [1]
    noises = [
        torch.randn(
            (1, 4, CANVAS[0] // CELL, CANVAS[1] // CELL),
            generator=torch.Generator().manual_seed(1000 * case.number + seed),
        )
        for seed in range(len(rows))
    ]
    channels = pipeline.inpainting_channels(case.image[None], case.mask[None])
    latents = pipeline.denoise(
        torch.cat(noises),
        channels.repeat(len(rows), 1, 1, 1),
        pipeline.pose_channels(case.keypoints, CANVAS).repeat(len(rows), 1, 1, 1),
        torch.cat([contexts[row] for row in rows]),
        steps=STEPS,
        guidance_scale=GUIDANCE,
    )
    pictures = pipeline.decode(latents)
    pasted = torch.where(case.mask[None, ..., None] > 0, pictures, case.image[None])
    return [Image.fromarray((p * 255).round().byte().numpy()) for p in pasted]


def measure(case: Case, picture: Image.Image, classifier) -> dict[str, float]:
    """Colour error, and whether the pattern is the wanted one."""
    pixels = np.asarray(picture) / 255
    view = garment_view(pixels.astype(np.float32), case.mask.numpy())[None]
    return {
        "colour error": colour_error(pixels, case.truth, case.inner),
        "pattern": float(classifier.name(view)[0] == case.pattern),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the figures")
    parser.add_argument("--people", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    classifier, human = load_classifier(CLASSIFIER), load_parser(PARSER)
    rows, seconds = [], {"painting": 0.0, "scoring": 0.0}
    with tempfile.TemporaryDirectory() as folder:
        model = write_miniature(Path(folder) / "miniature")
        pipeline, encoder = FashionRAGPipeline.from_pretrained(model), load_encoder(model)

        def encode(photos):
            return encoder.encode_images(photos).numpy()

        for number in range(FIRST, FIRST + args.people):
            case = make_case(number)
            started = time.perf_counter()
            pictures = paint(pipeline, case, args.seeds)
            seconds["painting"] += time.perf_counter() - started
            for seed, picture in enumerate(pictures):
                started = time.perf_counter()
                region = garment_region(human.labels_of(picture), case.category)
                region &= case.mask.numpy() > 0
                if not region.any():
                    region = case.mask.numpy() > 0
                (found,) = garment_fidelity(picture, region, case.photos[:1], encode)
                seconds["scoring"] += time.perf_counter() - started
                found = {"person": number, "seed": seed, **asdict(found)}
                rows.append({**found, **measure(case, picture, classifier)})
            write_text(args.out / "pictures.json", json.dumps(rows) + "\n")
    figures = summary(rows, args.seeds)
    figures["seconds a picture"] = {n: round(s / len(rows), 3) for n, s in seconds.items()}
    write_text(args.out / "fidelity.json", json.dumps(figures, indent=1) + "\n")


def summary(rows: list[dict[str, float]], seeds: int) -> dict[str, object]:
    """Rank correlations, and the means for one seed, the best by score, and the best there was."""
    own = [row for row in rows if row["seed"] < seeds]
    figures: dict[str, object] = {}
    for name, some in (("all pictures", rows), ("right garment", own)):
        columns = {key: np.array([row[key] for row in some]) for key in some[0]}
        known = np.isfinite(columns["colour error"])
        figures[name] = {
            key: {
                "against colour error": _rank(columns[key][known], -columns["colour error"][known]),
                "against pattern": _rank(columns[key], columns["pattern"]),
            }
            for key in ("score", "cosine", "colour", "texture")
        }
    people = [own[start : start + seeds] for start in range(0, len(own), seeds)]
    chosen = {
        "first seed": [some[0] for some in people],
        "best by score": [max(some, key=lambda row: row["score"]) for some in people],
        "least colour error": [min(some, key=lambda row: row["colour error"]) for some in people],
    }
    for name, some in chosen.items():
        figures[name] = {
            key: round(float(np.nanmean([row[key] for row in some])), 3)
            for key in ("colour error", "pattern")
        }
    return figures


def _rank(first: np.ndarray, second: np.ndarray) -> float:
    return round(float(spearmanr(first, second).statistic), 3)


if __name__ == "__main__":
    main()
