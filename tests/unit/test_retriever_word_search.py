"""Search by words, and rankings joined, against a brute-force model; what users type is text."""

from __future__ import annotations

import math
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.retriever import gallery
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.choosing import GROUP
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query, retrieve
from fashion_rag.retriever.store import text_table
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.records import Record, Records, RecordWriter, ThumbnailPlace
from fashion_rag.retriever.store.text_table import MOST_TERMS, terms_of
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.update import remove_garments, update_index
from fashion_rag.retriever.word_search import search_words
from hypothesis import given, settings
from hypothesis import strategies as st

from .retriever_fakes import ColourEncoder, draw_catalogue
from .test_retriever_query import WordEncoder, unit

torch.set_num_threads(1)
VOCABULARY = ["navy", "linen", "coat", "boot", "wool", "hem"]  # that no stem joins


def garment(number: int, caption: str = "", **columns: str) -> Garment:
    return Garment(f"g{number}", f"{number}.png", "hats", caption, columns)


def index_of(*captions: str) -> GarmentIndex:
    garments = [garment(number, caption) for number, caption in enumerate(captions)]
    return GarmentIndex.in_memory(garments, torch.from_numpy(unit(len(captions))).float())


def found(index: GarmentIndex, text: str) -> list[int]:
    query = np.eye(1, index.vectors.dim, dtype=np.float32)[0]
    return sorted(search_words(index, text, query, len(index))[2].tolist())


def positions(index, query: Query) -> list[int]:
    encoder = WordEncoder()
    encoder.fingerprint = ""
    (result,) = retrieve(LocalBackend(index), encoder, [query])
    return [hit.position for hit in result.hits]


# --- which garments have a word


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("Red DRESSES with stripes", "a striped dress"),
        ("robe d'été", "ETE"),
        ("Größe M, Ärmel", "ärmel"),
        ("weiße Bluse", "WEIßE"),
        ("платье красное", "Красное"),
        ("हिन्दी साड़ी", "साड़ी"),
        ("红色连衣裙", "连衣裙"),
        ("红色连衣裙", "裙"),
        ("赤いワンピース", "ワンピース"),
        ("ﾜﾝﾋﾟｰｽ", "ワンピース"),
        ("เสื้อสีแดง", "สีแดง"),
        ("빨간 셔츠를", "셔츠"),
        ("ＲＥＤ", "red"),
        ("mit Nul\0zeichen", "zeichen"),
        ("cafe\u0301", "café"),
    ],
)
def test_words_of_any_script_are_found(caption, text):
    assert found(index_of("", caption, "something else 1"), text) == [1]


def test_letters_of_a_word_without_spaces_are_found_in_their_order_alone():
    assert found(index_of("红色", "色红", "红 x 色"), "红色") == [0]


@pytest.mark.parametrize("columns", [{}, {"brand": "Acme"}])
def test_all_columns_of_texts_are_searched(columns):
    extra = {**columns, "price": "80", "link": "https://acme.example/coat", GROUP: "acme"}
    shop = [garment(0), garment(1, **extra), garment(2, "acme")]
    index = GarmentIndex.in_memory(shop, torch.from_numpy(unit(3)).float())
    assert found(index, "ACME 80 coat https hats g1") == ([1, 2] if columns else [2])


@pytest.mark.parametrize(
    "text",
    [
        '"navy',
        "navy AND NOT coat",
        "nav*",
        "NEAR(navy coat)",
        "text:navy",
        "^navy -coat +hem",
        "navy\0coat",
        "'; DROP TABLE words --",
        '"" ()*{}',
        "\ud800 navy",
        "-",
    ],
)
def test_syntax_of_a_search_is_text(text):
    index = index_of("navy", "coat", "and near text", "nothing", "nav", "not")
    told = {"navy": 0, "coat": 1, "and": 2, "near": 2, "text": 2, "nav": 4, "not": 5}
    plain = "".join(letter if letter.isalpha() else " " for letter in text.lower()).split()
    assert found(index, text) == sorted({told[word] for word in plain if word in told})
    terms = " OR ".join(terms_of(text))
    assert "*" not in terms and terms.count('"') == 2 * len(terms_of(text))


@given(text=st.text(max_size=40))
def test_any_text_can_be_asked_for(text):
    index = index_of("navy coat", "红色")
    found(index, text)
    # What stands in a caption is found by the same text, where it holds a letter or digit.
    if any(letter.isascii() and letter.isalnum() for letter in text):
        assert 0 in found(index_of(f"that is: {text}", "红色"), text)


def test_a_text_of_very_many_words_is_cut():
    assert len(terms_of(" ".join(f"w{n}" for n in range(1000)))) == MOST_TERMS


