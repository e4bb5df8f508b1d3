"""Approximate kinds: recall, filters, updates, files, tuning, and search without faiss."""

from __future__ import annotations

import dataclasses
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.retriever import search as search_module
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.search import nearest
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.tune import made_up_queries, recall_of, tune_index
from fashion_rag.retriever.upkeep.update import update_index
from fashion_rag.retriever.vectors.approximate import Approximate, Kind, choose_kind
from fashion_rag.retriever.vectors.exact import exact_search

from .retriever_fakes import ColourEncoder, draw_catalogue

torch.set_num_threads(1)
NAMES = ("ivf", "ivfpq", "hnsw")
COUNT, DIM = 4000, 48


def garments(count: int, seed: int = 0) -> torch.Tensor:
    """Unit vectors of some 16 dimensions around a common mean, in clusters."""
    generator = np.random.default_rng(seed)
    basis = np.random.default_rng(99).normal(size=(16, DIM)) / 4
    centres = np.random.default_rng(98).normal(size=(40, 16))
    points = centres[generator.integers(0, 40, count)] + 0.7 * generator.normal(size=(count, 16))
    values = torch.from_numpy(points @ basis + 0.5).float()
    return torch.nn.functional.normalize(values, dim=1).half()


def index_of(embeddings: torch.Tensor, made: Approximate) -> GarmentIndex:
    records = [Garment(f"g{row}", f"{row}.jpg") for row in range(len(embeddings))]
    index = GarmentIndex.in_memory(records, embeddings)
    index.kind, index.approximate = made.kind, made
    return index


@pytest.fixture(scope="module", params=NAMES)
def made(request) -> GarmentIndex:
    embeddings = garments(COUNT)
    return index_of(embeddings, Approximate.build(embeddings, request.param))


def recall(index: GarmentIndex, rows: np.ndarray | None = None, k: int = 10) -> float:
    queries = made_up_queries(index, 60)
    truth = exact_search(index.embeddings, queries, k, rows if rows is None else torch.tensor(rows))
    scores, found = nearest(index, queries, k, rows)
    exact = (index.embeddings[found].double() * queries[:, None].double()).sum(dim=2)
    assert (scores - exact).abs().max() < 1e-6
    assert (scores.diff(dim=1) <= 0).all()
    assert rows is None or np.isin(found.numpy(), rows).all()
    assert all(len(set(row)) == k for row in found.tolist())
    return recall_of(found, truth[1])


def test_recall(made):
    assert recall(made) > 0.95
    assert made.kind.dimensions == 16 and made.kind.trained_on == COUNT


@pytest.mark.parametrize("share", [0.5, 0.05, 0.005])
def test_filters_lose_nothing(made, share, monkeypatch):
    """Also where the few rows of a filter aren't all scored, as they usually are."""
    rows = np.flatnonzero(np.random.default_rng(3).random(COUNT) < share)
    assert recall(made, rows) == 1 or share == 0.5
    monkeypatch.setattr(search_module, "FEW_ROWS", 0)
    assert recall(made, rows) > 0.9


def test_more_than_the_cells_hold(made, monkeypatch):
    """With the least effort, k garments are still found, and no others than those wanted."""
    monkeypatch.setattr(search_module, "FEW_ROWS", 0)
    monkeypatch.setattr(made, "kind", dataclasses.replace(made.kind, effort=1, candidates=10))
    assert recall(made, np.arange(0, 30), k=30) == 1
    assert recall(made, k=200) > 0.2


@pytest.mark.parametrize("name", NAMES)
def test_rows_come_and_go(name):
    """After removals and additions, what is found is what a new structure finds."""
    embeddings = garments(COUNT)
    made = Approximate.build(embeddings, name)
    keep = np.flatnonzero(np.random.default_rng(1).random(COUNT) < 0.9)
    assert made.keep(keep)
    added = garments(500, seed=5)
    made.add(added)
    now = torch.cat([embeddings[torch.from_numpy(keep)], added])
    index = index_of(now, made)
    assert made.count == len(now) and recall(index) > 0.95
    found = nearest(index, added.float(), 1)[1].squeeze(1)
    assert (found == torch.arange(len(keep), len(now))).float().mean() > 0.99
    assert recall(index, np.arange(1, len(now), 2)) > 0.9
    assert not made.keep(np.arange(1000)), "so much is gone that it should be built anew"


