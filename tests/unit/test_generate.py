"""`fashion-rag generate`: from words to a picture on disk, on the stand-in."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from fashion_rag.adapter.headless.outfit import Piece, one_pass
from fashion_rag.adapter.person.garment_mask import GarmentMasks
from fashion_rag.commands import generate
from fashion_rag.commands.generate import add_commands
from fashion_rag.miniature.standin import make_standin
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.upkeep.build import build_index
from PIL import Image, ImageDraw

SMALL = ["--steps", "2", "--height", "64", "--width", "48", "--device", "cpu"]


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """A folder with catalogue, index, model, person, mask and pose."""
    root = tmp_path_factory.mktemp("house")
    model = make_standin(root / "model")
    for category, colour in (("upper_body", "navy"), ("upper_body", "red"), ("dresses", "green")):
        folder = root / "catalogue" / category
        folder.mkdir(parents=True, exist_ok=True)
        photo = Image.new("RGB", (96, 128), "white")
        ImageDraw.Draw(photo).rectangle((20, 20, 76, 108), fill=colour)
        photo.save(folder / f"{colour}.png")
    (root / "catalogue" / "garments.csv").write_text(
        "file,id,category,caption\n"
        "upper_body/navy.png,navy,upper_body,a navy shirt\n"
        "upper_body/red.png,red,upper_body,a red shirt\n"
        "dresses/green.png,green,dresses,a green dress\n"
    )
    build_index(root / "catalogue", root / "index", load_encoder(model / "encoder"))
    pixels = np.random.default_rng(2).integers(0, 256, (120, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "person.png")
    mask = Image.new("L", (80, 120), 0)
    mask.paste(255, (20, 30, 60, 90))
    mask.save(root / "mask.png")
    joints = [[4 * i + 2, 6 * i + 2, 1.0] for i in range(18)]
    pose = {"people": [{"pose_keypoints_2d": sum(joints, [])}]}
    pose |= {"canvas_width": 80, "canvas_height": 120}
    (root / "pose.json").write_text(json.dumps(pose))
    return root


def call(house: Path, *more: str, mask: bool = True) -> None:
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    given = [
        f"--{name}={house / file}"
        for name, file in (
            ("person", "person.png"),
            ("mask", "mask.png"),
            ("index", "index"),
            ("model", "model"),
        )
        if mask or name != "mask"
    ]
    args = parser.parse_args(["generate", *given, *SMALL, *more])
    args.run(args)


def test_words_become_a_picture(house, capsys):
    out = house / "out" / "picture.png"
    call(house, "--text=a navy shirt", f"--pose={house / 'pose.json'}", "--top-k=9", f"--out={out}")
    written = capsys.readouterr().out
    assert "top_k is 9, but only 3 garments are found" in written
    assert all(name in written for name in ("navy", "red", "green"))
    before, after = np.array(Image.open(house / "person.png")), np.array(Image.open(out))
    inside = np.array(Image.open(house / "mask.png")) > 127
    assert np.array_equal(before[~inside], after[~inside])
    assert (before != after)[inside].mean() > 0.9


def test_a_category_narrows_and_the_whole_picture_can_be_had(house, capsys):
    out = house / "whole.png"
    call(house, "--text=green", "--category=dresses", "--whole", "--levels=1 2", f"--out={out}")
    written = capsys.readouterr().out
    assert "green" in written and "navy" not in written
    assert Image.open(out).size == (48, 64)


def test_the_best_of_some_seeds_is_kept(house, capsys):
    """Its picture is that of its seed alone; of every seed the score is told."""
    best, alone = house / "best.png", house / "alone.png"
    same = ("--text=a red shirt", "--top-k=1")
    call(house, *same, "--best-of=3", "--seed=7", f"--out={best}")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
    assert [line.split(":")[0] for line in lines] == ["seed 7", "seed 8", "seed 9"]
    scores = [float(line.split()[2]) for line in lines]
    (chosen,) = [n for n, line in enumerate(lines) if line.endswith(", the best")]
    assert scores[chosen] == max(scores) and len(set(scores)) > 1
    call(house, *same, f"--seed={7 + chosen}", f"--out={alone}")
    assert best.read_bytes() == alone.read_bytes()
    with pytest.raises(ValueError, match="--best-of does not go with --whole"):
        call(house, *same, "--best-of=2", "--whole", f"--out={best}")


def test_a_parser_in_place_of_the_mask(house, tmp_path, monkeypatch):
    """The mask is of the category of the garments found."""
    asked = []

    def parsed(parser, photo, category, mode, grow, person, keypoints):
        asked.append((parser, photo.size, category, mode, grow, person, keypoints is None))
        masks = np.zeros((photo.height, photo.width), bool)
        masks[30:90, 20:60] = True
        return GarmentMasks(masks, masks, ~masks, ())

    monkeypatch.setattr(generate, "parsed_mask", parsed)
    out = tmp_path / "parsed.png"
    more = ("--parser=P", "--text=green", "--category=dresses", f"--out={out}", "--grow=5")
    call(house, *more, mask=False)
    assert asked == [(Path("P"), (80, 120), "dresses", "bounding_box", 5, 0, True)]
    before, after = np.array(Image.open(house / "person.png")), np.array(Image.open(out))
    inside = np.array(Image.open(house / "mask.png")) > 127
    assert np.array_equal(before[~inside], after[~inside])
    assert (before != after)[inside].mean() > 0.9
    with pytest.raises(ValueError, match="of dresses, upper_body.*name it with --category"):
        call(house, "--parser=P", "--text=a", f"--out={out}", mask=False)
    build_index(
        house / "catalogue" / "dresses",
        tmp_path / "plain",
        load_encoder(house / "model" / "encoder"),
    )
    plain = ("--parser=P", "--text=green", f"--index={tmp_path / 'plain'}", f"--out={out}")
    with pytest.raises(ValueError, match="of no category.*name it with --category"):
        call(house, *plain, mask=False)
    call(house, *plain, "--category=Dresses", mask=False)
    assert asked[-1][2] == "dresses"
    for given in (True, False):
        with pytest.raises(ValueError, match="either --mask, or --parser"):
            call(house, *(["--parser=P"] if given else []), "--text=a", "--out=a.png", mask=given)


def call_outfit(house: Path, lines: str, out: Path, *more: str) -> None:
    """Top and bottom of the person have masks of their own."""
    (house / "outfit.txt").write_text(lines, encoding="utf-8")
    regions = {"upper_body": (20, 30, 60, 60), "dresses": (20, 60, 60, 90)}
    for category, box in regions.items():
        mask = Image.new("L", (80, 120), 0)
        mask.paste(255, box)
        mask.save(house / f"{category}.png")
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    given = [f"--{name}={house / name}" for name in ("index", "model")]
    given += [f"--person={house / 'person.png'}", f"--outfit={house / 'outfit.txt'}"]
    given += [f"--region={name}={house / name}.png" for name in regions]
    args = parser.parse_args(["generate", *given, *SMALL, f"--out={out}", "--top-k=1", *more])
    args.run(args)


@pytest.mark.parametrize("passes", ["one", "two"])
def test_an_outfit_is_painted_in_its_regions(house, capsys, passes):
    out = house / f"{passes}.png"
    call_outfit(house, "upper_body: a red shirt\ndresses: green\n", out, f"--passes={passes}")
    written = capsys.readouterr().out
    assert "line 1, upper_body: a red shirt" in written and "dresses/green.png" in written
    before, after = np.array(Image.open(house / "person.png")), np.array(Image.open(out))
    inside = np.array(Image.open(house / "mask.png")) > 127
    assert np.array_equal(before[~inside], after[~inside])
    assert (before != after)[inside].mean() > 0.9


@pytest.mark.parametrize(
    ("lines", "more", "message"),
    [
        ("\n", [], "The outfit is empty"),
        ("upper_body: red", ["--levels=1"], "--levels does not go with --outfit"),
        ("upper_body: red", ["--whole-photo", "--passes=one"], "--passes two alone"),
    ],
)
def test_what_does_not_go_with_an_outfit(house, lines, more, message):
    with pytest.raises(ValueError, match=message):
        call_outfit(house, lines, house / "no.png", *more)


def test_one_pass_checks_what_two_passes_check():
    person, photo = Image.new("RGB", (80, 120)), Image.new("RGB", (9, 9))
    wide = np.zeros((80, 80), np.uint8)
    wide[20:50, 20:50] = 255
    for mask, options, message in (
        (wide, {}, "80x80"),
        (np.ones((120, 80)), {"height": 60}, "height x width is 60x384, expected multiples of 8"),
        (np.ones((120, 80)), {"prompt": "{garments} embedding:a"}, "embedding:a"),
    ):
        with pytest.raises(ValueError, match=message):
            one_pass(None, person, [Piece(mask, [photo])], **options)


def test_the_best_of_some_seeds_on_a_mask_of_another_scale(house, capsys):
    mask = Image.open(house / "mask.png").resize((40, 60), Image.Resampling.NEAREST)
    mask.save(house / "small_mask.png")
    out = house / "best_of_small.png"
    more = ("--text=a red shirt", "--top-k=1", "--best-of=2", f"--out={out}")
    call(house, f"--mask={house / 'small_mask.png'}", *more, mask=False)
    assert Image.open(out).size == (80, 120) and ", the best" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("lower_body=a.png", "lower_body=a.png is not used: .* are of dresses, upper_body"),
        ("upper_body=a.png", "is one of 2 of upper_body: keep one"),
    ],
)
def test_a_region_that_is_not_used(house, region, message):
    with pytest.raises(ValueError, match=message):
        lines = "upper_body: red\ndresses: green"
        call_outfit(house, lines, house / "no.png", f"--region={region}")


def test_a_region_is_not_used_by_the_category_that_is_chosen(house, monkeypatch):
    """The line names none: it shows after the search, and before anything is painted."""
    monkeypatch.setattr(generate, "two_passes", None)
    with pytest.raises(ValueError, match="dresses=.* is not used: .* are of upper_body"):
        call_outfit(house, "a red shirt", house / "no.png")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_an_outfit_in_the_encodings_of_windows(house, tmp_path, encoding):
    (tmp_path / "outfit.txt").write_bytes("upper_body:\n".encode(encoding))
    with pytest.raises(ValueError, match="line 1, 'upper_body:'"):
        call(house, f"--outfit={tmp_path / 'outfit.txt'}", "--out=a.png", mask=False)


def test_an_outfit_in_another_encoding_is_named(house, tmp_path):
    (tmp_path / "outfit.txt").write_bytes("Röcke".encode("latin-1"))
    with pytest.raises(ValueError, match=r"outfit.txt is no text in UTF-8 .*save it anew"):
        call(house, f"--outfit={tmp_path / 'outfit.txt'}", "--out=a.png", mask=False)


def test_a_folder_that_is_no_model_is_told_before_its_encoder(house, tmp_path):
    with pytest.raises(FileNotFoundError, match="nope is no model folder: unet, vae, .*missing"):
        call(house, f"--model={tmp_path / 'nope'}", "--text=a", "--out=a.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--region=upper_body=m.png"], "--region belongs to --outfit"),
        (["--passes=one"], "--passes belongs to --outfit"),
        (["--passes=two"], "--passes belongs to --outfit"),
        (["--mask-mode=garment"], "--mask-mode belongs to --parser"),
        (["--grow=3"], "--grow belongs to --parser"),
        (["--person-number=0"], "--person-number belongs to --parser"),
        (["--pose-person=1"], "--pose-person belongs to --pose"),
        (["--whole", "--feather=3"], "--feather does not go with --whole"),
        (["--whole-photo", "--context=1"], "--context does not go with --whole-photo"),
    ],
)
def test_options_that_would_change_nothing(house, arguments, message):
    with pytest.raises(ValueError, match=message):
        call(house, "--text=a red shirt", "--out=a.png", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text= ", "--out=a.png"], "--text is empty"),
        (["--text=a", "--out=a.docx"], "no picture's ending"),
        (["--text=a", "--out=a.png", "--levels=9"], "'9'"),
        (["--text=a", "--out=a.png", "--category=hats"], "hats"),
    ],
)
def test_errors_come_before_the_work(house, arguments, message):
    with pytest.raises(ValueError, match=message):
        call(house, *arguments)
