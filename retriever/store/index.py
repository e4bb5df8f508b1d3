"""An index on disk, opened for reading: a manifest and the parts that it names.

The folder holds manifest.json, which is replaced last and so is the commit point (manifest.py); the
files of the parts, each written once and never changed (part.py); and vectors-WORD.faiss, what an
approximate search goes by (approximate.py), which is derived.

A garment's row is its place among the rows of all parts, removed ones included: updates add rows
and remove some, the others keep their numbers. Opening maps the embeddings and reads the manifest;
records and thumbnails are read on demand.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from ...pictures.photos import open_photo
from ..encoders.fingerprint import has_fingerprint
from ..encoders.open_clip import Encoder
from ..encoders.recipe import display_name
from ..photos.catalogue import Garment, safe_path
from ..vectors import eight_bit as eightbit
from ..vectors.approximate import Approximate, Kind, faiss_is_usable
from ..vectors.blocks import Vectors
from ..vectors.eight_bit import EightBit
from .filters import Filter
from .manifest import INDEX_SCHEMA, MANIFEST, REMEDY, check_files, read_manifest
from .part import Part
from .records import (
    FIELDS,
    NO_NUMBERS,
    ColumnValues,
    Line,
    Numbers,
    Record,
    Records,
    of_category,
)

logger = logging.getLogger(__name__)

_ROWS_KEPT = 256 << 20  # bytes of the rows of the last filters and words
_ENTRY = 500  # bytes that each entry takes beside its rows


class GarmentIndex:
    """A finished index.

    folder: where it lies. manifest: see manifest.py. parts: in the order of their rows.
    vectors: the embeddings, float16 unit vectors, memory-mapped.
    catalogue_root: the folder of the photos; may be set to where they are on this machine.

    It may be used from several threads. A writer that replaces the index meanwhile doesn't disturb
    it: it goes on with what it opened.
    """

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        parts: Sequence[Part],
        catalogue_root: Path,
        vectors_file: BinaryIO | None = None,
    ):
        self.folder, self.manifest, self.parts = folder, manifest, tuple(parts)
        self.catalogue_root = catalogue_root
        self.kind = Kind.of(manifest)
        self.vectors = Vectors([p.embeddings for p in parts], [p.removed for p in parts])
        self._starts = self.vectors.starts.tolist()
        self._vectors_file = vectors_file
        self._lock = threading.Lock()
        self._rows: OrderedDict[Filter | str, np.ndarray] = OrderedDict()
        self._held = 0

    @classmethod
    def open(cls, folder: Path, catalogue_root: Path | None = None) -> GarmentIndex:
        """Open the index in `folder`.

        Sizes, headers, counts and the manifest's checksum are checked, and the content of small
        files; `verify` checks all of it.

        Args:
            catalogue_root: where the photos are; None takes the place recorded in the manifest.

        Raises:
            FileNotFoundError: there is no index, or one of its files is missing.
            ValueError: another schema, or files that are truncated, changed or swapped.
        """
        folder = Path(folder)
        while True:
            manifest = read_manifest(folder)
            try:
                return cls._open(folder, manifest, catalogue_root)
            except (OSError, ValueError):
                # A writer that finished meanwhile has taken the files of its predecessor away.
                if read_manifest(folder)["sha256"] == manifest["sha256"]:
                    raise

    @classmethod
    def _open(
        cls, folder: Path, manifest: dict[str, Any], catalogue_root: Path | None
    ) -> GarmentIndex:
        check_files(folder, manifest)
        dim = manifest["encoder"]["dim"]
        parts = [Part.open(folder, entry, dim) for entry in manifest["parts"]]
        # Kept open: the files may be removed while the index is in use.
        entry = manifest["vectors"]
        vectors_file = open(folder / entry["name"], "rb") if entry else None
        root = Path(catalogue_root or manifest["catalogue"]["path"])
        index = cls(folder, manifest, parts, root, vectors_file)
        if len(index) != manifest["count"]:
            raise ValueError(
                f"{folder / MANIFEST} says {manifest['count']} garments, its parts hold "
                f"{len(index)}. {REMEDY}"
            )
        return index

    @classmethod
    def in_memory(cls, garments: Sequence[Garment], embeddings: torch.Tensor) -> GarmentIndex:
        """Make an index that is not on disk and has no photos.

        Args:
            garments: n records of different ids.
            embeddings: (n, dim) unit vectors.
        """
        count, dim = embeddings.shape
        manifest = {
            "schema": INDEX_SCHEMA,
            "generation": "",
            "count": count,
            "kind": {"name": "exact"},
            "wanted": "exact",
            "catalogue": {"name": "", "path": ""},
            "encoder": {"name": "memory", "fingerprint": "", "dim": dim},
            "parts": [{"rows": count, "thumbnails": []}],
            "vectors": None,
            "rejects": [],
        }
        part = Part(manifest["parts"][0], Records.in_memory(garments), embeddings.half())
        return cls(Path("memory"), manifest, [part], Path())

    def close(self) -> None:
        """Close the files. The embeddings stay mapped as long as someone holds them."""
        for part in self.parts:
            part.close()
        if self._vectors_file:
            self._vectors_file.close()

    def __len__(self) -> int:
        return len(self.vectors)

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows that hold a garment: int64, ascending, read-only."""
        rows = self.vectors.rows()
        rows.flags.writeable = False
        return rows

    @property
    def embeddings(self) -> torch.Tensor:
        """(len(self), dim) float16 in the order of `garments`: mapped if there is one whole part,
        else copied. `vectors` reads them block by block."""
        if len(self.parts) == 1 and not len(self.parts[0].removed):
            return self.parts[0].embeddings
        return self.vectors.at(self.rows)

    @property
    def garments(self) -> Sequence[Garment]:
        """All garments in the order of `rows`; each is read when it is asked for."""
        return _Garments(self)

    def garment(self, row: int) -> Garment:
        """Read the garment of a row.

        Raises:
            IndexError: there is no such row.
            ValueError: its record is damaged.
        """
        return self.record(row).garment

    def record(self, row: int) -> Record:
        """Read the record of a row; raises as `garment` does."""
        part, local = self.place(row)
        return part.records.record(local)

    def place(self, row: int) -> tuple[Part, int]:
        """Return the part of a row, and the row's number in it.

        Raises:
            IndexError: there is no such row, or it was removed.
        """
        number = bisect_right(self._starts, row) - 1
        if 0 <= number < len(self.parts):
            part, local = self.parts[number], int(row) - self._starts[number]
            if part.has(local):
                return part, local
        raise IndexError(f"There is no row {row}: {self.folder} has {len(self)} garments.")

    def started_parts(self) -> list[tuple[int, Part]]:
        """List the parts, each after the row that it starts with."""
        return list(zip(self._starts, self.parts, strict=False))

    def lines(self) -> Iterator[Line]:
        """Yield the rows that hold a garment as they are stored, which is faster than records."""
        for start, part in self.started_parts():
            gone = set(part.removed.tolist())
            for line in part.records.lines():
                if line.row not in gone:
                    yield line._replace(row=start + line.row) if start else line

    def row_of(self, garment_id: str) -> int:
        """Return the row of a garment.

        Raises:
            KeyError: there is no garment of that id.
        """
        for start, part in self.started_parts():
            local = part.records.row_of(garment_id)
            if local is not None and part.has(local):
                return start + local
        raise KeyError(garment_id)

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise ValueError unless `encoder` is the one that the index was built with."""
        built = self.manifest["encoder"]
        if not has_fingerprint(encoder, built["fingerprint"]):
            raise ValueError(
                f"The index {self.folder} was built with the encoder {display_name(built)} "
                f"({built['fingerprint'][:12]}, dimension {built['dim']}); the query comes from "
                f"{display_name(encoder)} ({encoder.fingerprint[:12]}, dimension {encoder.dim}). "
                f"Use the former, or build the index again with {display_name(encoder)}."
            )

    def columns(self) -> list[str]:
        """Return the names of the columns that a filter may use."""
        further = {name for part in self.parts for name in part.records.columns()}
        return [*FIELDS, *sorted(further.difference(FIELDS))]

    def categories(self) -> list[str]:
        """Return the categories that occur, sorted, without the empty one."""
        return [name for name in self.category_counts if name]

    @cached_property
    def category_counts(self) -> dict[str, int]:
        """The number of garments of each category that occurs, sorted; '' counts as 'none'."""
        counts: Counter[str] = Counter()
        for part in self.parts:
            counts.update(part.records.categories(part.removed))
        return dict(sorted(counts.items()))

    def value_counts(self, column: str, most: int) -> dict[str, int] | None:
        """Count the garments with each value of a column, sorted by value.

        None: there are more than `most` values. Garments without a value are not counted.
        """
        counts: Counter[str] = Counter()
        for part in self.parts:
            found = part.records.value_counts(column, most, part.removed)
            if found is None:
                return None
            counts.update(found)
        return None if len(counts) > most else dict(sorted(counts.items()))

    def numbers_of(self, column: str) -> Numbers | None:
        """Return the numbers of a column; None if a value is no number."""
        found = [part.records.numbers_of(column, part.removed) for part in self.parts]
        if None in found:
            return None
        counts, names, lows, highs = zip(NO_NUMBERS, *found, strict=True)
        return Numbers(sum(counts), all(names), min(lows), max(highs))

    def values_at(self, rows: np.ndarray, column: str) -> list[str]:
        """Return the values of a column in rows that hold a garment, in order; '' for none."""
        rows = np.asarray(rows, dtype=np.int64)
        values = [""] * len(rows)
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            start, part = self._starts[number], self.parts[number]
            places = np.flatnonzero(numbers == number)
            found = part.records.values_at(rows[places] - start, column)
            for place, row in zip(places.tolist(), rows[places].tolist(), strict=True):
                values[place] = found.get(row - start, "")
        return values

    def values_of(self, column: str) -> ColumnValues:
        """Count a column's values, and those that are numbers, and give some of them."""
        found = [part.records.values_of(column, part.removed) for part in self.parts]
        samples = dict.fromkeys(value for part in found for value in part[2])
        texts, numbers = sum(part[0] for part in found), sum(part[1] for part in found)
        return ColumnValues(texts, numbers, tuple(samples)[:3])

    def rows_where(self, condition: Filter | None, category: str | None = None) -> np.ndarray:
        """Find the rows of a category (None: of all) that a filter is true of: int64, ascending.

        The array may be kept for the next call and can't be written to.

        Raises:
            ValueError: there is no such category or column; the message lists those there are.
        """
        if category is not None:
            if category not in self.category_counts:
                known = ", ".join(map(repr, self.categories())) or "no category at all"
                raise ValueError(
                    f"The index {self.folder} has no garments of the category {category!r}; it "
                    f"has: {known}."
                )
            rows = self._matching(of_category(category))
            if condition is None:
                return rows
            wanted = np.zeros(self.vectors.end, dtype=bool)
            wanted[self._matching(condition)] = True
            return rows[wanted[rows]]
        return self.rows if condition is None else self._matching(condition)

    @property
    def has_words(self) -> bool:
        """Whether `rows_with` knows the words of all garments."""
        return all(part.records.has_words for part in self.parts)

    def rows_with(self, term: str) -> np.ndarray:
        """Find the rows whose texts hold a term (see text_table.terms_of): int64, ascending.

        The array may be kept for the next call and can't be written to. Parts that were written
        without words have none.
        """
        return self._kept(
            term,
            lambda records: records.rows_with(term) if records.has_words else np.empty(0, np.int64),
        )

    def _matching(self, condition: Filter) -> np.ndarray:
        if condition not in self._rows:
            known = self.columns()
            if unknown := sorted(condition.columns() - set(known)):
                raise ValueError(
                    f"The filter asks for the column {unknown[0]!r}; the garments have: "
                    f"{', '.join(known)}."
                )
        return self._kept(condition, lambda records: records.rows_where(condition))

    def _kept(self, key: Filter | str, find: Callable[[Records], np.ndarray]) -> np.ndarray:
        """Return the rows that `find` gives for all parts, without removed ones, and cache them."""
        with self._lock:
            rows = self._rows.get(key)
            if rows is not None:
                self._rows.move_to_end(key)
                return rows
        rows = self._in_parts(find)
        rows.flags.writeable = False
        with self._lock:
            if key not in self._rows:
                self._rows[key] = rows
                self._held += rows.nbytes + _ENTRY
            while len(self._rows) > 1 and self._held > _ROWS_KEPT:
                self._held -= self._rows.popitem(last=False)[1].nbytes + _ENTRY
        return rows

    def _in_parts(self, find: Callable[[Records], np.ndarray]) -> np.ndarray:
        found = []
        for start, part in self.started_parts():
            rows = find(part.records)
            if len(part.removed):
                gone = np.zeros(len(part.embeddings), dtype=bool)
                gone[part.removed] = True
                rows = rows[~gone[rows]]
            found.append(rows + start)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def photo(self, garment: Garment) -> Image.Image:
        """Open the garment's photo from the catalogue, full size, RGB on white.

        Raises:
            FileNotFoundError: the photo, or the whole catalogue, is no longer there.
            ValueError: the record leads out of the catalogue, or the photo is damaged.
        """
        path = safe_path(self.catalogue_root, garment.file)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is gone, but the index {self.folder} names it: put the catalogue back at "
                f"{self.catalogue_root}, name the folder where it is now (--catalogue), or run "
                "`fashion-rag index update`."
            )
        return open_photo(path)

    def thumbnail(self, garment: Garment) -> Image.Image:
        """Open the thumbnail that the build kept: the photo, fitted into 256 x 256 pixels.

        Raises:
            KeyError: the garment is not of this index.
            ValueError: the stored thumbnail is damaged.
        """
        part, local = self.place(self.row_of(garment.id))
        return part.thumbnail_image(local)

    def thumbnail_file(self, row: int) -> bytes:
        """Read the thumbnail of a row as a JPEG file's bytes.

        Raises:
            IndexError: there is no such row.
            ValueError: it is damaged, as its checksum tells, or outside the file.
        """
        part, local = self.place(row)
        return part.thumbnail(local)[1]

    @cached_property
    def approximate(self) -> Approximate | None:
        """The inverted file; None for an index of the kind `exact`, or without faiss.

        Raises:
            ValueError: the file is damaged, or of another index.
        """
        if self._vectors_file is None:
            return None
        entry = self.manifest["vectors"]
        name = str(self.folder / entry["name"])
        if not faiss_is_usable():
            logger.warning("%s can't be used without faiss: the search is exact, and slow.", name)
            return None
        with self._lock:
            return Approximate.load(
                self._vectors_file, name, self.kind, entry["rows"], self.vectors.dim
            )

    @cached_property
    def added(self) -> tuple[np.ndarray, Vectors] | None:
        """The rows that came after the inverted file was written, with a copy of their vectors.

        None: there is no inverted file, or it holds all rows.
        """
        if self.approximate is None or self.vectors.end <= self.approximate.end:
            return None
        rows = self.vectors.later(self.approximate.end).rows()
        return (rows, Vectors([self.vectors.at(rows)])) if len(rows) else None

    @cached_property
    def eight_bit(self) -> EightBit | None:
        """The 8-bit search of an exact index of FEWEST to MOST garments; made when first needed."""
        if not eightbit.FEWEST <= len(self) <= eightbit.MOST or not faiss_is_usable():
            return None
        return EightBit(self.vectors)

    def verify(self) -> None:
        """Read every file and compare it with its checksum; read every record and thumbnail.

        Raises:
            FileNotFoundError, ValueError: the first file that is not what it was.
        """
        self.verify_files()
        for part in self.parts:
            part.records.check()
            for row in part.rows().tolist():
                part.thumbnail(row)

    def verify_files(self) -> None:
        """Compare every file with its checksum.

        Raises:
            FileNotFoundError, ValueError: the first file that is not what it was.
        """
        check_files(self.folder, self.manifest, whole=True)


class _Garments(Sequence[Garment]):
    def __init__(self, index: GarmentIndex):
        self._index = index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, place: int | slice) -> Garment | list[Garment]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        return self._index.garment(int(self._index.rows[place]))

    def __iter__(self) -> Iterator[Garment]:
        for part in self._index.parts:
            yield from (r.garment for row, r in part.records if part.has(row))