def test_rare_words_count_more_and_ties_go_by_the_embedding():
    index = index_of("coat", "coat", "navy coat", "coat", "navy")
    query = index.embeddings[3].float().numpy()
    scores, cosines, rows = search_words(index, "navy coat", query, 5)
    assert rows[:3].tolist() == [2, 4, 3]
    n, said = 5, {"navy": 2, "coat": 4}
    weight = {w: math.log(1 + (n - count + 0.5) / (count + 0.5)) for w, count in said.items()}
    expected = [weight["navy"] + weight["coat"], weight["navy"], *[weight["coat"]] * 3]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    np.testing.assert_allclose(cosines, index.embeddings.float().numpy()[rows] @ query, atol=1e-6)
    assert (np.diff(cosines[2:]) <= 0).all()
    few = search_words(index, "navy coat", query, 3)
    assert few[2].tolist() == [2, 4, 3]


# --- the joined ranking


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    k=st.integers(1, 20),
    weight=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    where=st.sampled_from(["", "price < 50"]),
    least=st.sampled_from([-1.0, 0.0]),
    barred=st.integers(0, 4),
    views=st.sampled_from([0, 3]),
)
def test_joined_rankings_against_going_through_all(
    seed, count, k, weight, where, least, barred, views
):
    rng = np.random.default_rng(seed)
    captions = [" ".join(rng.choice(VOCABULARY, rng.integers(0, 4))) for _ in range(count)]
    prices = rng.integers(0, 100, count)
    products = [f"p{row // views}" if views else "" for row in range(count)]
    shop = [
        garment(row, captions[row], price=str(prices[row]), **{GROUP: products[row]})
        for row in range(count)
    ]
    index = GarmentIndex.in_memory(shop, torch.from_numpy(unit(count, seed)).float())
    excluded = tuple(f"g{row}" for row in range(min(barred, count)))
    text = " ".join(rng.choice(VOCABULARY, 3, replace=False))
    query = Query(text, where=where, k=k, word_weight=weight, min_score=least, excluded=excluded)
    cosines = index.embeddings.double().numpy() @ WordEncoder.vector(text).double().numpy()
    among = [row for row in range(count) if not where or prices[row] < 50]
    said = {word: sum(word in caption.split() for caption in captions) for word in text.split()}
    by_words = {
        row: sum(
            math.log(1 + (count - said[word] + 0.5) / (said[word] + 0.5))
            for word in said
            if word in captions[row].split()
        )
        for row in among
    }
    order = sorted(among, key=lambda row: -cosines[row])
    joint = {row: (1 - weight) / (61 + place) for place, row in enumerate(order)}
    for row, score in by_words.items():
        if score:
            better = sum(other > score + 1e-6 for other in by_words.values())
            joint[row] += weight / (61 + better)
    taken, expected = {products[row] for row in range(len(excluded))} - {""}, []
    for row in sorted(among, key=lambda row: (-round(joint[row], 12), -cosines[row])):
        if row >= len(excluded) and products[row] not in taken:
            expected.append(row)
            taken |= {products[row]} - {""}
    expected = [row for row in expected[:k] if cosines[row] >= least]
    assert positions(index, query) == expected


def test_without_weight_or_text_words_change_nothing():
    index = index_of(*(f"{VOCABULARY[n % 6]} {n}" for n in range(30)))
    plain = Query("navy coat", k=30)
    assert positions(index, replace(plain, word_weight=0.5)) != positions(index, plain)
    assert positions(index, replace(plain, word_weight=0.0)) == positions(index, plain)
    unsaid = replace(plain, text="velvet", word_weight=1.0)
    assert positions(index, unsaid) == positions(index, replace(unsaid, word_weight=0.0))


def test_a_garment_without_a_caption_is_found_by_its_photo():
    index = index_of("", "navy coat", "")
    query = Query("navy", k=3, word_weight=0.5)
    assert sorted(positions(index, query)) == [0, 1, 2]


def test_what_more_is_asked_for_begins_with_what_less_is():
    index = index_of(*(" ".join(VOCABULARY[n % 6 : n % 5 + 2]) for n in range(300)))
    query = Query("navy linen coat", k=40, word_weight=0.5)
    most = positions(index, query)
    assert positions(index, replace(query, k=7)) == most[:7]
    assert set(positions(index, replace(query, k=7, draw_from=40, temperature=1.0))) <= set(most)
    assert positions(index, replace(query, k=7, draw_from=40, temperature=0.0)) == most[:7]
    diverse = positions(index, replace(query, k=7, diversity=0.9))
    assert diverse[0] == most[0] and diverse != most[:7]


