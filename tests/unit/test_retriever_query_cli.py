"""`fashion-rag index search`, `push` and `pull`, as a user types them."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from fashion_rag.retriever.store.index import GarmentIndex
from PIL import Image

from .index_commands import build_shop, files, run, searching

torch.set_num_threads(1)
HEADER = "cosine  file  caption"


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    return build_shop(folder, 12, "caption,price", lambda n: f"number {n},{n * 10}")


@pytest.fixture
def search(shop, capsys):
    return searching(shop, capsys)


def test_options_come_before_and_after_the_text(shop, search, capsys):
    run("index", "search", "--encoder", shop / "encoder", shop / "index", "-k", 2, "a hat")
    assert capsys.readouterr().out.splitlines() == search("a hat", "-k", 2)


def test_several_texts_are_several_queries(shop, search, tmp_path):
    sheet = tmp_path / "sheet.png"
    lines = search("a hat", "a long coat", "-k", 2, "--sheet", sheet)
    assert lines[0] == "“a hat”" and lines[4:6] == ["", "“a long coat”"]
    assert lines[1] == lines[6] == HEADER
    assert lines[1:4] == search("a hat", "-k", 2)
    assert lines[6:] == search("a long coat", "-k", 2)
    assert Image.open(tmp_path / "sheet_1.png").size == Image.open(tmp_path / "sheet_2.png").size


def test_queries_may_come_from_a_pipe(search, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=["a hat\na long coat\n"], daemon=True)
    writer.start()
    found = search("--queries", pipe, "-k", 2)
    writer.join()
    (tmp_path / "queries.txt").write_text("a hat\na long coat\n")
    assert found == search("--queries", tmp_path / "queries.txt", "-k", 2)
    assert "a long coat" in "".join(found)


def test_a_sheet_that_json_would_leave_out_is_refused(shop, search):
    with pytest.raises(ValueError, match="Both --json and --sheet are given"):
        search("a hat", "--json", "--sheet", shop / "sheets" / "sheet.png")
    assert not (shop / "sheets").exists()


def test_filters(search):
    found = files(search("a hat", "-k", 12, "--where", "price >= 60 and id != 'g8'"))
    assert sorted(found) == ["006.png", "007.png", "009.png", "010.png", "011.png"]
    found = files(search("a hat", "-k", 12, "--where", "price >= 60", "--category", "hats"))
    assert sorted(found) == ["006.png", "008.png", "010.png"]


def test_a_reference_image_finds_itself(shop, search):
    photo = shop / "photos" / "004.png"
    first = search("", "--image", photo, "-k", 1)[1]
    assert files([first]) == ["004.png"] and abs(float(first.split()[0]) - 1) < 1e-3
    mixed = search("a hat", "--image", photo, "--image-weight", 1, "-k", 1)[1]
    assert mixed == first
    assert search("a hat", "--image", photo, "--image-weight", 0, "-k", 1) == search(
        "a hat", "-k", 1
    )


def test_words_and_weights_change_what_is_found(search):
    plain = search("a hat, red wool", "-k", 12)
    for option in (
        ("--chunks", "singly"),
        ("--negative", "a coat"),
        ("--negative", "a coat", "--negative-weight", 0.1),
    ):
        assert search("a hat, red wool", "-k", 12, *option) != plain


def test_pins_exclusions_and_scores(search):
    plain = search("a hat", "-k", 12)
    best = files(plain)
    ids = {file: f"g{int(file[:3])}" for file in best}
    pinned = files(search("a hat", "-k", 3, "--pin", ids[best[-1]], "--exclude", ids[best[0]]))
    assert pinned == [best[-1], best[1], best[2]]
    bound = float(plain[3].split()[0]) - 0.00005
    *lines, note = search("a hat", "-k", 12, "--min-score", bound)
    assert files(lines) == best[:3]
    assert "top_k is 12, but only 3 garments are found" in note


def test_draws_and_diversity(search):
    draws = {
        tuple(files(search("a hat", "-k", 3, "--draw-from", 12, "--temperature", 1, "--seed", n)))
        for n in range(6)
    }
    assert len(draws) > 1
    assert search("a hat", "-k", 3, "--draw-from", 12) == search(
        "a hat", "-k", 3, "--draw-from", 12
    )
    assert search("a hat", "-k", 3, "--diversity", 0.9) != search("a hat", "-k", 3)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--where", "price <"), "not understood"),
        (("--where", "colour = 'red'"), "'colour'"),
        (("--pin", "g99"), "'g99' is pinned"),
        (("--draw-from", "2"), "draw_from is 2"),
        (("--category", "shoes"), "'shoes'.*'coats', 'hats'"),
    ],
)
def test_bad_option(search, option, words):
    with pytest.raises(ValueError, match=words):
        search("a hat", *option)


def test_push_search_info_and_pull(shop, search, capsys, tmp_path):
    pytest.importorskip("milvus_lite")
    run("index", "push", shop / "index", shop / "far")
    out = capsys.readouterr().out
    assert "12 garments are in the collection 'far'" in out and str(shop / "far") in out
    for options in (
        ("-k", 5),
        ("-k", 12, "--where", "price < 55 and not category = 'hats'"),
        ("-k", 3, "--pin", "g7", "--exclude", "g3", "--negative", "coat", "--diversity", 0.4),
    ):
        assert search("a hat", *options, index="far") == search("a hat", *options)
    run("index", "info", shop / "far")
    out = capsys.readouterr().out
    assert "12 garments" in out and "price" in out and "6  hats" in out
    assert "words      searched" in out
    run("index", "push", shop / "index", shop / "far")  # where it was pushed before
    run("index", "pull", shop / "far", tmp_path / "near", "--catalogue", shop / "photos")
    assert "12 garments are in the index" in capsys.readouterr().out
    near, index = GarmentIndex.open(tmp_path / "near"), GarmentIndex.open(shop / "index")
    assert torch.equal(near.embeddings, index.embeddings)
    assert list(near.garments) == list(index.garments)


def test_pull_leaves_out_photos_that_are_gone_or_others(shop, capsys, tmp_path):
    pytest.importorskip("milvus_lite")
    photos = tmp_path / "photos"
    shutil.copytree(shop / "photos", photos)
    (photos / "003.png").unlink()
    Image.new("RGB", (24, 32), "red").save(photos / "005.png")
    run("index", "push", shop / "index", tmp_path / "far")
    options = ("--catalogue", photos)
    run("index", "pull", tmp_path / "far", tmp_path / "near", *options)
    out = capsys.readouterr().out
    assert "10 garments are in the index" in out and "2 left out:" in out
    assert "003.png" in out and "005.png: the photo is not the one that was encoded" in out
    near = GarmentIndex.open(tmp_path / "near")
    assert [garment.id for garment in near.garments] == [
        f"g{n}" for n in range(12) if n not in (3, 5)
    ]
    with pytest.raises(FileExistsError, match="holds a finished index"):
        run("index", "pull", tmp_path / "far", tmp_path / "near", *options)
    with pytest.raises(FileNotFoundError, match="catalogue .*nowhere"):
        run(
            "index", "pull", tmp_path / "far", tmp_path / "new", "--catalogue", tmp_path / "nowhere"
        )
