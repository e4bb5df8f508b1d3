"""`fashion-rag demo` in a real ComfyUI, and the host's pair of towers against the one outside."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.comfyui_server.client import Graph
from fashion_rag.comfyui_server.installations import PACK
from fashion_rag.commands import demo
from fashion_rag.commands import main as cli
from fashion_rag.demo import scene
from fashion_rag.miniature import trained
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.search import search
from fashion_rag.retriever.store.index import GarmentIndex
from PIL import Image

pytestmark = pytest.mark.host
CATALOGUE = PACK / "miniature" / "examples" / "catalogues" / "drawn_garments"
TEXTS = ("a red dress with long sleeves", "blue straight trousers")


@pytest.fixture(scope="module")
def miniature(tmp_path_factory) -> Path:
    return trained.write_miniature(tmp_path_factory.mktemp("miniature") / "miniature")


def test_the_demo_in_comfyui_and_without(
    host, miniature, tmp_path, monkeypatch, capsys, record_figure
):
    """It runs as a whole, and both ways find the same garments and paint the same picture."""
    pytest.importorskip("aggdraw")
    monkeypatch.setattr(trained, "WEIGHTS", miniature)
    monkeypatch.setattr(scene, "GARMENTS", 18)
    monkeypatch.setattr(demo, "find_hosts", lambda: [host])
    kept = {}
    draw_sheet = demo.draw_sheet

    def keep(text, found, photos, person, mask, result, foot):
        kept.update(found=found, person=person, mask=mask.convert("L"), result=result, foot=foot)
        return draw_sheet(text, found, photos, person, mask, result, foot)

    monkeypatch.setattr(demo, "draw_sheet", keep)
    out = tmp_path / "demo.png"
    assert cli.main(["demo", "--text", "white dress", "--out", str(out)]) == 0, capsys.readouterr()
    assert f"in ComfyUI {host.version}" in kept["foot"]
    assert [garment.category for garment in kept["found"]] == ["dresses"] * 3
    scores = [garment.score for garment in kept["found"]]
    assert scores == sorted(scores, reverse=True) and kept["found"][0].caption
    picture, photo = np.asarray(kept["result"]), np.asarray(kept["person"])
    mask = np.asarray(kept["mask"]) > 127
    np.testing.assert_array_equal(picture[~mask], photo[~mask])
    assert (picture[mask] != photo[mask]).any(axis=1).mean() > 0.9
    assert Image.open(out).width > 700
    found = kept["found"]
    assert cli.main(["demo", "--text", "white dress", "--out", str(out), "--no-comfyui"]) == 0
    assert [garment.file for garment in kept["found"]] == [garment.file for garment in found]
    difference = np.abs(picture.astype(float) - np.asarray(kept["result"]))[mask].mean()
    record_figure("demo, ComfyUI against headless, mean of 255 levels", difference, 1.5)


def test_host_pair_and_outside_pair_are_one_encoder(bare, miniature, record_figure):
    """The same embeddings of photos, and the same scores of texts, with and without ComfyUI."""
    shutil.copytree(miniature, bare.store / "models" / "one_encoder", dirs_exist_ok=True)
    graph = Graph()
    models = graph.add("FashionRAGLoader", model_name="one_encoder")
    index = graph.add(
        "GarmentIndexBuild",
        catalogue="drawn_garments",
        encoder="host",
        index_name="one_encoder",
        overwrite=True,
        batch_size=32,
        clip=models[1],
        clip_vision=models[3],
    )
    shown = []
    for text in TEXTS:
        found = graph.add("TextGarmentRetrieve", index=index, text=text, category="any", top_k=10)
        shown.append(graph.add("PreviewAny", source=found[2]))
    result = bare.client.run(graph)

    inside = GarmentIndex.open(bare.store / "indexes" / "one_encoder", CATALOGUE)
    encoder = load_encoder(miniature)
    photos = encoder.encode_images([inside.photo(garment) for garment in inside.garments])
    distance = (photos - inside.embeddings.float()).abs().max().item()
    record_figure("embeddings of photos, host's pair against the folder's", distance, 1e-3)
    outside = GarmentIndex.in_memory(list(inside.garments), photos)
    texts = encoder.encode_texts(TEXTS)
    for node, hits in zip(shown, search(outside, texts, 90, backend="exact"), strict=True):
        scores = {hit.garment.file: hit.score for hit in hits}
        for line in bare.client.text(result, node).splitlines():
            score, file = line.split()[:2]
            assert float(score) == pytest.approx(scores[file], abs=2e-3)
    assert not torch.allclose(texts[0], texts[1], atol=1e-2)
