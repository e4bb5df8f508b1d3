"""`fashion-rag index update|remove|duplicates|merge|tune|verify`, as a user types them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fashion_rag.commands import main as cli
from fashion_rag.retriever.milvus.connection import CollectionPlace
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep import duplicates

from .retriever_fakes import draw_catalogue, write_tiny_encoder

torch.set_num_threads(1)


def run(*words: str | Path) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with photos, an encoder and an index of the photos."""
    shop = tmp_path_factory.mktemp("shop")
    draw_catalogue(shop / "photos", 6)
    write_tiny_encoder(shop / "encoder")
    build = ("index", "build", shop / "photos", shop / "index", "--unchecked")
    assert run(*build, "--encoder", shop / "encoder", "--device", "cpu", "--kind", "auto") == 0
    return shop


@pytest.fixture
def copy(shop, tmp_path) -> Path:
    """The same, to be written to."""
    return shutil.copytree(shop, tmp_path / "shop")


@pytest.mark.parametrize(
    "words",
    [("update", "--encoder", "none"), ("remove", "a"), ("duplicates",), ("tune",), ("verify",)],
)
def test_a_folder_of_a_collection_is_no_local_index(tmp_path, capsys, words):
    CollectionPlace("shop", "http://127.0.0.1:9").write(tmp_path)
    action, *options = words
    assert run("index", action, tmp_path, *options) == 1
    assert "stands for a collection in Milvus" in capsys.readouterr().err


def test_update_remove_and_restore(copy, capsys):
    index, encoder = copy / "index", ("--encoder", copy / "encoder", "--device", "cpu")
    shutil.copy(copy / "photos" / "000.png", copy / "photos" / "new.png")
    update = ("index", "update", index, *encoder, "--catalogue", copy / "photos")
    assert run(*update) == 0
    out, err = capsys.readouterr()
    assert "7 garments in the index: 1 added, 0 changed" in out and "1/1" in err
    assert run("index", "remove", index, "new.png", "003.png") == 0
    assert "5 garments are left" in capsys.readouterr().out
    assert run("index", "remove", index, "new.png") == 1
    assert "no garment of the id 'new.png'" in capsys.readouterr().err
    assert run(*update, "--check-content") == 0
    assert re.search(r"5 garments.*2 stay out.*--restore", capsys.readouterr().out)
    assert run(*update, "--restore") == 0
    assert "7 garments in the index: 2 added" in capsys.readouterr().out
    assert run("index", "verify", index) == 0
    assert "7 garments, every file is whole" in capsys.readouterr().out


def test_duplicates(copy, capsys):
    index = copy / "index"
    shutil.copy(copy / "photos" / "002.png", copy / "photos" / "twin.png")
    options = ("--encoder", copy / "encoder", "--catalogue", copy / "photos")
    run("index", "update", index, *options)
    capsys.readouterr()
    assert run("index", "duplicates", index, "--threshold", "0.99999") == 0
    out = capsys.readouterr().out
    assert "002.png\n    twin.png\n" in out and len(GarmentIndex.open(index)) == 7
    assert run("index", "duplicates", index, "--threshold", "0.99999", "--fold") == 0
    assert "garments are left" in capsys.readouterr().out
    assert "twin.png" not in {garment.id for garment in GarmentIndex.open(index).garments}


def test_shards_and_merge(copy, capsys):
    build = ("index", "build", copy / "photos", "--encoder", copy / "encoder", "--unchecked")
    for number in (1, 2):
        folder = copy / f"shard {number}"
        assert run(*build[:3], folder, *build[3:], "--shard", f"{number}/2", "--device", "cpu") == 0
    assert run("index", "merge", copy / "whole", copy / "shard 1") == 1
    assert "Shard 2/2 is missing" in capsys.readouterr().err
    assert run("index", "merge", copy / "whole", copy / "shard 2", copy / "shard 1") == 0
    assert "6 garments merged" in capsys.readouterr().out
    files = [garment.file for garment in GarmentIndex.open(copy / "whole").garments]
    assert files == [garment.file for garment in GarmentIndex.open(copy / "index").garments]
    with pytest.raises(SystemExit):
        run(*build[:3], copy / "x", *build[3:], "--shard", "half")
    assert "'half' is no shard" in capsys.readouterr().err
    for shard, expected in (("0/3", "1/3 to 3/3"), ("4/3", "1/3 to 3/3"), ("1/0", "1/1 to 1/1")):
        with pytest.raises(SystemExit):
            run(*build[:3], copy / "x", *build[3:], "--shard", shard)
        assert f"'{shard}' is no shard: expected {expected}" in capsys.readouterr().err


