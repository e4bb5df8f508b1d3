"""The main job on real photos: words, retrieved garments, a dressed person, the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fashion_rag.comfyui_server.client import Graph
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.search import search
from fashion_rag.retriever.store.index import GarmentIndex
from PIL import Image
from safetensors.numpy import load_file

from .graphs import TEXT, Dress, build

pytestmark = pytest.mark.host
DATA = Path(__file__).parent.parent / "data"


def mask_of(person: str) -> np.ndarray:
    return np.asarray(Image.open(DATA / "masks" / f"person_{person}_upper.png").convert("L")) > 127


def test_index_of_openvto(server, index):
    assert "24" in server.report
    manifest = json.loads((server.store / "indexes" / index / "manifest.json").read_text("utf-8"))
    assert manifest["encoder"]["name"] == "standin"


def test_retrieval_is_the_packages(server, index):
    """The node's hits are those that the same package finds outside ComfyUI."""
    graph = Graph()
    loaded = graph.add("GarmentIndexLoader", index_name=index)
    found = graph.add(
        "TextGarmentRetrieve", index=loaded, text=TEXT, category="upper_body", top_k=5
    )
    shown = graph.add("ProbeText", value=found[2])
    graph.add("PreviewImage", images=found[1])
    lines = server.client.text(server.client.run(graph), shown).splitlines()
    encoder = load_encoder(server.store / "encoders" / "standin")
    opened = GarmentIndex.open(server.store / "indexes" / index)
    (hits,) = search(opened, encoder.encode_texts([TEXT]), 5, "upper_body", backend="exact")
    assert [line.split()[1] for line in lines] == [hit.garment.file for hit in hits]
    assert all(hit.garment.file.split("/")[0] in ("jackets", "shirts") for hit in hits)
    scores = [float(line.split()[0]) for line in lines]
    np.testing.assert_allclose(scores, [hit.score for hit in hits], atol=1e-3)


@pytest.mark.parametrize("person", ["1", "2", "3", "4"])
def test_a_dressed_person(server, index, poses, person, openvto, note):
    """From words to the picture of /view; outside the mask every pixel is the photo's.

    The stand-in paints at a small size, the result goes back onto the photo of full size.
    """
    graph = Dress(
        index=index,
        text=f"{TEXT}, {person}",
        person=person,
        size=(384, 512) if person == "1" else (192, 256),
        pose=json.dumps([poses[person]]),
    )
    graph.photo, graph.mask = graph.node("LoadImage"), graph.node("LoadImageMask")
    saved = graph.finish(graph.sample(steps=2), prefix=f"person_{person}")
    result = server.client.run(graph)
    note(f"{server.host.version}  person {person}, 2 steps on the stand-in: {result.seconds:.1f} s")
    (picture,) = server.client.images(result, saved)
    assert result.outputs[graph.found.number]["garments"]  # the hits are shown on the node
    photo = np.asarray(Image.open(openvto / "people" / f"{person}_posture.jpg").convert("RGB"))
    mask = mask_of(person)
    assert picture.shape == photo.shape
    np.testing.assert_array_equal(picture[~mask], photo[~mask])
    assert np.abs(picture[mask].astype(int) - photo[mask]).mean() > 5


def test_new_seed_runs_nothing_before_the_sampler(server, index, note):
    def queue(seed: int):
        graph = Dress(index=index)
        sampled = graph.sample(seed=seed)
        saved = graph.finish(sampled)
        result = server.client.run(graph)
        after = {
            sampled.number,
            saved.number,
            graph.composite.number,
            graph.node("VAEDecode").number,
        }
        return result, set(graph) - after, server.client.images(result, saved)[0]

    _, _, first = queue(101)
    result, before, second = queue(102)
    assert result.cached == before
    assert np.any(first != second)
    note(f"{server.host.version}  re-queue with a new seed, all of it: {result.seconds:.2f} s")


