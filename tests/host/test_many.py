"""A search of more garments than are scored one by one, in a real ComfyUI."""

from __future__ import annotations

import pytest
import torch
from fashion_rag.comfyui_server.client import Graph
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.search import FEW_ROWS, search
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep.build import build_index
from PIL import Image

pytestmark = pytest.mark.host
COUNT = FEW_ROWS + 500
TEXTS = ("blue denim jacket", "a red dress, long sleeves")


class Scattered:
    """The texts of an encoder, and photos anywhere in its space: thousands are embedded at once."""

    def __init__(self, encoder):
        self.name, self.dim = encoder.name, encoder.dim
        self.fingerprint, self.preprocessing = encoder.fingerprint, encoder.preprocessing
        self.encode_texts = encoder.encode_texts
        self.random = torch.Generator().manual_seed(0)

    def encode_images(self, photos):
        vectors = torch.randn(len(photos), self.dim, generator=self.random)
        return torch.nn.functional.normalize(vectors, dim=1)


@pytest.fixture(scope="module")
def encoder(server):
    return load_encoder(server.store / "encoders" / "standin")


@pytest.fixture(scope="module")
def catalogue(server):
    """As many photos of a few pixels, each of its own colour."""
    folder = server.store / "catalogues" / "thousands"
    folder.mkdir()
    for number in range(COUNT):
        colour = (number % 256, number // 256 * 8, 128)
        Image.new("RGB", (6, 8), colour).save(folder / f"{number:05}.png")
    return folder


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_a_big_index_finds_in_comfyui_what_it_finds_outside(server, encoder, catalogue, kind):
    folder = server.store / "indexes" / f"thousands {kind}"
    build_index(catalogue, folder, Scattered(encoder), kind=kind, batch_size=256)
    graph = Graph()
    index = graph.add("GarmentIndexLoader", index_name=folder.name)
    shown = []
    for text in TEXTS:
        found = graph.add("TextGarmentRetrieve", index=index, text=text, category="any", top_k=10)
        shown.append(graph.add("PreviewAny", source=found[2]))
    result = server.client.run(graph)

    outside = GarmentIndex.open(folder, catalogue)
    # Without faiss in ComfyUI every garment would be scored: that is seen by what `ivf` misses.
    backend = "exact" if kind == "exact" else "auto"
    best = search(outside, encoder.encode_texts(TEXTS), 10, backend=backend)
    for node, hits in zip(shown, best, strict=True):
        lines = [line.split()[:2] for line in server.client.text(result, node).splitlines()]
        assert [file for _, file in lines] == [hit.garment.file for hit in hits]
        scores = [float(score) for score, _ in lines]
        assert scores == pytest.approx([hit.score for hit in hits], abs=1e-3)
