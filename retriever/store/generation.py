"""A new generation of an index: what is kept of indexes, and what was encoded, made into one."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..encoders.open_clip import Encoder
from ..photos.catalogue import Garment, Reject
from ..vectors.approximate import MEMORY, Approximate, choose_kind
from .index import GarmentIndex, map_embeddings
from .journal import DRAFT, HEADER_BYTES, Draft, new_generation, tensor_header
from .manifest import data_files, file_entry, write_manifest
from .records import FIELDS, Record, RecordWriter, ranges

logger = logging.getLogger(__name__)

MOST_THUMBNAIL_FILES = 16
"""An index that was updated more often has the smaller of its thumbnail files joined."""

_DATA_FILE = re.compile(r"(embeddings|garments|thumbnails|vectors)-[0-9a-f]{8}\.\w+")
_COPIED = 1 << 24  # bytes at a time


@dataclass(frozen=True)
class Fresh:
    """Rows of a draft, in its order. garment_of: the records by file."""

    draft: Draft
    garment_of: Mapping[str, Garment]

    def __len__(self) -> int:
        return len(self.draft.rows)


@dataclass(frozen=True)
class Kept:
    """Rows of an index. rows: int64, ascending. changed: new records of some of them, by row."""

    index: GarmentIndex
    rows: np.ndarray
    changed: Mapping[int, Record] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)


def describe_encoder(encoder: Encoder, color_check: int) -> dict[str, Any]:
    """The encoder as the manifest records it."""
    return {
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "preprocessing": encoder.preprocessing,
        "color_check": color_check,
    }


def commit(
    folder: Path,
    parts: Sequence[Fresh | Kept],
    *,
    encoder: Mapping[str, Any],
    catalogue_root: Path,
    rejects: Sequence[Reject],
    kind: str = "auto",
    memory: int = MEMORY,
    extra: Mapping[str, Any] | None = None,
    tick: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Write the rows of `parts`, one part after the other, and make the manifest name them.

    Until the manifest is replaced, the index is what it was; then the former files are removed.

    Args:
        encoder: see `describe_encoder`. extra: further keys of the manifest.
        kind, memory: see `choose_kind`.
        tick: called now and then; it may raise to cancel.

    Returns:
        The manifest.
    """
    (dim,) = {_dim(part) for part in parts}
    for part in parts:
        if isinstance(part, Fresh):
            part.draft.finish()
    if len(parts) == 1 and isinstance(parts[0], Fresh):
        generation = parts[0].draft.generation
        embeddings = file_entry(parts[0].draft.embeddings_path)
    else:
        generation = new_generation()
        path = folder / f"embeddings-{generation}.safetensors"
        embeddings = _write_embeddings(path, parts, dim)
    made = _approximate(folder / embeddings["name"], parts, kind, memory, tick)
    thumbnails, numbers = _thumbnail_files(folder, parts)
    garments = folder / f"garments-{generation}.sqlite"
    _write_records(garments, parts, numbers, folder, thumbnails)
    manifest = {
        "generation": generation,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kind": made.kind.record() if made else {"name": "exact"},
        "wanted": {"kind": kind, "memory": memory},
        "count": sum(map(len, parts)),
        "catalogue": {
            "name": catalogue_root.absolute().name,
            "path": str(catalogue_root.absolute()),
        },
        "encoder": dict(encoder),
        "files": {
            "embeddings": embeddings,
            "garments": file_entry(garments),
            "thumbnails": thumbnails,
            **({"vectors": save_vectors(folder, made)} if made else {}),
        },
        "rejects": [asdict(reject) for reject in rejects],
        **(extra or {}),
    }
    write_manifest(folder, manifest)
    remove_others(folder, manifest)
    return manifest


