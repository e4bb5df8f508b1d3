"""Search by the words of a text, and its ranking joined with that of the embeddings.

A garment's score by words is the sum, over the words of the text that its own texts hold, of

    ln(1 + (N - n + 0.5) / (n + 0.5))

with N the garments of the index and n those that hold the word: BM25 (Robertson and Zaragoza, 2009)
where every text is short and says a word once, as captions do. FTS5's own `bm25` would count within
one part of the index, and score a garment by which update brought it.

Two rankings are joined by reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): with
their k of 60, a garment's joint score is

    (1 - weight) / (60 + its rank by the embedding) + weight / (60 + its rank by words)

where a ranking that does not hold the garment adds nothing. Garments of equal scores by words share
a rank; the cosine similarity decides between them.
"""

from __future__ import annotations

import numpy as np
import torch

from .search import nearest
from .store.index import GarmentIndex
from .store.text_table import terms_of
from .vectors.exact import exact_scores

RANK_CONSTANT = 60
"""The k of Cormack et al.: the larger it is, the less the first ranks stand out."""

DEPTH = 100
"""How many of the best garments of each ranking are joined, or more if more are asked for."""


def search_words(
    index: GarmentIndex,
    text: str,
    query: np.ndarray,
    count: int,
    rows: np.ndarray | None = None,
    backend: str = "auto",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the `count` garments whose texts hold the rarest words of a text, best first.

    Ties are in the order of the cosine similarity to the query, then of the rows.

    Args:
        text: a user's; only its letters and digits are looked at.
        query: (dim,) float32 unit vector.
        rows: rows that hold a garment, to search among, int64, ascending; None: all.
        backend: how the best of equally good garments are found, see `nearest`.

    Returns:
        Scores by words and cosine similarities, float32, and rows, int64; no garment whose texts
        hold none of the words.
    """
    scores = np.zeros(index.vectors.end, np.float32)
    for term in terms_of(text):
        found = index.rows_with(term)
        scores[found] += np.log1p((len(index) - len(found) + 0.5) / (len(found) + 0.5))
    there = np.flatnonzero(scores) if rows is None else rows[scores[rows] > 0]
    vector = torch.from_numpy(np.ascontiguousarray(query, dtype=np.float32))
    if len(there) > count:
        values = scores[there]
        bound = np.partition(values, -count)[-count]
        sure, equal = there[values > bound], there[values == bound]
        near = nearest(index, vector[None], count - len(sure), equal, backend)[1][0].numpy()
        there = np.sort(np.concatenate([sure, near]))
    cosines = exact_scores(index.vectors, vector, there).numpy()
    order = np.lexsort((-cosines, -scores[there]))
    return scores[there][order], cosines[order], there[order]


def join_rankings(
    by_vector: tuple[np.ndarray, np.ndarray],
    by_words: tuple[np.ndarray, np.ndarray, np.ndarray],
    weight: float,
    count: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Join two rankings by reciprocal rank fusion, and keep the `count` best garments.

    Args:
        by_vector: cosine similarities and rows, best first, -1 where there are no more.
        by_words: see `search_words`.
        weight: of the words, from 0 to 1.

    Returns:
        Cosine similarities, float32, and rows, int64, best first by the joint score, ties by cosine
        similarity; -inf and -1 where there are fewer.
    """
    there = by_vector[1] >= 0
    cosines, rows = by_vector[0][there], by_vector[1][there]
    word_scores, word_cosines, word_rows = by_words
    # Of equal scores each has as many better ones; -scores ascend.
    ranks = 1 + np.searchsorted(-word_scores, -word_scores, side="left")
    every, place = np.unique(np.concatenate([rows, word_rows]), return_inverse=True)
    joint, cosine = np.zeros(len(every)), np.zeros(len(every), np.float32)
    joint[place[: len(rows)]] += (1 - weight) / (RANK_CONSTANT + np.arange(1, len(rows) + 1))
    joint[place[len(rows) :]] += weight / (RANK_CONSTANT + ranks)
    cosine[place] = np.concatenate([cosines, word_cosines])
    order = np.lexsort((-cosine, -joint))[:count]
    best, found = np.full(count, -np.inf, np.float32), np.full(count, -1, np.int64)
    best[: len(order)], found[: len(order)] = cosine[order], every[order]
    return best, found
