"""`fashion-rag miniature train` from nothing to a model folder, in a tiny world."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("aggdraw")
pytest.importorskip("tensorboard")

from fashion_rag.adapter.headless.pipeline import FashionRAGPipeline  # noqa: E402
from fashion_rag.adapter.person.parsing import load_parser  # noqa: E402
from fashion_rag.commands.main import main  # noqa: E402
from fashion_rag.miniature import train as miniature  # noqa: E402
from fashion_rag.training import stages  # noqa: E402

RUN = ("steps=2", "batch_size=2", "log_every=1", "checkpoint_every=1", "preview_every=9")
"""Of each stage."""
OWN = (
    "clip.model.vision_cfg.layers=1",
    "clip.model.text_cfg.layers=1",
    "vae.model.block_out_channels=[32, 32, 32, 32]",
    "parser.model.hidden_sizes=[8, 8, 16, 16]",
    "parser.size=[32, 32]",
    "parser.input=[32, 32]",
    "fashion_rag.unet.block_out_channels=[32, 32, 32, 32]",
    "fashion_rag.unet.attention_head_dim=2",
)


def test_one_command_makes_the_miniature(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(miniature, "COUNT", 6)
    monkeypatch.setattr(miniature, "TEST", 3)
    monkeypatch.setattr(miniature, "SIZE", (96, 128))
    sets = [*OWN, *(f"{stage}.run.{value}" for stage in miniature.STAGES for value in RUN)]
    command = ["miniature", "train", "--out", str(tmp_path / "mini")]
    command += [part for value in sets for part in ("--set", value)]
    # Stopped in the first stage, and gone on with by the same command.
    assert main([*command, "--minutes", "0"]) == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert not (tmp_path / "mini" / "vae").exists()
    assert main(command) == 0
    folder = tmp_path / "mini" / "model"
    assert f"{folder} is ready" in capsys.readouterr().out
    FashionRAGPipeline.from_pretrained(folder)
    record = json.loads((folder / miniature.RECORD).read_text())
    assert list(record["stages"]) == list(miniature.STAGES)
    assert record["world"]["count"] == 6 and record["command"].startswith("fashion-rag miniature")
    parser = tmp_path / "mini" / "parser" / "model"
    assert load_parser(parser).preprocessing.size == (32, 32)
    assert list(json.loads((parser / miniature.RECORD).read_text())["stages"]) == ["parser"]
    for stage in record["stages"].values():
        assert stage["configuration"]["run"]["steps"] == 2 and stage["seconds"] >= 0
    # Nothing is done again.
    assert main(command) == 0
    with pytest.raises(ValueError, match="'gan.run.steps=1' names no stage"):
        miniature.train_miniature(tmp_path / "mini", settings=["gan.run.steps=1"])


def test_minutes_are_of_all_stages_together(tmp_path, monkeypatch):
    clock, given = [0.0], {}

    def run_stage(content, world, run, resume, minutes):
        given[run.name] = minutes
        run.mkdir()
        clock[0] += 20 * 60
        return run.name != "parser"

    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "often.txt").touch()
    monkeypatch.setattr(stages, "run_stage", run_stage)
    monkeypatch.setattr(miniature, "record_stage", lambda *_: None)
    monkeypatch.setattr(miniature, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    assert not miniature.train_miniature(tmp_path, 30)
    assert given == {"clip": 30, "vae": 10, "parser": 0}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("clip.run.nope=1", "The stage clip: unknown key 'run.nope'; known here: "),
        ("fashion_rag.run.steps=0", "The stage fashion_rag: run.steps is 0; expected more"),
        ("vae.run.steps=many", "The stage vae: run.steps is 'many'; expected int"),
        ("vae.run", "The stage vae: 'run' is no setting"),
        ("vae", "'vae' names no stage"),
        ("gan.run.steps=1", "'gan.run.steps=1' names no stage"),
    ],
)
def test_settings_are_checked_before_anything_is_drawn(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        miniature.train_miniature(tmp_path / "mini", settings=[setting])
    assert not (tmp_path / "mini").exists()