def test_files(made, tmp_path):
    path = tmp_path / "vectors"
    made.approximate.save(path)
    with open(path, "rb") as file:
        again = Approximate.load(file, "vectors", made.kind, COUNT, DIM)
    queries = made_up_queries(made, 20)
    same = [a.candidates(queries, 20, made.kind) for a in (made.approximate, again)]
    assert np.array_equal(*same)
    with open(path, "rb") as file, pytest.raises(ValueError, match=r"vectors holds .*\(9999, 48\)"):
        Approximate.load(file, "vectors", made.kind, 9999, DIM)
    for content in (b"", b"x" * 99, path.read_bytes()[:5000]):
        with pytest.raises(ValueError, match="vectors is damaged.*index tune"):
            Approximate.load(io.BytesIO(content), "vectors", made.kind, COUNT, DIM)


def test_choice():
    assert choose_kind(1000, 768) == choose_kind(100_000, 768) == "exact"
    assert choose_kind(1_000_000, 768) == "ivf"
    assert choose_kind(1_000_000, 768, memory=100_000_000) == "ivfpq"
    assert choose_kind(50_000_000, 768) == "ivfpq"


def test_too_few_to_train_on():
    with pytest.raises(ValueError, match="12 garments is searched exactly.*'ivf' needs 256"):
        Approximate.build(garments(12), "ivf")


@pytest.mark.parametrize("entry", [{}, {"name": "lsh"}, {"name": "ivf", "cells": -1}, {"name": 3}])
def test_unknown_kinds(entry):
    with pytest.raises(ValueError, match="unknown kind"):
        Kind.of({"kind": entry})


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("shop")
    draw_catalogue(base / "photos", 400)
    return base


@pytest.mark.parametrize("name", NAMES)
def test_an_index_on_disk(shop, tmp_path, monkeypatch, name):
    """Built, searched, updated, tuned to another kind, and searched without faiss."""
    catalogue, folder, encoder = shop / "photos", tmp_path / "index", ColourEncoder()
    build_index(catalogue, folder, encoder, kind=name)
    index = GarmentIndex.open(folder)
    index.verify()
    assert index.kind.name == name and index.manifest["kind"]["trained_on"] == 400
    queries = encoder.encode_texts(["red", "green", "blue"])
    hits = nearest(index, queries, 5)
    assert (hits[0] >= nearest(index, queries, 5, backend="exact")[0] - 0.02).all()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "faiss", None)
        without = GarmentIndex.open(folder)
        exact = nearest(without, queries, 5)
    assert torch.equal(exact[0], nearest(index, queries, 5, backend="exact")[0])

    photo = catalogue / "200.png"
    moved = photo.rename(tmp_path / "200.png")
    assert update_index(folder, encoder).removed == 1
    moved.rename(photo)
    assert update_index(folder, encoder).added == 1
    updated = GarmentIndex.open(folder)
    updated.verify()
    assert updated.kind.name == name and len(updated) == 400
    (found,) = nearest(updated, updated.embeddings[-1:].float(), 1)[1]
    assert updated.garment(int(found)).file == "200.png"

    report = tune_index(folder, 0.9, 5)
    assert report.chosen.recall >= 0.9 and report.chosen is report.settings[-1]
    assert GarmentIndex.open(folder).kind == report.chosen.kind
    assert "recall@5" in report.summary() and "<-" in report.summary()
    other = NAMES[NAMES.index(name) - 1]
    tune_index(folder, 0.5, 5, kind=other)
    assert GarmentIndex.open(folder).kind.name == other
    assert tune_index(folder, kind="exact") is None
    index = GarmentIndex.open(folder)
    index.verify()
    assert index.kind == Kind("exact") and "vectors" not in index.manifest["files"]
    assert not list(folder.glob("vectors*"))


def test_a_damaged_file_of_vectors(shop, tmp_path):
    folder = tmp_path / "index"
    build_index(shop / "photos", folder, ColourEncoder(), kind="ivf")
    (path,) = folder.glob("vectors*")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=f"{path.name} is not what manifest.json says"):
        GarmentIndex.open(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"recall": 0.0}, "recall is 0"), ({"recall": 2.0}, "recall is 2"), ({"kind": "lsh"}, "lsh")],
)
def test_tuning_that_is_refused(shop, tmp_path, options, message):
    build_index(shop / "photos", tmp_path / "index", ColourEncoder())
    with pytest.raises(ValueError, match=message):
        tune_index(tmp_path / "index", **options)
