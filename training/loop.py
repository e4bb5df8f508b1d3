"""The training loop, one for every stage, on accelerate: one CPU, one GPU, or many."""

from __future__ import annotations

import errno
import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..files import parse_json, write_text
from . import checkpoint
from .config import Run, differences

logger = logging.getLogger(__name__)

CONFIG = "config.json"


class Task(nn.Module):
    """A stage of training. Parameters that need a gradient are trained, the rest is frozen.

    All that is random comes from torch's global generator, which the loop seeds for each forward
    pass, or from the position in `stream`: so a run that goes on takes the very steps that it
    would have taken.
    """

    #: A map from a position, 0 and up without end, to a sample (dict of tensors).
    stream: Dataset
    #: Names of the submodules that `run.compile` compiles.
    compiled: tuple[str, ...] = ()

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
        """Return the loss of a batch, and figures to log."""
        raise NotImplementedError

    def preview(self) -> Image.Image:
        """Draw what the model does at present."""
        raise NotImplementedError

    def export(self, folder: Path) -> None:
        """Write the model in the formats of diffusers, transformers and open_clip."""
        raise NotImplementedError


def train(
    task: Task,
    run: Run,
    config: dict[str, Any],
    folder: Path,
    resume: bool = False,
    minutes: float | None = None,
) -> bool:
    """Train until `run.steps`, then export to `folder/model`.

    Args:
        config: the whole configuration as plain values, kept in the folder; a run can only be
            resumed with the same one, but for `config.RESUMABLE`.
        folder: of the run; checkpoints, TensorBoard logs, previews and the model go there.
        resume: go on from the latest checkpoint, if there is one.
        minutes: stop with a checkpoint after so many minutes.

    Returns:
        Whether `run.steps` was reached.

    Raises:
        ValueError: the folder belongs to another run, the loss is no longer finite, or the stage
            can't be compiled.
        OSError: a checkpoint could not be written.
    """
    accelerator = Accelerator(
        mixed_precision=run.mixed_precision,
        gradient_accumulation_steps=run.accumulate,
        log_with="tensorboard",
        project_dir=folder,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    try:
        finished = _train(accelerator, task, run, config, folder, resume, minutes)
        accelerator.end_training()
    except BaseException as error:
        # Only the logs are closed: to leave the other processes would mean to wait for them.
        with suppress(OSError):
            for tracker in accelerator.trackers:
                tracker.finish()
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise OSError(
                f"{folder}: no space is left on the disk. Free some space and resume; "
                f"{_kept(folder)}."
            ) from error
        raise
    finally:
        # The next run of this process may have another precision.
        AcceleratorState._reset_state()
    return finished


def _train(
    accelerator: Accelerator,
    task: Task,
    run: Run,
    config: dict[str, Any],
    folder: Path,
    resume: bool,
    minutes: float | None,
) -> bool:
    rank, processes = accelerator.process_index, accelerator.num_processes
    if processes > 1:
        # Another number would draw other samples for the same step.
        config = {**config, "processes": processes}
    if accelerator.is_main_process:
        _mark_folder(folder, config, resume)
    accelerator.wait_for_everyone()
    trained = {name: p for name, p in task.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(
        [{"params": list(trained.values())}],
        lr=run.learning_rate,
        weight_decay=run.weight_decay,
        betas=(0.9, 0.99),
        foreach=True,
    )
    checkpoints = folder / "checkpoints"
    started = checkpoint.latest(checkpoints) if resume else None
    saved = None if started is None else checkpoint.load(started)
    step = 0 if saved is None else saved.step
    if saved is not None:
        _fill(trained, saved.weights, started)
    begin = step * run.accumulate * processes * run.batch_size
    end = run.steps * run.accumulate * processes * run.batch_size
    loader = DataLoader(
        task.stream,
        batch_size=run.batch_size,
        sampler=range(begin, end),
        num_workers=run.workers,
        drop_last=True,
    )
    if run.compile:
        if not hasattr(torch.compiler, "set_stance"):
            raise ValueError(
                f"run.compile is true, but torch {torch.__version__} is installed; it takes 2.6 or "
                "newer. Set it to false, or update torch."
            )
        if not task.compiled:
            raise ValueError(
                f"run.compile is true, but {type(task).__name__} names nothing to compile; the "
                "stages vae, adapter and fashion_rag do. Set it to false."
            )
        for name in task.compiled:
            task.get_submodule(name).compile()
    model, optimizer, loader = accelerator.prepare(task, optimizer, loader)
    # After that, on the device, and with the main process's weights everywhere.
    average = {name: p.detach().clone() for name, p in trained.items()}
    if saved is not None:
        _fill(average, saved.average, started)
        optimizer.load_state_dict(saved.optimizer)
        if accelerator.scaler is not None and saved.scaler is not None:
            accelerator.scaler.load_state_dict(saved.scaler)
        saved = None  # as large as the model three times over
    accelerator.init_trackers("logs")

    def write() -> None:
        if not all(torch.isfinite(p).all() for p in trained.values()):
            raise ValueError(_not_finite(f"weights are not finite after step {step}", checkpoints))
        if accelerator.is_main_process:
            weights = {name: p.data for name, p in trained.items()}
            scaler = None if accelerator.scaler is None else accelerator.scaler.state_dict()
            state = checkpoint.Checkpoint(step, weights, average, optimizer.state_dict(), scaler)
            checkpoint.save(checkpoints, state)
        accelerator.wait_for_everyone()

    stopwatch, micro, sums, counted, late = time.monotonic(), 0, {}, 0, False
    bar = tqdm(total=run.steps, initial=step, unit="step", disable=not accelerator.is_main_process)
    model.train()
    for batch in loader:
        torch.manual_seed(_mixed(run.seed, step * run.accumulate + micro, rank))
        with accelerator.accumulate(model):
            loss, figures = model(batch)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(trained.values(), run.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = run.learning_rate * _schedule(step, run)
            optimizer.step()
            optimizer.zero_grad()
        for name, value in {"loss": loss.detach(), **figures}.items():
            sums[name] = sums.get(name, 0) + value / run.accumulate
        micro += 1
        if micro < run.accumulate:
            continue
        micro, step, counted = 0, step + 1, counted + 1
        _follow(average, trained, min(run.ema, (1 + step) / (10 + step)) if run.ema else 0.0)
        bar.update()
        due = step % run.checkpoint_every == 0 or step == run.steps
        # Only what was seen to be finite is written.
        if step % run.log_every == 0 or due:
            late = minutes is not None and time.monotonic() - stopwatch > 60 * minutes
            means, late = _agreed(accelerator, sums, counted, late)
            if not math.isfinite(means["loss"]):
                what = f"loss is {means['loss']} within the {counted} steps up to {step}"
                raise ValueError(_not_finite(what, checkpoints))
            sums, counted = {}, 0
            accelerator.log(means, step=step)
            bar.set_postfix({name: f"{value:.4f}" for name, value in means.items()})
            if due or late:
                write()
        if step % run.preview_every == 0 and accelerator.is_main_process:
            with averaged(trained, average):
                _preview(task, folder, step, run.compile)
            model.train()
        if late:
            break
    bar.close()
    finished = step >= run.steps
    if finished and accelerator.is_main_process:
        with averaged(trained, average):
            _preview(task, folder, step, run.compile)
            with checkpoint.atomic_output(folder / "model", _kept(folder)) as part:
                part.mkdir()
                task.export(part)
    accelerator.wait_for_everyone()
    return finished


def _agreed(
    accelerator: Accelerator, sums: dict[str, Any], counted: int, late: bool
) -> tuple[dict[str, float], bool]:
    """Average the figures over steps and processes, and tell whether any process is late.

    All processes get the same answer, so that they stop together.
    """
    values = [float(value) / counted for value in sums.values()]
    if accelerator.num_processes > 1:
        shared = torch.tensor([*values, float(late)], device=accelerator.device)
        *values, any_late = accelerator.reduce(shared, "mean").tolist()
        late = any_late > 0
    return dict(zip(sums, values, strict=True)), late


def _not_finite(what: str, checkpoints: Path) -> str:
    return (
        f"the {what}: nothing since the last checkpoint is kept. Resume with a lower "
        f"run.learning_rate, or without fp16; last checkpoint: {checkpoint.latest(checkpoints)}."
    )


@contextmanager
def averaged(trained: dict[str, nn.Parameter], average: dict[str, torch.Tensor]) -> Iterator[None]:
    """Put the moving average in the parameters' place while this context manager is open."""
    now = {name: parameter.data for name, parameter in trained.items()}
    for name, parameter in trained.items():
        parameter.data = average[name]
    try:
        yield
    finally:
        for name, parameter in trained.items():
            parameter.data = now[name]


def _mark_folder(folder: Path, config: dict[str, Any], resume: bool) -> None:
    """Record in the folder which run it is of, or check that it is this one."""
    file = folder / CONFIG
    if file.is_file():
        if not resume:
            raise ValueError(
                f"{folder} holds a run already: go on with --resume, or choose another folder."
            )
        try:
            changed = differences(parse_json(file.read_text(encoding="utf-8")), config)
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{file} is damaged ({error}): it holds the run's configuration. Remove it with "
                "its folder to begin again."
            ) from error
        if changed:
            raise ValueError(
                f"{folder} belongs to another run: {'; '.join(changed)}. Resume it with its own "
                f"configuration ({file}), or choose another folder."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty and holds no run: choose another folder.")
    write_text(file, json.dumps(config, indent=2) + "\n")


def _fill(into: dict[str, torch.Tensor], values: dict[str, torch.Tensor], source: Path) -> None:
    wrong = sorted(
        name
        for name in into.keys() | values.keys()
        if name not in into or name not in values or into[name].shape != values[name].shape
    )
    if wrong:
        raise ValueError(
            f"{source} is of another architecture: {len(wrong)} parameters differ, the first is "
            f"{wrong[0]!r}. Resume with the models that the run began with, or train in another "
            "folder."
        )
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(values[name])


@torch.no_grad()
def _follow(average: dict[str, torch.Tensor], trained: dict[str, nn.Parameter], decay: float):
    names = list(average)
    torch._foreach_lerp_(
        [average[name] for name in names], [trained[name].data for name in names], 1 - decay
    )


def _schedule(step: int, run: Run) -> float:
    """Return the factor of the learning rate: linear warm-up, constant, linear to zero.

    The constant part lets a run be lengthened later.
    """
    rise = (step + 1) / max(run.warmup, 1)
    fall = (run.steps - step) / max(run.cooldown * run.steps, 1)
    return min(1.0, rise, fall)


def _mixed(seed: int, position: int, rank: int) -> int:
    return hash((seed, position, rank)) & 0x7FFFFFFFFFFFFFFF


def _preview(task: Task, folder: Path, step: int, compiled: bool) -> None:
    task.eval()
    # What is compiled was compiled for the shapes of training.
    eager = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
    with torch.no_grad(), eager:
        picture = task.preview()
    with checkpoint.atomic_output(folder / "previews" / f"{step:08d}.png", _kept(folder)) as part:
        picture.save(part, format="PNG")


def _kept(folder: Path) -> str:
    newest = checkpoint.latest(folder / "checkpoints")
    return f"{newest} is whole" if newest else "there is no checkpoint yet"
