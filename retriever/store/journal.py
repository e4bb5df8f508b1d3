"""A new part of an index while it is written: photo by photo, resumable.

Rows are appended to data files of a new name; `draft.jsonl`, the journal, lists complete rows with
checksums. The next build or update resumes from there, however the former one was stopped.
Nothing else refers to the new files until a manifest names them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ...files import open_own, parse_json, write_bytes
from ..photos.catalogue import Garment, safe_path
from ..photos.reader import THUMBNAIL_SIZE, Photo
from .manifest import MANIFEST, encode_rows, file_entry
from .part import TENSOR
from .records import FIELDS, Record, RecordWriter, ThumbnailPlace

DRAFT = "draft.jsonl"
HEADER_BYTES = 512
"""Room before the embeddings for the safetensors header, which is written last."""

_FORMAT = 2  # of draft.jsonl


class Draft:
    """A context manager that opens or resumes a draft, and closes its files.

    rows: the row of each photo, by its file. A photo that has changed, or is no longer wanted,
    keeps its row in the data files, but is not in `rows`.
    """

    def __init__(
        self, folder: Path, fingerprint: str, dim: int, root: Path, files: Collection[str]
    ):
        """
        Args:
            folder: the index's folder, where the draft's files lie too.
            fingerprint, dim: the encoder's, which a draft has to share to be resumed.
            root: the catalogue's folder.
            files: the photos that are to be in the draft, relative to `root`.

        Raises:
            ValueError: one of the draft's files is a link.
            OSError: one can't be read or written.
        """
        self.folder, self.root, self.dim = folder, root, dim
        # Whatever changes the stored rows is named here, so that no other draft is resumed.
        self.key = {
            "format": _FORMAT,
            "fingerprint": fingerprint,
            "dim": dim,
            "thumbnail": THUMBNAIL_SIZE,
        }
        self.rows: dict[str, int] = {}
        self._lines: list[dict[str, Any]] = []
        self.word, lines = self._read()
        self.embeddings_path = folder / f"embeddings-{self.word}.safetensors"
        self.thumbnails_path = folder / f"thumbnails-{self.word}.bin"
        with contextlib.ExitStack() as stack:
            self._embeddings = stack.enter_context(_open_both(self.embeddings_path))
            self._thumbnails = stack.enter_context(_open_both(self.thumbnails_path))
            self._resume(lines, set(files))
            header = {"word": self.word, **self.key}
            write_bytes(folder / DRAFT, b"".join(map(_line, [header, *self._lines])))
            self._log = stack.enter_context(open(folder / DRAFT, "ab"))
            self._files = stack.pop_all()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def append(self, photos: Sequence[Photo], embeddings: torch.Tensor) -> None:
        """Store a batch: its data first, then the journal's lines.

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
            self.rows[photo.file] = len(self._lines)
            self._lines.append(row)
            lines.append(_line(row))
        self._embeddings.flush()
        self._thumbnails.flush()
        self._log.writelines(lines)
        self._log.flush()

    def finish(self, garment_of: Mapping[str, Garment]) -> dict[str, Any]:
        """Complete the part's files and close them; until a commit the draft can still be resumed.

        Args:
            garment_of: the garment of each photo, by its file.

        Returns:
            The part's entry for the manifest.
        """
        rows = sorted(self.rows.values())
        count = rows[-1] + 1  # rows after the last wanted one are cut off
        self._embeddings.truncate(HEADER_BYTES + count * 2 * self.dim)
        self._embeddings.seek(0)
        self._embeddings.write(tensor_header(count, self.dim))
        self._files.close()
        records = self.folder / f"garments-{self.word}.sqlite"
        columns = {n for file in self.rows for n in garment_of[file].metadata} - set(FIELDS)
        with RecordWriter.create(records, columns) as writer:
            writer.put((row, self._record(row, garment_of)) for row in rows)
            writer.finish()
        for path in (self.embeddings_path, self.thumbnails_path, records):
            sync(path)
        part = {
            "rows": count,
            "embeddings": file_entry(self.embeddings_path),
            "records": file_entry(records),
            "thumbnails": [file_entry(self.thumbnails_path)],
        }
        removed = np.setdiff1d(np.arange(count), rows, assume_unique=True)
        return {**part, "removed": encode_rows(removed, count)} if len(removed) else part

    def _record(self, row: int, garment_of: Mapping[str, Garment]) -> Record:
        line = self._lines[row]
        place = ThumbnailPlace(0, *line["thumbnail"], line["crc32"][1])
        garment = garment_of[line["file"]]
        return Record(garment, line["bytes"], line["mtime_ns"], line["content"], place)

    def _read(self) -> tuple[str, list[dict[str, Any]]]:
        """Return the word and lines of a draft that can be resumed, else a new word."""
        lines = list(_read_lines(self.folder / DRAFT))
        header = lines[0] if lines else None
        word = _word_of(header)
        if word is None or header != {"word": word, **self.key}:
            return new_word(), []
        manifest = self.folder / MANIFEST
        # A build that was killed after its commit leaves a draft whose files are now the index's.
        is_committed = manifest.is_file() and f"-{word}.".encode() in manifest.read_bytes()
        return (new_word(), []) if is_committed else (word, lines[1:])

    def _resume(self, lines: list[dict[str, Any]], files: set[str]) -> None:
        """Keep the leading rows whose data are whole; `rows` gets those of unchanged photos."""
        self._embeddings.seek(HEADER_BYTES)
        end, size = 0, os.fstat(self._thumbnails.fileno()).st_size
        for row, line in enumerate(lines):
            if not _is_line(line, end, size):
                break
            data = self._embeddings.read(2 * self.dim)
            thumbnail = self._thumbnails.read(line["thumbnail"][1])
            if [zlib.crc32(data), zlib.crc32(thumbnail)] != line["crc32"]:
                break
            self._lines.append(line)
            end += len(thumbnail)
            if line["file"] in files and self._is_unchanged(line):
                self.rows[line["file"]] = row
        self._embeddings.seek(HEADER_BYTES + len(self._lines) * 2 * self.dim)
        self._embeddings.truncate()
        self._thumbnails.seek(end)
        self._thumbnails.truncate()

    def _is_unchanged(self, line: dict[str, Any]) -> bool:
        try:
            stat = safe_path(self.root, line["file"]).stat()
        except (OSError, ValueError):
            return False
        return (stat.st_size, stat.st_mtime_ns) == (line["bytes"], line["mtime_ns"])


