"""`fashion-rag mask --parser` and `generate --parser`: a mask without a label map."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fashion_rag.commands.main import main
from fashion_rag.miniature import examples
from fashion_rag.miniature.trained import PARSER
from PIL import Image

from . import peak

pytest.importorskip("transformers")
PEOPLE = PARSER.parent.parent / "examples" / "people"


def mask_of(tmp_path, *arguments: str) -> np.ndarray:
    out = tmp_path / "mask.png"
    assert main(["mask", "--out", str(out), *arguments]) == 0
    return np.asarray(Image.open(out)) > 127


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("name", sorted(examples.PEOPLE))
def test_the_miniatures_parser_finds_what_is_repainted(tmp_path, capsys, name):
    """With the pose of the shipped people, nearly the mask that was made of their true labels."""
    person = PEOPLE / name
    categories = {"drawn_dress": "dresses", "drawn_top": "upper_body"}
    found = mask_of(
        tmp_path,
        *("--parser", "miniature", "--photo", str(person / "photo.jpg")),
        *("--category", categories.get(name, "lower_body"), "--mode", "mask"),
        *("--keypoints", str(person / "pose.json")),
    )
    true = np.asarray(Image.open(person / "mask.png").convert("L")) > 127
    assert overlap(found, true) > 0.85
    assert "of the picture is repainted" in capsys.readouterr().out


def test_what_the_parser_does_not_find_is_an_error(tmp_path, capsys):
    Image.new("RGB", (60, 80), (240, 240, 240)).save(tmp_path / "wall.png")
    command = ["mask", "--parser", str(PARSER), "--photo", str(tmp_path / "wall.png")]
    command += ["--category", "dresses", "--out", str(tmp_path / "mask.png")]
    assert main(command) == 1
    assert "finds nothing to repaint" in capsys.readouterr().err
    assert not (tmp_path / "mask.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --labels, or --parser"),
        (["--labels", "a.png", "--parser", "miniature"], "either --labels, or --parser"),
        (["--parser", "miniature"], "--photo belongs to --parser"),
        (["--labels", "a.png", "--photo", "b.png"], "--photo belongs to --parser"),
        (["--parser", "nowhere", "--photo", "PHOTO"], "nowhere has no config.json"),
        (["--parser", "miniature", "--photo", "PHOTO", "--paper"], "--paper belongs to --labels"),
        (
            ["--parser", "miniature", "--photo", "PHOTO", "--person-number", "3"],
            "nobody numbered 3",
        ),
    ],
)
def test_what_does_not_belong_together(tmp_path, capsys, arguments, message):
    photo = str(PEOPLE / "drawn_top" / "photo.jpg")
    given = [photo if one == "PHOTO" else one for one in arguments]
    command = ["mask", "--category", "upper_body", "--out", str(tmp_path / "m.png"), *given]
    assert main(command) == 1
    assert message in capsys.readouterr().err


def test_the_shipped_parser_is_small_and_says_how_it_was_made():
    weights = PARSER / "model.safetensors"
    assert weights.stat().st_size < 3_000_000
    record = json.loads((PARSER / "training.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("fashion-rag miniature train")
    assert list(record["stages"]) == ["parser"]
    assert record["held_out"]["people"] == 300
    assert record["held_out"]["mean_iou"] >= 0.85


LARGE = """
from PIL import Image
from fashion_rag.adapter.person.parsing import load_parser
from fashion_rag.miniature.trained import PARSER
people = PARSER.parents[1] / "examples" / "people"
person = Image.open(people / "drawn_top" / "photo.jpg")
photo = Image.new("RGB", (12000, 9000), (200, 205, 210))
photo.paste(person.resize((6750, 9000)), (2600, 0))
labels = load_parser(PARSER).labels_of(photo)
assert labels.shape == (9000, 12000)
worn = ((labels >= 4) & (labels <= 7)).nonzero()
print(peak(), int(worn[1].mean()), int(worn[0].mean()))
"""


@pytest.mark.skipif(not peak.AVAILABLE, reason="the peak is read from Linux' /proc")
def test_a_large_photo_is_parsed_in_less_than_3_gb(record_figure):
    """What is worn is found where the person was pasted."""
    megabytes, across, down = peak.run(LARGE)
    record_figure("memory of parsing 12,000 x 9,000 pixels, MB", megabytes, 3000)
    assert 5500 < across < 6500 and 4000 < down < 7500
