"""Committing parts as an index: its manifest, and the file of its approximate search."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...progress import Progress
from ..encoders.open_clip import Encoder
from ..encoders.recipe import PLAIN, recipe_of
from ..photos.catalogue import Reject
from ..vectors.approximate import FEWEST, MOST_ADDED, Approximate, Kind, choose_kind
from ..vectors.blocks import Vectors
from .index import GarmentIndex
from .journal import DRAFT, new_word
from .manifest import data_files, file_entry, removed_rows, write_manifest
from .part import map_embeddings

_WRITTEN = re.compile(
    r"(embeddings|garments|thumbnails|vectors)-[0-9a-f]{8}\.\w+|\.[0-9a-f]{12}\.tmp"
)


def describe_encoder(encoder: Encoder, color_check: int) -> dict[str, Any]:
    """Return the manifest's entry of an encoder."""
    described = {
        "name": encoder.name,
        "fingerprint": encoder.fingerprint,
        "dim": encoder.dim,
        "preprocessing": encoder.preprocessing,
        "color_check": color_check,
    }
    recipe = recipe_of(encoder)
    return described if recipe == PLAIN else {**described, "recipe": recipe}


def commit(
    folder: Path,
    parts: Sequence[Mapping[str, Any]],
    *,
    encoder: Mapping[str, Any],
    catalogue_root: Path,
    rejects: Sequence[Reject],
    kind: str = "auto",
    former: GarmentIndex | None = None,
    extra: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the manifest of an index of `parts`, whose files are in `folder`; remove other files.

    Until the manifest is replaced, readers see the former index.

    Args:
        parts: as the manifest names them; those of which no row is left are dropped.
        encoder: see `describe_encoder`. extra: further keys of the manifest.
        kind: one of KINDS; `ivf` of fewer than FEWEST garments is searched exactly.
        former: the index that the leading parts come from, if any.
        progress: called with (done, total) while an inverted file is filled; may raise to cancel.

    Returns:
        The manifest.
    """
    parts = [part for part in parts if garments_in(part)]
    searched_by = _searched_by(folder, parts, encoder["dim"], kind, former, progress)
    manifest = {
        "generation": new_word(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **searched_by,
        "wanted": kind,
        "count": sum(map(garments_in, parts)),
        "catalogue": {
            "name": catalogue_root.absolute().name,
            "path": str(catalogue_root.absolute()),
        },
        "encoder": dict(encoder),
        "parts": parts,
        "rejects": [asdict(reject) for reject in rejects],
        **(extra or {}),
    }
    write_manifest(folder, manifest)
    remove_others(folder, manifest)
    return manifest


def garments_in(part: Mapping[str, Any]) -> int:
    """Count the rows of a part (its manifest entry) that are not removed."""
    return part["rows"] - len(removed_rows(part))


def remove_others(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Remove the draft, and the index files in `folder` that the manifest doesn't name."""
    named = {entry["name"] for entry in data_files(manifest)}
    for path in folder.iterdir():
        if path.name == DRAFT or (_WRITTEN.fullmatch(path.name) and path.name not in named):
            # Windows refuses while a reader has the file open; the next writer tries again.
            with contextlib.suppress(PermissionError):
                path.unlink()


def save_vectors(folder: Path, made: Approximate) -> dict[str, Any]:
    """Write an inverted file, and return its entry for the manifest."""
    path = folder / f"vectors-{new_word()}.faiss"
    with open(path, "wb") as file:
        made.save(file)
        file.flush()
        os.fsync(file.fileno())
    return {**file_entry(path), "rows": made.end}


def _searched_by(
    folder: Path,
    parts: Sequence[Mapping[str, Any]],
    dim: int,
    kind: str,
    former: GarmentIndex | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Return the manifest's `kind` and `vectors`: kept, brought up to date, or made anew."""
    count = sum(map(garments_in, parts))
    name = choose_kind(count) if kind == "auto" else kind
    if name == "exact" or count < FEWEST:
        return {"kind": Kind("exact").record(), "vectors": None}
    covered = (
        former.manifest["vectors"] if former is not None and former.kind.name == name else None
    )
    if covered:
        new, number = _renumbered(former, parts)
        same = np.array_equal(new, np.arange(len(new)))
        added = sum(map(garments_in, parts[number:]))
        stale = former.kind.is_stale(sum(map(garments_in, parts[:number])))
        if same and added <= MOST_ADDED and not stale:
            return {"kind": former.kind.record(), "vectors": covered}
    vectors = Vectors(
        [map_embeddings(folder / part["embeddings"]["name"]) for part in parts],
        [removed_rows(part) for part in parts],
    )
    made = former.approximate if covered and not former.kind.is_stale(count) else None
    if made is None:
        made = Approximate.build(vectors, progress)
    else:
        gone = np.isin(new, np.setdiff1d(np.arange(vectors.end), vectors.rows()))
        made.renumber(np.where(gone, -1, new), int(vectors.starts[number]))
        if number < len(parts):
            made.add(vectors.later(made.end), progress)
    return {"kind": made.kind.record(), "vectors": save_vectors(folder, made)}


def _renumbered(former: GarmentIndex, parts: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, int]:
    """Return the inverted file's rows' new numbers, -1 for parts that are gone.

    The second value: how many of `parts`, from the first on, the file holds.
    """
    start_of, start = {}, 0
    for part in parts:
        start_of[part["embeddings"]["name"]] = start
        start += part["rows"]
    new, number, covered = [], 0, 0
    for part in former.manifest["parts"]:
        if covered == former.manifest["vectors"]["rows"]:
            break
        covered += part["rows"]
        start = start_of.get(part["embeddings"]["name"])
        number += start is not None
        new.append(np.full(part["rows"], -1) if start is None else start + np.arange(part["rows"]))
    return np.concatenate(new), number
