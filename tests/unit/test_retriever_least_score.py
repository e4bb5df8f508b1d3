"""The least score of a match: measured at build time, and what is said where nothing reaches it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.encoders.color_check import CARDS, check_cards
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query, retrieve
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.manifest import least_score, read_manifest
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.calibration import (
    FEWEST,
    REACHED_BY,
    SAMPLE,
    calibrate,
    is_outdated,
)
from fashion_rag.retriever.upkeep.merge import merge_indexes
from fashion_rag.retriever.upkeep.update import remove_garments, update_index
from PIL import Image

from .retriever_fakes import ColourEncoder, draw_catalogue
from .test_retriever_query import WordEncoder, unit

torch.set_num_threads(1)


def index_of(captions: list[str]) -> GarmentIndex:
    garments = [Garment(f"g{n}", f"{n}.png", "hats", text) for n, text in enumerate(captions)]
    return GarmentIndex.in_memory(garments, torch.from_numpy(unit(len(captions))).float())


def in_memory_encoder() -> WordEncoder:
    encoder = WordEncoder()
    encoder.fingerprint = ""
    return encoder


@pytest.mark.parametrize("count", [FEWEST, 100, 5 * SAMPLE])
def test_nearly_all_captions_reach_it(count):
    index = index_of([f"{n} garment" for n in range(count)])
    measured = calibrate(in_memory_encoder(), index.parts)
    asked = [f"{n} garment" for n in range(count)][:: -(-count // SAMPLE)]
    texts = torch.stack([WordEncoder.vector(text) for text in asked])
    best = (texts @ index.embeddings.float().T).max(dim=1).values.numpy()
    assert measured == {
        "score": pytest.approx(np.quantile(best, 1 - REACHED_BY), abs=1e-4),
        "by": "captions",
        "texts": len(asked),
        "garments": count,
    }
    assert len(asked) <= SAMPLE
    reached = (best >= measured["score"] - 1e-4).mean()
    assert REACHED_BY - 1 / len(asked) <= reached < 1


class ShorterIsLess(WordEncoder):
    """A text is the less similar to its photo, the shorter it is, as with real encoders."""

    def encode_texts(self, texts) -> torch.Tensor:
        firsts = [text.split(",")[0] for text in texts]
        less = torch.tensor([0.5 if "," in text else 1.0 for text in texts])[:, None]
        noise = less * torch.nn.functional.normalize(super().encode_texts(["x"]), dim=1)
        texts = super().encode_texts([f"{first}, whole" for first in firsts])
        return torch.nn.functional.normalize(texts + noise, dim=1)


def test_a_caption_that_is_only_begun_reaches_it_too():
    """People write `green dress` where a caption says `green dress, long sleeves`."""
    captions = [f"{n} garment, whole" for n in range(100)]
    index, encoder = index_of(captions), ShorterIsLess()
    encoder.fingerprint = ""
    vectors = torch.stack([WordEncoder.vector(text) for text in captions])
    garments = [Garment(f"g{n}", f"{n}.png", "hats", text) for n, text in enumerate(captions)]
    index = GarmentIndex.in_memory(garments, vectors)
    best = {
        text: (encoder.encode_texts([text]) @ vectors.T).max().item()
        for caption in captions
        for text in (caption, caption.split(",")[0])
    }
    begun = [score for text, score in best.items() if "," not in text]
    score = calibrate(encoder, index.parts)["score"]
    assert score == pytest.approx(np.quantile(begun, 1 - REACHED_BY), abs=2e-3)
    assert score < min(score for text, score in best.items() if "," in text)


def test_without_captions_the_colour_cards_tell():
    captions = ["", " "] * 50 + [f"garment {n % (FEWEST - 1)}" for n in range(50)]
    encoder = in_memory_encoder()
    measured = calibrate(encoder, index_of(captions).parts)
    names = encoder.encode_texts([f"the color {name}" for name in CARDS])
    cards = encoder.encode_images([Image.new("RGB", (9, 9), c) for c in CARDS.values()])
    wrong = [float(cards[i] @ names[j]) for i in range(8) for j in range(8) if i != j]
    assert measured["by"] == "colour cards" and measured["texts"] == 0
    assert measured["score"] == pytest.approx(max(wrong), abs=1e-4)
    assert calibrate(encoder, index_of(captions).parts, check_cards(encoder)) == measured


def test_removed_garments_are_not_asked(tmp_path):
    photos = draw_catalogue(tmp_path / "photos", 40)
    describe(photos, [f"garment {n}" for n in range(40)])
    build_index(photos, tmp_path / "index", ColourEncoder())
    remove_garments(tmp_path / "index", [f"g{n}" for n in range(15)])
    index = GarmentIndex.open(tmp_path / "index")
    measured = calibrate(ColourEncoder(), index.parts)
    assert (measured["texts"], measured["garments"]) == (25, 25)
    index.close()


def describe(photos: Path, captions: list[str]) -> None:
    lines = [f"{n:03}.png,g{n},{text}" for n, text in enumerate(captions)]
    (photos / "garments.csv").write_text("\n".join(["file,id,caption", *lines]))


def test_it_is_measured_again_when_it_is_due(tmp_path):
    photos, folder, encoder = draw_catalogue(tmp_path / "photos", 24), tmp_path / "index", None
    encoder = ColourEncoder()
    build_index(photos, folder, encoder)

    def recorded() -> dict:
        return read_manifest(folder)["least_score"]

    assert recorded()["by"] == "colour cards"
    describe(photos, [f"a red garment {n}" for n in range(24)])
    update_index(folder, encoder)
    first = recorded()
    assert (first["by"], first["garments"]) == ("captions", 24)
    draw_catalogue(photos, 30)
    update_index(folder, encoder)
    assert recorded() == first
    remove_garments(folder, ["g0"])
    assert recorded() == first
    draw_catalogue(photos, 60)
    update_index(folder, encoder)
    assert recorded()["garments"] == 59


def test_what_is_due():
    parts = index_of([f"garment {n}" for n in range(100)]).parts
    known = {"score": 0.2, "by": "captions", "texts": 9, "garments": 100}
    assert not is_outdated(known, parts)
    assert is_outdated(None, parts) and is_outdated({"score": 0.2}, parts)
    assert is_outdated({**known, "garments": 50}, parts)
    assert is_outdated({**known, "garments": 200}, parts)
    assert is_outdated({**known, "by": "colour cards"}, parts)
    assert not is_outdated({**known, "by": "colour cards"}, index_of([""] * 100).parts)


def test_shards_merge_to_the_lower_one(tmp_path):
    photos = draw_catalogue(tmp_path / "photos", 50)
    describe(photos, [f"{('red', 'blue', 'green')[n % 3]} {n}" for n in range(50)])
    folders = [tmp_path / f"shard {number}" for number in (1, 2)]
    for number, folder in enumerate(folders, start=1):
        build_index(photos, folder, ColourEncoder(), shard=(number, 2))
    merge_indexes(folders, tmp_path / "merged")
    scores = [read_manifest(folder)["least_score"] for folder in folders]
    assert scores[0]["by"] == "captions" and scores[0]["score"] != scores[1]["score"]
    merged = read_manifest(tmp_path / "merged")["least_score"]
    assert merged == min(scores, key=lambda one: one["score"])


@pytest.mark.parametrize("entry", [None, 0.2, {}, {"score": "0.2"}, {"score": 7.0}, []])
def test_what_is_no_least_score_is_none(entry):
    assert least_score({"least_score": entry}) is None
    assert least_score({}) is None


# --- asking for it


def with_score(score: float | None, captions: list[str]) -> LocalBackend:
    index = index_of(captions)
    if score is not None:
        index.manifest["least_score"] = {"score": score}
    return LocalBackend(index)


def best_of(shop: LocalBackend, query: Query):
    return retrieve(shop, in_memory_encoder(), [replace(query, auto_min_score=False)])[0].hits[0]


def test_nothing_matches_and_the_nearest_is_named():
    shop, query = with_score(0.99, ["navy coat", "", "boot"]), Query("hat", auto_min_score=True)
    best = best_of(shop, query)
    (result,) = retrieve(shop, in_memory_encoder(), [query])
    assert result.hits == []
    caption = f" ({best.garment.caption})" if best.garment.caption else ""
    assert result.note.startswith(
        f"Nothing in this catalogue matches “hat”: the nearest is {best.garment.file}{caption} "
        f"with a cosine similarity of {best.score:.4f}, a match has 0.99 or more."
    )
    (few,) = retrieve(shop, in_memory_encoder(), [replace(query, category="hats", where="id = ''")])
    assert few.hits == [] and "there are no others" in few.note


def test_a_match_is_taken_and_the_higher_minimum_counts():
    plain = Query("hat", k=3)
    best = best_of(with_score(None, ["", "", ""]), plain)
    shop = with_score(round(best.score - 0.01, 4), ["", "", ""])
    (result,) = retrieve(shop, in_memory_encoder(), [replace(plain, auto_min_score=True)])
    assert [hit.position for hit in result.hits] == [best.position]
    higher = replace(plain, auto_min_score=True, min_score=min(1.0, best.score + 0.01))
    assert retrieve(shop, in_memory_encoder(), [higher])[0].hits == []
    pinned = replace(higher, pinned=("g1",))
    assert [h.position for h in retrieve(shop, in_memory_encoder(), [pinned])[0].hits] == [1]


def test_with_images_it_is_not_used_and_that_is_said():
    shop = with_score(0.99, ["", ""])
    query = Query("hat", k=2, images=(Image.new("RGB", (4, 4)),), auto_min_score=True)
    (result,) = retrieve(shop, in_memory_encoder(), [query])
    assert len(result.hits) == 2 and "with reference images it is not used" in result.note


def test_an_index_without_one_says_what_to_do():
    shop = with_score(None, ["", ""])
    with pytest.raises(ValueError, match="no least score of its own.*fashion-rag index update"):
        retrieve(shop, in_memory_encoder(), [Query("hat", auto_min_score=True)])


def test_the_manifest_stays_plain(tmp_path):
    photos = draw_catalogue(tmp_path / "photos", 3)
    build_index(photos, tmp_path / "index", ColourEncoder())
    entry = json.loads((tmp_path / "index" / "manifest.json").read_text())["least_score"]
    assert set(entry) == {"score", "by", "texts", "garments"} and isinstance(entry["score"], float)
