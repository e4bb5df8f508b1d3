"""Kinds of index: how the garments that are worth scoring exactly are found.

    exact   every garment is scored, straight from the embeddings (exact.py)
    ivf     an inverted file: garments in cells, of which those nearest to the query are looked at;
            8 bits a dimension
    ivfpq   the same with product quantisation: half the memory and less precise
    hnsw    a graph of neighbours; slow to build

All but `exact` go by the embeddings' leading principal components and find candidates, which are
then scored exactly from the memory-mapped embeddings. They are derived: without faiss, or without
their file, the index is searched exactly.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

logger = logging.getLogger(__name__)

KINDS = ("auto", "exact", "ivf", "ivfpq", "hnsw")

EXACT_ROWS = 100_000
"""Up to this many garments `auto` is exact: 150 MB of ViT-L-14, some 10 ms a query."""

MEMORY = 4 << 30
"""Bytes that the search may hold in memory, unless told otherwise."""

_SEED = 1
_VARIANCE = 0.92  # of the embeddings that the principal components keep
_MOST_DIMENSIONS = 256
_DISTANCE = 2.0  # of a query from the garments' mean, in units of theirs
_LINKS = 32  # of a garment in the graph
_FEWEST = 256  # as many as a byte has values
# The nearest of the garments that a filter wants lie further off: the effort grows by this power of
# how many garments there are for each wanted one. A graph collects nodes, wanted or not.
_FILTERED = {"ivf": 0.5, "ivfpq": 0.5, "hnsw": 1.0}
_BLOCK = 1 << 15  # garments at a time while building
_STALE = 0.25  # of the garments: above, an update trains anew

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Kind:
    """A kind and its parameters, as the manifest records them.

    dimensions: principal components that are kept. cells: of the inverted file.
    trained_on: garments there were when the kind was trained.
    effort: what `tune` sets: cells looked at for a query (ivf, ivfpq), or the length of the list
    of nearest nodes (hnsw). candidates: garments scored exactly.
    """

    name: str
    dimensions: int = 0
    cells: int = 0
    trained_on: int = 0
    effort: int = 0
    candidates: int = 0

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Kind:
        """The kind that a manifest records.

        Raises:
            ValueError: it is none of this version's.
        """
        entry = manifest["kind"]
        try:
            kind = cls(**entry)
        except TypeError as error:
            raise ValueError(f"The index is of an unknown kind: {entry}.") from error
        numbers = list(asdict(kind).values())[1:]
        if kind.name not in KINDS[1:] or not all(
            isinstance(number, int) and 0 <= number < 1 << 40 for number in numbers
        ):
            raise ValueError(f"The index is of an unknown kind: {entry}.")
        return kind

    def record(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value}


def choose_kind(count: int, dim: int, memory: int = MEMORY) -> str:
    """The kind that `auto` is for `count` garments of dimension `dim` in `memory` bytes."""
    if count <= EXACT_ROWS or not faiss_is_usable():
        return "exact"
    return "ivf" if count * (min(dim, _MOST_DIMENSIONS) + 8) <= memory else "ivfpq"


def faiss_is_usable() -> bool:
    # On macOS the OpenMP runtimes of faiss and torch end the process when both are loaded.
    if sys.platform == "darwin":
        return False
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


class Approximate:
    """A searchable structure over the embeddings of an index; made by `build` or `load`."""

    def __init__(self, vectors: Any, kind: Kind, count: int):
        self._vectors, self.kind, self.count = vectors, kind, count
        self._last_bits: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def build(
        cls, embeddings: torch.Tensor, name: str, progress: Progress | None = None
    ) -> Approximate:
        """Train and fill a structure.

        Args:
            embeddings: (n, dim) float16 unit vectors. name: one of KINDS, not `auto` or `exact`.
            progress: called with (done, total) garments; it may raise to cancel.

        Raises:
            ImportError: faiss is missing.
            ValueError: there are too few garments to train on.
        """
        import faiss

        count, dim = embeddings.shape
        if count < _FEWEST:
            raise ValueError(
                f"An index of {count} garments is searched exactly: the kind {name!r} needs "
                f"{_FEWEST}."
            )
        cells = _cells(count)
        sample = _sample(embeddings, max(50_000, 40 * cells))
        mean, components = _principal_components(sample)
        components /= np.linalg.norm((sample - mean) @ components.T, axis=1).mean() + 1e-12
        transform = faiss.LinearTransform(dim, len(components), True)
        faiss.copy_array_to_vector(components.ravel(), transform.A)
        faiss.copy_array_to_vector(-components @ mean, transform.b)
        transform.is_trained = True
        reduced = transform.apply(sample)
        if name == "hnsw":
            base = faiss.IndexHNSWSQ(
                len(components), faiss.ScalarQuantizer.QT_8bit, _LINKS, faiss.METRIC_L2
            )
            base.train(reduced)
            base = faiss.IndexIDMap(base)
            kind = Kind(name, len(components), 0, count, effort=64, candidates=100)
        else:
            base = _inverted_file(reduced, name, cells)
            kind = Kind(name, len(components), cells, count, max(1, min(cells, 32)), candidates=200)
        vectors = faiss.IndexPreTransform(transform, base)
        made = cls(vectors, kind, 0)
        made.add(embeddings, progress)
        return made

    @classmethod
    def load(cls, file: BinaryIO, name: str, kind: Kind, count: int, dim: int) -> Approximate:
        """Read what `save` wrote.

        Args:
            name: of the file, for messages. count, dim: of the embeddings it belongs to.

        Raises:
            ImportError: faiss is missing.
            ValueError: the file is damaged, or of another index.
        """
        import faiss

        try:
            file.seek(0)
            vectors = faiss.read_index(faiss.PyCallbackIOReader(file.read))
            made = cls(faiss.downcast_index(vectors), kind, count)
            made._owner = vectors  # the downcast one is freed with it
            fits = vectors.d == dim and made._base.ntotal >= count
        except (RuntimeError, AttributeError) as error:
            raise ValueError(
                f"{name} is damaged ({error}): run `fashion-rag index tune`."
            ) from error
        if not fits:
            raise ValueError(
                f"{name} holds {vectors.ntotal} vectors of dimension {vectors.d}, the embeddings "
                f"are {(count, dim)}: run `fashion-rag index tune --rebuild`."
            )
        return made

    def save(self, path: Path) -> None:
        import faiss

        faiss.write_index(self._vectors, str(path))

    def add(self, embeddings: torch.Tensor, progress: Progress | None = None) -> None:
        """Append rows: (n, dim) float16."""
        self._last_bits = None
        done = 0
        for block in embeddings.split(_BLOCK):
            reduced = self._vectors.chain.at(0).apply(block.float().numpy())
            ids = np.arange(self.count, self.count + len(block))
            self._base.add_with_ids(reduced, ids)
            self.count += len(block)
            self._vectors.ntotal = self._base.ntotal
            done += len(block)
            if progress:
                progress(done, len(embeddings))

    def keep(self, rows: np.ndarray) -> bool:
        """Drop all rows but these (ascending), which are then numbered from 0.

        Returns:
            False where so much is gone that the structure should be built anew.
        """
        import faiss

        self._last_bits = None
        new = np.full(self.count, -1)
        new[rows] = np.arange(len(rows))
        if self.kind.name == "hnsw":
            # A graph can't lose nodes: they stay without a garment.
            ids = faiss.vector_to_array(self._base.id_map)
            ids = np.where(ids < 0, -1, new[ids])
            faiss.copy_array_to_vector(ids, self._base.id_map)
            live = len(rows) / len(ids)
        else:
            gone = np.flatnonzero(new < 0)
            if len(gone):
                self._base.remove_ids(faiss.IDSelectorBatch(gone))
            lists = self._base.invlists
            for cell in range(self.kind.cells):
                if size := lists.list_size(cell):
                    ids = faiss.rev_swig_ptr(lists.get_ids(cell), size)
                    ids[:] = new[ids]
            live = len(rows) / max(1, self.kind.trained_on)
        self.count = len(rows)
        self._vectors.ntotal = self._base.ntotal
        return live >= 1 - _STALE

    def candidates(
        self, queries: torch.Tensor, count: int, kind: Kind, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Rows that are probably the nearest: (q, count) int64, -1 where there are fewer.

        Args:
            queries: (q, dim) float32. kind: with the effort to make.
            rows: the rows to search among, ascending; None: all.
        """
        import faiss

        effort = kind.effort
        options: dict[str, Any] = {}
        dead = self._base.ntotal > self.count
        if rows is not None or dead:
            bits = self._bits(rows)
            options["sel"] = faiss.IDSelectorBitmap(bits)
            wanted = self.count if rows is None else max(1, len(rows))
            effort = int(effort * (self._base.ntotal / wanted) ** _FILTERED[kind.name])
        if kind.name == "hnsw":
            effort = min(max(effort, count), self._base.ntotal)
            parameters = faiss.SearchParametersHNSW(efSearch=effort, **options)
        else:
            parameters = faiss.SearchParametersIVF(nprobe=min(effort, kind.cells), **options)
        threads = faiss.omp_get_max_threads()
        if len(queries) == 1:
            faiss.omp_set_num_threads(1)  # one query is one task: others would only be woken
        try:
            return self._base.search(self._directions(queries), count, params=parameters)[1]
        finally:
            faiss.omp_set_num_threads(threads)

    def _bits(self, rows: np.ndarray | None) -> np.ndarray:
        """A bit for every row, set for those of `rows`; the last ones are kept."""
        if self._last_bits is not None and self._last_bits[0] is rows:
            return self._last_bits[1]
        wanted = np.zeros(self.count, dtype=bool)
        wanted[slice(None) if rows is None else rows] = True
        bits = np.packbits(wanted, bitorder="little")
        if rows is not None and not rows.flags.writeable:
            self._last_bits = rows, bits
        return bits

    def _directions(self, queries: torch.Tensor) -> np.ndarray:
        """The queries as points among the garments, which are at a distance of about 1 from 0.

        Only a query's direction tells garments apart, in which it is moved out of their midst: the
        nearest cells and nodes to such a point are those of the highest scores, also for texts,
        which lie apart from all garments.
        """
        import faiss

        transform = faiss.downcast_VectorTransform(self._vectors.chain.at(0))
        reduced = transform.apply(queries.numpy()) - faiss.vector_to_array(transform.b)
        norms = np.linalg.norm(reduced, axis=1, keepdims=True)
        return _DISTANCE * reduced / np.maximum(norms, 1e-12)

    @property
    def _base(self) -> Any:
        import faiss

        return faiss.downcast_index(self._vectors.index)


