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
from fashion_rag.retriever.store import commit
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep import build
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.tune import recall_of, synthetic_queries, tune_index
from fashion_rag.retriever.upkeep.update import remove_garments, update_index
from fashion_rag.retriever.vectors.approximate import (
    Approximate,
    Kind,
    check_kind,
    choose_kind,
    explain_kind,
)
from fashion_rag.retriever.vectors.blocks import Vectors
from fashion_rag.retriever.vectors.exact import exact_search

from .retriever_fakes import ColourEncoder, draw_catalogue

torch.set_num_threads(1)
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


@pytest.fixture(scope="module")
def made() -> GarmentIndex:
    embeddings = garments(COUNT)
    return index_of(embeddings, Approximate.build(Vectors([embeddings])))


def recall(index: GarmentIndex, rows: np.ndarray | None = None, k: int = 10) -> float:
    queries = synthetic_queries(index, 60)
    truth = exact_search(index.vectors, queries, k, rows)
    scores, found = nearest(index, queries, k, rows)
    vectors = index.vectors.at(found.flatten().numpy()).view(*found.shape, -1)
    exact = (vectors.double() * queries[:, None].double()).sum(dim=2)
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


def test_rows_come_and_go():
    """Removed rows are masked, added ones scored beside; then both are made part of the file."""
    first, added = garments(COUNT), garments(500, seed=5)
    made = Approximate.build(Vectors([first]))
    gone = np.flatnonzero(np.random.default_rng(1).random(COUNT) < 0.1)
    vectors = Vectors([first, added], [gone, np.array([7])])
    index = index_of(first, made)
    index.vectors, index.parts = vectors, ()
    index.rows = vectors.rows()
    for filled in (False, True):
        if filled:
            new = np.arange(COUNT)
            new[gone] = -1
            made.renumber(new, COUNT)
            made.add(vectors.later(COUNT))
            del index.added  # remembered, as an index that is open doesn't change
        assert made.filed == (len(vectors) if filled else COUNT)
        assert recall(index) > 0.95
        there = np.delete(np.arange(500), 7)
        found = nearest(index, added[there].float(), 1)[1].squeeze(1)
        assert (found == torch.from_numpy(COUNT + there)).float().mean() > 0.99
        assert recall(index, index.rows[::2]) > 0.9
        later = index.rows[index.rows >= COUNT - 20]
        assert recall(index, later) == 1
    assert made.kind.is_stale(1000) and made.kind.is_stale(20 * COUNT)
    assert not made.kind.is_stale(len(vectors))


def test_rows_get_other_numbers():
    """Those of a part that is gone leave, those after it move up."""
    embeddings = garments(COUNT)
    made = Approximate.build(Vectors([embeddings]))
    new = np.concatenate([np.full(1000, -1), np.arange(COUNT - 1000)])
    made.renumber(new, COUNT - 1000)
    assert recall(index_of(embeddings[1000:], made)) > 0.95


def test_files(made, tmp_path):
    path = tmp_path / "vectors"
    with open(path, "wb") as file:
        made.approximate.save(file)
    with open(path, "rb") as file:
        again = Approximate.load(file, "vectors", made.kind, COUNT, DIM)
    queries = synthetic_queries(made, 20)
    same = [a.candidates(queries, 20, made.kind) for a in (made.approximate, again)]
    assert np.array_equal(*same)
    with open(path, "rb") as file, pytest.raises(ValueError, match=r"vectors holds .*\(3999, 48\)"):
        Approximate.load(file, "vectors", made.kind, 3999, DIM)
    for content in (b"", b"x" * 99, path.read_bytes()[:5000]):
        with pytest.raises(ValueError, match="vectors is damaged.*index tune"):
            Approximate.load(io.BytesIO(content), "vectors", made.kind, COUNT, DIM)


def saved(made: Approximate) -> bytes:
    file = io.BytesIO()
    made.save(file)
    return file.getvalue()


def test_a_file_that_names_another_file(tmp_path):
    """faiss would open it while it reads, and write to it in an update."""
    import faiss

    made = Approximate.build(Vectors([garments(COUNT)]))
    path = tmp_path / "lists"
    lists = faiss.OnDiskInvertedLists(made.kind.cells, made._base.code_size, str(path))
    lists.merge_from_1(made._base.invlists)
    made._base.replace_invlists(lists)
    content, former = saved(made), path.read_bytes()
    path.unlink()
    for _ in range(2):
        with pytest.raises(ValueError, match="vectors names another file with its garments.*tune"):
            Approximate.load(io.BytesIO(content), "vectors", made.kind, COUNT, DIM)
        path.write_bytes(former)
    assert path.read_bytes() == former


def test_bytes_of_garments_are_no_mark(made):
    content = bytearray(saved(made.approximate))
    content[-200:-196] = b"ilod"
    Approximate.load(io.BytesIO(content), "vectors", made.kind, COUNT, DIM)


