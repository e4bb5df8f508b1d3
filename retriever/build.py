"""Building an index: atomic, resumable, at the pace of the encoder.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from PIL import Image

from .catalogue import Catalogue, Garment, Reject, read_catalogue, safe_path
from .color_check import check_text_image_pair
from .encoders import Encoder
from .index import INDEX_SCHEMA, MANIFEST, TENSOR, THUMBNAIL_SIZE, faiss_index, sha256
from .photos import open_photo

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

DRAFT = "draft.jsonl"
LOCK = "build.lock"
HEADER_BYTES = 512
"""Room before the embeddings for the safetensors header, which is written last."""
BATCH_PIXELS = 64_000_000
"""A batch is closed early when its photos hold this many pixels (about 200 MB)."""

_DATA_FILE = re.compile(r"(embeddings|garments|thumbnails|vectors)-[0-9a-f]{8}\.\w+")


@dataclass(frozen=True)
class BuildReport:
    """What a build did.

    count: garments in the index. rejects: what was left out. seconds: the whole build.
    garments_per_second: photos read, encoded and stored a second, those taken over apart.
    resumed: garments taken over from an interrupted build. color_check: see color_check.py.
    """

    count: int
    rejects: tuple[Reject, ...]
    seconds: float
    garments_per_second: float
    resumed: int
    color_check: int

    def summary(self) -> str:
        """The report in words, the rejects one a line."""
        text = (
            f"{self.count} garments indexed in {self.seconds:.1f} s "
            f"({self.garments_per_second:.1f} a second)."
        )
        if self.resumed:
            text += f" {self.resumed} of them were taken over from an interrupted build."
        if self.rejects:
            text += f" {len(self.rejects)} left out:"
        return "\n  ".join([text, *(f"{r.file}: {r.reason}" for r in self.rejects)])


def build_index(
    catalogue_root: Path,
    folder: Path,
    encoder: Encoder,
    *,
    overwrite: bool = False,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> BuildReport:
    """Encode every photo of a catalogue once and write the index `folder`.

    Args:
        overwrite: replace a finished index; the former stays in use until the new one is complete.
        batch_size: photos encoded at a time, fewer where they are large.
        progress: called with (done, total) before the first batch and after each. It may raise to
            cancel the build: what is done is kept, and the next build goes on from there.

    Raises:
        FileExistsError: there is a finished index and `overwrite` is off.
        BlockingIOError: another build of this index is running.
        FileNotFoundError, NotADirectoryError: the catalogue is no folder.
        ValueError: the catalogue is empty, none of its photos can be read, or the encoder gives
            something else than finite vectors of its dimension.
    """
    started = time.perf_counter()
    folder = Path(folder)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected 1 or more.")
    if (folder / MANIFEST).exists() and not overwrite:
        raise FileExistsError(
            f"{folder} holds a finished index: choose another name, or turn on overwrite "
            "(`--overwrite`) to replace it."
        )
    catalogue = read_catalogue(catalogue_root)
    color_check = check_text_image_pair(encoder)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_build(folder), Draft(folder, encoder, catalogue) as draft:
        resumed = len(draft.rows)
        encode_started = time.perf_counter()
        left_out = _encode_missing(catalogue, draft, encoder, batch_size, progress or _silent)
        encode_seconds = time.perf_counter() - encode_started
        rejects = (*catalogue.rejects, *left_out)
        if not draft.rows:
            listed = "".join(f"\n  {reject.file}: {reject.reason}" for reject in rejects[:5])
            raise ValueError(f"No photo of the catalogue {catalogue.root} can be read:{listed}")
        draft.commit(rejects, color_check)
    return BuildReport(
        count=len(draft.rows),
        rejects=rejects,
        seconds=time.perf_counter() - started,
        garments_per_second=(len(draft.rows) - resumed) / max(encode_seconds, 1e-9),
        resumed=resumed,
        color_check=color_check,
    )


def _encode_missing(
    catalogue: Catalogue, draft: Draft, encoder: Encoder, batch_size: int, progress: Progress
) -> list[Reject]:
    left_out: list[Reject] = []
    missing = [garment for garment in catalogue.garments if garment.file not in draft.rows]
    total = len(catalogue.garments)
    progress(len(draft.rows), total)
    photos: list[_Photo] = []
    pixels = 0
    for number, garment in enumerate(missing, start=1):
        try:
            photo = _Photo.read(catalogue.root, garment.file)
        except (OSError, ValueError) as error:
            left_out.append(Reject(garment.file, str(error)))
        else:
            photos.append(photo)
            pixels += photo.image.width * photo.image.height
        if len(photos) == batch_size or pixels >= BATCH_PIXELS or number == len(missing):
            if photos:
                draft.append(photos, _encode(encoder, photos))
            photos, pixels = [], 0
            progress(len(draft.rows) + len(left_out), total)
    return left_out


def _encode(encoder: Encoder, photos: Sequence[_Photo]) -> torch.Tensor:
    embeddings = encoder.encode_images([photo.image for photo in photos])
    if embeddings.shape != (len(photos), encoder.dim) or not embeddings.isfinite().all():
        raise ValueError(
            f"The encoder {encoder.name!r} gave embeddings of shape {tuple(embeddings.shape)}, or "
            f"not finite ones, for {photos[0].file} and the photos after it; expected "
            f"{(len(photos), encoder.dim)}. In half precision, try full precision."
        )
    return embeddings.to(torch.float16)


@dataclass(frozen=True)
class _Photo:
    file: str
    bytes: int
    mtime_ns: int
    image: Image.Image

    @classmethod
    def read(cls, root: Path, file: str) -> _Photo:
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
    """The unfinished next generation of an index; a context manager that closes its files.

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
            self._log = stack.enter_context(open(folder / DRAFT, "wb"))
            self._log.write(_line({"generation": self.generation, **self.key}))
            self._log.writelines(map(_line, self.rows.values()))
            self._log.flush()
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

    def append(self, photos: Sequence[_Photo], embeddings: torch.Tensor) -> None:
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
        new = secrets.token_hex(4)
        try:
            lines = (self.folder / DRAFT).read_bytes().splitlines(keepends=True)
            header, *rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
        except (FileNotFoundError, ValueError):
            return new, []
        generation = header.pop("generation", new)
        committed = (self.folder / MANIFEST).is_file() and generation in _names(self.folder)
        return (new, []) if header != self.key or committed else (generation, rows)

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
        count, dim = len(self.rows), self.encoder.dim
        embeddings = torch.from_file(
            str(self.path("embeddings")),
            size=HEADER_BYTES // 2 + count * dim,
            dtype=torch.float16,
        )[HEADER_BYTES // 2 :].view(count, dim)
        faiss.write_index(faiss_index(embeddings), str(self.path("vectors")))
        return True

    def _remove_others(self) -> None:
        for path in self.folder.iterdir():
            stale = _DATA_FILE.fullmatch(path.name) and self.generation not in path.name
            if stale or path.name == DRAFT:
                # Windows refuses while a reader has the file open; the next build tries again.
                with contextlib.suppress(PermissionError):
                    path.unlink()


def _names(folder: Path) -> str:
    return (folder / MANIFEST).read_text(encoding="utf-8", errors="replace")


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


@contextlib.contextmanager
def _only_build(folder: Path) -> Iterator[None]:
    """Refuse a second build of the same index; the system frees the lock of one that is killed."""
    with open(folder / LOCK, "a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            file.seek(0)
            builder = file.read().decode("ascii", "replace") or "unknown"
            raise BlockingIOError(
                f"{folder} is being built by process {builder}: wait for it, or end it."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def _lock(file: BinaryIO) -> None:
    if os.name == "nt":
        import msvcrt

        file.seek(1 << 20)  # the lock also keeps others from reading the bytes that it covers
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _silent(done: int, total: int) -> None:
    """Report to nobody."""