def test_tune(copy, shop, capsys, tmp_path):
    index = copy / "index"
    assert run("index", "tune", index) == 0
    assert "is exact: its recall is 1" in capsys.readouterr().out
    assert run("index", "tune", index, "--kind", "ivf") == 1
    assert "6 garments is searched exactly: the kind 'ivf' needs 256" in capsys.readouterr().err
    draw_catalogue(copy / "photos", 300)
    build = ("index", "build", copy / "photos", index, "--encoder", copy / "encoder", "--unchecked")
    assert run(*build, "--overwrite", "--kind", "ivf", "--batch-size", "64") == 0
    texts = tmp_path / "texts"
    texts.write_text("a red dress\n\na blue coat\n")
    assert run("index", "tune", index, "--texts", texts) == 1
    assert "--texts needs --encoder" in capsys.readouterr().err
    tune = ("index", "tune", index, "--texts", texts, "--encoder", copy / "encoder")
    texts.write_bytes("ein grünes Kleid".encode("latin-1"))
    assert run(*tune) == 1
    assert f"{texts} is no text in UTF-8" in capsys.readouterr().err
    texts.write_bytes("ein grünes Kleid\n".encode("utf-16"))
    assert run(*tune, "-k", "3", "--recall", "0.6") == 0
    assert re.search(r"recall@3 .*\n(.*\n)*.*  <-", capsys.readouterr().out)
    assert run("index", "info", index) == 0
    assert re.search(r"kind +ivf, dimensions 16, cells 8, trained on 300", capsys.readouterr().out)


def test_a_moved_catalogue_is_asked_for_by_its_option(copy, capsys):
    index = copy / "index"
    update = ("index", "update", index, "--encoder", copy / "encoder", "--device", "cpu")
    assert run(*update, "--catalogue", copy / "photos") == 0
    (copy / "photos").rename(copy / "moved")
    assert run(*update) == 1
    error = capsys.readouterr().err
    assert f"The catalogue {copy / 'photos'} of the index {index} is not there any more" in error
    assert "name the folder where it is now with --catalogue" in error
    assert run(*update, "--catalogue", copy / "moved") == 0


def test_what_is_damaged_is_named(copy, capsys):
    (file,) = (copy / "index").glob("thumbnails*")
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    assert run("index", "verify", copy / "index") == 1
    assert f"{file.name} is not what manifest.json says" in capsys.readouterr().err


def test_a_large_group_of_duplicates_is_not_searched_for_again_and_again(monkeypatch):
    """Such as the picture that a shop has for garments without a photo."""
    vectors = torch.eye(600)
    vectors[100:400] = vectors[100]
    vectors[500] = vectors[3]
    searched = []

    def nearest(index, block, k):
        searched.append((len(block), k))
        found = (block @ vectors.T).topk(k)
        return found.values, found.indices

    monkeypatch.setattr(duplicates, "nearest", nearest)
    index = SimpleNamespace(rows=np.arange(600), vectors=SimpleNamespace(at=lambda r: vectors[r]))
    index = type("Index", (), {**vars(index), "__len__": lambda self: 600})()
    found = duplicates.find_duplicates(index)
    assert found == [[3, 500], list(range(100, 400))]
    assert sum(count for count, k in searched if k > 32) <= 2 * 256
    assert sum(count for count, k in searched if k == 32) < 600
