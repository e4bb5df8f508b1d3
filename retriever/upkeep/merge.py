"""Merging indexes of one catalogue's parts, built separately, into one index."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..encoders.recipe import display_name
from ..photos.catalogue import Reject
from ..store.commit import commit, garments_in
from ..store.index import GarmentIndex
from ..store.journal import new_word, sync
from ..store.lock import only_writer
from ..store.manifest import MANIFEST, encode_rows
from ..store.part import Part
from ..vectors.approximate import check_kind


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    count: how many garments the merged index has. repeated: how many were in several sources; the
    first source's is kept.
    """

    count: int
    repeated: int

    def summary(self) -> str:
        """Write the report in words."""
        text = f"{self.count} garments merged."
        if self.repeated:
            text += f" {self.repeated} were in several parts; the first one holds."
        return text


def merge_indexes(
    sources: Sequence[Path],
    folder: Path,
    catalogue_root: Path | None = None,
    *,
    overwrite: bool = False,
    kind: str = "auto",
) -> MergeReport:
    """Join indexes into a new one, in the order given; shards in the order of their numbers.

    The sources stay as they are. Their parts become parts of the new index: their files are
    hard-linked where the file system can, else copied.

    Args:
        catalogue_root: where the whole catalogue is; None takes that of the first source.
        kind: see `build_index`.

    Raises:
        FileExistsError: `folder` holds a finished index and `overwrite` is off.
        FileNotFoundError: a source is no index.
        ValueError: the encoders, their recipes or the catalogues differ, a shard is missing, a
            source is damaged, or there are too few garments for the kind.
        ImportError: the kind needs faiss, which is missing.
        BlockingIOError: another process writes `folder`.
    """
    folder = Path(folder)
    if (folder / MANIFEST).exists() and not overwrite:
        raise FileExistsError(
            f"{folder} holds a finished index: choose another name, or turn on overwrite "
            "(`--overwrite`) to replace it."
        )
    with contextlib.ExitStack() as stack:
        indexes = []
        for source in sources:
            index = GarmentIndex.open(source)
            stack.callback(index.close)
            index.verify_files()
            indexes.append(index)
        indexes = _in_order(indexes)
        folder.mkdir(parents=True, exist_ok=True)
        stack.enter_context(only_writer(folder))
        seen: set[tuple[str, str | bytes]] = set()
        kept = [
            (index.folder, _without_seen(part, seen)) for index in indexes for part in index.parts
        ]
        check_kind(kind, sum(garments_in(part) for _, part in kept))
        parts = [_bring(source, part, folder) for source, part in kept]
        rejects = {
            (entry["file"], entry["reason"]): Reject(**entry)
            for index in indexes
            for entry in index.manifest["rejects"]
        }
        left_out = [entry for index in indexes for entry in index.manifest.get("left_out", [])]
        first = indexes[0].manifest
        extra: dict[str, Any] = {"left_out": left_out} if left_out else {}
        scores = [index.manifest.get("least_score") for index in indexes]
        if all(scores):
            # More garments only raise the best score of a text: none that matched is shut out.
            extra["least_score"] = min(scores, key=lambda measured: measured["score"])
        commit(
            folder,
            parts,
            encoder=first["encoder"],
            catalogue_root=Path(catalogue_root or first["catalogue"]["path"]),
            rejects=list(rejects.values()),
            kind=kind,
            extra=extra,
        )
    count = sum(map(garments_in, parts))
    return MergeReport(count, sum(map(len, indexes)) - count)


def _in_order(indexes: list[GarmentIndex]) -> list[GarmentIndex]:
    if not indexes:
        raise ValueError("Nothing to merge: name at least one index.")
    first = indexes[0]
    for index in indexes:
        for what, of in (("encoder", "fingerprint"), ("catalogue", "name")):
            one, other = first.manifest[what], index.manifest[what]
            if one[of] != other[of]:
                raise ValueError(
                    f"{first.folder} and {index.folder} can't be merged: the {what} of the former "
                    f"is {display_name(one)} ({one[of][:12]}), of the latter {display_name(other)} "
                    f"({other[of][:12]})."
                )
    shards = [index.manifest.get("shard") for index in indexes]
    if not any(shards):
        return indexes
    if not all(shards) or len({of for _, of in shards}) > 1:
        raise ValueError(f"These are not shards of one build: {shards}. Merge all of one kind.")
    missing = set(range(1, shards[0][1] + 1)) - {number for number, _ in shards}
    if missing:
        raise ValueError(
            f"Shard {min(missing)}/{shards[0][1]} is missing: build it with "
            f"`fashion-rag index build --shard {min(missing)}/{shards[0][1]}`."
        )
    return sorted(indexes, key=lambda index: index.manifest["shard"][0])


def _without_seen(part: Part, seen: set[tuple[str, str | bytes]]) -> dict[str, Any]:
    """Return a part's entry for the manifest, without garments whose id or file was seen before."""
    repeated = [
        line.row
        for line in part.records.lines()
        if ("id", line.id) in seen or ("file", line.file) in seen
    ]
    for line in part.records.lines():
        if part.has(line.row):
            seen.update((("id", line.id), ("file", line.file)))
    removed, rows = np.union1d(part.removed, repeated).astype(np.int64), len(part.embeddings)
    return {**part.entry, "removed": encode_rows(removed, rows)} if len(removed) else part.entry


def _bring(source: Path, part: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Link or copy a part's files into `folder` under new names; return its new entry."""

    def bring(entry: dict[str, Any]) -> dict[str, Any]:
        stem, suffix = entry["name"].split("-")[0], Path(entry["name"]).suffix
        name = f"{stem}-{new_word()}{suffix}"
        try:
            os.link(source / entry["name"], folder / name)
        except OSError:
            shutil.copyfile(source / entry["name"], folder / name)
            sync(folder / name)
        return {**entry, "name": name}

    return {
        **part,
        "embeddings": bring(part["embeddings"]),
        "records": bring(part["records"]),
        "thumbnails": [bring(entry) for entry in part["thumbnails"]],
    }
