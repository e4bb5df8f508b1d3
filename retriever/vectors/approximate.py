"""Kinds of index: how the candidates are found that are then scored exactly.

    exact   every garment is scored, straight from the embeddings (exact.py)
    ivf     an inverted file: garments in cells, of which those nearest to the query are looked at;
            8 bits a dimension

`ivf` goes by the embeddings' leading principal components and finds candidates, which are then
scored exactly from the memory-mapped embeddings. Its file is derived: without faiss, or without
the file, the index is searched exactly.

Rows keep their numbers in it. Rows that were removed since it was written are masked, and those
that were added since are few and scored exactly (search.py).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
import torch

from ...progress import Progress
from .blocks import Vectors

logger = logging.getLogger(__name__)

KINDS = ("auto", "exact", "ivf")

EXACT_ROWS = 100_000
"""Up to this many garments `auto` is exact: 150 MB of ViT-L-14, some 10 ms a query."""

MOST_ADDED = 5_000
"""Up to this many rows are scored exactly beside an inverted file, before they are added to it."""

FEWEST = 256
"""An inverted file needs so many garments to train on: a byte has as many values."""

_ON_DISK = b"ilod"  # faiss's mark of lists in another file, whose path follows
_SEED = 1
_VARIANCE = 0.92  # share of the embeddings' variance that the principal components keep
_MOST_DIMENSIONS = 256
_DISTANCE = 2.0  # of a query from the garments' mean; theirs is about 1
# A filter's nearest garments lie further off: the effort grows by this power of
# (all garments / garments that the filter wants).
_FILTERED = 0.5
_CLUSTERING = {"niter": 8, "seed": _SEED, "max_points_per_centroid": 64}
_CLUSTERING["min_points_per_centroid"] = 1  # else faiss warns of fewer
_BLOCK = 1 << 15  # garments at a time while building
_STALE = 0.75, 4.0  # garments now / garments trained on: outside of this, it is trained anew


@dataclass(frozen=True)
class Kind:
    """The kind of an index with its parameters, as the manifest records them; 0 means not used.

    name: `exact` or `ivf`. dimensions: how many principal components are kept. cells: how many
    cells the inverted file has. trained_on: how many garments it was trained on. effort: how many
    cells are searched for a query; `tune` sets it. candidates: how many garments are then scored
    exactly.
    """

    name: str
    dimensions: int = 0
    cells: int = 0
    trained_on: int = 0
    effort: int = 0
    candidates: int = 0

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Kind:
        """Read the kind that a manifest records.

        Raises:
            ValueError: it is none of this version's.
        """
        entry = manifest["kind"]
        try:
            kind = cls(**entry)
        except TypeError as error:
            raise ValueError(f"The index is of an unknown kind: {entry}.") from error
        _, *numbers = vars(kind).values()
        if kind.name not in KINDS[1:] or not all(
            isinstance(number, int) and 0 <= number < 1 << 40 for number in numbers
        ):
            raise ValueError(f"The index is of an unknown kind: {entry}.")
        return kind

    def is_stale(self, count: int) -> bool:
        """Tell whether `count` garments are far more or fewer than the kind was trained on."""
        fewest, most = _STALE
        return not fewest <= count / max(1, self.trained_on) <= most

    def record(self) -> dict[str, Any]:
        """Return the kind as the manifest records it."""
        return {name: value for name, value in asdict(self).items() if value}


def choose_kind(count: int) -> str:
    """Return the kind that `auto` means for `count` garments."""
    return "exact" if count <= EXACT_ROWS or not faiss_is_usable() else "ivf"


def check_kind(wanted: str, count: int) -> None:
    """Check that `count` garments can be made an index of the kind that is asked for.

    Raises:
        ValueError: there are too few garments to train on.
        ImportError: faiss is missing.
    """
    if wanted != "ivf":
        return
    if count < FEWEST:
        raise ValueError(
            f"An index of {count} garments is searched exactly: the kind 'ivf' needs {FEWEST}. "
            "Leave the kind at auto."
        )
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "The kind 'ivf' needs the package faiss-cpu: pip install faiss-cpu, or leave the kind "
            "at auto."
        ) from error


def explain_kind(kind: Kind, wanted: str, count: int) -> str:
    """Say in one sentence how an index of `count` garments is searched, and why.

    Args:
        wanted: one of KINDS, as the manifest records it.
    """
    if kind.name == "exact":
        why = f"which is fast up to {EXACT_ROWS:,}"
        if wanted == "ivf":
            why = f"as the kind 'ivf', which was asked for, needs {FEWEST} garments"
        elif wanted != "auto":
            why = "as was asked for"
        elif count > EXACT_ROWS:
            why = f"as faiss is not there; it pays above {EXACT_ROWS:,} garments"
        return f"Searched as kind exact: every garment is compared, {why}."
    why = "as was asked for" if wanted != "auto" else f"as there are more than {EXACT_ROWS:,}"
    return (
        f"Searched as kind {kind.name}: {kind.effort} of {kind.cells:,} cells of garments are "
        f"looked through, {why}."
    )


def faiss_is_usable() -> bool:
    """Tell whether faiss can be used: it is installed, and this is not macOS."""
    # On macOS the OpenMP runtimes of faiss and torch end the process when both are loaded.
    if sys.platform == "darwin":
        return False
    try:
        import faiss  # noqa: F401
    except ImportError:
        return False
    return True


class Approximate:
    """An inverted file over the rows of an index; made by `build` or `load`.

    end: the number after the last row that it was filled with. filed: how many rows it holds.
    """

    def __init__(self, vectors: Any, kind: Kind, end: int):
        self._vectors, self.kind, self.end = vectors, kind, end
        self._last_bits: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def build(cls, vectors: Vectors, progress: Progress | None = None) -> Approximate:
        """Train an inverted file and fill it with all rows.

        Args:
            progress: called with (done, total) garments; it may raise to cancel.

        Raises:
            ImportError: faiss is missing.
            ValueError: there are too few garments to train on.
        """
        import faiss

        count = len(vectors)
        check_kind("ivf", count)
        cells = _cells(count)
        sample = _sample(vectors, max(50_000, 40 * cells))
        mean, components = _principal_components(sample)
        components /= np.linalg.norm((sample - mean) @ components.T, axis=1).mean() + 1e-12
        dimensions = len(components)
        transform = faiss.LinearTransform(vectors.dim, dimensions, True)
        faiss.copy_array_to_vector(components.ravel(), transform.A)
        faiss.copy_array_to_vector(-components @ mean, transform.b)
        transform.is_trained = True
        base = faiss.index_factory(dimensions, f"IVF{cells},SQ8")
        for name, value in _CLUSTERING.items():
            setattr(base.cp, name, value)
        base.train(transform.apply(sample))
        kind = Kind("ivf", dimensions, cells, count, max(1, min(cells, 32)), candidates=200)
        made = cls(faiss.IndexPreTransform(transform, base), kind, vectors.first)
        made.add(vectors, progress)
        return made

    @classmethod
    def load(cls, file: BinaryIO, name: str, kind: Kind, end: int, dim: int) -> Approximate:
        """Read what `save` wrote.

        Args:
            name: of the file, for messages. end, dim: of the rows that it was filled with.

        Raises:
            ImportError: faiss is missing.
            ValueError: the file is damaged, of another index, or names files to be opened.
        """
        import faiss

        def read(count: int) -> bytes:
            content = file.read(count)
            # faiss reads a mark by itself, and what it marks at once: garments' bytes are no mark.
            if content == _ON_DISK:
                raise ValueError(
                    f"{name} names another file with its garments, expected them in it: run "
                    "`fashion-rag index tune --kind ivf`."
                )
            return content

        try:
            file.seek(0)
            vectors = faiss.read_index(faiss.PyCallbackIOReader(read))
            made = cls(faiss.downcast_index(vectors), kind, end)
            made._owner = vectors  # the downcast one is freed with it
            made._check_parts()
            fits = vectors.d == dim and made.filed <= end and made._base.nlist == kind.cells
        # faiss's downcasts end in a SystemError where there is nothing, or something unknown.
        except (RuntimeError, AttributeError, SystemError) as error:
            raise ValueError(
                f"{name} is damaged ({error}): run `fashion-rag index tune --kind ivf`."
            ) from error
        if not fits:
            raise ValueError(
                f"{name} holds {vectors.ntotal} vectors of dimension {vectors.d}, the embeddings "
                f"are {(end, dim)}: run `fashion-rag index tune --kind ivf`."
            )
        return made

    def _check_parts(self) -> None:
        """Raise RuntimeError unless it is made of what `build` makes it of."""
        import faiss

        if self._vectors.chain.size() != 1:  # beyond the end faiss reads whatever lies there
            raise RuntimeError(f"{self._vectors.chain.size()} transforms, expected 1")
        lists = faiss.downcast_InvertedLists(self._base.invlists)
        first = faiss.downcast_VectorTransform(self._vectors.chain.at(0))
        sizes = {"A": first.d_in * first.d_out, "b": first.d_out}
        if not (
            isinstance(lists, faiss.ArrayInvertedLists)
            and isinstance(first, faiss.LinearTransform)
            and (first.d_in, first.d_out) == (self._vectors.d, self._base.d)
            and all(getattr(first, part).size() == size for part, size in sizes.items())
        ):
            raise RuntimeError(
                f"{type(lists).__name__} behind {type(first).__name__} from {first.d_in} to "
                f"{first.d_out} dimensions"
            )

    def save(self, file: BinaryIO) -> None:
        """Write it to an open file: faiss itself opens no path of other than ASCII on Windows."""
        import faiss

        faiss.write_index(self._vectors, faiss.PyCallbackIOWriter(file.write))

    @property
    def filed(self) -> int:
        """How many rows it holds."""
        return self._base.ntotal

    def add(self, vectors: Vectors, progress: Progress | None = None) -> None:
        """Add rows under their numbers."""
        self._last_bits = None
        done = 0
        for rows, block in vectors.copied(_BLOCK):
            reduced = self._vectors.chain.at(0).apply(block.float().numpy())
            self._base.add_with_ids(reduced, rows)
            done += len(rows)
            if progress:
                progress(done, len(vectors))
        self.end = vectors.end
        self._vectors.ntotal = self._base.ntotal

    def renumber(self, new: np.ndarray, end: int) -> None:
        """Give each row n the number new[n] (int64, below `end`), where -1 drops it."""
        import faiss

        self._last_bits = None
        gone = np.flatnonzero(new < 0)
        if len(gone):
            self._base.remove_ids(faiss.IDSelectorBatch(gone))
        lists = self._base.invlists
        for cell in range(self.kind.cells):
            if size := lists.list_size(cell):
                ids = faiss.rev_swig_ptr(lists.get_ids(cell), size)
                ids[:] = new[ids]
        self.end = end
        self._vectors.ntotal = self._base.ntotal

    def candidates(
        self, queries: torch.Tensor, count: int, kind: Kind, rows: np.ndarray | None = None
    ) -> np.ndarray:
        """Find the rows that are probably the nearest: (q, count) int64, -1 where there are fewer.

        Args:
            queries: (q, dim) float32. kind: with the effort to make.
            rows: the rows to search among, ascending, not none of them; None: all that are filed.
        """
        import faiss

        effort = kind.effort
        options: dict[str, Any] = {}
        if rows is not None:
            bits = self._bits(rows)
            options["sel"] = faiss.IDSelectorBitmap(bits)
            effort = int(effort * max(1.0, self.filed / len(rows)) ** _FILTERED)
        parameters = faiss.SearchParametersIVF(nprobe=min(effort, kind.cells), **options)
        threads = faiss.omp_get_max_threads()
        if len(queries) == 1:
            faiss.omp_set_num_threads(1)  # one query is one task: others would only be woken
        try:
            return self._base.search(self._directions(queries), count, params=parameters)[1]
        finally:
            faiss.omp_set_num_threads(threads)

    def _bits(self, rows: np.ndarray) -> np.ndarray:
        """Return one bit a row, set for those of `rows`; the result for the last `rows` is kept."""
        if self._last_bits is not None and self._last_bits[0] is rows:
            return self._last_bits[1]
        wanted = np.zeros(max(self.end, int(rows[-1]) + 1), dtype=bool)
        wanted[rows] = True
        bits = np.packbits(wanted, bitorder="little")
        if not rows.flags.writeable:
            self._last_bits = rows, bits
        return bits

    def _directions(self, queries: torch.Tensor) -> np.ndarray:
        """Move queries to points among the garments, which lie at a distance of about 1 from 0.

        Only a query's direction tells garments apart, in which it is moved out of their midst: the
        nearest cells to such a point are those of the highest scores, also for texts,
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
    """Choose the number of cells: a power of two near 4 sqrt(count), 40 garments or more a cell."""
    wanted = min(4 * count**0.5, count / 40)
    return 1 << max(0, round(np.log2(max(1, wanted))))


def _sample(vectors: Vectors, count: int) -> np.ndarray:
    """Draw some rows in float32, the same ones each time."""
    rows = vectors.rows()
    if count < len(rows):
        rows = np.sort(np.random.default_rng(_SEED).choice(rows, count, replace=False))
    return vectors.at(rows).float().numpy()


def _principal_components(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (dim,) and the components (m, dim) with most of the variance, float32."""
    mean = sample.mean(axis=0)
    centred = torch.from_numpy(sample[:: -(-len(sample) // 50_000)] - mean)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    share = values.flip(0).clamp(min=0).cumsum(0) / values.clamp(min=0).sum().clamp(min=1e-30)
    needed = int((share < _VARIANCE).sum()) + 1
    # Multiples of 16 suit the processor's vectors.
    kept = min(len(mean), _MOST_DIMENSIONS, -(-max(needed, 16) // 16) * 16)
    return mean, np.ascontiguousarray(vectors.flip(1).T[:kept].numpy())
