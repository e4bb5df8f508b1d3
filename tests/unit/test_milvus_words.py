"""Words in a collection of Milvus: the same garments, and scores, as the local index finds.

milvus-lite has full-text search; the real server of the tests, 2.3.5, has none and says so.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.milvus import full_text
from fashion_rag.retriever.milvus import index as milvus_index
from fashion_rag.retriever.milvus.connection import CollectionPlace
from fashion_rag.retriever.milvus.index import MilvusIndex
from fashion_rag.retriever.milvus.pull import pull
from fashion_rag.retriever.milvus.server import Server
from fashion_rag.retriever.milvus.sync import push
from fashion_rag.retriever.open_index import open_index
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query, retrieve
from fashion_rag.retriever.store import text_table
from fashion_rag.retriever.store.filters import parse_filter
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.text_table import words_asked, words_said
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.update import remove_garments, update_index
from hypothesis import given
from hypothesis import strategies as st

from .milvus_garments import DIM, queries
from .retriever_fakes import ColourEncoder, draw_catalogue

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")
torch.set_num_threads(1)

EMBEDDED = CollectionPlace("shop", "vectors.db")
SAID = ["navy coat", "navy", "linen coat", "", "navy linen", "coat"]
SCRIPTS = ["robe d'été", "红色连衣裙", "赤いワンピース", "हिन्दी साड़ी", "빨간 셔츠를", "เสื้อสีแดง"]
TEXTS = ["navy coat", "ACME", "coats", "ETE", "连衣裙", "衣连", "裙", "ワンピース", "साड़ी", "셔츠",
         "สีแดง", 'coat" or row >= 0 or "', "navy AND NOT coat*", "80", "velvet", "-"]  # fmt: skip


def shop_of(count: int) -> GarmentIndex:
    garments = [
        Garment(
            f"g{n}",
            f"{n}.png",
            "hats" if n % 3 else "coats",
            SCRIPTS[n] if n < len(SCRIPTS) else SAID[n % len(SAID)],
            {"brand": "Acme" if n in (40, 41) else "", "price": str(n)},
        )
        for n in range(count)
    ]
    vectors = torch.randn(count, DIM, generator=torch.Generator().manual_seed(3))
    index = GarmentIndex.in_memory(garments, torch.nn.functional.normalize(vectors, dim=1))
    index.manifest |= {"generation": "0123abcd", "catalogue": {"name": "shop", "path": "/shop"}}
    return index


@pytest.fixture(scope="module")
def local() -> GarmentIndex:
    return shop_of(240)


@pytest.fixture(scope="module")
def far(local, tmp_path_factory) -> MilvusIndex:
    folder = tmp_path_factory.mktemp("far")
    push(local, folder, EMBEDDED)
    return open_index(folder)


def same(local: GarmentIndex, far: MilvusIndex, text: str, k, category=None, where=None):
    """Compare what both find by words, and return the scores."""
    (query,) = queries(1, local.vectors.dim)
    expected = LocalBackend(local, "exact").nearest_by_words(text, query, k, category, where)
    found = far.nearest_by_words(text, query, k, category, where)
    for one, other in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(one, other)
    theirs = [local.garment(row).id for row in expected[2].tolist()]
    assert [garment.id for garment in far.garments_at(found[2])] == theirs
    return found[0]


@pytest.mark.parametrize("text", TEXTS)
def test_words_find_what_they_find_locally(local, far, text):
    assert far.has_words
    for k in (1, 30, 300):
        found = same(local, far, text, k)
    nothing = text in ("衣连", "80", "velvet", "-")
    assert (len(found) == 0) == nothing


def test_category_and_filter_hold(local, far):
    for category, where in [("coats", None), (None, "price < 90"), ("hats", "brand = 'Acme'")]:
        assert len(same(local, far, "navy acme", 30, category, where and parse_filter(where)))
    with pytest.raises(ValueError, match="no garments of the category 'shoes'"):
        same(local, far, "navy", 30, "shoes", None)
    with pytest.raises(ValueError, match="k is 20000: Milvus gives at most 16384"):
        far.nearest_by_words("navy", queries(1)[0], 20_000, None, None)


def test_of_more_than_are_looked_at_the_nearest_are_found(local, far, monkeypatch):
    """As on a server, that scores words by the whole collection and has an index of them."""
    monkeypatch.setattr(Server, "counts_words_by_segment", False)
    monkeypatch.setattr(Server, "has_text_match", True)
    for text in ("navy", "navy coat", "linen acme"):
        for k in (1, 7, 30):
            same(local, far, text, k)
    monkeypatch.setattr(milvus_index, "_MOST", 24)
    same(local, far, "navy coat", 20)
    keeps = milvus_index.Rows.holds
    monkeypatch.setattr(milvus_index.Rows, "holds", lambda rows, n: keeps(rows, n) & (n % 2 == 0))
    monkeypatch.setattr(milvus_index, "_MOST", 16_384)
    found = far.nearest_by_words("coat", queries(1)[0], 25, None, None)
    assert len(found[2]) == 25 and not (found[2] % 2).any()


def test_the_joined_ranking_is_the_local_one(local, far):
    class Encoder:
        name, dim, fingerprint, preprocessing = "memory", DIM, "", {}

        def encode_texts(self, texts) -> torch.Tensor:
            return torch.from_numpy(queries(1)).expand(len(texts), -1)

    plain = Query("acme linen coat", k=12)
    wanted = [replace(plain, word_weight=weight) for weight in (0.0, 0.25, 1.0)]
    ours = retrieve(far, Encoder(), wanted)
    theirs = retrieve(LocalBackend(local, "exact"), Encoder(), wanted)
    for one, other in zip(ours, theirs, strict=True):
        assert one.hits == other.hits and one.note == other.note
    assert ours[1].hits != ours[0].hits
    assert {hit.garment.metadata["brand"] for hit in ours[2].hits[:2]} == {"Acme"}


def test_updates_are_followed(tmp_path, monkeypatch):
    """What is added is a segment of its own, in which milvus-lite finds other words rare."""
    monkeypatch.setattr(milvus_index, "_SLACK", 0)
    photos = draw_catalogue(tmp_path / "photos", 12)

    def describe(captions: dict[int, str]) -> None:
        lines = [f"{n:03}.png,g{n},{caption}" for n, caption in captions.items()]
        (photos / "garments.csv").write_text("\n".join(["file,id,caption", *lines]))

    def check() -> None:
        index = GarmentIndex.open(tmp_path / "index")
        push(index, tmp_path / "far", EMBEDDED)
        far = open_index(tmp_path / "far")
        for text, k in [("navy", 1), ("navy", 5), ("linen velvet", 1), ("number navy", 9)]:
            same(index, far, text, k)
        sent = []
        push(index, tmp_path / "far", EMBEDDED, progress=lambda *done: sent.append(done))
        assert sent == [(len(index), len(index))]
        far.close()

    captions = {n: f"{SAID[n % 6]} number {n}" for n in range(12)}
    describe(captions)
    build_index(photos, tmp_path / "index", ColourEncoder())
    check()
    draw_catalogue(photos, 14)
    for added in ({12: "velvet", 13: "navy"}, {12: "velvet", 13: "navy", 1: "velvet"}):
        describe(captions | added)
        update_index(tmp_path / "index", ColourEncoder())
        check()
    remove_garments(tmp_path / "index", ["g0"])
    check()
    pull(tmp_path / "far", tmp_path / "pulled", photos)
    pulled = GarmentIndex.open(tmp_path / "pulled")
    same(pulled, open_index(tmp_path / "far"), "navy velvet", 5)


# --- without words


def refusal(folder: Path) -> str:
    index = open_index(folder)
    assert not index.has_words
    assert (index.nearest(queries(1), 3, None, None)[1] >= 0).all()
    with pytest.raises(ValueError) as caught:
        index.nearest_by_words("navy", queries(1)[0], 3, None, None)
    index.close()
    return str(caught.value)


def test_a_collection_of_an_earlier_version(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Server, "has_full_text", False)
        push(shop_of(30), tmp_path, EMBEDDED)
        words = "by its vectors alone: Milvus has full-text search from version 2.5.*milvus_lite-3"
        assert re.search(words, refusal(tmp_path))
    said = refusal(tmp_path)
    assert "pushed without the words of its texts" in said and "`fashion-rag index push`" in said
    assert "`--words 0`" in said and "`fashion-rag index pull`" in said
    push(shop_of(30), tmp_path, EMBEDDED)
    same(shop_of(30), open_index(tmp_path), "navy", 3)
    with monkeypatch.context() as patch:
        patch.setattr(milvus_index, "fts5_is_there", lambda: False)
        patch.setattr(full_text, "fts5_is_there", lambda: False)
        assert "no FTS5" in refusal(tmp_path)


def test_a_server_without_full_text_search(tmp_path, milvus_server):
    push(shop_of(30), tmp_path, CollectionPlace("no_words", milvus_server.uri))
    words = "'no_words' at http.* has full-text search from version 2.5, and this one is .*2.3.5"
    assert re.search(words, refusal(tmp_path))


def test_columns_leave_no_room_for_words(tmp_path):
    wide = Garment("a", "a.png", metadata={f"column {n}": "navy" for n in range(57)})
    index = GarmentIndex.in_memory([wide], torch.eye(DIM)[:1])
    index.manifest |= {"generation": "0123abcd", "catalogue": {"name": "shop", "path": "/shop"}}
    push(index, tmp_path, EMBEDDED)
    far = open_index(tmp_path)
    with pytest.raises(ValueError, match="as many columns as it has room for"):
        far.nearest_by_words("navy", queries(1)[0], 3, None, None)


# --- the words themselves


@given(caption=st.text(max_size=30), text=st.text(max_size=8))
def test_what_fts5_finds_shares_a_word(caption, text):
    for asked in (text, caption):
        index = GarmentIndex.in_memory([Garment("a", "a.png", caption=caption)], torch.eye(4)[:1])
        found = any(len(index.rows_with(term)) for term in text_table.terms_of(asked))
        assert not found or set(words_asked(asked)) & set(words_said([[caption]])[0])


def test_words_that_a_field_has_no_room_for(caplog):
    garment = Garment("long", "a.png", caption=" ".join(f"w{n}" for n in range(9000)))
    (stored,) = full_text.stored_words([garment])
    assert len(stored) <= 65_535 and re.fullmatch(r"[a-z2-7]{8}( [a-z2-7]{8})*", stored)
    assert "'long' has 9000 different words: it is found by the first 7281" in caplog.text
    first, last = full_text.asked_codes("w0 w8999")
    assert first in stored.split() and last not in stored.split()
    assert full_text.stored_words([Garment("empty", "b.png")]) == ["0"]
