"""Pushes of an index that is updated: what is sent, and what readers see meanwhile."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.milvus import collection, sync
from fashion_rag.retriever.milvus.connection import CollectionPlace
from fashion_rag.retriever.milvus.index import MilvusIndex
from fashion_rag.retriever.milvus.pull import pull
from fashion_rag.retriever.milvus.rows import PartRows, Rows
from fashion_rag.retriever.milvus.sync import push
from fashion_rag.retriever.open_index import open_index
from fashion_rag.retriever.store.filters import parse_filter
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep import update as update_module
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.update import update_index
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from .milvus_garments import queries
from .retriever_fakes import ColourEncoder, draw_catalogue

pymilvus = pytest.importorskip("pymilvus")
torch.set_num_threads(1)


class Shop:
    """A catalogue with its index, the collection of that, and the rows that pushes sent."""

    def __init__(self, folder: Path, place: CollectionPlace, count: int = 30):
        self.photos = draw_catalogue(folder / "photos", count)
        self.local, self.far, self.place = folder / "index", folder / "far", place
        self.sent: list[int] = []
        build_index(self.photos, self.local, ColourEncoder())

    def paint(self, number: int, shade: int) -> None:
        Image.new("RGB", (24, 32), (shade, 255 - shade, shade // 2)).save(
            self.photos / f"{number:03}.png"
        )

    def remove(self, number: int) -> None:
        (self.photos / f"{number:03}.png").unlink()

    def update(self) -> None:
        update_index(self.local, ColourEncoder(), check_content=True)

    def push(self, **options) -> int:
        """Push the index, and give the number of rows that were sent."""
        self.sent.clear()
        push(GarmentIndex.open(self.local), self.far, self.place, **options)
        return sum(self.sent)

    def check(self, far: MilvusIndex | None = None, local: GarmentIndex | None = None) -> None:
        """The collection answers as the index does, in every way that it can be asked."""
        far, local = far or open_index(self.far), local or GarmentIndex.open(self.local)
        vectors, count = queries(3, 8), len(local)
        assert len(far) == count
        for k in (3, count, count + 5):
            expected, rows = LocalBackend(local, "exact").nearest(vectors, k, None, None)
            scores, found = far.nearest(vectors, k, None, None)
            np.testing.assert_array_equal(scores, expected)
            for theirs, ours in zip(rows, found, strict=True):
                garments = [local.garment(row) for row in theirs if row >= 0]
                assert far.garments_at(ours[ours >= 0]) == garments
        ids = [garment.id for garment in local.garments]
        rows = far.rows_of_ids([*ids, "nothing"])
        assert (rows[:-1] >= 0).all() and rows[-1] == -1
        assert [one.id for one in far.garments_at(rows[:-1])] == ids
        np.testing.assert_array_equal(far.vectors_at(rows[:-1]), local.embeddings.float().numpy())
        assert [record["id"] for record in far.records()] == ids
        assert far.values_of("file").texts == count


@pytest.fixture
def shop(tmp_path, place, monkeypatch) -> Shop:
    shop = Shop(tmp_path, place("shop"))
    for name in ("insert", "upsert"):
        write = getattr(pymilvus.MilvusClient, name)

        def counted(self, collection_name, rows, *args, _write=write, **kwargs):
            shop.sent.append(len(rows))
            return _write(self, collection_name, rows, *args, **kwargs)

        monkeypatch.setattr(pymilvus.MilvusClient, name, counted)
    return shop


def test_a_push_sends_what_changed(shop, tmp_path):
    assert shop.push() == 30
    assert shop.push() == 0
    before, former = open_index(shop.far), GarmentIndex.open(shop.local)
    shop.remove(7)
    shop.paint(5, 200)
    shop.paint(40, 10)
    shop.paint(41, 20)
    shop.update()
    assert shop.push() == 3
    shop.check()
    assert collection.count(before.connection, before.collection) == 31  # waits for the deletion
    with pytest.raises(ValueError, match="another push has taken it out, so open the index again"):
        before.garments_at(np.array([7]))
    shop.remove(8)
    shop.update()
    assert shop.push() == 0
    shop.check()
    assert shop.push() == 0
    names = before.connection.client.list_collections()
    assert len(names) == 2 and f"shop_{former.manifest['generation']}_exact" in names
    pull(shop.far, tmp_path / "pulled", shop.photos)
    pulled = GarmentIndex.open(tmp_path / "pulled")
    local = GarmentIndex.open(shop.local)
    assert torch.equal(pulled.embeddings, local.embeddings)
    assert shop.push(kind="hnsw") == len(local)
    assert before.connection.client.list_collections() == [
        f"shop_{local.manifest['generation']}_hnsw"
    ]


def test_texts_and_columns_that_changed(shop):
    def table(price: str, more: str = "") -> None:
        header = f"file,price{',colour' if more else ''}\n"
        (shop.photos / "garments.csv").write_text(f"{header}003.png,{price}{more}\n001.png,7{more}")
        shop.update()

    table("30")
    assert shop.push() == 30
    table("50")
    assert 1 <= shop.push() <= 30
    shop.check()
    found = open_index(shop.far).nearest(queries(1, 8), 5, None, parse_filter("price > 40"))[1]
    assert (found >= 0).sum() == 1
    table("50", ",red")
    assert shop.push() == 30, "a column that the collection has no field for"
    shop.check()


class StoppedError(Exception):
    pass


def test_a_push_of_changes_that_stops(shop, monkeypatch):
    monkeypatch.setattr(collection, "BATCH", 2)
    shop.push()
    before, former = open_index(shop.far), GarmentIndex.open(shop.local)
    shop.remove(7)
    for number in range(40, 46):
        shop.paint(number, 3 * number)
    shop.update()
    done = []

    def stop(*progress: int) -> None:
        done.append(progress)
        if progress[0] == 33:
            raise StoppedError

    with pytest.raises(StoppedError):
        shop.push(progress=stop)
    assert done == [(29, 35), (31, 35), (33, 35)] and sum(shop.sent) == 4
    for index in (before, open_index(shop.far)):
        shop.check(index, former)
    assert shop.push() == 2
    shop.check()
    # What stops after the readers have the new one: the garment that is gone is still there.
    shop.remove(8)
    shop.paint(50, 99)
    shop.update()
    with monkeypatch.context() as patch:
        patch.setattr(sync, "delete", lambda *_: stop(33, 0))
        with pytest.raises(StoppedError):
            shop.push()
    shop.check()
    assert shop.push() == 0
    index = open_index(shop.far)
    assert collection.count(index.connection, index.collection) == len(index) == 35


def test_what_a_push_left_is_cleared_away(shop, monkeypatch):
    """One stopped; the catalogue changed once more before the next."""
    monkeypatch.setattr(collection, "BATCH", 2)
    shop.push()
    for number in range(40, 44):
        shop.paint(number, 3 * number)
    shop.update()

    def stop(done: int, total: int) -> None:
        if done == 32:
            raise StoppedError

    with pytest.raises(StoppedError):
        shop.push(progress=stop)
    for number in range(40, 43):
        shop.remove(number)
    shop.paint(50, 99)
    shop.update()
    assert shop.push() <= 4
    shop.check()
    assert len(open_index(shop.far).connection.client.list_collections()) == 2


@pytest.mark.parametrize("milvus", [None], ids=["lite"])
def test_many_updates(milvus, shop, monkeypatch):
    monkeypatch.setattr(update_module, "MOST_PARTS", 3)
    monkeypatch.setattr(collection, "BATCH", 7)
    chance = random.Random(4)
    shop.push()
    sent = 0
    for step in range(8):
        there = sorted(int(path.stem) for path in shop.photos.glob("*.png"))
        for number in chance.sample(there, 3):
            shop.remove(number)
        for number in chance.sample(range(100), 4):
            shop.paint(number, chance.randrange(256))
        shop.update()
        sent += shop.push()
        shop.check()
        assert shop.push() == 0, step
    assert sent < 8 * 20


@pytest.mark.parametrize("milvus", [None], ids=["lite"])
def test_a_collection_of_version_0_1_0(milvus, shop, monkeypatch):
    """Its manifest tells nothing of parts, and its rows are those of the garments, from 0 on."""
    make = collection._make

    def without_parts(connection, name, schema, manifest):
        make(connection, name, schema, {k: v for k, v in manifest.items() if k != "parts"})

    shop.remove(3)
    shop.update()
    with monkeypatch.context() as patch:
        patch.setattr(Rows, "of", lambda index, former=None: None)
        patch.setattr(collection, "_make", without_parts)
        assert shop.push() == 29
    assert "parts" not in open_index(shop.far).manifest
    shop.check()
    assert shop.push() == 0
    shop.paint(40, 1)
    shop.update()
    assert shop.push() == 30
    assert "parts" in open_index(shop.far).manifest
    shop.check()


# --- rows

parts = st.lists(
    st.tuples(st.integers(0, 5), st.integers(1, 9), st.sets(st.integers(0, 8))), min_size=1
)


@given(parts=parts, wanted=st.lists(st.integers(-2, 150)))
def test_rows(parts, wanted):
    made, base, held = [], 0, []
    for gap, rows, removed in parts:
        gone = sorted(place for place in removed if place < rows)
        made.append(PartRows(f"{base}", base + gap, rows, np.array(gone, np.int64)))
        held += [base + gap + place for place in range(rows) if place not in gone]
        base += gap + rows
    rows = Rows(tuple(made))
    assert rows.numbers().tolist() == held and len(rows) == len(held)
    numbers = np.array(wanted, np.int64)
    assert rows.holds(numbers).tolist() == [number in held for number in wanted]
    again = Rows.of_manifest({"parts": rows.to_manifest()})
    assert again.numbers().tolist() == held and again.to_manifest() == rows.to_manifest()
    assert Rows.of_manifest({"count": 7}).numbers().tolist() == list(range(7))


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("can't change the index for loaded collection: invalid parameter", ValueError),
        ("collection not loaded[collection=7]", FileNotFoundError),
        ("collection not found[collection=7]", FileNotFoundError),
    ],
)
def test_what_another_push_took_away_is_told_as_that(shop, monkeypatch, message, kind):
    def interrupted(*_, **__) -> None:
        raise pymilvus.MilvusException(message=message)

    monkeypatch.setattr(sync, "fill", interrupted)
    with pytest.raises(kind, match="push"):
        shop.push()
