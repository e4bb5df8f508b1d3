"""Exact search against brute force: few and many queries, ties, rows, bounds."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import spelt_category
from fashion_rag.retriever.search import Hit, nearest, search
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.vectors import eight_bit as eightbit
from fashion_rag.retriever.vectors import exact
from hypothesis import given, settings
from hypothesis import strategies as st

torch.set_num_threads(1)


def index_of(embeddings: torch.Tensor, categories: list[str] | None = None) -> GarmentIndex:
    names = categories or [""] * len(embeddings)
    garments = [Garment(f"g{row}", f"{row}.jpg", name) for row, name in enumerate(names)]
    return GarmentIndex.in_memory(garments, embeddings)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    values = torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()
    return torch.nn.functional.normalize(values, dim=-1)


def check(index: GarmentIndex, query: torch.Tensor, hits: list[Hit], rows: list[int], k: int):
    """The hits are the k best of `rows` by brute force, ordered, ties by row."""
    scores = index.embeddings.numpy().astype(np.float64) @ query.numpy().astype(np.float64)
    found = [hit.position for hit in hits]
    assert len(set(found)) == len(hits) == min(k, len(rows)) and set(found) <= set(rows)
    assert all(index.garments[hit.position] == hit.garment for hit in hits)
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
    queries=st.sampled_from([1, 2, exact.FEW_QUERIES + 1]),
    seed=st.integers(0, 10_000),
    categories=st.sampled_from([None, ["a"], ["a", "b"], ["a", "b", "c", ""]]),
)
@settings(max_examples=100, deadline=None)
def test_against_brute_force(count, dim, distinct, k, queries, seed, categories):
    """With many equal garments, so that ties cross the k-th place."""
    generator = np.random.default_rng(seed)
    embeddings = unit(distinct, dim, seed=seed)[generator.integers(0, distinct, count)]
    names = list(generator.choice(categories or [""], count))
    index, wanted = index_of(embeddings, names), names[0] if categories else None
    rows = [row for row, name in enumerate(names) if wanted is None or name == wanted]
    query = unit(queries, dim, seed=seed + 1)
    for row, hits in zip(query, search(index, query, k, wanted), strict=True):
        check(index, row, hits, rows, k)


@pytest.mark.parametrize("queries", [3, exact.FEW_QUERIES + 1])
def test_larger_than_a_block(queries):
    """Some thousand garments over several blocks, with near ties that half precision mixes up."""
    embeddings = unit(1, 96) + 0.02 * unit(5000, 96, seed=2)
    index = index_of(torch.nn.functional.normalize(embeddings, dim=1), list("abcdefg" * 715)[:5000])
    query = unit(queries, 96, seed=1)
    for category in (None, "c"):
        rows = list(range(5000)) if category is None else index.rows_where(None, category).tolist()
        for row, hits in zip(query, search(index, query, 20, category), strict=True):
            check(index, row, hits, rows, 20)


def test_bound_of_half_precision(record_figure):
    embeddings, queries = unit(5000, 768).half(), unit(3, 768, seed=1)
    half = exact._half_scores(embeddings, queries, None).double()
    error = (half - queries.double() @ embeddings.double().T).abs().max()
    record_figure("score in half precision", float(error), exact._HALF_ERROR / 2)


def test_a_processor_that_adds_up_in_half_precision(monkeypatch):
    """Its scores are noticed to be off, and not used."""
    index, query = index_of(unit(300, 64)), unit(2, 64, seed=1)
    expected = search(index, query, 5)

    def crude(embeddings, queries, rows):
        return (queries @ embeddings.float().T + 0.3 * unit(2, 300, seed=7) * 5).half()

    monkeypatch.setattr(exact, "_half_scores", crude)
    assert search(index, query, 5) == expected


@given(
    count=st.integers(1, 300),
    dim=st.sampled_from([1, 8, 33, 64, 256]),  # processors treat multiples of 16 apart
    distinct=st.integers(1, 300),
    k=st.integers(1, 40),
    spread=st.sampled_from([1.0, 0.05, 0.001]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_eight_bits_are_exact(count, dim, distinct, k, spread, seed):
    """Also where the scores lie closer together than 8 bits can tell."""
    pytest.importorskip("faiss")
    generator = np.random.default_rng(seed)
    near = unit(1, dim, seed=seed + 2) + spread * unit(distinct, dim, seed=seed)
    near = torch.nn.functional.normalize(near, dim=1)
    index = index_of(near[generator.integers(0, distinct, count)])
    index.eight_bit = eightbit.EightBit(index.vectors)
    query = unit(2, dim, seed=seed + 1)
    for row, hits in zip(query, search(index, query, k), strict=True):
        check(index, row, hits, list(range(count)), k)


def test_eight_bits_that_prove_nothing(monkeypatch):
    index = index_of(unit(400, 16))
    index.eight_bit = eightbit.EightBit(index.vectors)
    monkeypatch.setattr(eightbit, "_CANDIDATES", 0)
    query = unit(1, 16, seed=1)
    assert index.eight_bit.search(query[0], 3) is None
    assert search(index, query, 3) == search(index_of(unit(400, 16)), query, 3)


def test_eight_bits_are_for_middling_sizes(monkeypatch):
    assert index_of(unit(100, 8)).eight_bit is None
    monkeypatch.setattr(eightbit, "FEWEST", 100)
    assert index_of(unit(100, 8)).eight_bit is not None
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert index_of(unit(100, 8)).eight_bit is None


def test_nearest_fills_up():
    index, query = index_of(unit(5, 8)), unit(2, 8, seed=1)
    scores, rows = nearest(index, query, 4, np.array([1, 3]))
    assert scores.dtype == torch.float32 and rows.dtype == torch.int64
    assert rows.shape == scores.shape == (2, 4)
    assert rows[:, :2].sort(dim=1).values.tolist() == [[1, 3]] * 2
    assert rows[:, 2:].tolist() == [[-1, -1]] * 2 and scores[:, 2:].max() == -torch.inf
    scores, rows = nearest(index, query, 3, torch.tensor([], dtype=torch.int64))
    assert rows.tolist() == [[-1] * 3] * 2


def test_category_and_rows():
    index = index_of(unit(6, 4), list("ababab"))
    (hits,) = search(index, unit(1, 4, seed=1), 6, "a", rows=np.array([1, 2, 3, 4]))
    assert {hit.position for hit in hits} == {2, 4}


def test_in_parts(monkeypatch):
    """Equal garments in several parts stay in order."""
    index, queries = index_of(unit(10, 8).repeat(4, 1)), unit(9, 8, seed=1)
    whole = search(index, queries, 3)
    monkeypatch.setattr(exact, "_ROWS", 7)
    monkeypatch.setattr(exact, "_SCORES", 50)
    monkeypatch.setattr(exact, "_QUERIES", 5)
    assert search(index, queries, 3) == whole
    assert search(index, queries[:2], 30) == [hits[:30] for hits in search(index, queries[:2], 40)]


def test_no_queries():
    assert search(index_of(unit(4, 8)), torch.zeros(0, 8), 3) == []


def test_category_without_garments():
    index = index_of(unit(3, 4), ["coats", "", "dresses"])
    with pytest.raises(ValueError, match="'hats'.*'coats', 'dresses'"):
        search(index, unit(1, 4), 3, "hats")
    with pytest.raises(ValueError, match="no category at all"):
        search(index_of(unit(3, 4)), unit(1, 4), 3, "hats")
    plain = LocalBackend(index_of(unit(3, 4)))
    with pytest.raises(ValueError, match="no category at all. Put the photos into folders dresses"):
        spelt_category(plain, "dresses", "Write one of these.")


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        (torch.zeros(1, 5), {}, r"\(1, 5\).*\(n, 4\).*'memory'"),
        (torch.zeros(4), {}, r"\(4,\).*\(n, 4\)"),
        (torch.full((1, 4), torch.nan), {}, "finite"),
        (torch.zeros(1, 4), {"k": 0}, "k is 0"),
        (torch.zeros(1, 4), {"backend": "annoy"}, "'annoy'.*auto, exact"),
    ],
)
def test_bad_queries(queries, options, message):
    with pytest.raises(ValueError, match=message):
        search(index_of(unit(3, 4)), queries, **{"k": 2, **options})


def test_queries_on_autograd_and_of_another_dtype():
    index, queries = index_of(unit(20, 4)), unit(1, 4, seed=1)
    expected = search(index, queries, 3)
    assert search(index, queries.double().requires_grad_(), 3) == expected
