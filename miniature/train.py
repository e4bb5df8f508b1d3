"""`fashion-rag miniature train`: training all of the miniature's models from nothing."""

from __future__ import annotations

import json
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from ..files import write_text

COUNT, TEST, SEED = 11_000, 1_800, 0
"""Rendered pairs, those of them that are held out, and the world's seed."""
SIZE = (384, 512)
STAGES = ("clip", "vae", "parser", "fashion_rag")
RECORD = "training.json"


def train_miniature(
    folder: Path,
    minutes: float | None = None,
    settings: list[str] = (),
    only: str | None = None,
) -> bool:
    """Render the world, train the stages one after the other, and write `folder/model`.

    The human parser is no part of the model: it stays in `folder/parser/model`. What is finished is
    kept, what was begun is resumed: call it again to go on.

    Args:
        minutes: stop the stage that is under way with a checkpoint after so many minutes in all.
        settings: `STAGE.table.key=value`, changes to the shipped configurations.
        only: this stage alone; `clip`, `vae` and `parser` do not need each other, and may run side
            by side.

    Returns:
        Whether the model folder, or with `only` that stage, is complete.

    Raises:
        ValueError: a setting that no stage has; all are checked before anything is drawn.
        ImportError: the packages for training are missing.
    """
    unknown = [s for s in settings if s.partition(".")[0] not in STAGES or "." not in s]
    if unknown:
        raise ValueError(
            f"{unknown[0]!r} names no stage: expected one of {', '.join(STAGES)} first, as "
            "in clip.run.steps=500."
        )
    from ..training.stages import check_packages, run_stage
    from .dresscode import OFTEN, render

    begun = time.monotonic()
    check_packages()
    contents = _configurations(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    world = folder / "world"
    if not (world / OFTEN).is_file():  # the last that is written
        render(world, COUNT, TEST, SEED, SIZE, progress=_progress)
    for stage in STAGES if only is None else (only,):
        run = folder / stage
        if (run / "finished").is_file():
            continue
        if stage == "fashion_rag":
            assemble(folder)
        content = contents[stage]
        started = time.monotonic()
        left = None if minutes is None else max(0.0, minutes - (started - begun) / 60)
        finished = run_stage(content, world, run, run.is_dir(), left)
        record_stage(folder, stage, content, time.monotonic() - started)
        if not finished:
            return False
        if stage == "parser":
            _note_parser(folder, run / "model")
        (run / "finished").touch()
    if only == "parser":
        return True
    if not (folder / "fashion_rag" / "finished").is_file():
        return False
    shutil.copytree(folder / "fashion_rag" / "model", folder / "model", dirs_exist_ok=True)
    shutil.copy(folder / RECORD, folder / "model" / RECORD)
    return True


def _configurations(folder: Path, settings: list[str]) -> dict[str, dict[str, Any]]:
    """Return the configuration of every stage with its settings.

    Raises:
        ValueError: a setting does not fit its stage; the message names the stage.
    """
    from ..training.config import override, read_toml
    from ..training.stages import CONFIGS, parse_stage

    contents = {}
    for stage in STAGES:
        own = [s.removeprefix(f"{stage}.") for s in settings if s.startswith(f"{stage}.")]
        try:
            content = override(read_toml(CONFIGS / f"miniature_{stage}.toml"), own)
            if stage == "fashion_rag":
                content["model"] = str(folder / "base")
            parse_stage(content)
        except ValueError as error:
            raise ValueError(f"The stage {stage}: {error}") from error
        contents[stage] = content
    return contents


def assemble(folder: Path) -> Path:
    """Write `folder/base`, the model folder that the stage `fashion_rag` starts from."""
    from ..model_parts import write_tokenizer
    from .standin import write_scheduler

    base = folder / "base"
    for stage, part in (("clip", "text_encoder"), ("clip", "image_encoder"), ("vae", "vae")):
        shutil.copytree(folder / stage / "model" / part, base / part, dirs_exist_ok=True)
    write_tokenizer(base / "tokenizer")
    write_scheduler(base / "scheduler")
    return base


def record_stage(folder: Path, stage: str, content: dict, seconds: float) -> None:
    """Add a stage to `training.json`, the record of how the weights were made."""
    import torch

    file = folder / RECORD
    record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    world = folder / "world"
    test = _lines(world / "test_pairs_paired.txt")
    record |= {
        "command": "fashion-rag miniature train --out FOLDER",
        "world": {
            "count": _lines(world / "train_pairs.txt") + test,
            "test": test,
            **json.loads((world / "miniature.json").read_text(encoding="utf-8")),
        },
        "torch": torch.__version__,
    }
    before = record.setdefault("stages", {}).get(stage, {"seconds": 0})
    record["stages"][stage] = {
        "seconds": round(before["seconds"] + seconds),
        "hardware": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{processor()}, {torch.get_num_threads()} threads",
        "configuration": {name: value for name, value in content.items() if name != "model"},
    }
    write_text(file, json.dumps(record, indent=2) + "\n")


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def _note_parser(folder: Path, parser: Path) -> None:
    """Copy the record to the parser, with its own stage alone."""
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    record["stages"] = {"parser": record["stages"]["parser"]}
    write_text(parser / RECORD, json.dumps(record, indent=2) + "\n")


def processor() -> str:
    """Return the processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _progress(done: int, total: int) -> None:
    if done % 100 == 0 or done == total:
        sys.stderr.write(f"\rdrawing {done} of {total} pairs" + ("\n" if done == total else ""))
