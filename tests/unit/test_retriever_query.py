"""Queries against a brute-force model: what is looked for, and what is chosen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from fashion_rag.retriever.backends import LocalBackend
from fashion_rag.retriever.choosing import GROUP
from fashion_rag.retriever.photos.catalogue import Garment
from fashion_rag.retriever.query import Query, query_vectors, retrieve
from fashion_rag.retriever.query_types import MAX_POOL
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.store.records import ColumnValues
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

DIM = 16


class WordEncoder:
    """Every text, and every photo by its first pixel, has a random vector of its own."""

    name, dim, fingerprint, preprocessing = "words", DIM, "w", {}

    def __init__(self):
        self.calls = Counter()

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        self.calls["texts"] += 1
        return torch.stack([self.vector(text) for text in texts])

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        self.calls["images"] += 1
        return torch.stack([self.vector(str(photo.getpixel((0, 0)))) for photo in photos])

    @staticmethod
    def vector(word: str) -> torch.Tensor:
        seed = int.from_bytes(word.encode()[:8].ljust(8, b"\0"), "little") + len(word)
        values = torch.randn(DIM, generator=torch.Generator().manual_seed(seed))
        return torch.nn.functional.normalize(values, dim=0)


class ListBackend:
    """Garments in memory; `where` and `category` both select by the garment's category.

    products: of each garment, the product that it is a view of; None: there is no such column.
    """

    def __init__(
        self,
        vectors: np.ndarray,
        categories: Sequence[str] | None = None,
        products: Sequence[str] | None = None,
    ):
        self.vectors = vectors.astype(np.float16).astype(np.float32)
        self.manifest = {"encoder": {"name": "any"}}
        categories = categories or ["upper_body"] * len(vectors)
        rows = [{} if products is None else {GROUP: p} for p in products or [""] * len(vectors)]
        self.garments = [
            Garment(f"g{i}", f"{i}.png", category, metadata=row)
            for i, (category, row) in enumerate(zip(categories, rows, strict=True))
        ]
        self.searches = 0

    def __len__(self) -> int:
        return len(self.garments)

    def check_encoder(self, encoder) -> None:
        assert encoder.name == "words"

    def categories(self) -> list[str]:
        return sorted({garment.category for garment in self.garments})

    def columns(self) -> set[str]:
        return {name for garment in self.garments for name in garment.metadata}

    def values_at(self, rows, column: str) -> list[str]:
        return [self.garments[row].metadata.get(column, "") for row in rows]

    def values_of(self, column: str) -> ColumnValues:
        return ColumnValues(0, 0, ())

    def nearest(self, queries, k, category, where):
        self.searches += 1
        wanted = {value for value in (category, where and where.value) if value}
        among = [i for i, g in enumerate(self.garments) if wanted <= {g.category}]
        scores, rows = (
            np.full((len(queries), k), -np.inf, np.float32),
            np.full((len(queries), k), -1),
        )
        for number, query in enumerate(queries.astype(np.float64)):
            cosines = (self.vectors[among].astype(np.float64) @ query).astype(np.float32)
            best = (-cosines).argsort(kind="stable")[:k]
            scores[number, : len(best)] = cosines[best]
            rows[number, : len(best)] = np.array(among, dtype=np.int64)[best]
        return scores, rows

    def rows_of_ids(self, ids):
        place = {garment.id: row for row, garment in enumerate(self.garments)}
        return np.array([place.get(name, -1) for name in ids], dtype=np.int64)

    def garments_at(self, rows):
        return [self.garments[row] for row in rows]

    def vectors_at(self, rows):
        return self.vectors[rows]


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def photo(red: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (red, 0, 0))


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()


@pytest.fixture
def shop() -> ListBackend:
    return ListBackend(unit(200), [("upper_body", "lower_body", "hats")[i % 3] for i in range(200)])


def ids(result) -> list[str]:
    return [hit.garment.id for hit in result.hits]


def vector_of(query: Query) -> np.ndarray:
    (vector,) = query_vectors(WordEncoder(), [query])
    assert vector.dtype == np.float32 and abs(np.linalg.norm(vector) - 1) < 1e-6
    return vector


def close(vector: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(vector, expected / expected.norm(), atol=1e-6)


# --- the query's vector


def test_plain_text_is_the_encoders_own_vector():
    close(vector_of(Query("red coat")), WordEncoder.vector("red coat"))


def test_chunks_together_are_encoded_whole_and_singly_by_their_mean():
    text = "red coat, long sleeves;\nhood,"
    assert Query(text).noun_chunks == ("red coat", "long sleeves", "hood")
    close(vector_of(Query(text)), WordEncoder.vector(text))
    parts = [WordEncoder.vector(part) for part in ("red coat", "long sleeves", "hood")]
    close(vector_of(Query(text, chunks="singly")), torch.stack(parts).mean(dim=0))


def test_singly_ranks_by_the_mean_over_the_chunks(encoder, shop):
    (result,) = retrieve(shop, encoder, [Query("red coat, hood", chunks="singly", k=200)])
    parts = torch.stack([encoder.vector(part) for part in ("red coat", "hood")]).numpy()
    mean = (shop.vectors @ parts.T).mean(axis=1)
    assert [hit.position for hit in result.hits] == list((-mean).argsort())


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_text_and_reference_images(weight):
    text = WordEncoder.vector("in red")
    image = torch.stack([WordEncoder.vector(f"({red}, 0, 0)") for red in (1, 2)]).mean(dim=0)
    image = image / image.norm()
    query = Query("in red", images=(photo(1), photo(2)), image_weight=weight)
    close(vector_of(query), (1 - weight) * text + weight * image)
    close(vector_of(replace(query, text=" ")), image)
    close(vector_of(replace(query, images=())), text)


def test_negative_text():
    query = Query("coat", negative="fur", negative_weight=0.7)
    close(vector_of(query), WordEncoder.vector("coat") - 0.7 * WordEncoder.vector("fur"))
    close(vector_of(replace(query, negative_weight=0.0)), WordEncoder.vector("coat"))
    close(vector_of(replace(query, negative=" ")), WordEncoder.vector("coat"))


def test_text_and_negative_text_that_cancel_out():
    with pytest.raises(ValueError, match="negative text 'coat' cancel out"):
        vector_of(Query("coat", negative="coat", negative_weight=1.0))


# --- what is chosen


def test_scores_are_cosine_similarities_to_the_combined_vector(encoder, shop):
    query = Query("coat", negative="fur", images=(photo(3),), k=5, pinned=("g7",))
    (result,) = retrieve(shop, encoder, [query])
    assert ids(result)[0] == "g7"
    expected = [float(shop.vectors[hit.position] @ result.vector) for hit in result.hits]
    np.testing.assert_allclose([hit.score for hit in result.hits], expected, atol=1e-6)
    scores = [hit.score for hit in result.hits[1:]]
    assert scores == sorted(scores, reverse=True) and result.note == ""


def test_many_queries_are_answered_as_each_alone(encoder, shop):
    queries = [
        Query("coat"),
        Query("hat", category="hats", k=5),
        Query("coat", k=7, draw_from=20, seed=3),
        Query("coat, hood", chunks="singly", negative="fur", min_score=0.3),
        Query(images=(photo(1),), diversity=0.4),
        Query("hat", images=(photo(2), photo(3)), where='category = "hats"', k=5),
        Query("boots"),
    ]
    alone = [retrieve(shop, encoder, [query])[0] for query in queries]
    encoder.calls.clear()
    shop.searches = 0
    together = retrieve(shop, encoder, queries)
    assert [r.hits for r in together] == [r.hits for r in alone]
    assert [r.note for r in together] == [r.note for r in alone]
    assert encoder.calls == {"texts": 1, "images": 1}
    assert shop.searches < len(queries)
    assert retrieve(shop, encoder, []) == []


def test_category_and_filter_select(encoder, shop):
    for query in (Query("hat", category="hats"), Query("hat", where="category = 'hats'")):
        (result,) = retrieve(shop, encoder, [query])
        assert {hit.garment.category for hit in result.hits} == {"hats"}


def test_pinned_come_first_and_excluded_never(encoder, shop):
    (plain,) = retrieve(shop, encoder, [Query("coat", k=6)])
    best = ids(plain)
    query = Query("coat", k=6, category="hats", pinned=("g1", "g0", "g1"), excluded=best)
    (result,) = retrieve(shop, encoder, [query])
    assert ids(result)[:2] == ["g1", "g0"] and len(result.hits) == 6
    assert not set(ids(result)) & set(best)
    assert {hit.garment.category for hit in result.hits[2:]} == {"hats"}


def test_excluding_the_best_moves_the_next_up(encoder, shop):
    (plain,) = retrieve(shop, encoder, [Query("coat", k=5)])
    (result,) = retrieve(shop, encoder, [Query("coat", k=4, excluded=ids(plain)[:1])])
    assert result.hits == plain.hits[1:]


def test_minimum_score_leaves_pinned_garments_alone(encoder, shop):
    (plain,) = retrieve(shop, encoder, [Query("coat", k=10)])
    bound = plain.hits[3].score
    (result,) = retrieve(shop, encoder, [Query("coat", k=10, min_score=bound)])
    assert result.hits == plain.hits[:4]
    assert "top_k is 10, but only 4 garments are found" in result.note
    assert f"{bound:g}" in result.note and f"{plain.hits[0].score:.4f}" in result.note
    worst = ids(retrieve(shop, encoder, [Query("coat", k=200)])[0])[-1]
    (result,) = retrieve(shop, encoder, [Query("coat", k=1, min_score=1.0, pinned=[worst])])
    assert ids(result) == [worst]


def test_fewer_than_asked_for_says_why(encoder, shop):
    (result,) = retrieve(shop, encoder, [Query("coat", k=300)])
    assert len(result.hits) == 200
    assert result.note == "top_k is 300, but only 200 garments are found: there are no others."
    (result,) = retrieve(shop, encoder, [Query("hat", category="hats", where="id = 'x'")])
    assert result.hits == []
    assert "no others of the category 'hats' that match \"id = 'x'\"." in result.note
    assert "The column 'id' holds nothing" in result.note


def test_draw_has_the_probabilities_of_a_softmax(encoder):
    cosines = np.array([0.9, 0.8, 0.6, 0.2])
    query = vector_of(Query("coat"))
    across = unit(4, 1)
    across -= np.outer(across @ query, query)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    backend = ListBackend(cosines[:, None] * query + np.sqrt(1 - cosines[:, None] ** 2) * across)
    draws = [Query("coat", k=1, draw_from=3, temperature=0.2, seed=n) for n in range(3000)]
    counts = Counter(ids(result)[0] for result in retrieve(backend, encoder, draws))
    assert set(counts) == {"g0", "g1", "g2"}
    weights = np.exp(cosines[:3] / 0.2)
    for number, share in enumerate(weights / weights.sum()):
        # Four standard deviations of a share of 3000 draws.
        spread = 4 * math.sqrt(share * (1 - share) / 3000)
        assert abs(counts[f"g{number}"] / 3000 - share) < spread + 0.002


def test_draw_is_repeatable_and_shown_best_first(encoder, shop):
    query = Query("coat", k=5, draw_from=50, temperature=0.2)
    first, again, other = retrieve(shop, encoder, [query, query, replace(query, seed=1)])
    assert first.hits == again.hits != other.hits
    for result in (first, other):
        scores = [hit.score for hit in result.hits]
        assert scores == sorted(scores, reverse=True) and len(set(ids(result))) == 5
    plain, cold = retrieve(shop, encoder, [Query("coat", k=5), replace(query, temperature=0.0)])
    assert cold.hits == plain.hits


def test_the_drawn_garments_are_the_same_on_every_machine(encoder, shop):
    """A saved workflow draws what it drew: this line may never change."""
    query = Query("coat", k=4, draw_from=90, temperature=2.0, seed=7)
    (best,) = retrieve(shop, encoder, [Query("coat", k=90)])
    places = [ids(best).index(name) for name in ids(retrieve(shop, encoder, [query])[0])]
    assert places == PLACES


PLACES = [16, 19, 58, 68]


def test_diversity_folds_duplicates(encoder):
    vectors = unit(30, 2)
    twice = ListBackend(np.concatenate([vectors, vectors]))
    (plain,) = retrieve(twice, encoder, [Query("coat", k=6)])
    assert len({hit.position % 30 for hit in plain.hits}) == 3
    (result,) = retrieve(twice, encoder, [Query("coat", k=6, diversity=0.6)])
    assert len({hit.position % 30 for hit in result.hits}) == 6
    assert result.hits[0] == plain.hits[0]
    (beside,) = retrieve(twice, encoder, [Query("coat", k=3, diversity=0.3, pinned=ids(plain)[:1])])
    assert len({hit.position % 30 for hit in beside.hits}) == 3


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 40),
    k=st.integers(1, 12),
    diversity=st.floats(0, 1),
    draw=st.integers(0, 20),
    pins=st.lists(st.integers(0, 39), max_size=3, unique=True),
)
def test_against_marginal_relevance_word_for_word(seed, count, k, diversity, draw, pins):
    shop = ListBackend(unit(count, seed))
    pins = [row for row in pins if row < count][:k]
    draw = 0 if draw < k else draw
    query = Query("coat", k=k, diversity=diversity, draw_from=draw, temperature=0.0)
    query = replace(query, pinned=tuple(f"g{row}" for row in pins))
    (result,) = retrieve(shop, WordEncoder(), [query])
    vectors = shop.vectors.astype(np.float64)
    scores = (vectors @ vector_of(query)).astype(np.float32).astype(np.float64)
    order = [row for row in (-scores).argsort(kind="stable") if row not in pins][: query.pool]
    taken = list(pins)
    while len(taken) < k and order:

        def value(row: int) -> float:
            if not diversity or not taken:
                return scores[row]
            near = max(float(vectors[row] @ vectors[other]) for other in taken)
            return (1 - diversity) * scores[row] - diversity * near

        best = max(order, key=value)
        taken.append(best)
        order.remove(best)
    found = [hit.position for hit in result.hits]
    assert found[: len(pins)] == pins and len(found) == min(k, count)
    assert set(found) == set(taken)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 60),
    k=st.integers(1, 20),
    where=st.sampled_from(["", "price < 50", "not price < 50", "brand in ['a', 'c']"]),
    category=st.sampled_from([None, "hats"]),
    least=st.sampled_from([-1.0, 0.0, 0.2]),
    barred=st.integers(0, 5),
)
def test_a_local_index_against_going_through_all(seed, count, k, where, category, least, barred):
    rng = np.random.default_rng(seed)
    prices, brands = rng.integers(0, 100, count), rng.choice(["a", "b", "c"], count)
    garments = [
        Garment(f"g{n}", f"{n}.png", "hats", metadata={"price": str(p), "brand": str(b)})
        for n, (p, b) in enumerate(zip(prices, brands, strict=True))
    ]
    index = GarmentIndex.in_memory(garments, torch.from_numpy(unit(count, seed)).float())
    encoder = WordEncoder()
    encoder.fingerprint = ""
    excluded = tuple(f"g{row}" for row in range(min(barred, count)))
    query = Query("coat", where=where, category=category, k=k, min_score=least, excluded=excluded)
    (result,) = retrieve(LocalBackend(index), encoder, [query])
    told = {
        "": np.ones(count, bool),
        "price < 50": prices < 50,
        "not price < 50": prices >= 50,
        "brand in ['a', 'c']": brands != "b",
    }
    scores = index.embeddings.double().numpy() @ vector_of(query)
    good = told[where] & (scores >= least) & (np.arange(count) >= len(excluded))
    expected = [row for row in (-scores).argsort() if good[row]][:k]
    assert [hit.position for hit in result.hits] == expected
    assert [hit.garment for hit in result.hits] == [garments[row] for row in expected]
    np.testing.assert_allclose([hit.score for hit in result.hits], scores[expected], atol=1e-6)
    assert bool(result.note) == (len(expected) < k)


# --- views of one product


def test_views_of_one_product_are_one_garment(encoder):
    """20 products of 30 views each: the best 20 photos alone would show very few of them."""
    vectors = np.repeat(unit(20, 3), 30, axis=0) + 0.02 * unit(600, 4)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    products = [f"p{row // 30}" for row in range(600)]
    plain = retrieve(ListBackend(vectors), encoder, [Query("coat", k=5)])[0]
    assert len({hit.position // 30 for hit in plain.hits}) == 1
    shop = ListBackend(vectors, products=products)
    (result,) = retrieve(shop, encoder, [Query("coat", k=20)])
    assert sorted(hit.position // 30 for hit in result.hits) == list(range(20))
    scores = shop.vectors @ result.vector
    for hit in result.hits:
        product = hit.position // 30
        assert hit.position == product * 30 + scores[product * 30 : product * 30 + 30].argmax()
    assert result.note == ""
    (result,) = retrieve(shop, encoder, [Query("coat", k=30)])
    assert len(result.hits) == 20
    assert result.note == "top_k is 30, but only 20 garments are found: there are no others."


def test_pinned_and_excluded_views_stand_for_their_product(encoder):
    vectors = unit(12, 5)
    shop = ListBackend(vectors, products=[f"p{row % 4}" if row < 8 else "" for row in range(12)])
    query = Query("coat", k=12, pinned=("g1",), excluded=("g2",))
    (result,) = retrieve(shop, encoder, [query])
    found = [hit.position for hit in result.hits]
    assert found[0] == 1 and not set(found) & {5, 2, 6}
    assert len(found) == 1 + 2 + 4 and set(found) >= {8, 9, 10, 11}


@pytest.mark.parametrize("options", [{"diversity": 0.5}, {"draw_from": 8, "temperature": 5.0}])
def test_draws_and_diversity_are_of_products(encoder, options):
    shop = ListBackend(unit(80, 6), products=[f"p{row % 8}" for row in range(80)])
    (result,) = retrieve(shop, encoder, [Query("coat", k=8, **options)])
    assert sorted(hit.position % 8 for hit in result.hits) == list(range(8))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    products=st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=60),
    k=st.integers(1, 8),
    pin=st.none() | st.integers(0, 59),
    bar=st.none() | st.integers(0, 59),
)
def test_products_against_going_through_all(seed, products, k, pin, bar):
    count = len(products)
    garments = [Garment(f"g{n}", f"{n}.png", "", "", {GROUP: p}) for n, p in enumerate(products)]
    index = GarmentIndex.in_memory(garments, torch.from_numpy(unit(count, seed)).float())
    encoder = WordEncoder()
    encoder.fingerprint = ""
    pin = None if pin is None or pin >= count else pin
    bar = None if bar is None or bar >= count or bar == pin else bar
    names = {what: () if row is None else (f"g{row}",) for what, row in (("p", pin), ("b", bar))}
    query = Query("coat", k=k, pinned=names["p"], excluded=names["b"])
    (result,) = retrieve(LocalBackend(index), encoder, [query])
    scores = index.embeddings.double().numpy() @ vector_of(query)
    seen = {products[row] for row in (pin, bar) if row is not None} - {""}
    expected = [] if pin is None else [pin]
    for row in (-scores).argsort().tolist():
        if row not in (pin, bar) and len(expected) < k and products[row] not in seen:
            expected.append(row)
            seen |= {products[row]} - {""}
    assert [hit.position for hit in result.hits] == expected
    assert bool(result.note) == (len(expected) < k)


# --- bad values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"text": " "}, "text is empty"),
        ({"text": "ros\udce9 robe"}, "text is .* character 4 is no valid Unicode"),
        ({"negative": "\ud800"}, "negative is .* character 1 is no valid Unicode"),
        ({"text": ",;", "chunks": "singly"}, "no noun chunk"),
        ({"chunks": "apart"}, "'apart': expected one of together, singly"),
        ({"negative_weight": -0.1}, "negative_weight is -0.1: expected a number from 0 to 2"),
        ({"image_weight": 1.5}, "image_weight is 1.5: expected a number from 0 to 1"),
        ({"diversity": float("nan")}, "diversity is nan"),
        ({"temperature": -1.0}, "temperature is -1.0: expected a number of 0 or more"),
        ({"min_score": 2.0}, "min_score is 2.0: expected a number from -1 to 1"),
        ({"k": 0}, "k is 0: expected a number from 1"),
        ({"draw_from": MAX_POOL + 1}, f"draw_from is {MAX_POOL + 1}"),
        ({"seed": -1}, "seed is -1"),
        ({"k": 5, "draw_from": 4}, "draw_from is 4, but top_k is 5"),
        ({"k": 1, "pinned": ("a", "b")}, "2 garments are pinned, but top_k is 1"),
        ({"pinned": ("a",), "excluded": ("a", "b")}, "'a' is both pinned and excluded"),
        ({"where": "price <"}, "filter 'price <' is not understood"),
    ],
)
def test_bad_value(values, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        Query(**{"text": "coat", **values})


@pytest.mark.parametrize("what", ["pinned", "excluded"])
def test_unknown_id(encoder, shop, what):
    with pytest.raises(ValueError, match=f"'nothing' is {what}, but no garment"):
        retrieve(shop, encoder, [Query("coat", **{what: ("g1", "nothing")})])
