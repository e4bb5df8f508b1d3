"""The manifest: which files make up an index, and what each of them is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

INDEX_SCHEMA = 2
MANIFEST = "manifest.json"
HASHED_AT_OPEN = 4 << 20
"""Files up to this many bytes are compared with their sha256 when the index is opened."""

REMEDY = "Build the index again: `fashion-rag index build --overwrite`."

_KINDS = ("embeddings", "garments", "thumbnails", "vectors")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of the index in `folder`, checked for schema, shape and its own checksum.

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
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not the manifest of an index ({error!r}). {REMEDY}") from error
    if schema != INDEX_SCHEMA:
        raise ValueError(
            f"{path} has schema {schema!r}, this version reads schema {INDEX_SCHEMA}. Update the "
            f"pack, or build the index again: `fashion-rag index build --overwrite`."
        )
    if not _is_manifest(manifest):
        raise ValueError(f"{path} lacks parts of a manifest or has others. {REMEDY}")
    if manifest["sha256"] != _checksum(manifest):
        raise ValueError(f"{path} was changed or damaged: its checksum differs. {REMEDY}")
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest in one step: from here on, the index is what `manifest` names."""
    manifest = {**manifest, "schema": INDEX_SCHEMA}
    manifest["sha256"] = _checksum(manifest)
    replace_file(Path(folder) / MANIFEST, json.dumps(manifest, indent=1).encode())


def data_files(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The kind and the entry (name, bytes, sha256) of every data file."""
    for kind, entry in manifest["files"].items():
        for one in entry if kind == "thumbnails" else [entry]:
            yield kind, one


def file_entry(path: Path) -> dict[str, Any]:
    """What the manifest says of a file; it is read whole."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def check_file(folder: Path, entry: dict[str, Any], whole: bool = False) -> None:
    """Compare a file with its entry: its size, and its content if it is small or `whole` is set.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: its size or content differs.
    """
    path = folder / entry["name"]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing. {REMEDY}")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise ValueError(
            f"{path} has {size} bytes, {MANIFEST} says {entry['bytes']}: it is truncated or of "
            f"another build. {REMEDY}"
        )
    if (whole or size <= HASHED_AT_OPEN) and sha256(path) != entry["sha256"]:
        raise ValueError(f"{path} is not what {MANIFEST} says: its sha256 differs. {REMEDY}")


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that, whatever happens, the former or the new content is there, whole."""
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _checksum(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _is_manifest(manifest: dict[str, Any]) -> bool:
    match manifest:
        case {
            "sha256": str(),
            "generation": str(),
            "count": int(count),
            "kind": {"name": str()},
            "wanted": {"kind": str(), "memory": int()},
            "catalogue": {"name": str(), "path": str()},
            "encoder": {"name": str(), "fingerprint": str(), "dim": int(dim)},
            "files": {"embeddings": {}, "garments": {}, "thumbnails": [*_]} as files,
        } if count > 0 and dim > 0:
            return set(files) <= set(_KINDS) and all(
                _is_file_entry(entry) for _, entry in data_files(manifest)
            )
    return False


def _is_file_entry(entry: Any) -> bool:
    match entry:
        case {"name": str(name), "bytes": int(), "sha256": str()}:
            return name not in ("", ".", "..") and not set(name) & set("/\\:\0")
    return False
