"""`fashion-rag evaluate` and `fashion-rag pattern-classifier`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..adapter.person.masks import MODES
from ..categories import CATEGORIES
from ..files import cache_folder
from ..miniature import trained
from ..model_parts import load_part
from ..progress import Progress
from .parsing import parser_folder
from .terminal import (
    MINIATURE,
    add_device_option,
    check_file,
    model_folder,
    number,
    picture_size,
    whole_number,
    write,
)

CLASSIFIER = trained.WEIGHTS.parent / "pattern_classifier.safetensors"
"""The pattern classifier that comes with the trained miniature."""
_GARMENTS = 600  # of each category in the drawn test world
_HELD_OUT_SEED = 1000


@dataclass(frozen=True)
class _Defaults:
    pairs: int | None
    size: tuple[int, int]
    steps: int
    guidance_scale: float
    masks: str
    batch_size: int


_PAPER = _Defaults(None, (512, 384), 50, 7.5, MODES[0], 8)
_MINIATURE = _Defaults(200, trained.SIZE[::-1], trained.STEPS, trained.GUIDANCE, "mask", 32)


def add_commands(commands: Any) -> None:
    """Add the subcommands to argparse's subparsers."""
    _add_evaluate(commands)
    _add_classifier(commands)


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="the paper's metrics and tables over a Dress Code folder",
        description="Paint the test pairs with 0 to 3 retrieved garments and measure the pictures. "
        "An interrupted run goes on where it stopped.",
        epilog=f"With --miniature the defaults are {_MINIATURE.pairs} pairs, {_MINIATURE.steps} "
        f"steps, guidance {_MINIATURE.guidance_scale}, masks '{_MINIATURE.masks}', "
        f"{trained.SIZE[0]}x{trained.SIZE[1]} pixels, "
        f"{_MINIATURE.batch_size} at a time.",
    )
    add = parser.add_argument
    add("--miniature", action="store_true", help="the claim on the drawn world, with its models")
    add("--data", type=Path, metavar="FOLDER", help="Dress Code (with --miniature: a drawn one)")
    add("--model", type=model_folder, metavar="FOLDER", help="in diffusers layout")
    add("--json", type=Path, required=True, metavar="FILE", help="the results to write")
    add("--out", type=Path, metavar="FOLDER", help="pictures, plots, table (default: by FILE)")
    add(
        "--pairs",
        type=whole_number(1),
        metavar="N",
        help="test pairs a category (default: all)",
    )
    add(
        "--skip",
        type=whole_number(0),
        default=0,
        metavar="N",
        help="leave out the first N pairs of each",
    )
    add("--full", action="store_true", help="also unpaired, and 1 to 3 noun chunks")
    add("--order", choices=("paired", "unpaired"), default="paired", help="default: paired")
    add("--chunks", type=int, choices=(1, 2, 3), default=3, help="noun chunks (default: 3)")
    add("--category", nargs="+", choices=CATEGORIES, metavar="NAME")
    add(
        "--columns",
        nargs="+",
        metavar="NAME",
        help="k0 k1 k2 k3 k1_without_own k1_captioned k2_captioned k3_captioned "
        "k3_captioned_without_own oracle oracle_parsed vae",
    )
    add(
        "--parser",
        type=parser_folder,
        metavar="FOLDER",
        help=f"human parser, for oracle_parsed, or `{MINIATURE}`",
    )
    add("--index", type=Path, metavar="FOLDER", help="of the garments of --data (default: built)")
    add("--encoder", type=model_folder, metavar="FOLDER", help="of --index (default: the model's)")
    add("--pred-files", type=Path, metavar="FOLDER", help="official retrieval files instead")
    add(
        "--clip",
        type=Path,
        metavar="FOLDER",
        help="encoder for CLIP-S, CLIP-I (default: --encoder)",
    )
    add("--classifier", type=Path, metavar="FILE", help="of patterns (default: the shipped one)")
    add("--unet", type=Path, metavar="FILE", help="instead of the model folder's")
    add("--adapter", type=Path, metavar="FILE", help="instead of the model folder's")
    add("--steps", type=whole_number(1, 1000), help="DDIM steps (default: 50)")
    add("--guidance-scale", type=number(0, 100), help="default: 7.5")
    add("--size", type=_size, metavar="WxH", help="default: 384x512")
    add("--masks", choices=MODES, help=f"default: {_PAPER.masks}")
    add("--seed", type=whole_number(0), default=0, help="of the noise (default: 0)")
    add(
        "--batch-size",
        type=whole_number(1),
        metavar="N",
        help="pictures at a time (default: 8)",
    )
    add_device_option(parser)
    parser.set_defaults(run=_evaluate)


