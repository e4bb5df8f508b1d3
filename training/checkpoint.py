"""Checkpoints of a run: written whole or not at all, the last two kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

KEPT = 2
_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on as if it had never stopped.

    weights, average: the trained parameters, and their moving average, by name.
    optimizer: the optimizer's state dict.
    """

    step: int
    weights: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `folder/step-NNNNNNNN`, and remove all but the last two.

    Raises:
        OSError: it could not be written; the earlier ones are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{checkpoint.step:08d}"
    part = folder / f".{final.name}"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        save_file(_plain(checkpoint.weights), part / "weights.safetensors")
        save_file(_plain(checkpoint.average), part / "average.safetensors")
        torch.save(checkpoint.optimizer, part / "optimizer.pt")
        (part / _STATE).write_text(json.dumps({"step": checkpoint.step}), encoding="utf-8")
        for file in part.iterdir():
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
    except (OSError, RuntimeError) as error:
        shutil.rmtree(part, ignore_errors=True)
        # safetensors and torch tell of a full disk in errors of their own.
        full = getattr(error, "errno", None) == errno.ENOSPC or shutil.disk_usage(folder).free < 1e6
        reason = "no space is left on the disk" if full else str(error)
        earlier = latest(folder)
        kept = f"{earlier} is whole" if earlier else "there is no earlier one"
        raise OSError(
            f"{final} could not be written: {reason}. Free some space and resume; {kept}."
        ) from error
    for old in _finished(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def latest(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run's folder."""
    return next(reversed(_finished(folder)), None)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        ValueError: it is damaged.
    """
    try:
        step = json.loads((path / _STATE).read_text(encoding="utf-8"))["step"]
        return Checkpoint(
            step=step,
            weights=load_file(path / "weights.safetensors"),
            average=load_file(path / "average.safetensors"),
            optimizer=torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True),
        )
    except Exception as error:
        raise ValueError(
            f"{path} is damaged ({error}): remove this folder to go on from the one before."
        ) from error


def _finished(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"step-*/{_STATE}"))


def _plain(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
