"""The unfinished next generation of an index: atomic and resumable.

Rows are appended to the data files of a new generation; `draft.jsonl` lists those that are
complete, with a checksum each. A build that stops, however it stops, is taken up from there by the
next one. Nothing refers to the new files until the manifest is replaced.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import secrets
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image

from .catalogue import Catalogue, Garment, Reject, safe_path
from .encoders import Encoder
from .index import (
    INDEX_SCHEMA,
    MANIFEST,
    TENSOR,
    THUMBNAIL_SIZE,
    faiss_index,
    map_embeddings,
    sha256,
)
from .photos import open_photo

logger = logging.getLogger(__name__)

DRAFT = "draft.jsonl"
HEADER_BYTES = 512
"""Room before the embeddings for the safetensors header, which is written last."""

_DATA_FILE = re.compile(r"(embeddings|garments|thumbnails|vectors)-[0-9a-f]{8}\.\w+")


@dataclass(frozen=True)
class Photo:
    """A photo that was read, and what tells whether its file has changed since."""

    file: str
    bytes: int
    mtime_ns: int
    image: Image.Image

    @classmethod
    def read(cls, root: Path, file: str) -> Photo:
        path = safe_path(root, file)
        stat = path.stat()
        return cls(file, stat.st_size, stat.st_mtime_ns, open_photo(path))

    def thumbnail(self) -> bytes:
        small = self.image.copy()
        small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
        data = io.BytesIO()
        small.save(data, "JPEG", quality=85)
        return data.getvalue()


class Draft:
    """A context manager that opens or takes up a draft and closes its files.

    rows: what is complete, by the photo's file, in row order.
    """

    def __init__(self, folder: Path, encoder: Encoder, catalogue: Catalogue):
        self.folder, self.encoder, self.catalogue = folder, encoder, catalogue
        # Whatever changes the stored rows is named here, so that no other draft is taken up.
        self.key = {
            "schema": INDEX_SCHEMA,
            "fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
            "thumbnail": THUMBNAIL_SIZE,
        }
        self.rows: dict[str, dict[str, Any]] = {}
        self.generation, lines = self._read()
        with contextlib.ExitStack() as stack:
            self._embeddings = stack.enter_context(_open_both(self.path("embeddings")))
            self._thumbnails = stack.enter_context(_open_both(self.path("thumbnails")))
            self._take_over(lines)
            header = {"generation": self.generation, **self.key}
            _replace(folder / DRAFT, b"".join(map(_line, [header, *self.rows.values()])))
            self._log = stack.enter_context(open(folder / DRAFT, "ab"))
            self._files = stack.pop_all()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def path(self, kind: str) -> Path:
        suffix = {
            "embeddings": "safetensors",
            "garments": "jsonl",
            "thumbnails": "bin",
            "vectors": "faiss",
        }[kind]
        return self.folder / f"{kind}-{self.generation}.{suffix}"

    def append(self, photos: Sequence[Photo], embeddings: torch.Tensor) -> None:
        """Store a batch: its data first, then the lines that declare it complete."""
        lines = []
        for photo, vector in zip(photos, embeddings.numpy(), strict=True):
            data, thumbnail = vector.tobytes(), photo.thumbnail()
            row = {
                "file": photo.file,
                "bytes": photo.bytes,
                "mtime_ns": photo.mtime_ns,
                "thumbnail": [self._thumbnails.tell(), len(thumbnail)],
                "crc32": zlib.crc32(thumbnail, zlib.crc32(data)),
            }
            self._embeddings.write(data)
            self._thumbnails.write(thumbnail)
            self.rows[photo.file] = row
            lines.append(_line(row))
        self._embeddings.flush()
        self._thumbnails.flush()
        self._log.writelines(lines)
        self._log.flush()

    def commit(self, rejects: Sequence[Reject], color_check: int) -> None:
        """Complete the files, make the manifest name them, and remove the former generation."""
        self._write_header()
        for file in (self._embeddings, self._thumbnails):
            file.flush()
            os.fsync(file.fileno())
        self._files.close()
        self._write_records()
        kinds = {"embeddings": "embeddings", "garments": "garments", "thumbnails": "thumbnails"}
        if self._write_faiss():
            kinds["faiss"] = "vectors"
        encoder = self.encoder
        manifest = {
            "schema": INDEX_SCHEMA,
            "generation": self.generation,
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "kind": "exact",
            "count": len(self.rows),
            "catalogue": {
                "name": self.catalogue.root.absolute().name,
                "path": str(self.catalogue.root.absolute()),
            },
            "encoder": {
                "name": encoder.name,
                "fingerprint": encoder.fingerprint,
                "dim": encoder.dim,
                "preprocessing": encoder.preprocessing,
                "color_check": color_check,
            },
            "files": {kind: _entry(self.path(name)) for kind, name in kinds.items()},
            "rejects": [asdict(reject) for reject in rejects],
        }
        _replace(self.folder / MANIFEST, json.dumps(manifest, indent=1).encode())
        self._remove_others()

    def _read(self) -> tuple[str, list[dict[str, Any]]]:
        """The generation and rows of a draft that can be taken up, else a new generation."""
        lines = list(_lines(self.folder / DRAFT))
        header = lines[0] if lines else {}
        generation = header.get("generation", "")
        manifest = self.folder / MANIFEST
        # A build that was killed after its commit leaves a draft whose files are now the index's.
        is_committed = manifest.is_file() and generation.encode() in manifest.read_bytes()
        if header != {"generation": generation, **self.key} or is_committed:
            return secrets.token_hex(4), []
        return generation, lines[1:]

    def _take_over(self, lines: list[dict[str, Any]]) -> None:
        """Keep the leading rows whose data are whole and whose photos are still the same."""
        known = {garment.file for garment in self.catalogue.garments}
        self._embeddings.seek(HEADER_BYTES)
        end = 0
        for row in lines:
            data = self._embeddings.read(2 * self.encoder.dim)
            thumbnail = self._thumbnails.read(row["thumbnail"][1])
            whole = zlib.crc32(thumbnail, zlib.crc32(data)) == row["crc32"]
            if not whole or row["file"] not in known or not self._is_unchanged(row):
                break
            self.rows[row["file"]] = row
            end += len(thumbnail)
        self._embeddings.seek(HEADER_BYTES + len(self.rows) * 2 * self.encoder.dim)
        self._embeddings.truncate()
        self._thumbnails.seek(end)
        self._thumbnails.truncate()

    def _is_unchanged(self, row: dict[str, Any]) -> bool:
        stat = safe_path(self.catalogue.root, row["file"]).stat()
        return (stat.st_size, stat.st_mtime_ns) == (row["bytes"], row["mtime_ns"])

    def _write_header(self) -> None:
        count, dim = len(self.rows), self.encoder.dim
        tensor = {"dtype": "F16", "shape": [count, dim], "data_offsets": [0, 2 * count * dim]}
        header = json.dumps({TENSOR: tensor}).encode().ljust(HEADER_BYTES - 8)
        self._embeddings.seek(0)
        self._embeddings.write(len(header).to_bytes(8, "little") + header)

    def _write_records(self) -> None:
        garment_of = {garment.file: garment for garment in self.catalogue.garments}
        with open(self.path("garments"), "wb") as file:
            for name, row in self.rows.items():
                file.write(_line({**_record(garment_of[name]), **row}))
            file.flush()
            os.fsync(file.fileno())

    def _write_faiss(self) -> bool:
        try:
            import faiss
        except ImportError:
            logger.info("faiss is missing: the index is searched through torch.")
            return False
        vectors = faiss_index(map_embeddings(self.path("embeddings")))
        faiss.write_index(vectors, str(self.path("vectors")))
        return True

    def _remove_others(self) -> None:
        for path in self.folder.iterdir():
            stale = _DATA_FILE.fullmatch(path.name) and self.generation not in path.name
            if stale or path.name == DRAFT:
                # Windows refuses while a reader has the file open; the next build tries again.
                with contextlib.suppress(PermissionError):
                    path.unlink()


def _record(garment: Garment) -> dict[str, Any]:
    return {
        "id": garment.id,
        "file": garment.file,
        "category": garment.category,
        "caption": garment.caption,
        "metadata": dict(garment.metadata),
    }


def _entry(path: Path) -> dict[str, Any]:
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


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


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