def _add_classifier(commands: Any) -> None:
    parser = commands.add_parser(
        "pattern-classifier",
        help="train the network that tells a drawn garment's pattern",
        description="Render garments that are in neither part of the drawn world, put them through "
        "the model's VAE, and train on both.",
    )
    add = parser.add_argument
    add("--model", type=model_folder, metavar="FOLDER", help="whose VAE (default: the shipped)")
    add(
        "--data", type=Path, metavar="FOLDER", help="a drawn world of another seed (default: drawn)"
    )
    add("--out", type=Path, default=CLASSIFIER, metavar="FILE", help="default: beside the weights")
    add("--count", type=whole_number(1), default=7000, help="garments to draw (default: 7000)")
    add(
        "--round-trips",
        type=whole_number(0),
        default=2400,
        help="of them through the VAE (default: 2400)",
    )
    add("--epochs", type=whole_number(1), default=6, help="default: 6")
    add("--seed", type=whole_number(0), default=0, help="of the training (default: 0)")
    parser.set_defaults(run=_classifier)


def _size(text: str) -> tuple[int, int]:
    width, height = picture_size(text)
    return height, width


def _evaluate(args: argparse.Namespace) -> None:
    _need_packages(args.miniature)

    from ..evaluation.columns import CLAIM, COLUMNS_BY_KEY, PROTOCOL
    from ..evaluation.job import Job, settings_for
    from ..evaluation.miniature.run import evaluate
    from ..evaluation.painting import Sampling
    from ..evaluation.retrieval import has_pred_files

    small = args.miniature
    if not small and (args.data is None or args.model is None):
        raise ValueError(
            "Name a Dress Code folder with --data and a model with --model, or use --miniature."
        )
    check_file(args.json, "--json")
    unknown = [name for name in args.columns or () if name not in COLUMNS_BY_KEY]
    if unknown:
        raise ValueError(f"--columns has {unknown[0]!r}; there are: {', '.join(COLUMNS_BY_KEY)}.")
    columns = [COLUMNS_BY_KEY[name] for name in args.columns] if args.columns else None
    defaults = _MINIATURE if small else _PAPER

    def chosen(name: str) -> Any:
        value = getattr(args, name)
        return getattr(defaults, name) if value is None else value

    out = args.out or args.json.with_suffix("")
    if out == args.json:
        raise ValueError(
            f"--json {args.json} is also the folder of the pictures: end it in .json, or name a "
            "folder with --out."
        )
    classifier = args.classifier or (CLASSIFIER if CLASSIFIER.is_file() else None)
    settings = settings_for(
        columns or (CLAIM if small else PROTOCOL), args.order, args.chunks, args.full
    )
    if args.pred_files is not None:
        # Of what --full adds: the official files know captions of one and of three chunks.
        first, *others = settings
        there = [one for one in others if has_pred_files(args.pred_files, one.chunks)]
        if left := sorted({one.chunks for one in others} - {one.chunks for one in there}):
            names = ", ".join(map(str, left))
            write(f"--full leaves out captions of {names} chunks: {args.pred_files} has none.")
        settings = (first, *there)
    job = Job(
        model=args.model or trained.write_miniature(cache_folder() / "miniature-model"),
        root=args.data or _test_world(),
        out=out,
        json=args.json,
        settings=settings,
        categories=tuple(name for name in CATEGORIES if name in (args.category or CATEGORIES)),
        sampling=Sampling(
            size=chosen("size"),
            mask=chosen("masks"),
            steps=chosen("steps"),
            guidance_scale=chosen("guidance_scale"),
            seed=args.seed,
            batch_size=chosen("batch_size"),
        ),
        device=str(args.device),
        title="The claim in miniature" if small else "Fashion-RAG on Dress Code",
        pairs=chosen("pairs"),
        skip=args.skip,
        index=args.index,
        pred_files=args.pred_files,
        encoder=args.encoder,
        clip=args.clip,
        unet=args.unet,
        adapter=args.adapter,
        parser=args.parser or (trained.PARSER if small else None),
    )
    content = evaluate(job, classifier if small else args.classifier)
    for target in content["claim"]:
        verdict = "met" if target["passed"] else f"missed: {target['reason']}"
        write(f"{target['name']}: {verdict}")
    write(f"wrote {args.json}, {out / 'table.md'}")


