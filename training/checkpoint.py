"""The files of a run, written whole or not at all: its last two checkpoints, and its model."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..adapter.garment.checkpoints import write_safetensors
from ..files import replace_file, write_text

KEPT = 2
_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a step, from which it goes on as if it had never stopped.

    weights, average: the trained parameters and their moving average, by name. optimizer: its state
    dict. scaler: the state dict of fp16's gradient scaler.
    """

    step: int
    weights: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any] | None = None


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write the checkpoint `folder/step-NNNNNNNN`, and remove all but the last two.

    Raises:
        OSError: it could not be written; the earlier ones are untouched.
    """
    # A killed process leaves its unfinished folder.
    for stale in folder.glob(".step-*"):
        shutil.rmtree(stale, ignore_errors=True)
    final = folder / f"step-{checkpoint.step:08d}"
    earlier = latest(folder)
    still_there = f"{earlier} is whole" if earlier else "there is no earlier one"
    with atomic_output(final, still_there) as part:
        part.mkdir()
        write_safetensors(_plain(checkpoint.weights), part / "weights.safetensors")
        write_safetensors(_plain(checkpoint.average), part / "average.safetensors")
        torch.save(checkpoint.optimizer, part / "optimizer.pt")
        state = {"step": checkpoint.step, "scaler": checkpoint.scaler}
        write_text(part / _STATE, json.dumps(state))
    for old in _finished(folder)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


@contextmanager
def atomic_output(final: Path, still_there: str) -> Iterator[Path]:
    """Yield a path to write a file or folder to; it becomes `final` once all of it is on the disk.

    Args:
        still_there: words for the error of a failed write on what is left to resume from.

    Raises:
        OSError: something could not be written; an earlier `final` is untouched.
    """
    part = final.with_name(f".{final.name}")
    try:
        _remove(part)
        part.parent.mkdir(parents=True, exist_ok=True)
        yield part
        for path in [*part.rglob("*"), part]:
            _to_disk(path)
        _remove(final)
        replace_file(part, final)
        _to_disk(final.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        # Before the unfinished part is removed: removing it frees space again.
        full = is_full(error, final.parent)
        _remove(part)
        reason, remedy = str(error), "Put that right"
        if full:
            reason, remedy = "no space is left on the disk", "Free some space"
        raise OSError(
            f"{final} could not be written: {reason}. {remedy} and resume; {still_there}."
        ) from error


def is_full(error: Exception, folder: Path) -> bool:
    """Tell whether an error is that of a full disk; safetensors and torch have their own words."""
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
        return True
    return folder.is_dir() and shutil.disk_usage(folder).free < 1e6


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    # Windows can't open a folder to flush it.
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def latest(folder: Path) -> Path | None:
    """Find the newest whole checkpoint in a run's folder; None without one."""
    return next(reversed(_finished(folder)), None)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint without executing anything in it.

    Raises:
        ValueError: it is damaged.
    """
    try:
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        return Checkpoint(
            step=state["step"],
            scaler=state.get("scaler"),
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
