"""Encoders in transformers' layout in a real ComfyUI: the same index as outside of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fashion_rag.comfyui_server.client import Graph
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.encoders.recipe import VIEWS, with_recipe
from fashion_rag.retriever.query import Query, retrieve
from fashion_rag.retriever.search import search
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep.build import build_index

from ..unit.transformers_fakes import write_transformers_folder
from .graphs import build

pytestmark = pytest.mark.host
KINDS = ("siglip", "siglip2", "clip")


@pytest.fixture(scope="module")
def encoders(server) -> Path:
    folder = server.store / "encoders"
    for kind in KINDS:
        write_transformers_folder(folder / f"tiny {kind}", kind)
    return folder


def building(name: str, encoder: str, **inputs) -> Graph:
    graph = build(name)
    graph["1"]["inputs"] |= {"encoder": encoder, **inputs}
    return graph


@pytest.mark.parametrize("kind", KINDS)
def test_the_index_is_that_of_the_command_line(server, encoders, kind, tmp_path):
    name = f"tiny {kind}"
    graph = building(name, name)
    graph["1"]["inputs"]["batch_size"] = 5
    server.client.run(graph)
    inside = GarmentIndex.open(server.store / "indexes" / name)
    encoder = load_encoder(encoders / name)
    build_index(server.store / "catalogues" / "openvto", tmp_path / "outside", encoder)
    outside = GarmentIndex.open(tmp_path / "outside")
    for key in ("name", "fingerprint", "dim", "preprocessing"):
        assert inside.manifest["encoder"][key] == outside.manifest["encoder"][key]
    inside.check_encoder(encoder)
    ours, theirs = (index.vectors.at(index.rows).float().numpy() for index in (inside, outside))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)  # both are stored in half precision

    graph = Graph()
    loaded = graph.add("GarmentIndexLoader", index_name=name)
    text = "a blue denim jacket"
    found = graph.add("TextGarmentRetrieve", index=loaded, text=text, category="any", top_k=5)
    shown = graph.add("ProbeText", value=found[2])
    lines = server.client.text(server.client.run(graph), shown).splitlines()
    (hits,) = search(inside, encoder.encode_texts([text]), 5, backend="exact")
    assert [line.split()[1] for line in lines] == [hit.garment.file for hit in hits]
    scores = [float(line.split()[0]) for line in lines]
    np.testing.assert_allclose(scores, [hit.score for hit in hits], atol=1e-3)


def test_a_folder_with_code_is_refused(server, encoders, tmp_path):
    folder, trace = encoders / "with code", tmp_path / "trace"
    shutil.copytree(encoders / "tiny siglip", folder)
    (folder / "code.py").write_text(f"open({str(trace)!r}, 'w')\n")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["auto_map"] = {"AutoModel": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    error = server.client.error_of(building("of code", "with code"))
    assert "asks for code" in error and "never run" in error
    assert not trace.exists()


def test_a_recipe(server, encoders, tmp_path):
    """Recorded, followed by the loader and its queries, refused where it is another."""
    graph = building("by views", "tiny siglip", recipe="views")
    server.client.run(graph)
    plain = load_encoder(encoders / "tiny siglip")
    build_index(
        server.store / "catalogues" / "openvto", tmp_path / "outside", with_recipe(plain, VIEWS)
    )
    inside, outside = (
        GarmentIndex.open(folder)
        for folder in (server.store / "indexes" / "by views", tmp_path / "outside")
    )
    entry = inside.manifest["encoder"]
    assert entry["recipe"] == VIEWS
    assert entry["fingerprint"] == outside.manifest["encoder"]["fingerprint"]
    ours, theirs = (index.vectors.at(index.rows).float().numpy() for index in (inside, outside))
    np.testing.assert_allclose(ours, theirs, atol=2e-3)

    search_graph = Graph()
    loaded = search_graph.add("GarmentIndexLoader", index_name="by views")
    found = search_graph.add(
        "TextGarmentRetrieve", index=loaded, text="a coat", category="any", top_k=5
    )
    shown = search_graph.add("ProbeText", value=found[2])
    lines = server.client.text(server.client.run(search_graph), shown).splitlines()
    (result,) = retrieve(LocalBackend(inside), plain, [Query("a coat", k=5)])
    assert [line.split()[1] for line in lines] == [hit.garment.file for hit in result.hits]
    scores = [float(line.split()[0]) for line in lines]
    np.testing.assert_allclose(scores, [hit.score for hit in result.hits], atol=1e-3)

    path, query = "/fashion_rag/index/by%20views/search", {"text": "a coat", "k": 5}
    cards = server.client.post(path, {"query": query})["hits"]  # as the gallery on the node asks
    assert [card["id"] for card in cards] == [hit.garment.id for hit in result.hits]

    error = server.client.error_of(building("by views", "tiny siglip"))
    assert "with the recipe 'views'" in error and "overwrite" in error
