"""The manifest: the parts that make up an index, which of their rows are removed, and their files.

    {"schema": 3, "generation": a random word, "count": garments, "kind": see Kind, "wanted": one of
     KINDS, "catalogue": {name, path}, "encoder": {name, fingerprint, dim, ...},
     "parts": [{"rows": removed ones included, "removed": see `encode_rows`,
                "embeddings": FILE, "records": FILE, "thumbnails": [FILE, ...]}, ...],
     "vectors": FILE with "rows", the rows of the leading parts that it was filled with, or null,
     "least_score": see calibration.py, "rejects": [...], "left_out": [...],
     "sha256": of all of this}

A FILE is {name, bytes, sha256}. The rows of an index are those of its parts, numbered through.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...files import parse_json, sha256_of_file, write_bytes
from ..vectors.approximate import KINDS

logger = logging.getLogger(__name__)

INDEX_SCHEMA = 3
MANIFEST = "manifest.json"
HASHED_AT_OPEN = 4 << 20
"""How many bytes, of the smallest files, are compared with their sha256 when an index is opened."""

REMEDY = "Build the index again: `fashion-rag index build --overwrite`."


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of an index, and check its schema, shape and checksum.

    One of schema 2, as version 0.1.0 wrote it, is given as one of a single part.

    Raises:
        FileNotFoundError: no index there.
        ValueError: another schema, changed since it was written, or not a manifest.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no index in {folder} ({MANIFEST} is missing): build one with "
            "`fashion-rag index build` or the node Garment Index Build."
        )
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the manifest of an index ({error!r}). {REMEDY}") from error
    if schema not in (2, INDEX_SCHEMA):
        raise ValueError(
            f"{path} has schema {schema!r}, this version reads schema 2 and {INDEX_SCHEMA}. Update "
            "the pack, or build the index again: `fashion-rag index build --overwrite`."
        )
    if manifest.get("sha256") != _checksum(manifest) and "sha256" in manifest:
        raise ValueError(f"{path} was changed or damaged: its checksum differs. {REMEDY}")
    try:
        manifest = _of_schema_2(manifest, path) if schema == 2 else manifest
    except (KeyError, TypeError, AttributeError):
        manifest = {}
    if not _is_manifest(manifest):
        raise ValueError(f"{path} lacks parts of a manifest or has others. {REMEDY}")
    return manifest


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replace the manifest in one step: from here on, the index is what `manifest` names."""
    manifest = {**manifest, "schema": INDEX_SCHEMA}
    manifest["sha256"] = _checksum(manifest)
    write_bytes(Path(folder) / MANIFEST, json.dumps(manifest, indent=1).encode())


def least_score(manifest: Mapping[str, Any]) -> float | None:
    """Return the least score of a match that was measured on the catalogue; None without one."""
    match manifest.get("least_score"):
        case {"score": float(score)} if -1 <= score <= 1:
            return score
    return None


def data_files(manifest: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """List the entries (name, bytes, sha256) of all data files."""
    for part in manifest["parts"]:
        yield from part_files(part)
    if manifest.get("vectors"):
        yield manifest["vectors"]


def part_files(part: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """List the entries of a part's files."""
    yield part["embeddings"]
    yield part["records"]
    yield from part["thumbnails"]


def file_entry(path: Path) -> dict[str, Any]:
    """Read a file whole, and return its entry {name, bytes, sha256} for the manifest."""
    sha256 = sha256_of_file(path, read_anew=True)
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256}


def check_files(folder: Path, manifest: Mapping[str, Any], whole: bool = False) -> None:
    """Compare the files with their entries: sizes, and the content of small ones or of all.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: a size or content differs.
    """
    hashed = 0
    for entry in sorted(data_files(manifest), key=lambda entry: entry["bytes"]):
        path = folder / entry["name"]
        try:
            size = path.stat().st_size
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path} is missing. {REMEDY}") from error
        if size != entry["bytes"]:
            raise ValueError(
                f"{path} has {size} bytes, {MANIFEST} says {entry['bytes']}: it is truncated or of "
                f"another build. {REMEDY}"
            )
        hashed += size
        if whole or hashed <= HASHED_AT_OPEN:
            if sha256_of_file(path, read_anew=True) != entry["sha256"]:
                raise ValueError(
                    f"{path} is not what {MANIFEST} says: its sha256 differs. {REMEDY}"
                )


