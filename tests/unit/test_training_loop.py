"""The training loop: exact resume, several processes, refusals, and what is left after an error."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

from fashion_rag.commands.main import main  # noqa: E402
from fashion_rag.training import checkpoint, loop  # noqa: E402

from .training_small import (  # noqa: E402
    CLIP,
    LineTask,
    settings,
    small_model,
    small_world,
    toml,
    train_line,
)

_KILLED = """
import os, signal, sys
from fashion_rag.commands.main import main
replace = os.replace
def killed(source, target):
    if str(target).endswith("step-00000004"):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
    replace(source, target)
os.replace = killed
main(sys.argv[1:])
"""
_PROCESS = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from training_small import train_line
train_line(Path(sys.argv[2]), batch_size=2, accumulate=2)
"""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def state(folder: Path) -> dict[str, object]:
    """A run's last checkpoint and its model, file by file, to the last bit."""
    parts = (checkpoint.latest(folder / "checkpoints"), folder / "model")
    files = [file for part in parts for file in part.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): content(file) for file in files}


def content(file: Path) -> object:
    if file.suffix != ".safetensors":
        return file.read_bytes()
    # The order of a file's metadata changes from one writing to the next.
    with safe_open(file, framework="np") as opened:
        return opened.metadata(), {n: opened.get_tensor(n).tobytes() for n in opened.keys()}


def test_a_killed_run_goes_on_as_if_it_had_never_stopped(tmp_path, tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    world, model = small_world(base), small_model(base)
    config = tmp_path / "small.toml"
    values = settings(model, precompute=True, adapter_dropout=0.5)
    values["run"] |= {"steps": 6, "accumulate": 2}
    config.write_text(toml(values))
    command = ["train", str(config), "--data", str(world), "--out"]
    assert main([*command, str(tmp_path / "straight")]) == 0

    killed = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    died = subprocess.run(
        [sys.executable, "-c", _KILLED, *command, str(killed)], env=environment, timeout=300
    )
    assert died.returncode != 0
    left = killed / "checkpoints"
    # Killed while it was writing the second one, which does not count.
    assert checkpoint.latest(left).name == "step-00000002" and (left / ".step-00000004").is_dir()
    assert not (killed / "model").exists()

    assert main([*command, str(killed), "--resume"]) == 0
    assert state(killed) == state(tmp_path / "straight")
    assert sorted(path.name for path in left.iterdir()) == ["step-00000004", "step-00000006"]
    # A finished run that is resumed writes its model again, the same one.
    before = state(killed)
    assert main([*command, str(killed), "--resume"]) == 0
    assert state(killed) == before
    trained = load_file(left / "step-00000006" / "weights.safetensors")
    assert {name.split(".")[0] for name in trained} == {"unet", "adapter"}


def on_two_processes(command: list[str], out: Path) -> str:
    """Run a command as two processes, and return what they write.

    Now and then gloo's threads abort a process that is done (exit code -6); then it runs once more.
    """
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for _ in range(3):
        done = subprocess.run(
            [*launch, *command], env=environment, capture_output=True, text=True, timeout=300
        )
        if done.returncode == 0:
            return done.stdout
        assert "exitcode: -6" in done.stderr, done.stderr
        shutil.rmtree(out, ignore_errors=True)
    raise AssertionError(done.stderr)


def test_processes_accumulation_and_batch_give_one_result(tmp_path):
    """Two processes of 2 x 2 samples, one of 2 x 4, and one of 8: the same mean gradient."""
    (tmp_path / "line.py").write_text(_PROCESS)
    two = tmp_path / "two"
    on_two_processes([str(tmp_path / "line.py"), str(Path(__file__).parent), str(two)], two)
    train_line(tmp_path / "micro", batch_size=4, accumulate=2)
    train_line(tmp_path / "whole", batch_size=8)
    weights = [
        torch.load(tmp_path / name / "model" / "line.pt", weights_only=True)
        for name in ("two", "micro", "whole")
    ]
    for name, tensor in weights[2].items():
        assert (tensor - 0.1).abs().max() > 0.05  # it did learn
        torch.testing.assert_close(weights[0][name], tensor, rtol=0, atol=1e-5)
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="another run: processes: 2, now None"):
        train_line(tmp_path / "two", batch_size=2, accumulate=2, resume=True)


