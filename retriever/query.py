"""A query: what is looked for, and how the garments are chosen from what is near.

The node Text Garment Retrieve, `fashion-rag index search` and Python all go through `retrieve`:

    index = open_index(Path("indexes/shop"))  # local or in Milvus
    encoder = load_encoder(Path("encoders/ViT-L-14-laion2b_s32b_b82k"))
    (result,) = retrieve(index, encoder, [Query("blue denim jacket", where="price < 80", k=10)])
    for hit in result.hits:
        photo, score = index.photo(hit.garment), hit.score

Every query becomes one unit vector q, and every score is the cosine similarity of a garment's
photo and q, whatever q was made of:

    t   the text: encoded whole (`together`), or the normalised mean of its noun chunks, each
        encoded by itself (`singly`)
    i   the reference images: the normalised mean of their embeddings
    p   t or i alone where the other is missing, else (1 - image_weight) t + image_weight i,
        normalised
    q   p - negative_weight n, normalised, with n the embedding of the negative text; p without one

With a `word_weight`, the ranking by cosine similarity is joined with that by the words which the
text shares with the catalogue's captions, brands and titles (see word_search.py); scores stay
cosine similarities.

Rows of the catalogue's table with one `item_group_id` are views of one product. They count as one
garment, of which the view with the best score is taken; a garment without one stands for itself.

`singly` ranks as the mean over the chunks of the garment's cosine similarity to each chunk does,
since that mean is the cosine similarity to t times a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from .backends import SearchBackend
from .choosing import choose, with_words
from .encoders.open_clip import Encoder
from .encoders.recipe import as_built
from .photos.layouts import category_of
from .query_notes import notes_of_filter, notes_of_text, notes_of_words
from .query_types import Query, Result
from .store.manifest import least_score

__all__ = ["Query", "Result", "of_index", "query_vectors", "retrieve", "spelt_category"]

_CANCELLED = 0.05  # a shorter sum of unit vectors points nowhere in particular


def retrieve(backend: SearchBackend, encoder: Encoder, queries: Sequence[Query]) -> list[Result]:
    """Answer many queries at once; each is answered as it would be alone.

    All texts are encoded in one batch and all images in another; queries that search the same
    garments share one search.

    Raises:
        ValueError: another encoder than the index's, a category or column that it has not, pinned
            or excluded ids that it does not hold, a text and a negative text that cancel out, an
            index without a least score for `auto_min_score`.
    """
    encoder = as_built(encoder, backend.manifest["encoder"])
    backend.check_encoder(encoder)
    if not queries:
        return []
    queries = [_with_least_score(backend, of_index(backend, query)) for query in queries]
    vectors = query_vectors(encoder, queries)
    groups: dict[tuple[str | None, str, int], list[int]] = {}
    for number, query in enumerate(queries):
        key = (query.category, query.where.strip(), query.asked)
        groups.setdefault(key, []).append(number)
    results: dict[int, Result] = {}
    for (category, _, count), numbers in groups.items():
        found = backend.nearest(vectors[numbers], count, category, queries[numbers[0]].filter)
        for number, scores, rows in zip(numbers, *found, strict=True):
            query = queries[number]
            scores, rows = with_words(backend, query, vectors[number], scores, rows)
            result = choose(backend, query, vectors[number], scores, rows)
            lines = [result.note, *notes_of_text(query, encoder), *notes_of_words(backend, query)]
            if not (rows >= 0).any():
                lines += notes_of_filter(backend, query)
            results[number] = replace(result, note="\n".join(filter(None, lines)))
    return [results[number] for number in range(len(queries))]


def query_vectors(encoder: Encoder, queries: Sequence[Query]) -> np.ndarray:
    """Encode every query to its vector q (see above): (n, dim) float32 of unit length.

    Raises:
        ValueError: a text and a negative text that cancel out.
    """
    wanted = [(*query.texts, query.negative_words) for query in queries]
    texts = list(dict.fromkeys(text for parts in wanted for text in parts if text))
    images = [image for query in queries for image in query.images]
    # float32 sums of the same vectors differ with their number; float64 ones don't show it.
    embedded = encoder.encode_texts(texts).double() if texts else torch.empty(0)
    pictured = encoder.encode_images(images).double() if images else torch.empty(0)
    place = {text: number for number, text in enumerate(texts)}
    vectors, start = [], 0
    for query, (*parts, negative) in zip(queries, wanted, strict=True):
        sides = []
        if parts:
            weight = 1 - query.image_weight if query.images else 1.0
            text = _unit(embedded[[place[part] for part in parts]].mean(dim=0), "text")
            sides.append(weight * text)
        if query.images:
            weight = query.image_weight if parts else 1.0
            mean = pictured[start : start + len(query.images)].mean(dim=0)
            sides.append(weight * _unit(mean, "reference images"))
            start += len(query.images)
        vector = _unit(sum(sides[1:], sides[0]), "text and reference image")
        if negative and query.negative_weight:
            vector = vector - query.negative_weight * embedded[place[negative]]
            vector = _unit(vector, f"text and negative text {negative!r}")
        vectors.append(vector)
    return torch.stack(vectors).float().numpy()


def of_index(backend: SearchBackend, query: Query) -> Query:
    """Return the query with its category and its ids as the index spells them.

    Raises:
        ValueError: the index has no such category, or too many garments are pinned.
    """
    spelt = {
        "category": spelt_category(backend, query.category),
        "pinned": _spelt_ids(backend, query.pinned),
        "excluded": _spelt_ids(backend, query.excluded),
    }
    as_it_is = all(getattr(query, name) == value for name, value in spelt.items())
    return query if as_it_is else replace(query, **spelt)


def spelt_category(
    backend: SearchBackend, category: str | None, remedy: str | None = None
) -> str | None:
    """Return a category as the index spells it; None stays None.

    Args:
        remedy: what to do about one that the index has not, for the message.

    Raises:
        ValueError: the index has no such category.
    """
    known = backend.categories()
    if category is None or category in known:
        return category
    wanted = category_of(category)
    alike = [name for name in known if name.casefold() == wanted.casefold()]
    if len(alike) == 1:
        return alike[0]
    there = ", ".join(repr(name) for name in known if name) or "no category at all"
    if not any(known):
        remedy = (
            "Put the photos into folders dresses, upper_body and lower_body of the catalogue, or "
            "give its table a column `category`, and bring the index up to date; without a "
            "category all garments are searched."
        )
    elif remedy is None:
        example = next(filter(None, known), "dresses")
        remedy = (
            f'Name one of them as category, or none and a filter such as: category = "{example}"'
        )
    raise ValueError(
        f"The index has no garments of the category {category!r}; it has: {there}. {remedy}"
    )


def _spelt_ids(backend: SearchBackend, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return ids as the index has them: an id that is not there may have white space around it."""
    there = backend.rows_of_ids(ids).tolist() if ids else []
    return tuple(name if row >= 0 else name.strip() for name, row in zip(ids, there, strict=True))


def _with_least_score(backend: SearchBackend, query: Query) -> Query:
    """Return the query with the index's own least score where it is asked for.

    Raises:
        ValueError: the index has none.
    """
    if not query.auto_min_score or query.images:
        return query
    least = least_score(backend.manifest)
    if least is None:
        raise ValueError(
            f"The index of {backend.manifest['catalogue']['name']!r} has no least score of its "
            "own: one in Milvus has none, and name a number as min_score; one that an earlier "
            "version made gets it when it is brought up to date (`fashion-rag index update`, or "
            "Garment Index Build)."
        )
    return replace(query, min_score=max(query.min_score, least))


def _unit(vector: torch.Tensor, what: str) -> torch.Tensor:
    length = vector.norm().item()
    if not length > _CANCELLED:  # also catches NaN
        raise ValueError(
            f"The {what} cancel out, nothing is left to look for: choose other words or a smaller "
            "weight."
        )
    return vector / length
