"""Search against brute force: faiss and torch alike, ties, filters, bounds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.retriever import search as search_module
from fashion_rag.retriever.catalogue import Garment
from fashion_rag.retriever.index import GarmentIndex
from fashion_rag.retriever.search import Hit, search
from hypothesis import given, settings
from hypothesis import strategies as st

torch.set_num_threads(1)


def index_of(embeddings: torch.Tensor, categories: list[str] | None = None) -> GarmentIndex:
    names = categories or [""] * len(embeddings)
    garments = [Garment(f"g{row}", f"{row}.jpg", name) for row, name in enumerate(names)]
    manifest = {"files": {}, "encoder": {"name": "test"}}
    return GarmentIndex(Path("mem"), manifest, garments, [], embeddings.half(), Path())


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()
    return torch.nn.functional.normalize(values, dim=-1)


def check(index: GarmentIndex, query: torch.Tensor, hits: list[Hit], rows: list[int], k: int):
    """The hits are the k best of `rows` by brute force, ordered, ties by row."""
    scores = index.embeddings.numpy().astype(np.float64) @ query.numpy().astype(np.float64)
    found = [hit.position for hit in hits]
    assert len(set(found)) == len(hits) == min(k, len(rows)) and set(found) <= set(rows)
    assert all(index.garments[hit.position] is hit.garment for hit in hits)
    np.testing.assert_allclose([hit.score for hit in hits], scores[found], atol=1e-6)
    assert found == [row for _, row in sorted((-hit.score, hit.position) for hit in hits)]
    last = hits[-1]
    for row in set(rows) - set(found):
        assert scores[row] <= last.score + 1e-6
        same = np.array_equal(index.embeddings[row], index.embeddings[last.position])
        assert not (same and row < last.position)


@given(
    count=st.integers(1, 60),
    dim=st.sampled_from([1, 3, 8, 33]),
    distinct=st.integers(1, 60),
    k=st.integers(1, 70),
    queries=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    categories=st.sampled_from([None, ["a"], ["a", "b"], ["a", "b", "c", ""]]),
)
@settings(max_examples=150, deadline=None)
def test_both_backends_against_brute_force(count, dim, distinct, k, queries, seed, categories):
    """With many equal garments, so that ties cross the k-th place."""
    generator = np.random.default_rng(seed)
    embeddings = unit(distinct, dim, seed=seed)[generator.integers(0, distinct, count)]
    names = list(generator.choice(categories or [""], count))
    index, wanted = index_of(embeddings, names), names[0] if categories else None
    rows = [row for row, name in enumerate(names) if wanted is None or name == wanted]
    query = unit(queries, dim, seed=seed + 1)
    ours = {backend: search(index, query, k, wanted, backend) for backend in ("faiss", "torch")}
    assert ours["faiss"] == ours["torch"]
    for row, hits in zip(query, ours["torch"], strict=True):
        check(index, row, hits, rows, k)


def test_larger_than_a_block(record_figure):
    """Some thousand garments over several blocks; the two backends' own scores agree to 1e-5."""
    index = index_of(unit(5000, 96), [f"c{row % 7}" for row in range(5000)])
    queries = unit(6, 96, seed=1)
    largest = 0.0
    for category in (None, "c3"):
        rows = None if category is None else index.rows_of(category)
        scores = {}
        for prepare in (search_module._with_faiss, search_module._with_torch):
            values, found = prepare(index, queries, rows)(5000 if rows is None else len(rows))
            scores[prepare] = values.gather(1, found.argsort(dim=1))
        largest = max(largest, float((scores[prepare] - next(iter(scores.values()))).abs().max()))
        hits = [search(index, queries, 20, category, name) for name in ("faiss", "torch")]
        assert hits[0] == hits[1]
        among = list(range(5000)) if rows is None else rows.tolist()
        for query, found in zip(queries, hits[0], strict=True):
            check(index, query, found, among, 20)
    record_figure("scores of faiss and torch", largest, 1e-5)


def test_queries_in_parts(monkeypatch):
    index, queries = index_of(unit(40, 8)), unit(9, 8, seed=1)
    whole = search(index, queries, 3)
    monkeypatch.setattr(search_module, "_SCORES", 100)
    assert search(index, queries, 3) == whole


def test_no_queries():
    assert search(index_of(unit(4, 8)), torch.zeros(0, 8), 3) == []


def test_category_without_garments():
    index = index_of(unit(3, 4), ["coats", "", "dresses"])
    with pytest.raises(ValueError, match="'hats'.*'coats', 'dresses'"):
        search(index, unit(1, 4), 3, "hats")
    with pytest.raises(ValueError, match="no category at all"):
        search(index_of(unit(3, 4)), unit(1, 4), 3, "hats")


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        (torch.zeros(1, 5), {}, r"\(1, 5\).*\(n, 4\).*'test'"),
        (torch.zeros(4), {}, r"\(4,\).*\(n, 4\)"),
        (torch.full((1, 4), torch.nan), {}, "finite"),
        (torch.zeros(1, 4), {"k": 0}, "k is 0"),
        (torch.zeros(1, 4), {"backend": "annoy"}, "'annoy'.*auto, faiss, torch"),
    ],
)
def test_bad_queries(queries, options, message):
    with pytest.raises(ValueError, match=message):
        search(index_of(unit(3, 4)), queries, **{"k": 2, **options})


def test_without_faiss(monkeypatch):
    """faiss absent: exact search still serves, and `faiss` says what to install."""
    index, queries = index_of(unit(20, 4)), unit(1, 4, seed=1)
    expected = search(index, queries, 3, backend="faiss")
    monkeypatch.setitem(sys.modules, "faiss", None)
    fresh = index_of(unit(20, 4))
    assert search(fresh, queries, 3) == expected
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        search(fresh, queries, 3, backend="faiss")


def test_queries_on_autograd_and_of_another_dtype():
    index, queries = index_of(unit(20, 4)), unit(1, 4, seed=1)
    expected = search(index, queries, 3)
    assert search(index, queries.double().requires_grad_(), 3) == expected
