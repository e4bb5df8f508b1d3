"""`fashion-rag train`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..training.stages import CONFIGS, check_packages, parse_stage, run_stage
from .terminal import number, write


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `train`."""
    parser = commands.add_parser(
        "train",
        help="train the method's models on a Dress Code folder, real or drawn",
        description="Stages: clip, vae, parser, adapter, fashion_rag; the configuration names one. "
        "For several GPUs or nodes: accelerate launch -m fashion_rag train ...",
    )
    add = parser.add_argument
    add("config", type=Path, help="TOML file, or the name of one that is shipped")
    add("--data", type=Path, required=True, metavar="FOLDER", help="in Dress Code's layout")
    add("--out", type=Path, required=True, metavar="FOLDER", help="of the run")
    add("--resume", action="store_true", help="go on from the run's last checkpoint")
    add("--minutes", type=number(0), help="stop with a checkpoint after so many minutes")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting, such as run.steps=2000",
    )
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> None:
    check_packages()
    from accelerate import PartialState

    from ..training.config import override, read_toml

    shipped = CONFIGS / f"{args.config}.toml"
    path = shipped if not args.config.suffix and shipped.is_file() else args.config
    content = override(read_toml(path), args.set)
    try:
        parse_stage(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    finished = run_stage(content, args.data, args.out, args.resume, args.minutes)
    if PartialState().is_main_process:
        write(
            f"{args.out / 'model'} is ready"
            if finished
            else f"stopped after {args.minutes:g} minutes; go on with --resume"
        )
