"""`fashion-rag train`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parent / "configs"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add the subcommand `train`."""
    parser = commands.add_parser(
        "train",
        help="train the method's models on a Dress Code folder, real or drawn",
        description="Stages: clip, vae, adapter, fashion_rag; the configuration names one. For "
        "several GPUs or nodes: accelerate launch -m fashion_rag train ...",
    )
    add = parser.add_argument
    add("config", type=Path, help="TOML file, or the name of one that is shipped")
    add("--data", type=Path, required=True, metavar="FOLDER", help="in Dress Code's layout")
    add("--out", type=Path, required=True, metavar="FOLDER", help="of the run")
    add("--resume", action="store_true", help="go on from the run's last checkpoint")
    add("--minutes", type=float, help="stop with a checkpoint after so many minutes")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting, such as run.steps=2000",
    )
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> None:
    from .config import override, read_toml

    shipped = CONFIGS / f"{args.config}.toml"
    path = shipped if not args.config.suffix and shipped.is_file() else args.config
    content = override(read_toml(path), args.set)
    try:
        finished = run_stage(content, args.data, args.out, args.resume, args.minutes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    sys.stdout.write(
        f"{args.out / 'model'} is ready\n"
        if finished
        else f"stopped after {args.minutes:g} minutes; go on with --resume\n"
    )


def run_stage(
    content: dict[str, Any], data: Path, out: Path, resume: bool, minutes: float | None
) -> bool:
    """Train the stage that a configuration names.

    Raises:
        ValueError: an unknown stage or key, or data that do not fit.
        ImportError: the packages for training are missing.
    """
    try:
        import accelerate
    except ImportError as error:
        raise ImportError("training needs more packages: pip install -e '.[train]'") from error
    import torch

    from .config import parse, plain
    from .loop import train

    content = dict(content)
    stage = content.pop("stage", None)
    device = torch.device(accelerate.PartialState().device)
    if stage == "clip":
        from .clip import Clip, ClipTask

        config = parse(Clip, content)
        task = ClipTask(config, data)
    elif stage == "vae":
        from .vae import Vae, VaeTask

        config = parse(Vae, content)
        task = VaeTask(config, data)
    elif stage in ("adapter", "fashion_rag"):
        from .fashion_rag import FashionRag, FashionRagTask

        config = parse(FashionRag, {"train_unet": stage == "fashion_rag", **content})
        # Beside the run, not in it: a new run's folder has to be empty.
        task = FashionRagTask(config, data, out.with_name(f"{out.name}.encoded"), device)
    else:
        raise ValueError(f"stage is {stage!r}; expected one of clip, vae, adapter, fashion_rag.")
    return train(task, config.run, {"stage": stage, **plain(config)}, out, resume, minutes)