def test_index_built_anew_is_used(server, index):
    """The cached index loader notices that its index was replaced."""
    graph = Graph()
    loaded = graph.add("GarmentIndexLoader", index_name=index)
    found = graph.add("TextGarmentRetrieve", index=loaded, text=TEXT, category="any", top_k=1)
    graph.add("PreviewImage", images=found[1])
    server.client.run(graph)
    assert loaded.number in server.client.run(graph).cached
    server.client.run(build(index, overwrite=True))
    assert loaded.number not in server.client.run(graph).cached


def test_tokens_of_garments_and_of_images_are_the_same(server, index):
    graph = Dress(index=index)
    photos = graph.invert(images=graph.found[1], category="upper_body")
    for name, words in (("by_garments", graph.words), ("by_images", photos)):
        graph.add("ProbeSave", value=words[1], name=name)
    server.client.run(graph)
    (ours,) = load_file(server.base / "output" / "by_garments.safetensors").values()
    (theirs,) = load_file(server.base / "output" / "by_images.safetensors").values()
    assert ours.shape == (3 * 4, 64) and ours.std() > 0
    np.testing.assert_array_equal(ours, theirs)


def test_saved_tokens_are_an_embedding(server, index):
    """`embedding:NAME` in the stock text encoder gives the conditioning of the pseudo-words."""
    graph = Dress(index=index)
    words = graph.invert(prompt="a jacket of {garments} on a person", garments=graph.found[0])
    saved = graph.add("GarmentTokensSave", tokens=words[1], name="host_test", overwrite=True)
    graph.add("ProbeSave", value=words[0], name="by_words")
    result = server.client.run(graph)
    assert "embedding:host_test" in server.client.text(result, saved)
    graph = Graph()
    models = graph.add("FashionRAGLoader", model_name="standin")
    text = "a jacket of embedding:host_test on a person"
    stock = graph.add("CLIPTextEncode", clip=models[1], text=text)
    graph.add("ProbeSave", value=stock, name="by_embedding")
    server.client.run(graph)
    ours = load_file(server.base / "output" / "by_words.safetensors")["0.0"]
    theirs = load_file(server.base / "output" / "by_embedding.safetensors")["0.0"]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_token_ids_are_the_official_ones(server, index):
    """The host's tokens of the paper's prompts; the pseudo-words stand where `$` does."""
    official = json.loads((DATA / "prompt_ids.json").read_text("utf-8"))
    prompts = {
        "dresses_n1_input_ids": "a photo of a model wearing a dress made of " + " $ " * 16,
        "upper_body_n3_input_ids": "a photo of a model wearing an upper body garment made of "
        + " $ " * 48,
        "uncond_input_ids": "",
    }
    graph = Graph()
    models = graph.add("FashionRAGLoader", model_name="standin")
    shown = {
        name: graph.add("ProbeIds", clip=models[1], text=text) for name, text in prompts.items()
    }
    result = server.client.run(graph)
    for name, node in shown.items():
        assert json.loads(server.client.text(result, node)) == official[name]


def test_prompt_as_encoded_is_shown(server, index):
    graph = Dress(index=index, category="lower_body")
    shown = graph.add("ProbeText", value=graph.words[2])
    text = server.client.text(server.client.run(graph), shown)
    assert "a lower body garment" in text and "{" not in text


def test_strength_zero_is_the_prompt_without_garments(server, index):
    graph = Dress(index=index)
    none = graph.invert("a person in a coat {garments}", strength=0.0, garments=graph.found[0])
    graph.add("ProbeSave", value=none[0], name="zero")
    stock = graph.add("CLIPTextEncode", clip=graph.models[1], text="a person in a coat")
    graph.add("ProbeSave", value=stock, name="stock")
    server.client.run(graph)
    ours = load_file(server.base / "output" / "zero.safetensors")["0.0"]
    theirs = load_file(server.base / "output" / "stock.safetensors")["0.0"]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
