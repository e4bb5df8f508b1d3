"""`fashion-rag index` and `fashion-rag encoder`, as a user types them."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from fashion_rag.retriever.encoders import hub
from PIL import Image

from .index_commands import run
from .retriever_fakes import draw_catalogue, write_tiny_encoder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with photos, an encoder and an index of the photos."""
    shop = tmp_path_factory.mktemp("shop")
    photos = draw_catalogue(shop / "photos", 5)
    shutil.copy(photos / "000.png", photos / os.fsdecode(b"caf\xe9.png"))
    (photos / "bad.jpg").write_bytes(b"x")
    (photos / "garments.csv").write_text("file,category,caption\n001.png,hats,a green hat\n")
    write_tiny_encoder(shop / "encoder")
    options = ("--encoder", shop / "encoder", "--device", "cpu", "--unchecked")
    run("index", "build", photos, shop / "index", *options)
    return shop


def test_build(shop, capsys, tmp_path):
    options = ("--encoder", shop / "encoder", "--unchecked")
    run("index", "build", shop / "photos", tmp_path / "i", *options)
    out, err = capsys.readouterr()
    assert re.search(r"6 garments indexed in [\d.]+ s \([\d.]+ a second\), 1 refused\.\n", out)
    assert "Searched as kind exact: every garment is compared, which is fast up to 100,000." in out
    assert "bad.jpg: is not a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF picture." in out
    assert re.search(r"100%.*7/7.*garments", err)


def test_building_again_brings_up_to_date(shop, capsys, tmp_path):
    photos, index = shutil.copytree(shop / "photos", tmp_path / "photos"), tmp_path / "i"
    build = ("index", "build", photos, index, "--encoder", shop / "encoder", "--unchecked")
    run(*build)
    capsys.readouterr()
    shutil.copy(photos / "000.png", photos / "new.png")
    run(*build)
    assert re.search(
        r"7 garments in the index: 1 added, 0 changed.* 1 refused,", capsys.readouterr()[0]
    )
    run(*build)
    assert "nothing added, changed or removed, 1 refused" in capsys.readouterr().out
    run(*build, "--overwrite")
    assert "7 garments indexed" in capsys.readouterr().out


def test_an_encoder_of_two_halves_is_refused(shop, tmp_path):
    with pytest.raises(ValueError, match=r"encoder matches only \d of 8 colour cards.*--unchecked"):
        run("index", "build", shop / "photos", tmp_path / "i", "--encoder", shop / "encoder")
    assert not (tmp_path / "i").exists()


def test_info(shop, capsys):
    run("index", "info", shop / "index")
    out = capsys.readouterr().out
    assert f"{shop / 'index'}: 6 garments" in out
    for words in ("encoder (", "dimension 16", "of 8 colour cards", str(shop / "photos")):
        assert words in out
    assert "words      searched" in out
    assert re.search(r"1\s+hats", out) and re.search(r"5\s+without a category", out)
    assert "left out   bad.jpg: is not a JPEG" in out


def test_search(shop, capsys, tmp_path):
    sheet = tmp_path / "sheet.png"
    options = ("--encoder", shop / "encoder", "-k", "50", "--sheet", sheet)
    run("index", "search", shop / "index", "a green hat", *options)
    first, *lines, last = capsys.readouterr().out.splitlines()
    assert first == "cosine  file  caption"
    assert last == "top_k is 50, but only 6 garments are found: there are no others."
    scores = [float(line.split()[0]) for line in lines]
    assert len(lines) == 6 and scores == sorted(scores, reverse=True)
    assert any(line.endswith("001.png  a green hat") for line in lines)
    assert any("caf\\udce9.png" in line for line in lines)
    assert Image.open(sheet).width > 6 * 240


def test_search_in_a_category(shop, capsys):
    options = ("--encoder", shop / "encoder", "--category", "hats", "-k", "1")
    for backend in ("auto", "exact"):
        run("index", "search", shop / "index", "hat", *options, "--backend", backend)
    _, first, _, second = capsys.readouterr().out.splitlines()
    assert first == second and "001.png" in first


def test_search_with_another_encoder(shop, tmp_path):
    write_tiny_encoder(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="'encoder'.*'other'"):
        run("index", "search", shop / "index", "a", "--encoder", tmp_path / "other")


def test_empty_text(shop):
    with pytest.raises(ValueError, match="text is empty"):
        run("index", "search", shop / "index", " ", "--encoder", shop / "encoder")


def test_encoder_list_and_get(capsys, monkeypatch, tmp_path):
    run("encoder", "list")
    out = capsys.readouterr().out
    for tag in ("ViT-L-14/laion2b_s32b_b82k", "Marqo/marqo-fashionCLIP", "Marqo/marqo-fashionSigL"):
        assert tag in out
    assert "0.81 GB" in out
    assert "licence mit" in out and "licence apache-2.0" in out

    def get_encoder(tag, folder, report):
        report("2 GB, licence mit")
        return folder

    monkeypatch.setattr(hub, "get_encoder", get_encoder)
    run("encoder", "get", "ViT-L-14/laion2b_s32b_b82k", "--to", tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["2 GB, licence mit", f"{tmp_path / 'ViT-L-14-laion2b_s32b_b82k'} is ready"]
