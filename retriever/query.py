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

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image

from .backends import SearchBackend
from .encoders.open_clip import Encoder
from .encoders.recipe import as_built
from .photos.catalogue import Garment
from .photos.layouts import category_of
from .search import Hit
from .store.filters import (
    And,
    Comparison,
    Filter,
    Membership,
    Not,
    Or,
    Value,
    is_number,
    parse_filter,
)
from .store.manifest import least_score
from .word_search import DEPTH, join_rankings
from .words import noun_chunks, plain_words, remarks

CHUNKS = ("together", "singly")
MAX_POOL = 4096
"""The most garments that one query may draw from or ask for."""

GROUP = "item_group_id"
"""The column that views of one product share."""

LONGEST_TEXT = 10_000
"""The most characters of a text; an encoder reads some hundreds of them."""

MOST_VIEWS = 16_384
"""The most of the nearest photos that are looked through for different garments."""

_CANCELLED = 0.05  # a shorter sum of unit vectors points nowhere in particular
_STRAIGHT = str.maketrans("“”„‟«»＂‘’‚‛，（）［］＜＞＝！", '"""""""\'\'\'\',()[]<>=!')
_IN_QUOTES = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`[^`]*`""", re.DOTALL)
_COMPARED = re.compile(r"[<>=!]+|\bin\s*(?=[\[(])")
_WORD = re.compile(r"[^\W\d][\w -]*")
_LONGEST_NAME = 100  # characters of a column that an error proposes


@dataclass(frozen=True)
class Query:
    """What to look for, and how to choose among what is near.

    text: in plain words; may be empty where there are images. Its noun chunks are the parts
        between commas, semicolons and line ends, of any script; the paper joins 1, 2 or 3 of them
        by ", ". Weights and embeddings of prompts are taken out of it (see words.py).
    chunks: `together` encodes the text whole, as the paper does with its chunks; `singly` encodes
        every chunk by itself and takes their mean, so that none outweighs the others.
    negative: what the garment should not look like; negative_weight: from 0 (ignored) to 2.
    images: reference photos, RGB; image_weight: from 0 (the text alone) to 1 (the images alone).
    category: search this category alone; None: all.
    where: a filter over the catalogue's columns, see filters.py; empty: all.
    k: how many garments, 1 or more; views of one product are one garment.
    diversity: from 0 (the best) to 1: maximal marginal relevance (Carbonell and Goldstein, SIGIR
        1998) with lambda = 1 - diversity over the `draw_from` best, or the 64 or 8 k best: the
        next garment is the one of the highest (1 - diversity) * score - diversity * (highest
        cosine similarity to a garment that is taken already).
    draw_from: 0, or draw the k from so many best, without replacement, with probabilities
        proportional to exp(score / temperature). seed: the same seed, the same draw.
    temperature: 0 (the best) or more, in units of cosine similarity.
    pinned: ids of garments that are taken in any case, first and in this order, whatever the
        filters say; each counts towards k, and of their products no other view is taken.
        excluded: ids of garments that are never taken, nor other views of them.
    min_score: garments of a lower cosine similarity are left out (not the pinned ones).
    word_weight: from 0 (the embedding alone) to 1 (the words alone): what the words of the text
        count against its embedding.
    auto_min_score: take the index's own least score of a match (see upkeep/calibration.py) as
        min_score, where that is higher. It holds for texts: with images, min_score stays.

    Raises:
        ValueError: a value out of range; a text that is no valid Unicode, or too long; nothing to
            look for; an id both pinned and excluded; a filter that can't be read.
    """

    text: str = ""
    chunks: str = "together"
    negative: str = ""
    negative_weight: float = 0.3
    images: tuple[Image.Image, ...] = ()
    image_weight: float = 0.3
    category: str | None = None
    where: str = ""
    k: int = 3
    diversity: float = 0.0
    draw_from: int = 0
    seed: int = 0
    temperature: float = 0.05
    pinned: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    min_score: float = -1.0
    word_weight: float = 0.0
    auto_min_score: bool = False

    def __post_init__(self):
        for name in ("images", "pinned", "excluded"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("text", "negative"):
            _check_unicode(name, getattr(self, name))
            _check_length(name, getattr(self, name))
        if not self.text.strip() and not self.images:
            raise ValueError(
                "The text is empty: say what the person should wear, or show it in a reference "
                "image."
            )
        if not self.words and not self.images:
            raise ValueError(
                f"The text {self.text!r} holds no words: say what the person should wear; "
                "embeddings and LoRA tags are not searched for."
            )
        if self.chunks not in CHUNKS:
            raise ValueError(f"chunks is {self.chunks!r}: expected one of {', '.join(CHUNKS)}.")
        if self.chunks == "singly" and self.text.strip() and not self.noun_chunks:
            raise ValueError(f"The text {self.text!r} has no noun chunk: expected words.")
        _check_range("negative_weight", self.negative_weight, 0, 2)
        _check_range("image_weight", self.image_weight, 0, 1)
        _check_range("diversity", self.diversity, 0, 1)
        _check_range("temperature", self.temperature, 0, math.inf)
        _check_range("min_score", self.min_score, -1, 1)
        _check_range("word_weight", self.word_weight, 0, 1)
        _check_range("k", self.k, 1, MAX_POOL)
        _check_range("draw_from", self.draw_from, 0, MAX_POOL)
        _check_range("seed", self.seed, 0, 2**64 - 1)
        if 0 < self.draw_from < self.k:
            raise ValueError(
                f"draw_from is {self.draw_from}, but top_k is {self.k}: draw from as many or more, "
                "or set it to 0 to take the best."
            )
        if len(set(self.pinned)) > self.k:
            raise ValueError(
                f"{len(set(self.pinned))} garments are pinned, but top_k is {self.k}: raise it, or "
                "pin fewer."
            )
        both = sorted(set(self.pinned) & set(self.excluded))
        if both:
            raise ValueError(f"{_names(both)} is both pinned and excluded: choose one.")
        self.filter  # noqa: B018  a filter that can't be read is an error of the query

    def __str__(self) -> str:
        """Describe the query in words."""
        parts = [f"“{text}”" for text in _texts_of(self)]
        words = " and ".join(part.replace("\n", " ") for part in parts)
        if self.images:
            what = "a photo" if len(self.images) == 1 else f"{len(self.images)} photos"
            words = f"{words} with {what}" if words else what
        negative = self.negative_words
        return f"{words}, not “{negative}”" if negative else words

    @property
    def words(self) -> str:
        """The text as the encoder gets it."""
        return plain_words(self.text.strip())[0]

    @property
    def negative_words(self) -> str:
        """The negative text as the encoder gets it."""
        return plain_words(self.negative.strip())[0]

    @property
    def noun_chunks(self) -> tuple[str, ...]:
        """The parts of the text between commas, semicolons and line ends, without empty ones."""
        return noun_chunks(self.words)

    @property
    def filter(self) -> Filter | None:
        """`where`, parsed; None where it is empty."""
        return read_filter(self.where) if self.where.strip() else None

    @property
    def pool(self) -> int:
        """How many of the best garments the k are chosen from, pinned and excluded ones aside."""
        if self.draw_from:
            return self.draw_from
        return max(64, 8 * self.k) if self.diversity else self.k

    @property
    def asked(self) -> int:
        """How many of the nearest photos are looked up first."""
        # Ids that are dropped afterwards are asked for in addition.
        return self.depth(self.pool + len(set(self.pinned) | set(self.excluded)))

    def depth(self, count: int) -> int:
        """Return how many of the nearest photos are looked up to find the `count` best ones.

        Words (`word_weight`) change the order, so that more are looked up.
        """
        return max(DEPTH, count) if self.word_weight and self.words else count


@dataclass(frozen=True)
class Result:
    """The answer to a query.

    hits: the pinned garments in their order, then the others, best score first. vector: (dim,)
    float32, the query's q. note: lines on why there are fewer hits than asked for, and on what of
    the query was not read as it stands; or empty.
    """

    query: Query
    hits: list[Hit]
    vector: np.ndarray
    note: str = ""


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
            scores, rows = _with_words(backend, query, vectors[number], scores, rows)
            result = _choose(backend, query, vectors[number], scores, rows)
            lines = [result.note, *_notes_of_text(query, encoder), *_notes_of_words(backend, query)]
            if not (rows >= 0).any():
                lines += _notes_of_filter(backend, query)
            results[number] = replace(result, note="\n".join(filter(None, lines)))
    return [results[number] for number in range(len(queries))]


def query_vectors(encoder: Encoder, queries: Sequence[Query]) -> np.ndarray:
    """Encode every query to its vector q (see above): (n, dim) float32 of unit length.

    Raises:
        ValueError: a text and a negative text that cancel out.
    """
    wanted = [(*_texts_of(query), query.negative_words) for query in queries]
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


def _texts_of(query: Query) -> tuple[str, ...]:
    if query.chunks == "singly":
        return query.noun_chunks
    return (query.words,) if query.words else ()


def read_filter(text: str) -> Filter:
    """Parse a filter; quotes and punctuation of typesetters and of Chinese are taken as typed.

    Raises:
        ValueError: it is not understood; the message shows where.
    """
    pieces = _split_at_quotes(text)
    pieces[::2] = [piece.translate(_STRAIGHT) for piece in pieces[::2]]
    try:
        return parse_filter("".join(pieces))
    except ValueError as error:
        if name := next((name for piece in pieces[::2] for name in _of_two_words(piece)), ""):
            raise ValueError(
                f"{error} A column whose name has a space or a hyphen stands in backquotes: "
                f"`{name}`."
            ) from error
        raise


def _split_at_quotes(text: str) -> list[str]:
    """Split a filter into what is in quotes, at odd places, and what is not, at even ones."""
    pieces, place, kinds = [], 0, "\"'`"
    while kinds and (opening := re.compile(f"[{kinds}]").search(text, place)):
        quoted = _IN_QUOTES.match(text, opening.start())
        if quoted is None:
            # One that is never closed leaves none behind it that is: each is looked for once.
            kinds = kinds.replace(opening[0], "")
            continue
        pieces += [text[place : quoted.start()], quoted[0]]
        place = quoted.end()
    return [*pieces, text[place:]]


