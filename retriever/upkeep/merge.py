"""Merging indexes of parts of one catalogue, built apart, into one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..photos.catalogue import Reject
from ..store.generation import Kept, commit
from ..store.index import GarmentIndex
from ..store.lock import only_writer
from ..store.manifest import MANIFEST
from ..vectors.approximate import MEMORY


@dataclass(frozen=True)
class MergeReport:
    """count: garments in the merged index. repeated: in several parts; the first one holds."""

    count: int
    repeated: int

    def summary(self) -> str:
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
    memory: int = MEMORY,
) -> MergeReport:
    """Join indexes into a new one, in the order given; shards in the order of their numbers.

    The sources stay as they are. Their thumbnails are hard-linked where the file system can.

    Args:
        catalogue_root: where the whole catalogue is; None takes that of the first source.
        kind, memory: see `build_index`.

    Raises:
        FileExistsError: `folder` holds a finished index and `overwrite` is off.
        FileNotFoundError: a source is no index.
        ValueError: the encoders or catalogues differ, a shard is missing, or a source is damaged.
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
        parts = [
            Kept(index, _not_in(index, indexes[:number])) for number, index in enumerate(indexes)
        ]
        rejects = {
            (entry["file"], entry["reason"]): Reject(**entry)
            for index in indexes
            for entry in index.manifest["rejects"]
        }
        left_out = [entry for index in indexes for entry in index.manifest.get("left_out", [])]
        first = indexes[0].manifest
        commit(
            folder,
            [part for part in parts if len(part)],
            encoder=first["encoder"],
            catalogue_root=Path(catalogue_root or first["catalogue"]["path"]),
            rejects=list(rejects.values()),
            kind=kind,
            memory=memory,
            extra={"left_out": left_out} if left_out else None,
        )
    count = sum(map(len, parts))
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
                    f"is {one['name']!r} ({one[of][:12]}), of the latter {other['name']!r} "
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


def _not_in(index: GarmentIndex, before: Sequence[GarmentIndex]) -> np.ndarray:
    repeated = [index.records.rows_also_in(other.records) for other in before]
    return (
        np.setdiff1d(np.arange(len(index)), np.concatenate(repeated))
        if repeated
        else (np.arange(len(index)))
    )