def encode_rows(rows: np.ndarray, count: int) -> str:
    """Encode some of `count` rows as text: a bit for each, deflated, in base 64."""
    bits = np.zeros(count, dtype=bool)
    bits[rows] = True
    return base64.b64encode(zlib.compress(np.packbits(bits).tobytes())).decode("ascii")


def decode_rows(text: str, count: int) -> np.ndarray:
    """Decode what `encode_rows` encoded: int64, ascending.

    Raises:
        ValueError: it is something else.
    """
    size = -(-count // 8)
    try:
        unpack = zlib.decompressobj()
        data = unpack.decompress(base64.b64decode(text, validate=True), size)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{text[:40]!r} is no list of rows ({error}). {REMEDY}") from error
    if len(data) != size:
        raise ValueError(f"{text[:40]!r} lists rows of another count than {count}. {REMEDY}")
    packed = np.frombuffer(data, np.uint8)
    places = np.flatnonzero(packed)  # mostly few: much faster than to unpack all
    which, bit = np.nonzero(np.unpackbits(packed[places, None], axis=1))
    rows = 8 * places[which] + bit
    return rows[rows < count]


def removed_rows(part: Mapping[str, Any]) -> np.ndarray:
    """Return the rows of a part, from 0, that were removed: int64, ascending."""
    if not part.get("removed"):
        return np.empty(0, np.int64)
    return decode_rows(part["removed"], part["rows"])


def _of_schema_2(manifest: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Convert a manifest of schema 2 to one of a single part; a kind that still exists is kept."""
    files, kind = manifest["files"], manifest["kind"]
    count, wanted = manifest["count"], manifest["wanted"]["kind"]
    logger.info("%s is of version 0.1.0: it is read as one part and left as it is.", path)
    if kind["name"] not in KINDS:
        logger.warning(
            "%s: the kind %r is no longer there, the search is exact. `fashion-rag index tune "
            "--kind ivf` makes it fast.",
            path,
            kind["name"],
        )
        kind, wanted = {"name": "exact"}, "auto"
    part = {name: files[name] for name in ("embeddings", "thumbnails")}
    part |= {"rows": count, "records": files["garments"]}
    vectors = None if kind["name"] == "exact" else {**files["vectors"], "rows": count}
    rest = {name: value for name, value in manifest.items() if name != "files"}
    return {**rest, "kind": kind, "wanted": wanted, "parts": [part], "vectors": vectors}


def _checksum(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _is_manifest(manifest: Mapping[str, Any]) -> bool:
    match manifest:
        case {
            "sha256": str(),
            "generation": str(),
            "count": int(count),
            "kind": {"name": str()},
            "wanted": str(wanted),
            "catalogue": {"name": str(), "path": str()},
            "encoder": {"name": str(), "fingerprint": str(), "dim": int(dim)},
            "parts": [_, *_] as parts,
            "vectors": None | {"rows": int()},
        } if count > 0 and dim > 0 and wanted in KINDS:
            return all(map(_is_part, parts)) and all(map(_is_file_entry, data_files(manifest)))
    return False


def _is_part(part: Any) -> bool:
    match part:
        case {"rows": int(rows), "embeddings": {}, "records": {}, "thumbnails": [_, *_]}:
            return 0 < rows < 1 << 40 and isinstance(part.get("removed", ""), str)
    return False


def _is_file_entry(entry: Any) -> bool:
    match entry:
        case {"name": str(name), "bytes": int(), "sha256": str()}:
            return name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    return False