def test_garments_like_another_are_found_without_words():
    shop = LocalBackend(index_of("navy", *["coat"] * 20))
    like = [gallery.more_like(shop, "g0", Query("navy", k=5, word_weight=w)) for w in (0.0, 1.0)]
    assert like[0] == like[1]


# --- on disk


@pytest.fixture
def shop(tmp_path) -> Path:
    photos = draw_catalogue(tmp_path / "photos", 12)
    describe(photos, {n: f"{VOCABULARY[n % 6]} number {n}" for n in range(12)})
    build_index(photos, tmp_path / "index", ColourEncoder())
    return tmp_path


def describe(photos: Path, captions: dict[int, str]) -> None:
    lines = [f"{n:03}.png,g{n},hats,{caption}" for n, caption in captions.items()]
    (photos / "garments.csv").write_text("\n".join(["file,id,category,caption", *lines]))


def rows_of(folder: Path, text: str) -> list[int]:
    index = GarmentIndex.open(folder)
    assert index.has_words
    ids = [index.garment(row).id for row in found(index, text)]
    index.close()
    return sorted(int(name[1:]) for name in ids)


def test_updates_and_removals_are_followed(shop):
    folder, photos = shop / "index", shop / "photos"
    assert rows_of(folder, "navy") == [0, 6] and rows_of(folder, "number") == list(range(12))
    draw_catalogue(photos, 14)
    captions = {n: f"{VOCABULARY[n % 6]} number {n}" for n in range(14)}
    describe(photos, captions | {6: "velvet", 13: "navy"})
    update_index(folder, ColourEncoder())
    assert rows_of(folder, "navy") == [0, 12, 13] and rows_of(folder, "velvet") == [6]
    remove_garments(folder, ["g0"])
    assert rows_of(folder, "navy") == [12, 13]
    index = GarmentIndex.open(folder)
    assert len(index.parts) > 1
    index.verify()
    index.close()


def forget_words(folder: Path, monkeypatch) -> None:
    """Build it again as a version before this one did."""
    with monkeypatch.context() as patch:
        patch.setattr(text_table, "fts5_is_there", lambda: False)
        build_index(folder.parent / "photos", folder, ColourEncoder(), overwrite=True)


def test_an_index_without_words_is_searched_without_and_gets_them_by_an_update(shop, monkeypatch):
    folder = shop / "index"
    forget_words(folder, monkeypatch)
    index = GarmentIndex.open(folder)
    query = Query("red navy", k=12, word_weight=0.5)
    (result,) = retrieve(LocalBackend(index), ColourEncoder(), [query])
    (plain,) = retrieve(LocalBackend(index), ColourEncoder(), [replace(query, word_weight=0)])
    assert result.hits == plain.hits and "`fashion-rag index update`" in result.note
    index.close()
    encoder = ColourEncoder()
    update_index(folder, encoder)
    assert rows_of(folder, "navy") == [0, 6]
    assert encoder.photos_seen == 0
    before = (folder / "manifest.json").read_bytes()
    update_index(folder, encoder)
    assert (folder / "manifest.json").read_bytes() == before


def test_sqlite_without_fts5_reads_and_writes_indexes(shop, monkeypatch):
    monkeypatch.setattr(text_table, "fts5_is_there", lambda: False)
    index = GarmentIndex.open(shop / "index")
    assert not index.has_words and len(list(index.garments)) == 12
    index.close()
    describe(shop / "photos", {0: "velvet"})
    update_index(shop / "index", ColourEncoder())


def write_records(path: Path, script: str) -> Records:
    with RecordWriter.create(path, []) as writer:
        record = Record(garment(0, "navy"), 0, 0, "", ThumbnailPlace(0, 0, 0, 0))
        writer.put([(0, record)])
        writer.finish()
    with sqlite3.connect(path) as connection:
        connection.executescript(script)
    connection.close()
    return Records.open(path)


@pytest.mark.parametrize(
    "script",
    [
        "INSERT INTO words (rowid, text) VALUES (7, 'navy');",
        "INSERT INTO words (rowid, text) VALUES (-7, 'navy');",
        "UPDATE words_data SET block = x'ffffffffffffffff' WHERE id > 1000;",
        "DROP TABLE words; CREATE TABLE words (text);",
    ],
)
def test_a_changed_table_of_words_is_an_error(tmp_path, script):
    records = write_records(tmp_path / "garments.sqlite", script)
    with pytest.raises(ValueError, match=r"garments\.sqlite.*[Bb]uild the index again"):
        records.rows_with('"navy"')
    records.close()
