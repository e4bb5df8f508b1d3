"""What the page is told of an index: facets, pages of garments, hits; and what it may ask."""

from __future__ import annotations

import json
import shutil

import pytest
from fashion_rag.retriever import gallery
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep.build import build_index
from fashion_rag.retriever.upkeep.update import update_index
from hypothesis import given
from hypothesis import strategies as st

from .retriever_fakes import ColourEncoder, draw_catalogue

COLOURS = ("red", "green", "blue", "white")
ENCODER = ColourEncoder()


def garment(number: int) -> Garment:
    columns = {
        "brand": ["Acme", 'O"Neil'][number % 2],
        "size": str(96 + number % 8),
        "shoe": str(38 + number % 8 / 2),
        "price": f"{19.9 + number // 2:.2f}",
        "stock": str(number // 2),
        "barcode": str(4006381333931 + number),
        "mixed": ["S", "38"][number % 2],
        "endless": ["1", "1e999"][number % 2],
        "same": "7",
        "empty": "",
    }
    name = COLOURS[number % 4]
    return Garment(f"g{number}", f"{number}.jpg", "dresses" if number < 8 else "", name, columns)


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    garments = [garment(number) for number in range(40)]
    vectors = ENCODER.encode_texts([one.caption for one in garments])
    index = GarmentIndex.in_memory(garments, vectors)
    index.manifest["encoder"]["fingerprint"] = ENCODER.fingerprint
    return LocalBackend(index)


def ticked(facet: dict) -> dict[str, int]:
    return {one["value"]: one["count"] for one in facet["values"]}


def test_facets_are_texts_and_numbers_of_few_values_and_ranges_of_others(backend):
    described = gallery.describe(backend)
    assert described["count"] == 40
    assert described["categories"] == [{"value": "dresses", "count": 8}]
    facets = {facet["column"]: facet for facet in described["facets"]}
    assert set(facets) == {"brand", "size", "shoe", "price", "stock", "mixed"}
    assert ticked(facets["brand"]) == {"Acme": 20, 'O"Neil': 20}
    assert ticked(facets["mixed"]) == {"38": 20, "S": 20}
    sizes = ticked(facets["size"])
    assert list(sizes) == ["96", "97", "98", "99", "100", "101", "102", "103"], "as numbers"
    assert set(sizes.values()) == {5}
    ranges = {name: (facets[name]["low"], facets[name]["high"]) for name in ("shoe", "price")}
    assert ranges == {"shoe": (38, 41.5), "price": (19.9, 38.9)}
    assert (facets["stock"]["low"], facets["stock"]["high"]) == (0, 19)
    json.dumps(described, allow_nan=False)


def test_facets_are_of_all_parts_without_removed_rows(tmp_path):
    """A text in one part makes the column one of texts; what was removed counts nowhere."""
    catalogue, folder = draw_catalogue(tmp_path / "photos", 4), tmp_path / "index"

    def facets(*rows: str) -> dict[str, dict]:
        (catalogue / "garments.csv").write_text("\n".join(["file,price", *rows]))
        if folder.exists():
            update_index(folder, ENCODER)
        else:
            build_index(catalogue, folder, ENCODER)
        described = gallery.describe(LocalBackend(GarmentIndex.open(folder)))
        return {facet["column"]: facet for facet in described["facets"]}

    found = facets("000.png,1.50", "001.png,20", "002.png,1.50", "003.png,3")
    assert found == {"price": {"column": "price", "low": 1.5, "high": 20.0}}
    (catalogue / "001.png").unlink()
    draw_catalogue(tmp_path / "more", 6)
    shutil.copy(tmp_path / "more" / "005.png", catalogue / "005.png")
    found = facets("000.png,1.50", "002.png,1.50", "003.png,3", "005.png,7.5")
    assert found == {"price": {"column": "price", "low": 1.5, "high": 7.5}}
    found = facets("000.png,1.50", "002.png,1.50", "003.png,3", "005.png,ask us")
    assert ticked(found["price"]) == {"1.50": 2, "3": 1, "ask us": 1}


@given(st.integers(0, 50), st.integers(0, gallery.MOST_ROWS))
def test_pages_join_to_the_catalogue(backend, start, count):
    page = gallery.browse(backend, start, count)
    assert page["total"] == 40
    assert [one["id"] for one in page["garments"]] == [
        f"g{number}" for number in range(start, min(40, start + count))
    ]


def test_a_page_of_a_category_and_a_filter(backend):
    page = gallery.browse(backend, 1, 2, "dresses", "brand = 'Acme'")
    assert page["total"] == 4
    assert [one["id"] for one in page["garments"]] == ["g2", "g4"]
    assert page["garments"][0]["columns"]["stock"] == "1"
    for start, count in ((-1, 3), (0, gallery.MOST_ROWS + 1)):
        with pytest.raises(ValueError, match="start is"):
            gallery.browse(backend, start, count)
    with pytest.raises(ValueError, match="no garments of the category 'hats'"):
        gallery.browse(backend, 0, 3, "hats")


def test_a_search_is_the_nodes_own(backend):
    query = gallery.query_of({"text": "green", "k": 3, "pinned": ["g0"], "excluded": ["g1"]})
    assert query == Query("green", k=3, pinned=("g0",), excluded=("g1",))
    found = gallery.search(backend, ENCODER, query)
    assert [hit["id"] for hit in found["hits"]] == ["g0", "g5", "g9"]
    assert found["hits"][1]["score"] == pytest.approx(1, abs=1e-3)


def test_a_page_takes_the_quotes_that_a_search_takes(backend):
    for where in ("brand = “Acme”", "stock ＜ 10 and brand in [‘Acme’]"):
        page = gallery.browse(backend, 0, 40, where=where)
        assert 0 < page["total"] < 40
        assert gallery.search(backend, ENCODER, gallery.query_of({"text": "red", "where": where}))


def test_ids_are_told_as_they_stand_or_with_white_space_around():
    names = [" lead", "end ", "a\u2028b", "a\x0bb", "plain"]
    garments = [Garment(name, f"{n}.jpg", "", "red") for n, name in enumerate(names)]
    index = GarmentIndex.in_memory(garments, ENCODER.encode_texts(["red"] * 5))
    index.manifest["encoder"]["fingerprint"] = ENCODER.fingerprint
    for name in (*names, "plain \r", "\tplain"):
        id_there = name if name in names else "plain"
        query = Query("red", k=1, pinned=(name,))
        (hit,) = gallery.search(LocalBackend(index), ENCODER, query)["hits"]
        assert hit["id"] == id_there
        query = Query("red", k=5, excluded=(name,))
        for found in (
            gallery.search(LocalBackend(index), ENCODER, query),
            gallery.more_like(
                LocalBackend(index), "end " if id_there != "end " else "plain", query
            ),
        ):
            assert id_there not in [hit["id"] for hit in found["hits"]]
    query = Query("a", pinned=("plain",), excluded=(" plain",))
    with pytest.raises(ValueError, match="both pinned and excluded"):
        gallery.search(LocalBackend(index), ENCODER, query)


@pytest.mark.parametrize("name", ["embedding:x.jpg", "<lora:x:1>", " ", ",,,"])
def test_more_like_a_garment_whose_id_is_no_words(name):
    garments = [Garment(name, "a.jpg"), Garment("b", "b.jpg")]
    index = GarmentIndex.in_memory(garments, ENCODER.encode_texts(["red", "green"]))
    (hit,) = gallery.more_like(LocalBackend(index), name, gallery.query_of({"text": "a"}))["hits"]
    assert hit["id"] == "b"


def test_more_like_a_garment_needs_no_words(backend):
    query = gallery.query_of({"text": "g2", "k": 4, "excluded": ["g6"]})
    found = gallery.more_like(backend, "g2", query)
    assert [hit["id"] for hit in found["hits"]] == ["g10", "g14", "g18", "g22"]
    with pytest.raises(ValueError, match="'nobody'"):
        gallery.more_like(backend, "nobody", query)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": 5}, "text is 5: expected str"),
        ({"text": "a", "k": "3"}, "k is '3': expected int"),
        ({"text": "a", "k": True}, "k is True"),
        ({"text": "a", "k": 1.5}, "k is 1.5: expected a whole number"),
        ({"text": "a", "k": float("inf")}, "k is inf: expected a whole number"),
        ({"text": "a", "k": float("nan")}, "k is nan: expected a whole number"),
        ({"text": "a", "min_score": float("nan")}, "min_score is nan"),
        ({"text": "ros\ud800"}, "character 4 is no valid Unicode"),
        ({"text": "a", "diversity": 10**400}, "diversity is 1000.* of 401 digits"),
        ({"text": "a", "k": 10**400}, "k is 1000"),
        ({"text": "a", "seed": 10**400}, "seed is 1000"),
        ({"text": "a", "k": 10_000}, "shows 200"),
        ({"text": "a", "pinned": "g1"}, "expected a list of ids"),
        ({"text": "a", "images": []}, "'images' is no part of a query"),
        ({"text": " "}, "The text is empty"),
        ({"text": "a", "where": "price <"}, "price <"),
    ],
)
def test_what_a_page_may_not_ask(fields, message):
    with pytest.raises(ValueError, match=message):
        gallery.query_of(fields)
