"""`fashion-rag miniature`: drawing the miniature's data and training its models."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from ..miniature.train import STAGES
from .terminal import number, picture_size, tell_progress, whole_number, write


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `miniature`."""
    miniature = commands.add_parser("miniature", help="the drawn Dress Code").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    render = miniature.add_parser(
        "render", help="draw people and garments in Dress Code's folder layout"
    )
    render.add_argument("--out", type=Path, required=True, help="a new folder, or one to complete")
    render.add_argument(
        "--count", type=whole_number(1), default=8000, help="pairs to draw (default: 8000)"
    )
    render.add_argument(
        "--test", type=whole_number(0), help="how many of them are held out (default: 1 in 4)"
    )
    render.add_argument(
        "--seed", type=whole_number(0), default=0, help="another seed, another world (default: 0)"
    )
    render.add_argument(
        "--size",
        type=picture_size,
        default=(384, 512),
        metavar="WxH",
        help="3:4 (default: 384x512)",
    )
    render.add_argument("--processes", type=whole_number(1), help="default: one for each core")
    render.set_defaults(run=_render)
    examples = miniature.add_parser(
        "examples", help="draw the garments and people that come with the pack"
    )
    examples.add_argument("--out", type=Path, required=True, help="folder")
    examples.set_defaults(run=_examples)
    train = miniature.add_parser("train", help="train the miniature's models from nothing")
    train.add_argument("--out", type=Path, required=True, help="folder; what is begun is resumed")
    train.add_argument("--minutes", type=number(0), help="stop with a checkpoint after so long")
    train.add_argument(
        "--set", action="append", default=[], metavar="STAGE.KEY=VALUE", help="change a setting"
    )
    train.add_argument("--only", choices=STAGES, help="one stage")
    train.set_defaults(run=_train)


def _examples(args: argparse.Namespace) -> None:
    from ..miniature.examples import write_examples

    write_examples(args.out)
    write(f"catalogues/ and people/ are in {args.out}")


def _train(args: argparse.Namespace) -> None:
    from ..miniature.train import train_miniature

    if train_miniature(args.out, args.minutes, args.set, args.only):
        ready = args.out / "parser" / "model" if args.only == "parser" else args.out / "model"
        write(f"{ready} is ready")
    else:
        write("not complete yet; the same command goes on")


def _render(args: argparse.Namespace) -> None:
    from ..miniature.dresscode import render

    start = time.monotonic()

    def progress(done: int, total: int) -> None:
        left = (time.monotonic() - start) / done * (total - done)
        tell_progress(f"{done} of {total} pairs, {left:.0f} s left ", done == total)

    test = args.count // 4 if args.test is None else args.test
    render(args.out, args.count, test, args.seed, args.size, args.processes, progress)
    seconds = time.monotonic() - start
    write(f"{args.count} pairs ({test} held out) in {args.out}, {seconds:.0f} s")