def new_word() -> str:
    """Draw the random word, 8 hexadecimal digits, in the names of a part's files."""
    return secrets.token_hex(4)


def tensor_header(count: int, dim: int) -> bytes:
    """Return the first HEADER_BYTES of a safetensors file of (count, dim) float16 embeddings."""
    tensor = {"dtype": "F16", "shape": [count, dim], "data_offsets": [0, 2 * count * dim]}
    header = json.dumps({TENSOR: tensor}).encode().ljust(HEADER_BYTES - 8)
    return len(header).to_bytes(8, "little") + header


def sync(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _read_lines(path: Path) -> Iterator[Any]:
    """Yield the lines, whatever they hold, up to the first that was not written whole."""
    if not path.exists():
        return
    with open_own(path, "rb") as file:
        for line in file:
            try:
                yield parse_json(line)
            except ValueError:
                return


def _word_of(header: Any) -> str | None:
    """Return the word of a draft's first line; None where it is none that `new_word` draws."""
    match header:
        case {"word": str(word)} if re.fullmatch(r"[0-9a-f]{8}", word):
            return word
    return None


def _is_line(line: Any, start: int, size: int) -> bool:
    """Tell whether a draft's line is one of `append`, its thumbnail at `start` of `size` bytes."""
    match line:
        case {
            "file": str(),
            "bytes": int(),
            "mtime_ns": int(),
            "content": str(),
            "thumbnail": [int(offset), int(length)],
            "crc32": [int(), int()],
        }:
            return offset == start and 0 <= length <= size - start
    return False


def _line(record: dict[str, Any]) -> bytes:
    # ASCII, since names may hold bytes that are no UTF-8.
    return json.dumps(record).encode("ascii") + b"\n"


def _open_both(path: Path) -> BinaryIO:
    """Open for reading and writing, creating the file where it is missing."""
    return open_own(path, "r+b" if path.exists() else "w+b")