def test_the_command_runs_on_several_processes(tmp_path, tmp_path_factory):
    """And the contrastive loss, which gathers the features of all."""
    config = tmp_path / "clip.toml"
    run = settings(Path())["run"] | {"steps": 2}
    tables = {"model.vision_cfg": CLIP["vision_cfg"], "model.text_cfg": CLIP["text_cfg"]}
    embedding = {"embed_dim": CLIP["embed_dim"]}
    config.write_text(toml({"stage": "clip", "run": run, "model": embedding, **tables}))
    world = small_world(tmp_path_factory.getbasetemp())
    out = tmp_path / "run"
    command = ["-m", "fashion_rag", "train", str(config), "--data", str(world), "--out", str(out)]
    written = on_two_processes(command, out)
    assert written.count("model is ready") == 1
    assert json.loads((out / "config.json").read_text())["processes"] == 2
    assert (out / "model" / "encoder").is_dir()


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling on a CPU takes g++")
def test_a_compiled_run_learns_the_same_and_draws_uncompiled(tmp_path):
    class Compiled(LineTask):
        compiled = ("layer",)

        def preview(self):
            self.layer(torch.zeros(5, 8))  # another shape than in training
            return super().preview()

    torch._dynamo.utils.counters.clear()
    task = train_line(tmp_path / "compiled", Compiled(), compile=True, preview_every=4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    plain = train_line(tmp_path / "plain")
    torch.testing.assert_close(task.layer.weight, plain.layer.weight)
    assert list(task.state_dict()) == list(plain.state_dict())


def test_a_stage_without_anything_to_compile_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"run.compile.*LineTask"):
        train_line(tmp_path / "line", compile=True)


def test_figures_are_means_over_the_steps(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        loop.Accelerator, "log", lambda self, figures, step: seen.append((step, figures))
    )
    train_line(tmp_path / "every", steps=6)
    every = [figures["loss"] for _, figures in seen]
    seen.clear()
    train_line(tmp_path / "seldom", steps=6, log_every=4, checkpoint_every=3)
    # Also before each checkpoint, for only what is finite is written.
    assert [step for step, _ in seen] == [3, 4, 6]
    for (_, figures), part in zip(seen, (every[:3], every[3:4], every[4:]), strict=True):
        assert figures["loss"] == pytest.approx(sum(part) / len(part), rel=1e-5)
        assert figures["twice"] == pytest.approx(2 * figures["loss"], rel=1e-5)


def test_a_loss_that_is_not_finite_leaves_the_last_checkpoint(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="loss is nan.*lower run.learning_rate.*step-00000004"):
        train_line(folder, LineTask(breaks_at=6))
    kept = checkpoint.latest(folder / "checkpoints")
    assert kept.name == "step-00000004"
    assert all(t.isfinite().all() for t in checkpoint.load(kept).weights.values())
    assert not (folder / "model").exists()
    # The remedy works, and the rest of the run is taken.
    train_line(folder, resume=True, learning_rate=0.01)
    assert (folder / "model").is_dir()


def test_weights_that_are_not_finite_are_not_written(tmp_path, monkeypatch):
    """The loss of a step is finite, its gradient is not."""
    clip = loop.Accelerator.clip_grad_norm_

    def broken(self, parameters, norm):
        clip(self, parameters, norm)
        for parameter in parameters:
            parameter.grad.fill_(float("inf"))

    monkeypatch.setattr(loop.Accelerator, "clip_grad_norm_", broken)
    with pytest.raises(ValueError, match="weights are not finite after step 1"):
        train_line(tmp_path / "run", checkpoint_every=1)
    assert checkpoint.latest(tmp_path / "run" / "checkpoints") is None