def _of_two_words(piece: str) -> Iterator[str]:
    """Yield what stands before a comparison and has a space or a hyphen, such as a column has."""
    start = 0
    for compared in _COMPARED.finditer(piece):
        before = piece[start : compared.start()].rstrip()
        start = compared.end()
        words = re.match(r"[\w -]*", before[::-1])
        found = _WORD.search(words[0][::-1]) if words else None
        name = re.split(r"\b(?:and|or|not)\b", found[0])[-1].strip() if found else ""
        if re.search(r"[ -]", name) and len(name) <= _LONGEST_NAME:
            yield name


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


def _spelt_ids(backend: SearchBackend, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return ids as the index has them: an id that is not there may have white space around it."""
    there = backend.rows_of_ids(ids).tolist() if ids else []
    return tuple(name if row >= 0 else name.strip() for name, row in zip(ids, there, strict=True))


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
    if remedy is None:
        example = next(filter(None, known), "dresses")
        remedy = (
            "Name one of them as category, or any and a filter (`--where`) such as: category = "
            f'"{example}"'
        )
    raise ValueError(
        f"The index has no garments of the category {category!r}; it has: {there}. {remedy}"
    )


def _notes_of_text(query: Query, encoder: Encoder) -> list[str]:
    notes = [*plain_words(query.text.strip())[1], *plain_words(query.negative.strip())[1]]
    if query.auto_min_score and query.images:
        notes.append(
            "The index's own least score is one of texts and photos: with reference images it is "
            "not used. Name a number as min_score."
        )
    for text in (*_texts_of(query), query.negative_words):
        notes += remarks(text, encoder) if text else []
    return list(dict.fromkeys(notes))


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
            "own, as it was made by an earlier version or lies in Milvus: bring it up to date "
            "(`fashion-rag index update`, or Garment Index Build; then push it again), or name a "
            "number as min_score."
        )
    return replace(query, min_score=max(query.min_score, least))


def _with_words(
    backend: SearchBackend, query: Query, vector: np.ndarray, scores: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Join the nearest photos with those whose texts hold the query's words."""
    if not (query.word_weight and query.words):
        return scores, rows
    count = len(rows)
    by_words = backend.nearest_by_words(query.words, vector, count, query.category, query.filter)
    return join_rankings((scores, rows), by_words, query.word_weight, count)


def _notes_of_words(backend: SearchBackend, query: Query) -> list[str]:
    if not (query.word_weight and query.words) or backend.has_words:
        return []
    return [
        "Not all garments of the index can be found by words, as an earlier version made it: "
        "`fashion-rag index update`, or Garment Index Build, adds them."
    ]


def _notes_of_filter(backend: SearchBackend, query: Query) -> list[str]:
    """Say why a filter that finds nothing may not mean what its columns hold."""
    notes = []
    for column, value in dict.fromkeys(_compared(query.filter)):
        seen = backend.values_of(column)
        examples = ", ".join(map(repr, seen.examples))
        if is_number(value) and seen.texts and not seen.numbers:
            notes.append(
                f"No value of the column {column!r} is a number, so none can be compared with "
                f"{value:g}; it holds {examples}. Write numbers alone in the table, with a point "
                "before the decimals, and build the index anew."
            )
        elif is_number(value) and seen.texts > seen.numbers:
            notes.append(
                f"{seen.texts - seen.numbers} of {seen.texts} values of the column {column!r} are "
                f"no numbers and are never found by one; it holds {examples}."
            )
        elif not is_number(value) and value:
            notes.append(f"The column {column!r} holds {examples or 'nothing'}, as it is spelt.")
    return notes


def _compared(condition: Filter | None) -> Iterator[tuple[str, Value]]:
    match condition:
        case And(parts) | Or(parts):
            for part in parts:
                yield from _compared(part)
        case Not(part):
            yield from _compared(part)
        case Comparison(column, _, value):
            yield column, value
        case Membership(column, values):
            yield from ((column, value) for value in values[:3])


def _unit(vector: torch.Tensor, what: str) -> torch.Tensor:
    length = vector.norm().item()
    if not length > _CANCELLED:  # also catches NaN
        raise ValueError(
            f"The {what} cancel out, nothing is left to look for: choose other words or a smaller "
            "weight."
        )
    return vector / length


def nearest_garments(
    backend: SearchBackend,
    vector: np.ndarray,
    query: Query,
    count: int,
    blocked: np.ndarray,
    found: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Find the `count` garments nearest to a vector, each in its best view, best first.

    Args:
        vector: (dim,) float32, of unit length.
        query: its category and filter hold.
        blocked: rows that are passed over, with the other views of their products.
        found: scores and rows of the nearest photos, best first, where they are known already.

    Returns:
        scores, float32; rows, int64; and whether all photos that there are were looked through,
        where the garments are fewer than `count`.
    """
    of_groups = GROUP in backend.columns()
    taken = set(backend.values_at(blocked, GROUP)) if of_groups and len(blocked) else set()
    wanted = query.depth(count + len(blocked)) if found is None else len(found[0])
    while True:
        if found is None:
            near = backend.nearest(vector[None], wanted, query.category, query.filter)
            found = _with_words(backend, query, vector, near[0][0], near[1][0])
        there = found[1] >= 0
        scores, rows = found[0][there], found[1][there]
        left = ~np.isin(rows, blocked)
        scores, rows = scores[left], rows[left]
        if of_groups:
            first = _first_views(backend.values_at(rows, GROUP), taken)
            scores, rows = scores[first], rows[first]
        whole = not there.all() or wanted >= len(backend)
        if len(rows) >= count or whole or wanted >= MOST_VIEWS:
            return scores[:count], rows[:count], whole
        wanted, found = min(max(4 * wanted, 64), MOST_VIEWS), None


def _first_views(groups: Sequence[str], taken: set[str]) -> np.ndarray:
    """Return the places of the first view of each product that is not taken; '' is no product."""
    seen = taken - {""}
    places = []
    for place, group in enumerate(groups):
        if not group or group not in seen:
            places.append(place)
            seen.add(group)
    return np.array(places, dtype=np.int64)


def _choose(
    backend: SearchBackend,
    query: Query,
    vector: np.ndarray,
    scores: np.ndarray,
    rows: np.ndarray,
) -> Result:
    """Choose among the nearest photos, given best first, -1 where there are no more."""
    pinned = _rows_of(backend, query.pinned, "pinned")
    excluded = _rows_of(backend, query.excluded, "excluded")
    blocked = np.concatenate([pinned, excluded])
    scores, rows, whole = nearest_garments(
        backend, vector, query, query.pool, blocked, (scores, rows)
    )
    good, all_rows = scores >= query.min_score, rows
    near, rows = scores[good], rows[good]
    wanted = min(query.k - len(pinned), len(rows))
    # With words the order is another: the scores that there are tell how far apart its ranks are.
    relevance = np.sort(near.astype(np.float64))[::-1].copy()
    if query.draw_from and query.temperature:
        # The k highest of these sums are a draw of k without replacement (Gumbel-top-k).
        relevance += query.temperature * _gumbel(query.seed, len(rows))
    if query.diversity and wanted:
        vectors = backend.vectors_at(np.concatenate([pinned, rows]))
        taken = _most_diverse(relevance, vectors, len(pinned), wanted, query.diversity)
    else:
        taken = (-relevance).argsort(kind="stable")[:wanted]
    taken = np.sort(taken)
    rows, chosen = np.concatenate([pinned, rows[taken]]), near[taken]
    if len(pinned):
        exact = backend.vectors_at(pinned).astype(np.float64) @ vector.astype(np.float64)
        chosen = np.concatenate([exact.astype(np.float32), chosen])
    found = zip(backend.garments_at(rows), chosen.tolist(), rows.tolist(), strict=True)
    hits = [Hit(garment, score, row) for garment, score, row in found]
    if not hits and len(scores) and query.auto_min_score:
        nearest = int(scores.argmax())
        (garment,) = backend.garments_at(all_rows[nearest : nearest + 1])
        return Result(query, hits, vector, _nothing(query, garment, float(scores[nearest])))
    return Result(query, hits, vector, _note(query, len(hits), scores, whole))


def _rows_of(backend: SearchBackend, ids: Sequence[str], what: str) -> np.ndarray:
    ids = list(dict.fromkeys(ids))
    rows = backend.rows_of_ids(ids)
    missing = [name for name, row in zip(ids, rows.tolist(), strict=True) if row < 0]
    if missing:
        raise ValueError(
            f"{_names(missing)} is {what}, but no garment of the index has that id: the ids are "
            "those of the catalogue's table, or the file names relative to the catalogue."
        )
    return rows


def _gumbel(seed: int, count: int) -> np.ndarray:
    # Of the generator only the raw uniform numbers are taken: they are the same everywhere.
    uniform = np.random.Generator(np.random.PCG64(seed)).random(count)
    return -np.log(-np.log(np.clip(uniform, 1e-300, 1 - 1e-16)))


def _most_diverse(
    relevance: np.ndarray, vectors: np.ndarray, pinned: int, count: int, diversity: float
) -> np.ndarray:
    """Choose positions in `relevance` by maximal marginal relevance, in the order they are taken.

    vectors: those of the pinned garments, which count as taken, and then of the candidates.
    """
    vectors = vectors.astype(np.float64)
    candidates = vectors[pinned:]
    if pinned:
        nearest = (candidates @ vectors[:pinned].T).max(axis=1)
        taken = []
    else:  # there is nothing to differ from yet
        taken = [int(relevance.argmax())]
        nearest = candidates @ candidates[taken[0]]
    while len(taken) < count:
        value = (1 - diversity) * relevance - diversity * nearest
        value[taken] = -np.inf
        taken.append(int(value.argmax()))
        nearest = np.maximum(nearest, candidates @ candidates[taken[-1]])
    return np.array(taken, dtype=np.int64)


def _nothing(query: Query, garment: Garment, score: float) -> str:
    """Say that all garments are below the least score, and which is the nearest."""
    of = f" among those of the category {query.category!r}" if query.category else ""
    of += f" that match {query.where.strip()!r}" if query.where.strip() else ""
    name = f"{garment.file} ({garment.caption})" if garment.caption else garment.file
    return (
        f"Nothing in this catalogue matches {query}{of}: the nearest is {name} with a cosine "
        f"similarity of {score:.4f}, a match has {query.min_score:g} or more. Ask in other words, "
        "or turn off auto_min_score (`--min-score -1`) to take it."
    )


def _note(query: Query, count: int, scores: np.ndarray, whole: bool) -> str:
    """Say why there are fewer than k; scores: of all that were near, best first; whole: see
    `nearest_garments`."""
    if count == query.k:
        return ""
    of = f" of the category {query.category!r}" if query.category else ""
    of += f" that match {query.where.strip()!r}" if query.where.strip() else ""
    found = f"{count} garment{'' if count == 1 else 's'}"
    note = f"top_k is {query.k}, but only {found} {'is' if count == 1 else 'are'} found"
    if len(scores) and scores.min() < query.min_score:
        return (
            f"{note}: the others{of} have less than the minimum score {query.min_score:g} (the "
            f"best one of all has {scores.max():.4f})."
        )
    if not whole:
        return f"{note}: the nearest {MOST_VIEWS:,} photos{of} are views of these."
    return f"{note}: there are no others{of}."


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not (isinstance(value, (int, float)) and low <= value <= high):  # also refuses NaN
        limit = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"
        raise ValueError(f"{name} is {value!r}: expected a number {limit}.")


def _check_unicode(name: str, text: str) -> None:
    """Refuse half a character, which a terminal of another encoding or a cut string leaves."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is {text!r}, whose character {error.start + 1} is no valid Unicode: expected "
            "text; a terminal has to use UTF-8."
        ) from error


def _check_length(name: str, text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise ValueError(
            f"{name} has {len(text):,} characters: expected {LONGEST_TEXT:,} at most. An encoder "
            "reads some hundreds: say what the garment looks like, and no more."
        )


def _names(ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, ids[:5]))
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"