@pytest.mark.parametrize("kind", ["other transform", "sizes", "two", "no lists"])
def test_a_file_of_other_parts(kind):
    import faiss

    made = Approximate.build(Vectors([garments(COUNT)]))
    whole, base = made._vectors, made._base
    transform = faiss.downcast_VectorTransform(whole.chain.at(0))
    if kind == "sizes":
        faiss.copy_array_to_vector(np.zeros(3, np.float32), transform.b)
    elif kind == "two":
        whole.prepend_transform(faiss.RandomRotationMatrix(DIM, DIM))
    elif kind == "no lists":
        base.replace_invlists(None)
    else:
        other = faiss.RemapDimensionsTransform(DIM, base.d, True)
        made._vectors = faiss.IndexPreTransform(other, base)
    with pytest.raises(ValueError, match="vectors is damaged.*index tune"):
        Approximate.load(io.BytesIO(saved(made)), "vectors", made.kind, COUNT, DIM)


def test_choice(monkeypatch):
    assert choose_kind(1000) == choose_kind(100_000) == "exact"
    assert choose_kind(1_000_000) == "ivf"
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert choose_kind(1_000_000) == "exact"


def test_too_few_to_train_on():
    with pytest.raises(ValueError, match="12 garments is searched exactly.*'ivf' needs 256"):
        Approximate.build(Vectors([garments(12)]))


@pytest.mark.parametrize("entry", [{}, {"name": "lsh"}, {"name": "ivf", "cells": -1}, {"name": 3}])
def test_unknown_kinds(entry):
    with pytest.raises(ValueError, match="unknown kind"):
        Kind.of({"kind": entry})


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    base = tmp_path_factory.mktemp("shop")
    draw_catalogue(base / "photos", 400)
    return base


def test_an_index_on_disk(shop, tmp_path, monkeypatch):
    """Built, searched, updated, tuned to another kind, and searched without faiss."""
    catalogue, folder, encoder = shop / "photos", tmp_path / "index", ColourEncoder()
    build_index(catalogue, folder, encoder, kind="ivf")
    index = GarmentIndex.open(folder)
    index.verify()
    assert index.kind.name == "ivf" and index.manifest["kind"]["trained_on"] == 400
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
    assert updated.manifest["vectors"] == index.manifest["vectors"], "written once"
    assert updated.kind.name == "ivf" and len(updated) == 400
    (found,) = nearest(updated, updated.embeddings[-1:].float(), 1)[1]
    assert updated.garment(int(found)).file == "200.png"
    monkeypatch.setattr(commit, "MOST_ADDED", 0)
    (catalogue / "201.png").rename(catalogue / "201 moved.png")
    assert update_index(folder, encoder).renamed == 1
    filled = GarmentIndex.open(folder)
    assert filled.approximate.filed == 400 and filled.approximate.end == filled.vectors.end == 402
    assert filled.kind == index.kind
    found = nearest(filled, filled.vectors.at(filled.rows[:250:40]).float(), 1)[1]
    assert found.squeeze(1).tolist() == filled.rows[:250:40].tolist()
    (catalogue / "201 moved.png").rename(photo.with_name("201.png"))

    report = tune_index(folder, 0.9, 5)
    assert report.chosen.recall >= 0.9 and report.chosen is report.settings[-1]
    assert GarmentIndex.open(folder).kind == report.chosen.kind
    assert "recall@5" in report.summary() and "<-" in report.summary()
    assert tune_index(folder, kind="exact") is None
    index = GarmentIndex.open(folder)
    index.verify()
    assert index.kind == Kind("exact") and index.manifest["vectors"] is None
    assert not list(folder.glob("vectors*"))
    tune_index(folder, 0.5, 5, kind="ivf")
    assert GarmentIndex.open(folder).kind.name == "ivf"


def test_too_few_for_the_kind_is_told_before_anything_is_encoded(tmp_path, monkeypatch):
    photos, encoder = draw_catalogue(tmp_path / "photos", 3), ColourEncoder()
    monkeypatch.setattr(build, "encode_missing", None)
    with pytest.raises(ValueError, match="of 3 garments is searched exactly: .* needs 256"):
        build_index(photos, tmp_path / "index", encoder, kind="ivf")
    assert not (tmp_path / "index").exists()
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="needs the package faiss-cpu"):
        check_kind("ivf", 300)
    check_kind("auto", 3)


def test_an_index_that_shrinks_below_the_kind_is_searched_exactly(shop, tmp_path):
    """Garments can be taken out of it, and once there are enough again it is `ivf` again."""
    folder = tmp_path / "index"
    report = build_index(shop / "photos", folder, ColourEncoder(), kind="ivf")
    assert "Searched as kind ivf" in report.searched
    index = GarmentIndex.open(folder)
    remove_garments(folder, [index.garment(row).id for row in range(200)])
    index = GarmentIndex.open(folder)
    assert len(index) == 200 and index.kind == Kind("exact") and index.manifest["wanted"] == "ivf"
    words = explain_kind(index.kind, "ivf", 200)
    assert words.endswith("as the kind 'ivf', which was asked for, needs 256 garments.")
    report = update_index(folder, ColourEncoder(), restore=True)
    assert len(GarmentIndex.open(folder)) == 400 and "kind ivf" in report.searched


def test_folders_of_other_than_ascii(shop, tmp_path):
    """What faiss writes and reads goes through open files: its own opening fails on Windows."""
    folder = tmp_path / "衣服 é%41?#"
    build_index(shop / "photos", folder, ColourEncoder(), kind="ivf")
    index = GarmentIndex.open(folder)
    index.verify()
    assert index.approximate.filed == 400


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
