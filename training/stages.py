"""The training stages by their names: clip, vae, parser, adapter, fashion_rag."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parent / "configs"


def run_stage(
    content: dict[str, Any], data: Path, out: Path, resume: bool, minutes: float | None
) -> bool:
    """Train the stage that a configuration names.

    Returns:
        Whether the stage was finished.

    Raises:
        FileNotFoundError, ValueError: an unknown stage or key, data or models that do not fit,
            another run's folder, a loss that is no longer finite.
        OSError: something could not be written.
        ImportError: the packages for training are missing.
    """
    check_packages()
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    from .loop import train

    stage, config = parse_stage(content)
    # While one process encodes a large set, the others wait.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU")
    device = torch.device(PartialState(cpu, timeout=timedelta(hours=12)).device)
    # Untrained weights are drawn here: the same for a seed, in each process and when resumed.
    torch.manual_seed(config.run.seed)
    if stage == "clip":
        from .clip import ClipTask

        task = ClipTask(config, data, device)
    elif stage == "vae":
        from .vae import VaeTask

        task = VaeTask(config, data)
    elif stage == "parser":
        from .parser import ParserTask

        task = ParserTask(config, data)
    else:
        from .fashion_rag import FashionRagTask

        # Beside the run, not in it: a new run's folder has to be empty.
        task = FashionRagTask(config, data, out.with_name(f"{out.name}.encoded"), device)
    identity = {"stage": stage, "data": task.stream.data.digest(), **identity_of(config)}
    return train(task, config.run, identity, out, resume, minutes)


def identity_of(config: Any) -> dict[str, Any]:
    """Return what a run can only be resumed with, as JSON values.

    Options that earlier versions did not have are left out while they have their defaults: so a run
    that was begun before them can be resumed.
    """
    from .config import ADDED, plain

    values = plain(config)
    for field in fields(config):
        if field.name in ADDED and values[field.name] == field.default:
            del values[field.name]
    return values


def parse_stage(content: dict[str, Any]) -> tuple[str, Any]:
    """Return a configuration's stage, and the dataclass that it fills."""
    from .config import parse

    content = dict(content)
    stage = content.pop("stage", None)
    if stage == "clip":
        from .clip import Clip as Config
    elif stage == "vae":
        from .vae import Vae as Config
    elif stage == "parser":
        from .parser import Parser as Config
    elif stage in ("adapter", "fashion_rag"):
        from .fashion_rag_config import FashionRag as Config

        content = {"train_unet": stage == "fashion_rag", **content}
    else:
        raise ValueError(
            f"stage is {stage!r}; expected one of clip, vae, parser, adapter, fashion_rag."
        )
    return stage, parse(Config, content)


def check_packages() -> None:
    """Check that the packages for training are installed.

    Raises:
        ImportError: one is missing; the message says how to install it.
    """
    try:
        import accelerate  # noqa: F401
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"training needs the package {error.name}: pip install -e '.[train]' in the pack's "
            "folder."
        ) from error
