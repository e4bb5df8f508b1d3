"""A newcomer's first commands: index, search and generate with nothing downloaded."""

from __future__ import annotations

import pytest
import torch
from fashion_rag.commands.main import main
from fashion_rag.commands.terminal import device_named, model_folder
from fashion_rag.miniature import trained
from PIL import Image

torch.set_num_threads(1)
EXAMPLES = trained.WEIGHTS.parent.parent / "examples"
PERSON = EXAMPLES / "people" / "drawn_top"


def test_with_the_miniature_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASHION_RAG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    garments = EXAMPLES / "catalogues" / "drawn_garments"
    assert main(["index", "build", str(garments), "index", "--encoder", "miniature"]) == 0
    assert main(["index", "search", "index", "red top", "--encoder", "miniature"]) == 0
    assert "red" in capsys.readouterr().out.splitlines()[-1]
    out = tmp_path / "dressed.png"
    words = ["generate", "--text", "red top", "--index", "index", "--model", "miniature"]
    words += ["--person", str(PERSON / "photo.jpg"), "--mask", str(PERSON / "mask.png")]
    assert main([*words, "--steps", "1", "--top-k", "1", "--out", str(out)]) == 0
    assert Image.open(out).size == Image.open(PERSON / "photo.jpg").size


def test_the_word_is_the_shipped_one_whatever_lies_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_folder("miniature") == trained.WEIGHTS
    (tmp_path / "miniature").mkdir()
    assert model_folder("miniature") == trained.WEIGHTS, "in a clone a folder of that name is there"
    assert model_folder("./miniature").resolve() == tmp_path / "miniature"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda", "finds no NVIDIA GPU; use cpu"),
        ("cuda:7", "finds no NVIDIA GPU; use cpu"),
        ("mps", "finds no Apple GPU"),
        ("xpu", "finds no Intel GPU"),
        ("gpu", "gpu is no device: expected cpu, cuda"),
        ("cpu:3", "cpu:3 is no device"),
        ("meta", "meta is no device"),
        ("", "is no device"),
    ],
)
def test_devices_that_are_not_there(name, message, monkeypatch, capsys):
    """They are told in one line, before anything is read: none of these folders exists."""
    for part in (torch.cuda, torch.backends.mps, torch.xpu):
        monkeypatch.setattr(part, "is_available", lambda: False)
    with pytest.raises(SystemExit) as caught:
        main(["index", "search", "nowhere", "red", "--encoder", "nowhere", "--device", name])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--device" in line and message in line


def test_a_gpu_too_many(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device_named("cuda:1") == torch.device("cuda:1")
    assert device_named("auto") == torch.device("cuda")
    with pytest.raises(SystemExit):
        main(["index", "search", "nowhere", "red", "--encoder", "nowhere", "--device", "cuda:7"])
    assert "cuda:7: the last one here is cuda:1" in capsys.readouterr().err


def test_the_cpu():
    assert device_named("cpu") == torch.device("cpu")
