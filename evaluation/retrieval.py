"""Retrieval for captions, by an index or from the official files, and its recall and precision.

The official files are `<model>/test_<category>_<single|triplet>.json`, `pred_files` in them: a
caption to 20 garment paths, best first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..files import parse_json
from ..retriever.encoders.open_clip import Encoder
from ..retriever.encoders.recipe import as_built
from ..retriever.search import search
from ..retriever.store.index import GarmentIndex
from .dresscode import Sample

DEPTH = 20
"""Garments kept a caption, as in the official files."""
CUTOFFS = (1, 3, 5, 10, 20)
_COMBINATIONS = {1: "single", 2: "double", 3: "triplet"}
_BATCH = 256

Ranking = Mapping[str, Sequence[str]]
"""Captions to garment photos (POSIX paths relative to the Dress Code folder), best first."""


def rows_of(index: GarmentIndex, files: Sequence[str]) -> np.ndarray:
    """Find the rows of an index that hold the given photos, int64, ascending.

    Raises:
        ValueError: the index lacks one of them.
    """
    wanted = set(files)
    rows = zip(index.rows.tolist(), index.garments, strict=True)
    found = {garment.file: row for row, garment in rows if garment.file in wanted}
    missing = wanted.difference(found)
    if missing:
        raise ValueError(
            f"The index {index.folder} lacks {len(missing)} of {len(wanted)} test garments, such "
            f"as {min(missing)}: build it from the whole Dress Code folder."
        )
    return np.array(sorted(found.values()), dtype=np.int64)


def rank_online(
    index: GarmentIndex, encoder: Encoder, captions: Sequence[str], rows: np.ndarray
) -> dict[str, list[str]]:
    """Find the best DEPTH garments among some rows for every caption, by exact search.

    Raises:
        ValueError: the encoder is not the index's.
    """
    encoder = as_built(encoder, index.manifest["encoder"])
    index.check_encoder(encoder)
    texts = sorted(set(captions))
    ranking: dict[str, list[str]] = {}
    for start in range(0, len(texts), _BATCH):
        part = texts[start : start + _BATCH]
        found = search(index, encoder.encode_texts(part), DEPTH, backend="exact", rows=rows)
        ranking |= {
            text: [hit.garment.file for hit in hits] for text, hits in zip(part, found, strict=True)
        }
    return ranking


def has_pred_files(folder: Path, chunks: int) -> bool:
    """Tell whether there are official rankings for captions of `chunks` noun chunks."""
    return any(Path(folder).glob(f"test_*_{_COMBINATIONS[chunks]}.json"))


def read_pred_files(
    folder: Path, category: str, chunks: int, root: Path | None = None
) -> dict[str, list[str]]:
    """Read the official ranking of a category for captions of `chunks` noun chunks.

    Args:
        root: a Dress Code folder; a photo that is not in its `cleaned_inshop_imgs` is looked for
            in `images`, as the official code does.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    path = Path(folder) / f"test_{category}_{_COMBINATIONS[chunks]}.json"
    if not path.is_file():
        there = sorted(file.name for file in Path(folder).glob("test_*.json"))
        raise FileNotFoundError(
            f"{path} is missing; there are: {', '.join(there) or 'none'}. Name the folder of the "
            "encoder, such as dresscode-retrieval/ViT-L-14_laion2b_s32b_b82k."
        )
    try:
        ranking = parse_json(path.read_text(encoding="utf-8"))["pred_files"]
        ranking = {str(text): [str(file) for file in files] for text, files in ranking.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} is not {{"pred_files": {{"caption": ["photo", ...]}}}}: {error!r}.'
        ) from error
    if root is not None:
        ranking = {text: [_existing(root, file) for file in row] for text, row in ranking.items()}
    return ranking


def check_ranking(ranking: Ranking, samples: Sequence[Sample], chunks: int, count: int) -> None:
    """Raise ValueError unless every sample's caption is there with at least `count` garments."""
    for sample in samples:
        caption = sample.caption(chunks)
        found = len(ranking.get(caption, ()))
        if found < count:
            raise ValueError(
                f"The caption {caption!r} of garment {sample.garment} ({sample.category}) has "
                f"{found} retrieved garments, expected {count}: the captions and the retrieval "
                "files or the index are not of one dataset, or the index is too small."
            )


def retrieval_rates(
    ranking: Ranking, captions: Mapping[str, str], queries: Sequence[str]
) -> dict[str, np.ndarray]:
    """Compute recall and precision at CUTOFFS, one value for each distinct query.

    `recall@k` is the official one: whether a garment with this very caption is among the first k.
    `precision@k` is the textbook's share of such garments among the first k. The official
    `official_precision@k`, whose code is not published, rises with k; half of the mean share of
    such garments that the first k hold gives the sums behind its published figures where nearly
    every caption has one garment (three chunks: 437 half hits of 874, less quarters and sixths
    where two or three garments share a caption).

    Args:
        captions: garment photos to their captions, of every garment that could be found.
        queries: captions; repeated ones count once.
    """
    relevant: dict[str, set[str]] = {}
    for file, caption in captions.items():
        relevant.setdefault(caption, set()).add(file)
    rows: dict[str, list[float]] = {
        f"{name}@{k}": [] for name in ("recall", "precision", "official_precision") for k in CUTOFFS
    }
    for query in sorted(set(queries)):
        wanted = relevant.get(query, set())
        for k in CUTOFFS:
            hits = len(wanted.intersection(ranking[query][:k]))
            rows[f"recall@{k}"].append(hits > 0)
            rows[f"precision@{k}"].append(hits / k)
            rows[f"official_precision@{k}"].append(hits / max(len(wanted), 1) / 2)
    return {name: np.array(values, dtype=float) for name, values in rows.items()}


def own_garment_found(
    ranking: Ranking, samples: Sequence[Sample], chunks: int, k: int
) -> np.ndarray:
    """Tell whether each sample's own garment is among the first k found: 1 or 0, float (n,)."""
    return np.array(
        [float(sample.file in ranking[sample.caption(chunks)][:k]) for sample in samples]
    )


def _existing(root: Path, file: str) -> str:
    if (root / file).is_file():
        return file
    return file.replace("cleaned_inshop_imgs", "images").replace("_cleaned.jpg", ".jpg")