def remove_others(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Remove the data files that the manifest doesn't name, and the draft."""
    named = {entry["name"] for _, entry in data_files(manifest)}
    for path in folder.iterdir():
        stale = _DATA_FILE.fullmatch(path.name) and path.name not in named
        if stale or path.name == DRAFT:
            # Windows refuses while a reader has the file open; the next writer tries again.
            with contextlib.suppress(PermissionError):
                path.unlink()


def save_vectors(folder: Path, made: Approximate) -> dict[str, Any]:
    """Write a file of vectors; returns its entry."""
    path = folder / f"vectors-{new_generation()}.faiss"
    made.save(path)
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
    return file_entry(path)


def _approximate(
    path: Path,
    parts: Sequence[Fresh | Kept],
    kind: str,
    memory: int,
    tick: Callable[[], None] | None,
) -> Approximate | None:
    """What the rows are searched by: that of the index they come from, changed, or a new one."""
    embeddings = map_embeddings(path)
    count, dim = embeddings.shape
    name = choose_kind(count, dim, memory) if kind == "auto" else kind
    if name == "exact":
        return None
    progress = tick and (lambda done, total: tick())
    first = parts[0]
    if isinstance(first, Kept) and not any(isinstance(part, Kept) for part in parts[1:]):
        made = first.index.approximate if first.index.kind.name == name else None
        if made is not None and made.keep(first.rows):
            made.add(embeddings[len(first) :], progress)
            return made
    return Approximate.build(embeddings, name, progress)


def _dim(part: Fresh | Kept) -> int:
    return part.draft.dim if isinstance(part, Fresh) else part.index.embeddings.shape[1]


def _write_embeddings(path: Path, parts: Sequence[Fresh | Kept], dim: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for block in _embedding_blocks(parts, dim):
            file.write(block)
            digest.update(block)
        file.flush()
        os.fsync(file.fileno())
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _embedding_blocks(parts: Sequence[Fresh | Kept], dim: int) -> Iterator[Any]:
    yield tensor_header(sum(map(len, parts)), dim)
    for part in parts:
        if isinstance(part, Kept):
            for first, last, _ in ranges(part.rows):
                for block in part.index.embeddings[first : last + 1].split(_COPIED // (2 * dim)):
                    yield block.view(torch.uint8).numpy()
        else:
            with open(part.draft.embeddings_path, "rb") as file:
                file.seek(HEADER_BYTES)
                while block := file.read(_COPIED):
                    yield block


def _thumbnail_files(
    folder: Path, parts: Sequence[Fresh | Kept]
) -> tuple[list[dict[str, Any]], list[list[int]]]:
    """The entries of the thumbnail files, and for each part the numbers of its own files."""
    entries: list[dict[str, Any]] = []
    numbers = []
    for part in parts:
        if isinstance(part, Fresh):
            own = [file_entry(part.draft.thumbnails_path)]
        else:
            own = list(part.index.manifest["files"]["thumbnails"])
            if part.index.folder.resolve() != folder.resolve():
                own = [_bring(part.index.folder, entry, folder) for entry in own]
        numbers.append(list(range(len(entries), len(entries) + len(own))))
        entries += own
    return entries, numbers


def _bring(source: Path, entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A file of another index, under a new name; a hard link where the file system has them."""
    name = f"thumbnails-{new_generation()}.bin"
    try:
        os.link(source / entry["name"], folder / name)
    except OSError:
        shutil.copyfile(source / entry["name"], folder / name)
        with open(folder / name, "rb+") as file:
            os.fsync(file.fileno())
    return {**entry, "name": name}


def _write_records(
    path: Path,
    parts: Sequence[Fresh | Kept],
    numbers: Sequence[Sequence[int]],
    folder: Path,
    thumbnails: list[dict[str, Any]],
) -> None:
    columns: set[str] = set()
    for part in parts:
        changed = part.changed.values() if isinstance(part, Kept) else ()
        garments = [*(r.garment for r in changed)]
        if isinstance(part, Kept):
            columns.update(part.index.records.columns())
        else:
            garments += part.garment_of.values()
        columns.update(name for garment in garments for name in garment.metadata)
    writer = RecordWriter.create(path, columns - set(FIELDS))
    try:
        start = 0
        for part, files in zip(parts, numbers, strict=True):
            if isinstance(part, Kept):
                source = part.index.folder / part.index.manifest["files"]["garments"]["name"]
                writer.copy(source, part.rows, start, files)
                writer.put(_changed(part, start, files))
            else:
                writer.put(enumerate(part.draft.records(part.garment_of, files[0]), start))
            start += len(part)
        _join_thumbnails(writer, folder, thumbnails)
        writer.finish()
    finally:
        writer.close()
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _changed(part: Kept, start: int, files: Sequence[int]) -> Iterator[tuple[int, Record]]:
    for row, record in part.changed.items():
        place = int(np.searchsorted(part.rows, row))
        thumbnail = record.thumbnail._replace(file=files[record.thumbnail.file])
        yield (
            start + place,
            Record(record.garment, record.bytes, record.mtime_ns, record.content, thumbnail),
        )


def _join_thumbnails(writer: RecordWriter, folder: Path, entries: list[dict[str, Any]]) -> None:
    """Write anew the thumbnail files that are mostly unused, and the small ones of too many."""
    used = writer.thumbnail_bytes()
    stale = {n for n, entry in enumerate(entries) if 2 * used.get(n, 0) < entry["bytes"]}
    rest = sorted(set(range(len(entries))) - stale, key=lambda n: entries[n]["bytes"])
    if len(rest) > MOST_THUMBNAIL_FILES:
        stale.update(rest[: len(rest) - MOST_THUMBNAIL_FILES // 2])
    if not stale:
        return
    path = folder / f"thumbnails-{new_generation()}.bin"
    with open(path, "wb") as joined, contextlib.ExitStack() as stack:
        opened = {
            n: stack.enter_context(open(folder / entries[n]["name"], "rb")) for n in sorted(stale)
        }

        def move(number: int, offset: int, length: int) -> int:
            opened[number].seek(offset)
            place = joined.tell()
            joined.write(opened[number].read(length))
            return place

        new_number = {old: new for new, old in enumerate(sorted(set(range(len(entries))) - stale))}
        writer.move_thumbnails(stale, move, new_number, len(new_number))
        joined.flush()
        os.fsync(joined.fileno())
    entries[:] = [entries[n] for n in new_number] + [file_entry(path)]
