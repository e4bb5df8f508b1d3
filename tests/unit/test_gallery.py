"""What the page is told of an index: facets, pages of garments, hits; and what it may ask."""

from __future__ import annotations

import pytest
from fashion_rag.retriever import gallery
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query
from fashion_rag.retriever.store.index import GarmentIndex
from hypothesis import given
from hypothesis import strategies as st

from .retriever_fakes import ColourEncoder

COLOURS = ("red", "green", "blue", "white")
ENCODER = ColourEncoder()


def garment(number: int) -> Garment:
    columns = {"brand": ["Acme", 'O"Neil'][number % 2], "price": str(number), "empty": ""}
    name = COLOURS[number % 4]
    return Garment(f"g{number}", f"{number}.jpg", "dresses" if number < 8 else "", name, columns)


@pytest.fixture(scope="module")
def backend() -> LocalBackend:
    garments = [garment(number) for number in range(40)]
    vectors = ENCODER.encode_texts([one.caption for one in garments])
    index = GarmentIndex.in_memory(garments, vectors)
    index.manifest["encoder"]["fingerprint"] = ENCODER.fingerprint
    return LocalBackend(index)


def test_facets_are_the_columns_of_few_values(backend):
    described = gallery.describe(backend)
    assert described["count"] == 40
    assert described["categories"] == [{"value": "dresses", "count": 8}]
    assert described["facets"] == [
        {
            "column": "brand",
            "values": [{"value": "Acme", "count": 20}, {"value": 'O"Neil', "count": 20}],
        }
    ]


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
    assert page["garments"][0]["columns"]["price"] == "2"
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
