"""Photos that were encoded for the next generation of an index: atomic and resumable.

Rows are appended to data files of a new generation; `draft.jsonl` lists those that are complete,
with checksums. A build or update that stops, however it stops, is taken up from there by the next
one. Nothing else refers to the new files until a manifest names them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..encoders.open_clip import Encoder
from ..photos.catalogue import Garment, safe_path
from ..photos.reader import THUMBNAIL_SIZE, Photo
from .index import TENSOR
from .manifest import INDEX_SCHEMA, MANIFEST, replace_file
from .records import Place, Record

logger = logging.getLogger(__name__)

DRAFT = "draft.jsonl"
HEADER_BYTES = 512
"""Room before the embeddings for the safetensors header, which is written last."""


class Draft:
    """A context manager that opens or takes up a draft and closes its files.

    rows: what is complete, by the photo's file, in row order.
    """

    def __init__(
        self, folder: Path, encoder: Encoder, root: Path, files: Sequence[str], base: str = ""
    ):
        """
        Args:
            root: the catalogue's folder. files: the photos that are to be in the draft.
            base: what the draft is added to; a draft for another base is not taken up.
        """
        self.folder, self.root, self.dim = folder, root, encoder.dim
        # Whatever changes the stored rows is named here, so that no other draft is taken up.
        self.key = {
            "schema": INDEX_SCHEMA,
            "fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
            "thumbnail": THUMBNAIL_SIZE,
            "base": base,
        }
        self.rows: dict[str, dict[str, Any]] = {}
        self.generation, lines = self._read()
        self.embeddings_path = folder / f"embeddings-{self.generation}.safetensors"
        self.thumbnails_path = folder / f"thumbnails-{self.generation}.bin"
        with contextlib.ExitStack() as stack:
            self._embeddings = stack.enter_context(_open_both(self.embeddings_path))
            self._thumbnails = stack.enter_context(_open_both(self.thumbnails_path))
            self._take_over(lines, set(files))
            header = {"generation": self.generation, **self.key}
            replace_file(folder / DRAFT, b"".join(map(_line, [header, *self.rows.values()])))
            self._log = stack.enter_context(open(folder / DRAFT, "ab"))
            self._files = stack.pop_all()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def append(self, photos: Sequence[Photo], embeddings: torch.Tensor) -> None:
        """Store a batch: its data first, then the lines that declare it complete.

        embeddings: (len(photos), dim) float16.
        """
        lines = []
        for photo, vector in zip(photos, embeddings.numpy(), strict=True):
            data = vector.tobytes()
            row = {
                "file": photo.file,
                "bytes": photo.bytes,
                "mtime_ns": photo.mtime_ns,
                "content": photo.content,
                "thumbnail": [self._thumbnails.tell(), len(photo.thumbnail)],
                "crc32": [zlib.crc32(data), zlib.crc32(photo.thumbnail)],
            }
            self._embeddings.write(data)
            self._thumbnails.write(photo.thumbnail)
            self.rows[photo.file] = row
            lines.append(_line(row))
        self._embeddings.flush()
        self._thumbnails.flush()
        self._log.writelines(lines)
        self._log.flush()

    def finish(self) -> None:
        """Complete the data files and close them; the draft can still be taken up."""
        self._embeddings.seek(0)
        self._embeddings.write(tensor_header(len(self.rows), self.dim))
        for file in (self._embeddings, self._thumbnails):
            file.flush()
            os.fsync(file.fileno())
        self._files.close()

    def records(self, garment_of: Mapping[str, Garment], file: int) -> Iterator[Record]:
        """The records of the rows, with `file` as the number of the draft's thumbnail file."""
        for name, row in self.rows.items():
            place = Place(file, *row["thumbnail"], row["crc32"][1])
            yield Record(garment_of[name], row["bytes"], row["mtime_ns"], row["content"], place)

    def _read(self) -> tuple[str, list[dict[str, Any]]]:
        """The generation and rows of a draft that can be taken up, else a new generation."""
        lines = list(_lines(self.folder / DRAFT))
        header = lines[0] if lines else {}
        generation = header.get("generation", "")
        manifest = self.folder / MANIFEST
        # A build that was killed after its commit leaves a draft whose files are now the index's.
        is_committed = manifest.is_file() and generation.encode() in manifest.read_bytes()
        if header != {"generation": generation, **self.key} or is_committed:
            return new_generation(), []
        return generation, lines[1:]

    def _take_over(self, lines: list[dict[str, Any]], files: set[str]) -> None:
        """Keep the leading rows whose data are whole and whose photos are still the same."""
        self._embeddings.seek(HEADER_BYTES)
        end = 0
        for row in lines:
            data = self._embeddings.read(2 * self.dim)
            thumbnail = self._thumbnails.read(row["thumbnail"][1])
            whole = [zlib.crc32(data), zlib.crc32(thumbnail)] == row["crc32"]
            if not whole or row["file"] not in files or not self._is_unchanged(row):
                break
            self.rows[row["file"]] = row
            end += len(thumbnail)
        self._embeddings.seek(HEADER_BYTES + len(self.rows) * 2 * self.dim)
        self._embeddings.truncate()
        self._thumbnails.seek(end)
        self._thumbnails.truncate()

    def _is_unchanged(self, row: dict[str, Any]) -> bool:
        stat = safe_path(self.root, row["file"]).stat()
        return (stat.st_size, stat.st_mtime_ns) == (row["bytes"], row["mtime_ns"])


def new_generation() -> str:
    return secrets.token_hex(4)


def tensor_header(count: int, dim: int) -> bytes:
    """The first HEADER_BYTES of a safetensors file of (count, dim) float16 embeddings."""
    tensor = {"dtype": "F16", "shape": [count, dim], "data_offsets": [0, 2 * count * dim]}
    header = json.dumps({TENSOR: tensor}).encode().ljust(HEADER_BYTES - 8)
    return len(header).to_bytes(8, "little") + header


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records up to the first line that was not written whole."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                return


def _line(record: dict[str, Any]) -> bytes:
    # ASCII, since names may hold bytes that are no UTF-8.
    return json.dumps(record).encode("ascii") + b"\n"


def _open_both(path: Path) -> BinaryIO:
    """Open for reading and writing, creating the file where it is missing."""
    return open(path, "r+b" if path.exists() else "w+b")