def _classifier(args: argparse.Namespace) -> None:
    import random
    import time

    from diffusers import AutoencoderKL
    from tqdm import tqdm

    from ..evaluation.dresscode import read_samples
    from ..evaluation.miniature.drawn_world import DrawnWorld
    from ..evaluation.miniature.pattern_training import read_views, train_classifier
    from ..evaluation.miniature.patterns import save_classifier
    from ..evaluation.painting import round_trip
    from ..miniature.dresscode import render

    started = time.monotonic()
    logging.getLogger(__package__).setLevel(logging.INFO)
    world = args.data or cache_folder() / f"patterns-{args.count}"
    with tqdm(dynamic_ncols=True) as bar:

        def showing(what: str) -> Progress:
            def progress(done: int, total: int) -> None:
                if bar.desc != f"{what}: ":
                    bar.reset(total)
                    bar.set_description(what, refresh=False)
                bar.update(done - bar.n)

            return progress

        if args.data is None:
            render(
                world, args.count, 0, seed=_HELD_OUT_SEED, size=(96, 128),
                progress=showing("drawing"),
            )  # fmt: skip
        drawn = DrawnWorld.open(world)
        if drawn is None or drawn.seed == 0:
            raise ValueError(f"{world} is no drawn world, or the one that is evaluated (seed 0).")
        model = args.model or trained.write_miniature(cache_folder() / "miniature-model")
        vae = load_part(AutoencoderKL, model / "vae", "diffusion_pytorch_model")
        samples = sorted(read_samples(world, "train"), key=lambda sample: sample.person)
        samples = samples[: args.count]
        random.Random(args.seed).shuffle(samples)
        raw = read_views(samples, progress=showing("reading"))
        through = read_views(
            samples[: args.round_trips], lambda photos: round_trip(vae, photos), showing("VAE")
        )
        network, rates = train_classifier(
            [raw, through], args.epochs, args.seed, progress=showing("training")
        )
    minutes = (time.monotonic() - started) / 60
    notes = {
        "command": f"fashion-rag pattern-classifier --count {len(samples)} "
        f"--round-trips {args.round_trips} --epochs {args.epochs} --seed {args.seed}",
        "held_out_accuracy": f"{rates[0]:.4f} raw, {rates[1]:.4f} through the VAE",
        "minutes": f"{minutes:.0f}",
    }
    save_classifier(network, args.out, notes)
    write(f"{notes['held_out_accuracy']}; wrote {args.out} after {minutes:.0f} min")


def _test_world() -> Path:
    """Return the folder of the drawn test world, which is drawn on the first use."""
    from tqdm import tqdm

    from ..miniature.dresscode import WORLD_VERSION, render

    count = 3 * _GARMENTS
    folder = cache_folder() / f"test-world-{WORLD_VERSION}"
    if not (folder / "test_pairs_unpaired.txt").is_file():
        with tqdm(desc=f"drawing the test world in {folder}", total=count, unit=" pairs") as bar:
            render(folder, count, count, progress=lambda done, _: bar.update(done - bar.n))
    return folder


def _need_packages(small: bool) -> None:
    import importlib.util

    wanted = {"skimage": "scikit-image", "matplotlib": "matplotlib", "tqdm": "tqdm"}
    wanted |= {"aggdraw": "aggdraw"} if small else {"cleanfid": "clean-fid", "lpips": "lpips"}
    missing = [name for module, name in wanted.items() if not importlib.util.find_spec(module)]
    if missing:
        raise ImportError(
            f"The evaluation needs {', '.join(missing)}: pip install {' '.join(missing)}, or "
            "install the pack with its extra: pip install -e '.[evaluate]'."
        )
