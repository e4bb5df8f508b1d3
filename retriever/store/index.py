"""The index on disk: what a finished build left, opened for reading.

Files of an index folder; each is written once and never changed, and has a random word (the
generation that wrote it) in its name:

    manifest.json                what belongs together; replaced last, so it is the commit point
    embeddings-GEN.safetensors   (n, dim) float16 unit vectors, the truth
    garments-GEN.sqlite          one record a row, in the order of the embeddings (records.py)
    thumbnails-GEN.bin           JPEG files one after the other; records hold offset and length.
                                 An index that was updated has several
    vectors-GEN.faiss            what an approximate search goes by (kinds.py); derived

Opening maps the embeddings and reads the manifest; records and thumbnails are read on demand.
"""

from __future__ import annotations

import io
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open

from ...pictures.photos import open_photo
from ..encoders.fingerprint import accepts
from ..encoders.open_clip import Encoder
from ..photos.catalogue import Garment, safe_path
from ..photos.reader import THUMBNAIL_SIZE
from ..vectors import eight_bit as eightbit
from ..vectors.approximate import Approximate, Kind, faiss_is_usable
from ..vectors.eight_bit import EightBit
from .filters import Filter
from .manifest import INDEX_SCHEMA, MANIFEST, REMEDY, check_file, data_files, read_manifest
from .records import Records, of_category

logger = logging.getLogger(__name__)

TENSOR = "embeddings"
_ROWS_KEPT = 256 << 20  # bytes of the rows of the last filters


