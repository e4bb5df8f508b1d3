"""The drawn Dress Code as files: layout, splits, captions, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("aggdraw")

from fashion_rag.adapter.person.pose import keypoints_from_dresscode  # noqa: E402
from fashion_rag.commands.main import main  # noqa: E402
from fashion_rag.miniature import captions, world  # noqa: E402
from fashion_rag.miniature.dresscode import render  # noqa: E402
from fashion_rag.retriever.photos.catalogue import read_catalogue  # noqa: E402

SMALL = (48, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "dresscode"
    render(folder, count=12, test=6, seed=2, size=SMALL, processes=1)
    return folder


def pairs(file):
    return [tuple(line.split("\t")) for line in file.read_text().splitlines()]


def test_the_layout_is_dress_codes(folder):
    seen = 0
    for category in world.CATEGORIES:
        rows = pairs(folder / category / "train_pairs.txt")
        rows += pairs(folder / category / "test_pairs_paired.txt")
        for person, garment in rows:
            name = person.removesuffix("_0.jpg")
            assert garment == f"{name}_1.jpg"
            for photo in (person, garment):
                assert Image.open(folder / category / "images" / photo).size == SMALL
            labels = Image.open(folder / category / "label_maps" / f"{name}_4.png")
            assert labels.mode == "P" and labels.size == SMALL
            assert world.make_garment(2, int(name)).shape.label in np.unique(np.asarray(labels))
            file = folder / category / "keypoints" / f"{name}_2.json"
            assert keypoints_from_dresscode(json.loads(file.read_text())).shape == (18, 3)
            seen += 1
    assert seen == 12
    assert len(pairs(folder / "train_pairs.txt")) == 6
    assert {len(row) for row in pairs(folder / "test_pairs_unpaired.txt")} == {3}


def test_patterns_that_are_learnt_slowly_are_named_often(folder):
    train = [(person, garment) for person, garment, _ in pairs(folder / "train_pairs.txt")]
    often = pairs(folder / "often.txt")
    assert set(often) == set(train)
    times = {"flowers": 8, "dots": 4, "diamonds": 3, "zigzag": 3, "checks": 3}
    for pair in train:
        pattern = world.make_garment(2, int(pair[0][:6])).pattern
        assert often.count(pair) == times.get(pattern, 1)


def test_nobody_wears_the_own_garment_in_an_unpaired_file(folder):
    for category in world.CATEGORIES:
        rows = pairs(folder / category / "test_pairs_unpaired.txt")
        people, garments = zip(*rows, strict=True)
        assert {p[:6] for p in people} == {g[:6] for g in garments} and len(rows) == 2
        assert all(p[:6] != g[:6] for p, g in rows)


def test_the_catalogue_reads_captions_and_truth(folder):
    catalogue = read_catalogue(folder)
    assert len(catalogue.garments) == 12 and not catalogue.rejects
    garment = next(g for g in catalogue.garments if g.id == "600002")
    assert garment.category == "lower_body"
    fine = json.loads((folder / "fine_captions.json").read_text())["600002"]
    assert garment.caption == ", ".join(sorted(fine)) and len(fine) == 3
    assert garment.metadata["cut"] == world.make_garment(2, 600_002).cut


def test_any_number_of_processes_gives_the_same_files(folder, tmp_path):
    other = tmp_path / "other"
    render(other, count=4, test=2, seed=2, size=SMALL, processes=2)
    files = [f.relative_to(other) for f in other.glob("*/*/*.*")]
    assert len(files) == 16
    for file in files:
        assert (other / file).read_bytes() == (folder / file).read_bytes(), file


def test_a_folder_is_completed_and_another_world_refused(tmp_path):
    out = tmp_path / "out"
    render(out, count=2, test=0, seed=2, size=SMALL, processes=1)
    kept = out / "dresses" / "images" / "000000_0.jpg"
    before = kept.stat().st_mtime_ns
    render(out, count=3, test=0, seed=2, size=SMALL, processes=1)
    assert kept.stat().st_mtime_ns == before
    assert (out / "lower_body" / "images" / "000002_1.jpg").is_file()
    with pytest.raises(ValueError, match="choose an empty folder"):
        render(out, count=3, test=0, seed=9, size=SMALL, processes=1)
    stray = tmp_path / "stray"
    stray.mkdir()
    (stray / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="miniature.json"):
        render(stray, count=3, test=0, seed=2, size=SMALL, processes=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--size", "100x100"], "3:4"), (["--count", "4", "--test", "5"], "held out")],
)
def test_the_command_refuses_what_makes_no_world(tmp_path, capsys, arguments, message):
    command = ["miniature", "render", "--out", str(tmp_path / "w"), "--count", "3", *arguments]
    assert main(command) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_train_and_test_garments_never_meet():
    train, test = world.numbers(4500, "train"), world.numbers(1500, "test")
    assert not set(train) & set(test)
    garments = [world.make_garment(0, number) for number in (*train, *test)]
    # All 6,000 differ in what a photo shows, not only in their numbers.
    looks = {
        (g.cut, g.sleeve, g.neckline, g.length, g.trim, g.pattern, g.base, g.print_colour)
        for g in garments
    }
    assert len(looks) == 6000
    with pytest.raises(ValueError, match="600001 train"):
        world.numbers(600_001, "train")


@pytest.mark.parametrize("category", world.CATEGORIES)
def test_captions_name_only_part_of_a_garment(category):
    numbers = world.numbers(1800, "test")
    garments = [g for g in (world.make_garment(0, n) for n in numbers) if g.category == category]
    assert len(garments) == 600
    for garment in garments[:100]:
        chunks = captions.fine_caption(0, garment)
        assert len(chunks) == 3 == len(captions.coarse_caption(garment))
        assert garment.colour in chunks[0]
        assert "{" not in "".join(chunks)
    best = [captions.best_recall(0, garments, chunks) for chunks in (1, 2, 3)]
    assert best[0] < best[1] < best[2]
    # A fallible reader has to land between .30 and .50 with three chunks.
    assert 0.4 < best[2] < 0.8


def test_a_colour_word_covers_a_range_of_hues():
    blues = [g.base for g in (world.make_garment(0, n) for n in range(600)) if g.colour == "blue"]
    assert len(blues) > 20
    assert np.ptp(np.array(blues), axis=0).max() > 0.4


def test_oklab_round_trip():
    for lightness, chroma, hue in ((0.6, 0.1, 20.0), (0.8, 0.05, 200.0), (0.4, 0.08, 300.0)):
        found = world.to_oklab(world.from_oklch(lightness, chroma, hue))
        angle = np.deg2rad(hue)
        expected = (lightness, chroma * np.cos(angle), chroma * np.sin(angle))
        assert found == pytest.approx(expected, abs=2e-3)
