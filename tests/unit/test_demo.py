"""The demo: what it refuses, which painter it takes, and the whole of it without ComfyUI."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fashion_rag.comfyui_server.client import PromptError
from fashion_rag.comfyui_server.installations import Host
from fashion_rag.commands import demo
from fashion_rag.commands import main as cli
from fashion_rag.demo import scene
from fashion_rag.demo.words import category_of_text, unknown_words
from fashion_rag.miniature import trained
from fashion_rag.miniature.standin import make_standin
from PIL import Image

from ..cards import match_colour_cards


def host(folder: Path, version: str) -> Host:
    folder.mkdir()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return Host(folder)


@pytest.fixture(scope="module")
def standin(tmp_path_factory) -> Path:
    """An untrained model folder with towers of its own for retrieval, as the miniature is."""
    folder = make_standin(tmp_path_factory.mktemp("standin"))
    shutil.rmtree(folder / "encoder")
    match_colour_cards(folder)
    return folder


@pytest.fixture
def small(standin, monkeypatch) -> Path:
    """The stand-in in the place of the trained weights; few garments and steps."""
    monkeypatch.setattr(trained, "WEIGHTS", standin)
    monkeypatch.setattr(scene, "STEPS", 1)
    monkeypatch.setattr(scene, "GARMENTS", 12)
    monkeypatch.setattr(demo, "find_hosts", pytest.fail)
    return standin


@pytest.fixture
def drawn(monkeypatch) -> dict:
    """What the sheet is drawn from."""
    kept = {}
    draw_sheet = demo.draw_sheet

    def keep(text, found, photos, person, mask, result, foot):
        kept.update(
            text=text, found=found, person=person, mask=mask.convert("L"), result=result, foot=foot
        )
        return draw_sheet(text, found, photos, person, mask, result, foot)

    monkeypatch.setattr(demo, "draw_sheet", keep)
    return kept


def check_repainted(drawn: dict) -> None:
    changed = (np.asarray(drawn["result"]) != np.asarray(drawn["person"])).any(axis=2)
    mask = np.asarray(drawn["mask"].resize(drawn["person"].size)) > 127
    assert changed[mask].mean() > 0.9
    assert not changed[~mask].any()


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("A red shirt dress", "dresses"),
        ("white T-shirt, short sleeves", "upper_body"),
        ("blue shorts", "lower_body"),
        ("a pleated skirt with a belt", "lower_body"),
        ("short sleeves", None),
    ],
)
def test_the_words_tell_the_category(text, category):
    assert category_of_text(text) == category


def test_words_of_another_world_are_told(caplog):
    assert unknown_words("a green A-line dress with short sleeves, patterned fabric") == []
    assert unknown_words("blue denim jacket, metal buttons, denim") == ["denim", "metal"]
    demo.check(cli.build_parser().parse_args(["demo", "--text", "blue denim jacket"]))
    assert "has the word denim" in caplog.text


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [([], None), (["0.27.9"], None), (["0.27.9", "0.28.0"], 1), (["1.0.0", "0.33.1"], 0)],
)
def test_the_first_supported_host(tmp_path, monkeypatch, capsys, versions, chosen):
    hosts = [host(tmp_path / str(i), version) for i, version in enumerate(versions)]
    monkeypatch.setattr(demo, "find_hosts", lambda: hosts)
    assert demo.choose_host() == (None if chosen is None else hosts[chosen])
    assert ("too old: 0.28 is needed" in capsys.readouterr().err) == ("0.27.9" in versions)


@pytest.mark.parametrize("failure", [PromptError("no such node"), TimeoutError("no such node")])
def test_a_host_that_fails_is_named(tmp_path, monkeypatch, capsys, failure):
    broken = host(tmp_path / "broken", "0.33.0")

    def fail(*_):
        raise failure

    monkeypatch.setattr(demo, "find_hosts", lambda: [broken])
    monkeypatch.setattr(demo, "open_models", lambda *_: None)
    monkeypatch.setattr(demo, "draw_catalogue", lambda *_: None)
    monkeypatch.setattr(demo, "dress", fail)
    assert cli.main(["demo", "--out", str(tmp_path / "demo.png")]) == 1
    message = capsys.readouterr().err
    assert f"{broken.root}: no such node" in message and "--no-comfyui" in message


def test_without_comfyui(small, drawn, tmp_path, capsys):
    out = tmp_path / "new folder" / "sheet.png"
    text = "white shirt"
    assert cli.main(["demo", "--no-comfyui", "--text", text, "--out", str(out)]) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    assert drawn["text"] == text
    assert [garment.category for garment in drawn["found"]] == ["upper_body"] * 3
    scores = [garment.score for garment in drawn["found"]]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 1
    assert drawn["foot"] == (
        f"Painted by the trained miniature, {trained.SIZE[0]}x{trained.SIZE[1]} pixels, 1 steps, "
        "without ComfyUI."
    )
    check_repainted(drawn)
    sheet = np.asarray(Image.open(out).convert("L"))
    assert (sheet[-40:] < 160).sum() > 100, "the foot says who painted it"


def test_without_the_miniatures_weights_it_says_where_they_come_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trained, "WEIGHTS", tmp_path / "none")
    assert cli.main(["demo", "--no-comfyui", "--out", str(tmp_path / "demo.png")]) == 1
    message = capsys.readouterr().err
    assert "The trained miniature is missing" in message and str(tmp_path / "none") in message


def test_an_empty_text_is_refused(capsys):
    assert cli.main(["demo", "--no-comfyui", "--text", "  "]) == 1
    assert "text is empty" in capsys.readouterr().err


def test_a_file_that_is_no_picture_is_refused_first(capsys):
    assert cli.main(["demo", "--no-comfyui", "--out", "demo.txt"]) == 1
    assert "no picture's ending" in capsys.readouterr().err


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("option", ["--person", "--mask", "--catalogue"])
def test_own_photos_are_refused_with_the_miniature(small, tmp_path, capsys, option, weights):
    given = ["--weights", str(small)] if weights else []
    assert cli.main(["demo", "--no-comfyui", option, str(tmp_path), *given]) == 1
    message = capsys.readouterr().err
    assert option in message and "stable-diffusion-2-inpainting" in message
    assert "inversion_adapter.safetensors" in message


def test_weights_trained_like_the_miniature_are_known(tmp_path):
    assert not trained.is_miniature(tmp_path)
    record = {"command": "fashion-rag miniature train --out FOLDER"}
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert trained.is_miniature(tmp_path)


def test_weights_that_are_none(tmp_path, capsys):
    assert cli.main(["demo", "--no-comfyui", "--weights", str(tmp_path)]) == 1
    assert "it has no unet" in capsys.readouterr().err


def test_a_person_needs_a_mask(tmp_path, capsys):
    arguments = ["--weights", str(tmp_path), "--person", str(tmp_path / "me.jpg")]
    assert cli.main(["demo", "--no-comfyui", *arguments]) == 1
    assert "--mask belong together" in capsys.readouterr().err


def test_own_photos_with_models_of_ones_own(standin, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(scene, "FULL_SIZE", (64, 96))
    monkeypatch.setattr(scene, "FULL_STEPS", 1)
    person, mask = tmp_path / "me.png", tmp_path / "mask.png"
    Image.effect_noise((120, 200), 60).convert("RGB").save(person)
    painted = Image.new("L", (120, 200))
    painted.paste(255, (30, 60, 90, 150))
    painted.save(mask)
    catalogue = tmp_path / "mine"
    catalogue.mkdir()
    for name in ("one", "two"):
        Image.effect_noise((60, 80), 90).convert("RGB").save(catalogue / f"{name}.jpg")
    out = tmp_path / "sheet.jpg"
    arguments = ["--weights", standin, "--person", person, "--mask", mask, "--catalogue", catalogue]
    arguments += ["--text", "anything at all", "--out", out, "--no-comfyui"]
    assert cli.main(["demo", *map(str, arguments)]) == 0
    assert {garment.file for garment in drawn["found"]} == {"one.jpg", "two.jpg"}
    assert drawn["person"].size == (120, 200)
    assert f"Painted by {standin.name}, 64x96 pixels" in drawn["foot"]
    check_repainted(drawn)