class GarmentIndex:
    """A finished index.

    folder: where it lies. manifest: its manifest.json. records: what is known of each row.
    embeddings: (n, dim) float16 unit vectors, memory-mapped.
    catalogue_root: the folder of the photos; may be set to where they are on this machine.

    It may be used from several threads. A writer that replaces the index meanwhile doesn't disturb
    it: it goes on with what it opened.
    """

    def __init__(
        self,
        folder: Path,
        manifest: dict[str, Any],
        records: Records,
        thumbnails: list[BinaryIO],
        embeddings: torch.Tensor,
        catalogue_root: Path,
        vectors: BinaryIO | None = None,
    ):
        self.folder = folder
        self.manifest = manifest
        self.records = records
        self.embeddings = embeddings
        self.catalogue_root = catalogue_root
        self.kind = Kind.of(manifest)
        self._thumbnails, self._vectors = thumbnails, vectors
        self._lock = threading.Lock()
        self._rows: OrderedDict[Filter, np.ndarray] = OrderedDict()

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
        files = manifest["files"]
        for _, entry in data_files(manifest):
            check_file(folder, entry)
        count, dim = manifest["count"], manifest["encoder"]["dim"]
        records = Records.open(folder / files["garments"]["name"])
        embeddings = map_embeddings(folder / files["embeddings"]["name"])
        if len(records) != count or tuple(embeddings.shape) != (count, dim):
            raise ValueError(
                f"{folder / MANIFEST} says {count} garments of dimension {dim}, the files hold "
                f"{len(records)} records and embeddings of shape {tuple(embeddings.shape)}. "
                f"{REMEDY}"
            )
        # Kept open: the files may be removed while the index is in use.
        thumbnails = [open(folder / entry["name"], "rb") for entry in files["thumbnails"]]
        vectors = open(folder / files["vectors"]["name"], "rb") if "vectors" in files else None
        root = Path(catalogue_root or manifest["catalogue"]["path"])
        return cls(folder, manifest, records, thumbnails, embeddings, root, vectors)

    @classmethod
    def in_memory(cls, garments: Sequence[Garment], embeddings: torch.Tensor) -> GarmentIndex:
        """An index that is not on disk and has no photos.

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
            "catalogue": {"name": "", "path": ""},
            "encoder": {"name": "memory", "fingerprint": "", "dim": dim},
            "files": {"thumbnails": []},
            "rejects": [],
        }
        return cls(
            Path("memory"), manifest, Records.in_memory(garments), [], embeddings.half(), Path()
        )

    def close(self) -> None:
        """Close the files. The embeddings stay mapped as long as someone holds them."""
        self.records.close()
        for file in (*self._thumbnails, *([self._vectors] if self._vectors else [])):
            file.close()

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def garments(self) -> Sequence[Garment]:
        """The records by row, each read when it is asked for."""
        return _Garments(self.records)

    def garment(self, row: int) -> Garment:
        """The garment of a row.

        Raises:
            IndexError: there is no such row.
            ValueError: its record is damaged.
        """
        return self.records.record(row).garment

    def row_of(self, garment_id: str) -> int:
        """The row of a garment.

        Raises:
            KeyError: there is no garment of that id.
        """
        return self.records.row_of(garment_id)

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise ValueError unless `encoder` is the one that the index was built with."""
        built = self.manifest["encoder"]
        if not accepts(encoder, built["fingerprint"]):
            raise ValueError(
                f"The index {self.folder} was built with the encoder {built['name']!r} "
                f"({built['fingerprint'][:12]}, dimension {built['dim']}); the query comes from "
                f"{encoder.name!r} ({encoder.fingerprint[:12]}, dimension {encoder.dim}). Use the "
                f"former, or build the index again with {encoder.name!r}."
            )

    def categories(self) -> list[str]:
        """The categories that occur, sorted, without the empty one."""
        return [name for name in self._categories if name]

    @cached_property
    def _categories(self) -> dict[str, int]:
        return self.records.categories()

    def rows_where(self, condition: Filter | None, category: str | None = None) -> np.ndarray:
        """The rows of a category (None: of all) that a filter is true of, int64, ascending.

        The array may be kept for the next call and can't be written to.

        Raises:
            ValueError: there is no such category or column; the message lists those there are.
        """
        if category is not None:
            if category not in self._categories:
                known = ", ".join(map(repr, self.categories())) or "no category at all"
                raise ValueError(
                    f"The index {self.folder} has no garments of the category {category!r}; it "
                    f"has: {known}."
                )
            rows = self._kept(of_category(category))
            if condition is None:
                return rows
            wanted = np.zeros(len(self), dtype=bool)
            wanted[self._kept(condition)] = True
            return rows[wanted[rows]]
        return np.arange(len(self)) if condition is None else self._kept(condition)

    def _kept(self, condition: Filter) -> np.ndarray:
        """The rows that a filter is true of; those of the last filters are kept."""
        with self._lock:
            rows = self._rows.pop(condition, None)
        if rows is None:
            rows = self.records.rows_where(condition)
            rows.flags.writeable = False
        with self._lock:
            self._rows[condition] = rows
            while len(self._rows) > 1 and sum(r.nbytes for r in self._rows.values()) > _ROWS_KEPT:
                self._rows.popitem(last=False)
        return rows

    def rows_of(self, category: str) -> torch.Tensor:
        """The rows of a category, int64, ascending.

        Raises:
            ValueError: there are none; the message lists the categories that there are.
        """
        return torch.from_numpy(self.rows_where(None, category).copy())

    def photo(self, garment: Garment) -> Image.Image:
        """The garment's photo from the catalogue, full size, RGB on white.

        Raises:
            FileNotFoundError: the photo, or the whole catalogue, is no longer there.
            ValueError: the record leads out of the catalogue, or the photo is damaged.
        """
        path = safe_path(self.catalogue_root, garment.file)
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is gone, but the index {self.folder} names it: put the catalogue back at "
                f"{self.catalogue_root}, or run `fashion-rag index update`."
            )
        return open_photo(path)

    def thumbnail(self, garment: Garment) -> Image.Image:
        """The garment's photo, fitted into 256 x 256, as the build kept it.

        Raises:
            KeyError: the garment is not of this index.
            ValueError: the stored thumbnail is damaged.
        """
        path, data = self.thumbnail_file(self.row_of(garment.id))
        try:
            image = Image.open(io.BytesIO(data), formats=("JPEG",))
            if max(image.size) <= THUMBNAIL_SIZE:
                return image.convert("RGB")
        except OSError as error:
            raise ValueError(f"{path}: thumbnail of {garment.id!r}: {error}. {REMEDY}") from error
        raise ValueError(f"{path}: thumbnail of {garment.id!r} is {image.size}. {REMEDY}")

    def thumbnail_file(self, row: int) -> tuple[Path, bytes]:
        """The thumbnail of a row as a JPEG file's bytes, and the file that holds it.

        Raises:
            ValueError: it is damaged, as its checksum tells, or outside the file.
        """
        place = self.records.record(row).thumbnail
        entries = self.manifest["files"]["thumbnails"]
        if place.file >= len(entries):
            raise ValueError(
                f"{self.folder}: row {row} names thumbnail file {place.file} of {len(entries)}. "
                f"{REMEDY}"
            )
        path = self.folder / entries[place.file]["name"]
        file = self._thumbnails[place.file]
        data = b""
        if place.offset + place.length <= entries[place.file]["bytes"]:
            with self._lock:
                file.seek(place.offset)
                data = file.read(place.length)
        if len(data) != place.length or crc32(data) != place.crc32:
            raise ValueError(
                f"{path}: the thumbnail of row {row}, {place.length} bytes from {place.offset}, is "
                f"damaged. {REMEDY}"
            )
        return path, data

    @cached_property
    def approximate(self) -> Approximate | None:
        """What an index of another kind than `exact` is searched by; None if it can't be.

        Raises:
            ValueError: the file is damaged, or of another index.
        """
        if self._vectors is None:
            return None
        name = str(self.folder / self.manifest["files"]["vectors"]["name"])
        if not faiss_is_usable():
            logger.warning("%s can't be used without faiss: the search is exact, and slow.", name)
            return None
        with self._lock:
            return Approximate.load(
                self._vectors, name, self.kind, len(self), self.embeddings.shape[1]
            )

    @cached_property
    def eight_bit(self) -> EightBit | None:
        """What an exact search of a middling index goes by; made when it is first needed."""
        if not eightbit.FEWEST <= len(self) <= eightbit.MOST or not faiss_is_usable():
            return None
        return EightBit(self.embeddings)

    def verify(self) -> None:
        """Read every file and compare it with its checksum; read every record and thumbnail.

        Raises:
            FileNotFoundError, ValueError: the first file that is not what it was.
        """
        self.verify_files()
        self.records.check()
        for row in range(len(self)):
            self.thumbnail_file(row)

    def verify_files(self) -> None:
        """Compare every file with its checksum.

        Raises:
            FileNotFoundError, ValueError: the first file that is not what it was.
        """
        for _, entry in data_files(self.manifest):
            check_file(self.folder, entry, whole=True)


class _Garments(Sequence[Garment]):
    def __init__(self, records: Records):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int | slice) -> Garment | list[Garment]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        return self._records.record(row + len(self) if row < 0 else row).garment

    def __iter__(self) -> Iterator[Garment]:
        return (record.garment for record in self._records)


def map_embeddings(path: Path) -> torch.Tensor:
    """The (n, dim) float16 embeddings of a file, memory-mapped.

    Raises:
        ValueError: the file is damaged, or of another type or shape.
    """
    try:
        with safe_open(path, framework="pt") as file:
            embeddings = file.get_tensor(TENSOR)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}). {REMEDY}") from error
    if embeddings.dtype != torch.float16 or embeddings.ndim != 2:
        raise ValueError(
            f"{path} holds {embeddings.dtype} of shape {tuple(embeddings.shape)}, expected float16 "
            f"of two dimensions. {REMEDY}"
        )
    return embeddings
