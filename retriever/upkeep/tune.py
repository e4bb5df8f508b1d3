"""Tuning an approximate index: the least effort that reaches a wanted recall."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...progress import Progress
from ..search import nearest
from ..store.commit import remove_others, save_vectors
from ..store.index import GarmentIndex
from ..store.lock import only_writer
from ..store.manifest import write_manifest
from ..vectors.approximate import KINDS, Approximate, Kind, choose_kind
from ..vectors.exact import exact_search

_QUERIES = 200
_CANDIDATES = (50, 100, 200, 400)
_LONGEST = 1.0  # seconds of searching per setting: enough queries for a median


@dataclass(frozen=True)
class Setting:
    """A setting that was measured.

    recall: of the exact k best, 0 to 1. milliseconds: the median time of a query.
    """

    kind: Kind
    recall: float
    milliseconds: float


@dataclass(frozen=True)
class TuneReport:
    """The settings that were measured, in that order, and the one that the index has now.

    wanted: the recall that was asked for, 0 to 1.
    """

    settings: tuple[Setting, ...]
    chosen: Setting
    wanted: float
    k: int

    def summary(self) -> str:
        """Write the settings as a table, one a line, with a mark at the chosen one."""
        lines = [f"{'effort':>7} {'candidates':>10} {'recall@' + str(self.k):>10} {'ms':>8}"]
        for setting in self.settings:
            mark = "  <-" if setting is self.chosen else ""
            lines.append(
                f"{setting.kind.effort:>7} {setting.kind.candidates:>10} {setting.recall:>10.3f} "
                f"{setting.milliseconds:>8.2f}{mark}"
            )
        if self.chosen.recall < self.wanted:
            lines.append(f"No setting reaches {self.wanted}: the best one was taken.")
        return "\n".join(lines)


def tune_index(
    folder: Path,
    recall: float = 0.95,
    k: int = 10,
    *,
    kind: str | None = None,
    queries: torch.Tensor | None = None,
    progress: Progress | None = None,
) -> TuneReport | None:
    """Choose the search parameters of an index for a wanted recall against exact search.

    Args:
        recall: of the exact `k` best, the share that is to be found on average, 0 to 1.
        kind: make the index one of this kind first (see KINDS); None keeps the kind it has.
        queries: (q, dim) float32 unit vectors such as users ask; None makes some, see
            `synthetic_queries`.
        progress: called with (done, total) while a new kind is filled; it may raise to cancel.

    Returns:
        The report; None for an exact index, which has nothing to tune.

    Raises:
        ValueError: the recall is not within 0 to 1, or the index can't be of that kind.
        ImportError: faiss is missing.
        BlockingIOError: another process writes the index.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"The recall is {recall}: expected a share of 0 to 1, such as 0.95.")
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: expected one of {', '.join(KINDS)}.")
    folder = Path(folder)
    with only_writer(folder):
        index = GarmentIndex.open(folder)
        try:
            manifest = dict(index.manifest)
            if kind is not None:
                manifest |= _of_kind(index, kind, progress)
            if index.kind.name == "exact":
                _write(index, manifest)
                return None
            if index.approximate is None:
                raise ImportError(
                    f"{folder} is an index of the kind {index.kind.name!r}: install faiss-cpu."
                )
            settings, chosen = _measure(
                index, synthetic_queries(index) if queries is None else queries, recall, k
            )
            manifest["kind"] = chosen.kind.record()
            _write(index, manifest)
        finally:
            index.close()
    return TuneReport(tuple(settings), chosen, recall, k)


def synthetic_queries(index: GarmentIndex, count: int = _QUERIES) -> torch.Tensor:
    """Make unit vectors that lie as far from the garments as those of texts: (count, dim) float32.

    The cosine similarity of a text even to the garment that it describes is small. Each query adds
    up how two garments differ from the mean of all; the mean itself, which garments share and texts
    don't, is left out.
    """
    vectors, generator = index.vectors, np.random.default_rng(0)
    rows = index.rows[generator.choice(len(index), (2, min(count, len(index))))]
    mean = vectors.at(index.rows[: 1 << 14]).float().mean(dim=0)
    one, other = (
        torch.nn.functional.normalize(vectors.at(some).float() - mean, dim=1) for some in rows
    )
    return torch.nn.functional.normalize(one + 0.7 * other, dim=1)


def recall_of(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Return the share, 0 to 1, of the wanted rows (q, k) among those found (q, k)."""
    pairs = zip(found.tolist(), wanted.tolist(), strict=True)
    return float(np.mean([len(set(f) & set(w)) / len(w) for f, w in pairs]))


def _measure(
    index: GarmentIndex, queries: torch.Tensor, recall: float, k: int
) -> tuple[list[Setting], Setting]:
    k = min(k, len(index))
    truth = exact_search(index.vectors, queries, k)[1]
    settings: list[Setting] = []
    for effort in _efforts(index):
        for candidates in _CANDIDATES:
            if candidates < 4 * k and candidates != _CANDIDATES[-1]:
                continue
            index.kind = dataclasses.replace(index.kind, effort=effort, candidates=candidates)
            reached = recall_of(nearest(index, queries, k)[1], truth)
            settings.append(Setting(index.kind, reached, _milliseconds(index, queries, k)))
            if reached >= recall:
                return settings, settings[-1]
    return settings, max(settings, key=lambda setting: setting.recall)


def _efforts(index: GarmentIndex) -> list[int]:
    most = min(index.kind.cells, 4096)
    return [effort for effort in (2**n for n in range(12)) if effort < most] + [most]


def _milliseconds(index: GarmentIndex, queries: torch.Tensor, k: int) -> float:
    times: list[float] = []
    for query in queries:
        started = time.perf_counter()
        nearest(index, query[None], k)
        times.append(time.perf_counter() - started)
        if sum(times) > _LONGEST:
            break
    return float(np.median(times)) * 1000


def _of_kind(index: GarmentIndex, kind: str, progress: Progress | None) -> dict[str, Any]:
    """Make the index one of `kind`, and return the changed entries of the manifest."""
    name = choose_kind(len(index)) if kind == "auto" else kind
    vectors = None
    if name == "exact":
        index.kind = Kind("exact")
    else:
        index.approximate = Approximate.build(index.vectors, progress)
        index.kind = index.approximate.kind
        vectors = save_vectors(index.folder, index.approximate)
    return {"wanted": kind, "kind": index.kind.record(), "vectors": vectors}


def _write(index: GarmentIndex, manifest: dict) -> None:
    write_manifest(index.folder, manifest)
    remove_others(index.folder, manifest)
