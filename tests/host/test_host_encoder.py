"""Retrieval with the host's own pair of CLIP towers, without any optional package."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from fashion_rag.comfyui_server.client import Graph
from fashion_rag.retriever.encoders.color_check import CARDS
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.search import search as search_index
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep.build import build_index
from PIL import Image
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def towers(bare, pair, standin) -> None:
    """The pair and the stand-in in the host, and a catalogue of garments of one colour each."""
    for folder in (pair, standin):
        name = "pair" if folder == pair else "standin"
        shutil.copytree(folder, bare.store / "models" / name, dirs_exist_ok=True)
    catalogue = bare.store / "catalogues" / "colours"
    catalogue.mkdir(parents=True)
    for name, colour in CARDS.items():
        Image.new("RGB", (256, 256), colour).save(catalogue / f"{name}.png")


def build(name: str, clip: str = "pair", vision: str = "pair") -> Graph:
    graph = Graph()
    text, image = (graph.add("FashionRAGLoader", model_name=folder) for folder in (clip, vision))
    inputs = {"catalogue": "colours", "encoder": "host", "clip": text[1], "clip_vision": image[3]}
    graph.add("GarmentIndexBuild", index_name=name, overwrite=True, batch_size=3, **inputs)
    return graph


def search(index: str, text: str, model: str | None = "pair") -> tuple[Graph, str]:
    """A graph that loads an index with a pair (or none) and shows what it finds, and where."""
    graph = Graph()
    towers = {}
    if model:
        models = graph.add("FashionRAGLoader", model_name=model)
        towers = {"clip": models[1], "clip_vision": models[3]}
    loaded = graph.add("GarmentIndexLoader", index_name=index, **towers)
    found = graph.add("TextGarmentRetrieve", index=loaded, text=text, category="any", top_k=8)
    return graph, graph.add("ProbeText", value=found[2])


@pytest.fixture(scope="module")
def colours(bare, towers) -> str:
    bare.client.run(build("colours"))
    return "colours"


def test_the_index_records_the_check(bare, colours):
    manifest = json.loads((bare.store / "indexes" / colours / "manifest.json").read_text("utf-8"))
    assert manifest["encoder"]["name"] == "host"
    assert manifest["encoder"]["color_check"] >= 7


@pytest.mark.parametrize("name", ["blue", "yellow"])
def test_words_find_their_colour(bare, colours, name):
    graph, shown = search(colours, f"the color {name}")
    lines = bare.client.text(bare.client.run(graph), shown).splitlines()
    assert len(lines) == 8
    assert lines[0].split()[1] == f"{name}.png"
    assert float(lines[0].split()[0]) > float(lines[1].split()[0])


def test_towers_that_do_not_belong_together(bare, towers):
    """The text tower of the pair with another vision tower."""
    error = bare.client.error_of(build("of two", "pair", "standin"))
    assert "of 8 colour cards" in error and "512-inpainting-ema.safetensors" in error
    assert not (bare.store / "indexes" / "of two" / "manifest.json").exists()


def test_checkpoint_without_the_projection(bare, towers):
    error = bare.client.error_of(build("of none", "standin", "pair"))
    assert "text projection" in error and "512-inpainting-ema.safetensors" in error


def test_index_of_another_pair(bare, colours, pair):
    """A pair that was trained a little further: nearly the same weights."""
    other = bare.store / "models" / "other"
    shutil.copytree(pair, other)
    path = other / "image_encoder" / "model.safetensors"
    weights = load_file(path)
    step = 0.01 * torch.randn(weights["visual_projection.weight"].shape)
    weights["visual_projection.weight"] += step * weights["visual_projection.weight"].std()
    save_file(weights, path, metadata={"format": "pt"})
    error = bare.client.error_of(search(colours, "a coat", "other")[0])
    assert "host" in error and "build" in error.lower()


def test_index_without_its_pair(bare, colours):
    error = bare.client.error_of(search(colours, "a coat", None)[0])
    assert "clip" in error and "clip_vision" in error


def test_an_index_of_the_command_line(bare, towers, pair):
    """Built with the model folder outside, it is searched with the pair on the sockets."""
    encoder = load_encoder(pair)
    folder = bare.store / "indexes" / "outside"
    build_index(bare.store / "catalogues" / "colours", folder, encoder)
    text = "the color green"
    graph, shown = search("outside", text)
    lines = bare.client.text(bare.client.run(graph), shown).splitlines()
    (hits,) = search_index(GarmentIndex.open(folder), encoder.encode_texts([text]), 8)
    assert [line.split()[1] for line in lines] == [hit.garment.file for hit in hits]
    found = [float(line.split()[0]) for line in lines]
    assert found == pytest.approx([hit.score for hit in hits], abs=1e-3)


def test_an_index_of_the_node_outside(bare, colours, pair):
    index = GarmentIndex.open(bare.store / "indexes" / colours)
    encoder = load_encoder(pair)
    index.check_encoder(encoder)
    (hits,) = search_index(index, encoder.encode_texts(["the color yellow"]), 1)
    assert hits[0].garment.file == "yellow.png"
