"""Configurations of training: what is refused and how, settings, and the shipped ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("accelerate")
pytest.importorskip("tensorboard")

from fashion_rag.commands.main import main  # noqa: E402
from fashion_rag.training import stages as cli  # noqa: E402
from fashion_rag.training.config import differences, override, plain, read_toml  # noqa: E402

from .training_small import settings, toml  # noqa: E402

SHIPPED = sorted(path.stem for path in cli.CONFIGS.glob("*.toml"))


def parsed(**changes):
    return cli.parse_stage(settings(Path("m"), **changes))[1]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_configurations_are_valid(name):
    content = read_toml(cli.CONFIGS / f"{name}.toml")
    stage, config = cli.parse_stage(content)
    assert stage == content["stage"]
    if stage in ("adapter", "fashion_rag"):
        assert config.train_unet == (stage == "fashion_rag")
    # What is kept beside a run says the same again.
    again = type(config)(**{**vars(config), "run": config.run})
    assert not differences(plain(config), plain(again))


def test_the_real_ones_are_shipped():
    assert {"clip", "adapter", "fashion_rag"} <= set(SHIPPED)
    config = cli.parse_stage(read_toml(cli.CONFIGS / "fashion_rag.toml"))[1]
    assert config.size == (512, 384) and config.preprocess == "fit" and not config.unet


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stage": "gan"},
            "stage is 'gan'; expected one of clip, vae, parser, adapter, fashion_rag",
        ),
        ({"stage": None}, "stage is None"),
        ({"modle": "m"}, "unknown key 'modle'; known here: .*model"),
        ({"size": "big"}, "size is 'big'; expected a list"),
        ({"size": [512, 383]}, "size is .*expected height and width, multiples of 8"),
        ({"size": [512, 384.5]}, r"size\[1\] is 384.5; expected int"),
        ({"mirror": 1}, "mirror is 1; expected bool"),
        ({"drop": 1.5}, "drop is 1.5; expected 0 to 1"),
        ({"garments": [0, 0]}, "garments is .*not all 0"),
        ({"garments": [0.5, -0.5]}, "garments is .*expected numbers from 0 on"),
        ({"chunks": [1.0]}, "chunks is .*expected 3 numbers"),
        ({"masks": {"circle": 1.0}}, "masks is .*expected shares of bounding_box, mask"),
        ({"masks": {"mask": "all"}}, "masks.mask is 'all'; expected float"),
        ({"masks": "mask"}, "masks is 'mask'; expected dict"),
        ({"preprocess": "squash"}, "preprocess is 'squash'; expected one of"),
        ({"order": "best"}, "order is 'best'; expected one of own_first, retrieved"),
        ({"captioned": 1.5}, "captioned is 1.5; expected 0 to 1"),
        ({"catalogue": -1}, "catalogue is -1; expected 0 to inf"),
        ({"pool": 2}, "pool 2; .*at least as many as `garments` allows, 3"),
        ({"run": {"steps": 1, "batch_size": 1}}, "the key 'run.learning_rate' is missing"),
        ({"run": 3}, "run is 3; expected a table"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        parsed(**changes)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", 0, "run.steps is 0; expected more than 0"),
        ("steps", 1.5, "run.steps is 1.5; expected int"),
        ("steps", True, "run.steps is True; expected int"),
        ("learning_rate", float("nan"), "run.learning_rate is nan"),
        ("ema", 1.5, "run.ema is 1.5; expected 0 to 1"),
        ("workers", -1, "run.workers is -1; expected 0 or more"),
        ("mixed_precision", "fp8", "run.mixed_precision is 'fp8'; expected one of no, fp16, bf16"),
        ("epochs", 3, "unknown key 'run.epochs'"),
    ],
)
def test_options_of_the_run_are_checked(key, value, message):
    run = settings(Path("m"))["run"] | {key: value}
    with pytest.raises(ValueError, match=message):
        parsed(run=run)


def test_an_integer_serves_as_a_number():
    config = parsed(drop=0, masks={"mask": 1})
    assert config.drop == 0.0 and isinstance(config.drop, float)
    assert config.masks == {"mask": 1.0}


def test_settings_change_a_configuration():
    content = {"run": {"steps": 3}, "encoder": "a"}
    override(
        content, ["run.steps=5", "run.learning_rate=1e-4", "encoder=some/folder", "size=[8,8]"]
    )
    assert content == {
        "run": {"steps": 5, "learning_rate": 1e-4},
        "encoder": "some/folder",
        "size": [8, 8],
    }
    with pytest.raises(ValueError, match="'run.steps' is no setting: expected table.key=value"):
        override(content, ["run.steps"])
    with pytest.raises(ValueError, match="'encoder' is no table"):
        override(content, ["encoder.x=1"])


def test_the_command_names_the_file(tmp_path, capsys):
    def said(config) -> str:
        command = ["train", str(config), "--data", "nowhere", "--out", str(tmp_path / "out")]
        assert main(command) == 1
        return capsys.readouterr().err

    assert "nowhere.toml does not exist: give a training configuration" in said("nowhere.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("stage = ")
    assert f"{broken} is no TOML file" in said(broken)
    broken.write_text(toml(settings(Path("m"), typo=1)))
    assert f"{broken}: unknown key 'typo'" in said(broken)
    assert not (tmp_path / "out").exists()


def test_only_what_leaves_the_taken_steps_alone_may_change():
    old = plain(parsed())
    run = settings(Path("m"))["run"]
    assert not differences(old, plain(parsed(run=run | {"steps": 9, "learning_rate": 0.5})))
    assert differences(old, plain(parsed(run=run | {"batch_size": 4}))) == [
        "run.batch_size: 2, now 4"
    ]
    assert differences(old, plain(dataclasses.replace(parsed(), drop=0.2))) == [
        "drop: 0.1, now 0.2"
    ]
