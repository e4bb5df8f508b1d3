"""A part of an index: what one build, update or shard wrote; never changed afterwards.

    embeddings-WORD.safetensors   (n, dim) float16 unit vectors, the truth
    garments-WORD.sqlite          a record for each row (records.py), but for rows that never were
                                  garments, such as photos that changed during the build
    thumbnails-WORD.bin           JPEG files one after the other; records hold offset and length

WORD is random. Which rows are removed stands in the manifest.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open

from ..photos.reader import THUMBNAIL_SIZE
from .manifest import REMEDY, removed_rows
from .records import Records

TENSOR = "embeddings"


class Part:
    """A part, opened for reading. len() is the number of its rows that are not removed.

    `entry` is what the manifest says of it; `records` and `embeddings`, (n, dim) float16, are those
    of its rows; `removed` holds the removed rows, int64, ascending.
    """

    def __init__(
        self,
        entry: Mapping[str, Any],
        records: Records,
        embeddings: torch.Tensor,
        thumbnails: Sequence[BinaryIO] = (),
    ):
        self.entry, self.records, self.embeddings = entry, records, embeddings
        self.removed = removed_rows(entry)
        self._thumbnails = thumbnails
        self._lock = threading.Lock()

    @classmethod
    def open(cls, folder: Path, entry: Mapping[str, Any], dim: int) -> Part:
        """Open the files of a part; they may be removed while it is in use.

        Raises:
            OSError: a file can't be read.
            ValueError: a file is damaged, or of other rows.
        """
        embeddings = map_embeddings(folder / entry["embeddings"]["name"])
        records = Records.open(folder / entry["records"]["name"])
        if tuple(embeddings.shape) != (entry["rows"], dim) or records.end > entry["rows"]:
            raise ValueError(
                f"The manifest of {folder} says {entry['rows']} rows of dimension {dim}, the files "
                f"hold {records.end} records and embeddings of shape {tuple(embeddings.shape)}. "
                f"{REMEDY}"
            )
        thumbnails = [open(folder / file["name"], "rb") for file in entry["thumbnails"]]
        return cls(entry, records, embeddings, thumbnails)

    def close(self) -> None:
        """Close the files. The embeddings stay mapped as long as someone holds them."""
        self.records.close()
        for file in self._thumbnails:
            file.close()

    def __len__(self) -> int:
        return len(self.embeddings) - len(self.removed)

    def has(self, row: int) -> bool:
        """Tell whether the part has a row that is not removed."""
        place = int(np.searchsorted(self.removed, row))
        gone = place < len(self.removed) and self.removed[place] == row
        return 0 <= row < len(self.embeddings) and not gone

    def rows(self) -> np.ndarray:
        """Return the rows that are not removed: int64, ascending."""
        return np.delete(np.arange(len(self.embeddings)), self.removed)

    def thumbnail(self, row: int) -> tuple[str, bytes]:
        """Return a row's thumbnail (the bytes of a JPEG file), and the name of its file.

        Raises:
            ValueError: it is damaged, as its checksum tells, or outside the file.
        """
        place = self.records.record(row).thumbnail
        entries = self.entry["thumbnails"]
        if place.file >= len(entries):
            raise ValueError(
                f"{self.records.path}: row {row} names thumbnail file {place.file} of "
                f"{len(entries)}. {REMEDY}"
            )
        data = b""
        if place.offset + place.length <= entries[place.file]["bytes"]:
            with self._lock:
                self._thumbnails[place.file].seek(place.offset)
                data = self._thumbnails[place.file].read(place.length)
        name = entries[place.file]["name"]
        if len(data) != place.length or crc32(data) != place.crc32:
            raise ValueError(
                f"{name}: the thumbnail of row {row}, {place.length} bytes from {place.offset}, is "
                f"damaged. {REMEDY}"
            )
        return name, data

    def thumbnail_image(self, row: int) -> Image.Image:
        """Open the thumbnail of a row: RGB, at most 256 x 256 pixels.

        Raises:
            ValueError: it is damaged, or larger.
        """
        name, data = self.thumbnail(row)
        found = f"{name}: the thumbnail of {self.records.record(row).garment.id!r}"
        try:
            image = Image.open(io.BytesIO(data), formats=("JPEG",))
            if max(image.size) <= THUMBNAIL_SIZE:
                return image.convert("RGB")
        except OSError as error:
            raise ValueError(f"{found}: {error}. {REMEDY}") from error
        raise ValueError(f"{found} is {image.size}. {REMEDY}")


def map_embeddings(path: Path) -> torch.Tensor:
    """Map the (n, dim) float16 embeddings of a file into memory.

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
