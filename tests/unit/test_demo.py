"""The demo: which painter it takes, and the whole of it without ComfyUI."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from fashion_rag import cli
from fashion_rag.demo import cli as demo
from fashion_rag.demo.client import Refused
from fashion_rag.demo.hosts import Host
from PIL import Image

needs_photos = pytest.mark.skipif(
    importlib.util.find_spec("openvto") is None,
    reason="the demo's photos are missing: pip install --no-deps openvto==0.1.7",
)


def host(folder: Path, version: str) -> Host:
    folder.mkdir()
    (folder / "comfyui_version.py").write_text(f'__version__ = "{version}"\n')
    return Host(folder)


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [([], None), (["0.27.9"], None), (["0.27.9", "0.28.0"], 1), (["1.0.0", "0.33.1"], 0)],
)
def test_the_first_supported_host(tmp_path, monkeypatch, capsys, versions, chosen):
    hosts = [host(tmp_path / str(i), version) for i, version in enumerate(versions)]
    monkeypatch.setattr(demo, "find_hosts", lambda: hosts)
    assert demo.choose_host() == (None if chosen is None else hosts[chosen])
    assert ("too old: 0.28 is needed" in capsys.readouterr().err) == ("0.27.9" in versions)


def test_a_host_that_fails_is_named(tmp_path, monkeypatch, capsys):
    broken = host(tmp_path / "broken", "0.33.0")

    def fail(*_):
        raise Refused("node type not found")

    monkeypatch.setattr(demo, "find_hosts", lambda: [broken])
    monkeypatch.setattr(demo, "make_scene", lambda folder: None)
    monkeypatch.setattr(demo, "retrieve", lambda scene, text: ([], None))
    monkeypatch.setattr(demo, "paint_in_host", fail)
    assert cli.main(["demo", "--out", str(tmp_path / "demo.png")]) == 1
    message = capsys.readouterr().err
    assert f"{broken.root}: node type not found" in message and "--no-comfyui" in message


@needs_photos
def test_without_comfyui(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "STEPS", 1)
    monkeypatch.setattr(demo, "find_hosts", pytest.fail)
    drawn = {}
    draw_sheet = demo.draw_sheet

    def keep(text, scene, hits, index, result, painter):
        drawn.update(text=text, scene=scene, hits=hits, result=result)
        return draw_sheet(text, scene, hits, index, result, painter)

    monkeypatch.setattr(demo, "draw_sheet", keep)
    out = tmp_path / "new folder" / "sheet.png"
    assert cli.main(["demo", "--no-comfyui", "--text", "white shirt", "--out", str(out)]) == 0
    assert demo.NOTICE in capsys.readouterr().out
    assert drawn["text"] == "white shirt"
    assert len(drawn["hits"]) == 3
    assert all(hit.garment.category == "upper_body" for hit in drawn["hits"])
    changed = np.asarray(drawn["result"]) != np.asarray(drawn["scene"].person)
    mask = np.asarray(drawn["scene"].mask) > 127
    assert changed.any(axis=2)[mask].mean() > 0.9
    assert not changed[~mask].any()
    sheet = np.asarray(Image.open(out)).astype(int)
    red = (sheet[..., 0] > 150) & (sheet[..., 1] < 80)
    assert red[-48:].sum() > 200, "the notice stands at the sheet's foot"


def test_an_empty_text_is_refused(monkeypatch, capsys):
    assert cli.main(["demo", "--no-comfyui", "--text", "  "]) == 1
    assert "text is empty" in capsys.readouterr().err