def _cells(count: int) -> int:
    """About four times the root of the count, a power of two, of 40 garments at least."""
    wanted = min(4 * count**0.5, count / 40)
    return 1 << max(0, round(np.log2(max(1, wanted))))


def _sample(embeddings: torch.Tensor, count: int) -> np.ndarray:
    """Some rows in float32, the same ones each time."""
    if count >= len(embeddings):
        return embeddings.float().numpy()
    rows = np.random.default_rng(_SEED).choice(len(embeddings), count, replace=False)
    return embeddings[torch.from_numpy(np.sort(rows))].float().numpy()


def _principal_components(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (dim,) and the components (m, dim) that hold most of the variance, float32."""
    mean = sample.mean(axis=0)
    centred = torch.from_numpy(sample[:: -(-len(sample) // 50_000)] - mean)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    share = values.flip(0).clamp(min=0).cumsum(0) / values.clamp(min=0).sum().clamp(min=1e-30)
    needed = int((share < _VARIANCE).sum()) + 1
    # Multiples of 16 suit the processor's vectors and the parts of product quantisation.
    kept = min(len(mean), _MOST_DIMENSIONS, -(-max(needed, 16) // 16) * 16)
    return mean, np.ascontiguousarray(vectors.flip(1).T[:kept].numpy())


def _inverted_file(sample: np.ndarray, name: str, cells: int) -> Any:
    import faiss

    dimensions = sample.shape[1]
    means = faiss.Kmeans(
        dimensions,
        cells,
        niter=8,
        seed=_SEED,
        max_points_per_centroid=64,
        min_points_per_centroid=1,
    )
    means.train(sample)
    quantizer = faiss.IndexFlatL2(dimensions)
    quantizer.add(means.centroids)
    if name == "ivf":
        base = faiss.IndexIVFScalarQuantizer(
            quantizer, dimensions, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2
        )
    else:
        parts = dimensions // 2 if dimensions % 2 == 0 else dimensions
        base = faiss.IndexIVFPQ(quantizer, dimensions, cells, parts, 8, faiss.METRIC_L2)
        base.pq.cp.min_points_per_centroid = 1  # fewer are no fault of the user's
    quantizer.this.disown()
    base.own_fields = True
    base.train(sample)
    return base