def test_the_time_limit_stops_with_a_checkpoint(tmp_path):
    from fashion_rag.training.config import Run

    run = Run(steps=50, batch_size=2, learning_rate=0.05, log_every=3)
    assert loop.train(LineTask(), run, {}, tmp_path / "run", minutes=0) is False
    assert checkpoint.latest(tmp_path / "run" / "checkpoints").name == "step-00000003"
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("writer", ["safetensors", "torch", "json"])
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch, writer):
    """In the words in which each library tells of it, seen on a full file system."""
    folder = tmp_path / "run"
    full = {"now": False}
    errors = {
        "safetensors": (
            checkpoint,
            "write_safetensors",
            SafetensorError("Error while serializing: I/O error: No space left on device"),
        ),
        "torch": (
            checkpoint.torch,
            "save",
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),
        ),
        "json": (checkpoint, "write_text", OSError(errno.ENOSPC, "No space left on device")),
    }
    where, name, error = errors[writer]
    real = getattr(where, name)

    def write(*args, **options):
        if full["now"]:
            (next(folder.glob("checkpoints/.step-*")) / "half").write_bytes(b"half")
            raise error
        return real(*args, **options)

    monkeypatch.setattr(where, name, write)
    if writer == "torch":
        used = checkpoint.shutil.disk_usage

        def disk_usage(path):
            return types.SimpleNamespace(free=0) if full["now"] else used(path)

        monkeypatch.setattr(checkpoint.shutil, "disk_usage", disk_usage)
    task = LineTask()
    forward = task.forward

    def fills_the_disk(batch):
        full["now"] = task.passes >= 3
        return forward(batch)

    task.forward = fills_the_disk
    with pytest.raises(OSError, match="no space is left on the disk. Free some.*step-00000002 is"):
        train_line(folder, task)
    full["now"] = False
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000002"]
    train_line(folder, resume=True)
    assert checkpoint.latest(folder / "checkpoints").name == "step-00000008"


def test_a_model_is_written_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "run"
    task = LineTask()

    def export(part):
        (part / "half").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    task.export = export
    with pytest.raises(OSError, match="model could not be written.*step-00000008 is whole"):
        train_line(folder, task)
    assert not (folder / "model").exists() and not (folder / ".model").exists()
    train_line(folder, resume=True)
    assert [file.name for file in (folder / "model").iterdir()] == ["line.pt"]


def test_folders_of_other_runs_are_refused(tmp_path):
    folder = tmp_path / "run"
    train_line(folder)
    with pytest.raises(ValueError, match="holds a run already: go on with --resume"):
        train_line(folder)
    with pytest.raises(ValueError, match="another run: run.batch_size: 2, now 4"):
        train_line(folder, resume=True, batch_size=4)
    other = tmp_path / "photos"
    other.mkdir()
    (other / "mine.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="not empty and holds no run"):
        train_line(other, resume=True)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match="config.json is damaged"):
        train_line(folder, resume=True)


def test_checkpoints_of_other_models_and_damaged_ones_are_refused(tmp_path):
    folder = tmp_path / "run"
    train_line(folder)
    with pytest.raises(ValueError, match=r"another architecture: 1 parameters.*'layer.weight'"):
        train_line(folder, LineTask(width=9), resume=True, steps=9)
    newest = checkpoint.latest(folder / "checkpoints")
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="is damaged .* remove this folder to go on from the one"):
        train_line(folder, resume=True, steps=9)
    checkpoint.shutil.rmtree(newest)
    train_line(folder, resume=True, steps=9)
    assert checkpoint.latest(folder / "checkpoints").name == "step-00000009"


def test_a_checkpoint_is_data_alone(tmp_path):
    """A pickle that would run code is refused, and nothing of it runs."""
    folder = tmp_path / "run"
    train_line(folder)
    newest = checkpoint.latest(folder / "checkpoints")

    class Code:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state": Code()}, newest / "optimizer.pt")
    with pytest.raises(ValueError, match="is damaged"):
        train_line(folder, resume=True, steps=9)
    assert not (tmp_path / "ran").exists()


def test_the_gradient_scaler_is_kept(tmp_path):
    scaler = {"scale": 1024.0, "growth_factor": 2.0, "_growth_tracker": 7}
    written = checkpoint.Checkpoint(3, {}, {}, {}, scaler)
    assert checkpoint.load(checkpoint.save(tmp_path, written)).scaler == scaler
