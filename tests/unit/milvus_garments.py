"""Garments in memory for the tests of Milvus, and the comparison with the local exact index."""

from __future__ import annotations

import numpy as np
import torch
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.milvus.index import MilvusIndex
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.store.index import GarmentIndex

DIM = 16
BRANDS = ["Acme", 'Bo"lt\\', "Zoë\n\t", "", "{p0}", "café\udce9"]
PRICES = ["12", "012.0", "80", "1e400", "-3.5", "n/a", ""]


def garments(count: int) -> list[Garment]:
    return [
        Garment(
            id=f"id {n}" if n % 7 else f"café\udce9 {n}",
            file=f"f/{n}.png",
            category=["upper_body", "lower_body", ""][n % 3],
            caption=f"caption {n % 5}",
            metadata={"price": PRICES[n % 7], "br and": BRANDS[n % 6], "size": "M"},
        )
        for n in range(count)
    ]


def index_of(count: int, generation: str = "0123abcd", seed: int = 0) -> GarmentIndex:
    """An index with 12 copies of its first vector: ties are in row order."""
    vectors = torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed))
    vectors[10:22] = vectors[0]
    index = GarmentIndex.in_memory(garments(count), torch.nn.functional.normalize(vectors, dim=1))
    index.manifest |= {"generation": generation, "catalogue": {"name": "shop", "path": "/shop"}}
    return index


def queries(count: int, dim: int = DIM) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def same(local: GarmentIndex, far: MilvusIndex, vectors, k, category=None, where=None) -> None:
    expected = LocalBackend(local, "exact").nearest(vectors, k, category, where)
    found = far.nearest(vectors, k, category, where)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_array_equal(found[0], expected[0])
