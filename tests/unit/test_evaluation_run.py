"""The whole evaluation on a small drawn world with untrained models."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from fashion_rag.commands.main import main
from fashion_rag.evaluation import painting
from fashion_rag.evaluation.dresscode import load_scene, read_samples
from fashion_rag.evaluation.miniature.drawn_world import DrawnWorld
from fashion_rag.evaluation.miniature.patterns import PatternClassifier, save_classifier
from fashion_rag.miniature.dresscode import render
from fashion_rag.miniature.standin import make_standin
from PIL import Image

SIZE = (128, 96)
CLASSIFIER = "pattern_classifier.safetensors"
COLUMNS = ("k0", "k1", "k2", "k3", "k1_without_own", "oracle", "oracle_parsed", "vae")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "drawn"
    render(folder, 15, 15, size=(96, 128), processes=1)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = make_standin(tmp_path_factory.mktemp("model"))
    save_classifier(PatternClassifier(), folder / CLASSIFIER, {})
    return folder


@pytest.fixture(scope="module")
def finished(world, model, tmp_path_factory):
    """A finished run: its JSON file and folder."""
    file = tmp_path_factory.mktemp("run") / "claim.json"
    assert evaluate(world, model, file, "--full", "--pairs", "1", "--category", "dresses") == 0
    return file, file.with_suffix("")


def levels(path):
    return np.asarray(Image.open(path), int)


def evaluate(world, model, file, *further):
    return main(
        ["evaluate", "--miniature", "--data", str(world), "--model", str(model)]
        + ["--classifier", str(model / CLASSIFIER), "--json", str(file)]
        + ["--steps", "1", "--device", "cpu", *further]
    )


def test_every_setting_has_its_table(finished):
    file, folder = finished
    content = json.loads(file.read_text())
    tables = {(table["order"], table["chunks"]): table for table in content["tables"]}
    assert set(tables) == {(o, c) for o in ("paired", "unpaired") for c in (1, 2, 3)}
    assert tuple(tables["paired", 3]["columns"]) == COLUMNS
    assert tuple(tables["unpaired", 1]["columns"]) == COLUMNS[:4]
    for key, column in tables["paired", 3]["columns"].items():
        figures = column["figures"]
        assert {"ssim", "mask_error", "colour_error", "pattern", "clip_s"} <= set(figures)
        assert ("retrieved_colour_error" in figures) == (key not in ("k0", "vae"))
        assert figures["ssim"]["count"] == 1
    assert tables["paired", 3]["retrieval"]["dresses"]["recall@20"]["value"] == 1
    names = [target["name"] for target in content["claim"]]
    assert "oracle against k = 0: colour error" in names
    (outside,) = [target for target in content["claim"] if "outside" in target["name"]]
    assert outside["passed"] and outside["reached"]["value"] == 0
    assert "FID, KID" in content["left_out"]
    page = (folder / "table.md").read_text()
    assert "| k = 0 (caption) |" in page and "## Unpaired, 1 noun chunk: 1 samples" in page
    for name in ("quality_paired_3", "grid_paired_3", "grid_unpaired_1"):
        assert min(Image.open(folder / f"{name}.png").size) > 300


def test_equal_conditions_give_equal_pictures(finished, world):
    """Columns that give a sample the same garments share its picture, and others differ."""
    _, folder = finished
    pictures = {
        column: next((folder / "pictures/paired_3" / column).rglob("*.png")).read_bytes()
        for column in COLUMNS
    }
    row = json.loads((folder / "samples_paired_3.jsonl").read_text().splitlines()[0])
    assert row["person"] == row["garment"]
    same = pictures["k1"] == pictures["oracle"], pictures["k1"] == pictures["k1_without_own"]
    # The first found is either the own garment or another.
    assert same in ((True, False), (False, True))
    assert len({pictures[key] for key in ("k0", "k1", "k2", "k3", "vae")}) == 5


def test_a_run_goes_on_with_what_is_missing(finished, world, model, tmp_path, monkeypatch):
    file, folder = finished
    shutil.copytree(folder, tmp_path / "claim")
    (kept,) = (tmp_path / "claim/pictures/paired_3/k2").rglob("*.png")
    before = levels(kept)
    kept.unlink()
    painted = []
    paint = painting.Painter._paint

    def counted(self, jobs):
        painted.extend(jobs)
        return paint(self, jobs)

    monkeypatch.setattr(painting.Painter, "_paint", counted)
    copy = tmp_path / "claim.json"
    assert evaluate(world, model, copy, "--pairs", "1", "--category", "dresses") == 0
    assert [list(job.files) for job in painted] == [[kept]]
    # Alone in its batch it is the same but for rounding.
    assert np.abs(levels(kept) - before).max() <= 2
    first, again = (json.loads(path.read_text())["tables"][0] for path in (file, copy))
    assert again["columns"]["k1"] == first["columns"]["k1"]


def test_pictures_of_another_run_are_not_mixed_in(finished, world, model, capsys):
    file, _ = finished
    assert evaluate(world, model, file, "--pairs", "1", "--seed", "7") == 1
    assert "pictures of another run (sampling differ)" in capsys.readouterr().err


def test_a_picture_depends_on_its_sample_alone(finished, world, model, tmp_path):
    """The same in a batch of other samples: within a grey level or two of rounding."""
    file = tmp_path / "two.json"
    arguments = ("--pairs", "2", "--category", "dresses", "lower_body", "--columns", "oracle")
    assert evaluate(world, model, file, *arguments) == 0
    (alone,) = (finished[1] / "pictures/paired_3/oracle").rglob("*.png")
    together = tmp_path / "two/pictures/paired_3/oracle" / alone.parent.name / alone.name
    assert np.abs(levels(alone) - levels(together)).max() <= 2


def test_official_files_serve_instead_of_an_index(world, model, tmp_path):
    samples = read_samples(world, "paired", ["upper_body"])
    files = [sample.file for sample in samples]
    ranking = {s.caption(): [s.file, *(f for f in files if f != s.file)] for s in samples}
    (tmp_path / "test_upper_body_triplet.json").write_text(json.dumps({"pred_files": ranking}))
    file = tmp_path / "official.json"
    arguments = ["--category", "upper_body", "--pred-files", str(tmp_path)]
    assert (
        evaluate(world, model, file, *arguments, "--columns", "k1", "oracle", "--pairs", "2") == 0
    )
    (table,) = json.loads(file.read_text())["tables"]
    assert table["own_recall"]["1"]["value"] == 1
    columns = table["columns"]
    assert columns["k1"]["figures"] == columns["oracle"]["figures"]
    assert not (tmp_path / "official/index").exists()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("dresses/keypoints/600000_2.json", "lacks 1 files .*keypoints.*600000_2.json"),
        ("dresses/label_maps/600000_4.png", "lacks 1 files .*labels.*600000_4.png"),
        ("dresses/images/600000_0.jpg", "lacks 1 files .*photos.*600000_0.jpg"),
        ("dresses/test_pairs_paired.txt", "test_pairs_paired.txt is missing"),
        ("*_captions.json", "has neither"),
    ],
)
def test_missing_files_are_named(world, model, tmp_path, capsys, broken, message):
    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    for path in copy.glob(broken):
        path.unlink()
    assert evaluate(copy, model, tmp_path / "out.json") == 1
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "out.json").exists()


def test_short_captions_are_refused(world, model, tmp_path, capsys):
    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    captions = json.loads((copy / "fine_captions.json").read_text())
    captions["600003"] = captions["600003"][:2]
    (copy / "fine_captions.json").write_text(json.dumps(captions))
    assert evaluate(copy, model, tmp_path / "out.json") == 1
    assert "1 garments have fewer than 3 noun chunks, such as 600003" in capsys.readouterr().err


def test_a_person_in_the_own_garment_is_the_photo(world):
    drawn = DrawnWorld.open(world)
    sample, other = read_samples(world, "paired", ["upper_body"])[:2]
    scene = load_scene(sample, SIZE)
    picture, labels = drawn.worn(sample.person, sample.garment)
    truth = np.asarray(picture, np.float32) / 255
    # The folder's photo is a JPEG.
    assert np.abs(truth - scene.photo.numpy()).mean() < 0.01
    assert drawn.pattern(sample.garment) in (world / "garments.jsonl").read_text()
    changed, worn = drawn.worn(sample.person, other.garment)
    differs = (np.asarray(changed) != np.asarray(picture)).any(axis=-1)
    assert differs.mean() > 0.02
    # Above the shoulders nothing is touched.
    assert not differs[: np.flatnonzero((labels == 11).any(axis=1))[0]].any()
    assert (labels == 4).sum() != (worn == 4).sum()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--miniature"),
        (["--miniature", "--columns", "k9"], "'k9'; there are: k0, k1"),
        (["--miniature", "--size", "90x120"], "120x90, expected multiples of 8"),
        (["--miniature", "--classifier", "none.safetensors"], "none.safetensors is missing"),
    ],
)
def test_what_cannot_be_run_is_said(world, model, tmp_path, capsys, arguments, message):
    if arguments:
        arguments += ["--data", str(world), "--model", str(model)]
    file = tmp_path / "out.json"
    assert main(["evaluate", "--json", str(file), "--device", "cpu", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not file.exists() and not (tmp_path / "out/pictures").exists()


def test_figures_and_pictures_need_names_of_their_own(tmp_path, capsys):
    assert main(["evaluate", "--miniature", "--json", str(tmp_path / "results")]) == 1
    assert "also the folder of the pictures" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_at_least_one_pair_is_evaluated(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["evaluate", "--miniature", "--pairs", "0", "--json", str(tmp_path / "out.json")])
    assert "argument --pairs: '0': expected a whole number of 1 or more" in capsys.readouterr().err


def test_a_folder_without_a_model_is_not_taken(world, model, tmp_path, capsys):
    classifier = ("--classifier", str(model / CLASSIFIER))
    assert evaluate(world, tmp_path / "nothing", tmp_path / "out.json", *classifier) == 1
    assert "is no model folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_photos_get_the_official_measures_where_their_weights_are(
    world, model, tmp_path, monkeypatch
):
    """Without its mark the folder counts as photos; networks that aren't there are named."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    copy = tmp_path / "data"
    shutil.copytree(world, copy)
    (copy / "miniature.json").unlink()
    file = tmp_path / "photos.json"
    arguments = ["--data", str(copy), "--model", str(model), "--json", str(file), "--steps", "1"]
    arguments += ["--size", "96x128", "--category", "dresses", "--pairs", "2", "--device", "cpu"]
    assert main(["evaluate", *arguments, "--order", "unpaired"]) == 0
    content = json.loads(file.read_text())
    assert "inception-2015-12-05.pt is not there: fetch it" in content["left_out"]["FID, KID"]
    assert "alexnet" in content["left_out"]["LPIPS"]
    assert content["claim"] == []
    (table,) = content["tables"]
    assert set(table["columns"]) == {"k0", "k1", "k2", "k3"}
    figures = table["columns"]["k1"]["figures"]
    # Nobody knows how the person would look in the other garment.
    assert "clip_i" in figures and "ssim" not in figures and "pattern" not in figures
    assert 0 < figures["fidelity"]["value"] < 1


def test_the_parsers_mask_is_painted_and_needs_a_parser(finished, world, model, capsys):
    """The same condition under another mask is another picture; without a parser there is none."""
    _, folder = finished
    both = [
        next((folder / "pictures/paired_3" / column).rglob("*.png")).read_bytes()
        for column in ("oracle", "oracle_parsed")
    ]
    assert both[0] != both[1]
    arguments = ["evaluate", "--data", str(world), "--model", str(model), "--columns"]
    arguments += ["oracle_parsed", "--json", str(folder / "other.json")]
    assert main(arguments) == 1
    assert "oracle_parsed needs a human parser" in capsys.readouterr().err
