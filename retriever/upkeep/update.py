"""Bringing an index up to date with its catalogue: only what changed is encoded, and written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..encoders.open_clip import Encoder
from ..encoders.recipe import as_built
from ..photos.catalogue import Catalogue, Reject, read_catalogue
from ..photos.reader import Photo
from ..store import text_table
from ..store.commit import commit, garments_in, remove_others
from ..store.index import GarmentIndex
from ..store.journal import Draft, new_word, sync
from ..store.lock import only_writer
from ..store.manifest import encode_rows, file_entry
from ..store.part import Part
from ..store.records import FIELDS, Record, RecordWriter
from ..vectors.approximate import Kind, check_kind, explain_kind
from .build import Progress, encode_missing, report_text, shard_of
from .calibration import calibrate, is_outdated
from .compare import Plan, State, compare

MOST_PARTS = 16
"""An index of more parts has its small ones joined by the next update."""

_FEW = 0.25  # share of a part: if fewer garments get a new record, they move to the new part
_COPIED = 256  # garments at a time


@dataclass(frozen=True)
class UpdateReport:
    """What an update did, in numbers of garments.

    count: in the index now. added, changed: encoded. renamed: whose photo has another name and the
    same content. described: of which only the record changed. removed: whose photo is gone.
    left_out: taken out by `remove_garments` before, and staying out. rejects: photos that can't be
    read. seconds: how long the update took. notes: see Catalogue. searched: see `explain_kind`.
    """

    count: int
    added: int = 0
    changed: int = 0
    renamed: int = 0
    described: int = 0
    removed: int = 0
    left_out: int = 0
    rejects: tuple[Reject, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    searched: str = ""

    def summary(self) -> str:
        """Write the report in words; see `report_text`."""
        counts = f"{self.added} added, {self.changed} changed, {self.renamed} renamed, "
        counts += f"{self.described} described anew, {self.removed} removed"
        if not any((self.added, self.changed, self.renamed, self.described, self.removed)):
            counts = "nothing added, changed or removed"
        text = (
            f"{self.count} garments in the index: {counts}, {len(self.rejects)} refused, in "
            f"{self.seconds:.1f} s."
        )
        if self.left_out:
            text += f" {self.left_out} stay out, as they were taken out (`--restore` adds them)."
        return report_text(text, self.searched, self.rejects, self.notes)


def update_index(
    folder: Path,
    encoder: Encoder,
    catalogue_root: Path | None = None,
    *,
    check_content: bool = False,
    restore: bool = False,
    batch_size: int = 32,
    progress: Progress | None = None,
    processes: int = 0,
    kind: str | None = None,
) -> UpdateReport:
    """Bring the index `folder` up to date with its catalogue.

    Readers go on with what they opened; a crash leaves the index as it was, and the next update
    goes on with what was encoded. Only what is new is written, as a further part; where there are
    many parts, or most of one is removed, these are joined with it. Ids stay; rows too, but for
    those of parts that are joined and those after them. Photos are encoded by the index's recipe.

    Args:
        catalogue_root: where the catalogue is; None takes the place recorded in the manifest. Of an
            index of a shard, the catalogue's garments of that shard are compared.
        check_content: read every photo, also those of the same size and time.
        restore: add the garments that `remove_garments` took out.
        batch_size, progress, processes: see `build_index`.
        kind: one of KINDS; None keeps what was asked for before.

    Raises:
        BlockingIOError: another process writes the index.
        FileNotFoundError, NotADirectoryError: the index or the catalogue is not there.
        ValueError: the index was built with another encoder or is damaged, or the catalogue is
            empty, or too small for the kind: nothing is removed then.
        ImportError: the kind needs faiss, which is missing.
    """
    started = time.perf_counter()
    folder = Path(folder)
    index = GarmentIndex.open(folder, catalogue_root)  # names what is wrong before the lock does
    index.close()
    if catalogue_root is None and not index.catalogue_root.is_dir():
        raise FileNotFoundError(
            f"The catalogue {index.catalogue_root} of the index {folder} is not there any more: "
            "name the folder where it is now with --catalogue, or put it back."
        )
    with only_writer(folder):
        index = GarmentIndex.open(folder, catalogue_root)
        try:
            encoder = as_built(encoder, index.manifest["encoder"])
            index.check_encoder(encoder)
            catalogue = read_catalogue(index.catalogue_root)
            catalogue = shard_of(catalogue, *index.manifest.get("shard", (1, 1)))
            check_kind(kind or "auto", len(catalogue.garments))
            left_out = [] if restore else index.manifest.get("left_out", [])
            plan = compare(index, catalogue, left_out, check_content)
            plan.kind = kind or index.manifest["wanted"]
            report = _carry_out(plan, index, catalogue, encoder, batch_size, progress, processes)
        finally:
            index.close()
    return replace(report, seconds=time.perf_counter() - started, notes=catalogue.notes)


def remove_garments(folder: Path, ids: Iterable[str], reason: str = "removed") -> int:
    """Take garments out of an index; later updates leave them out while their photos stay as is.

    Returns:
        How many garments the index has now.

    Raises:
        KeyError: the index has no garment of an id. ValueError: none would be left.
        BlockingIOError: another process writes the index.
    """
    folder = Path(folder)
    with only_writer(folder):
        index = GarmentIndex.open(folder)
        try:
            rows = sorted({index.row_of(name) for name in ids})
            records = [index.record(row) for row in rows]
            left_out = index.manifest.get("left_out", []) + [
                {"file": record.garment.file, "content": record.content, "reason": reason}
                for record in records
            ]
            if len(rows) == len(index):
                raise ValueError(f"All garments of {folder} would be removed: delete the folder.")
            if rows:
                rejects = [Reject(**reject) for reject in index.manifest["rejects"]]
                plan = Plan(gone=rows, left_out=left_out, kind=index.manifest["wanted"])
                _write(index, plan, index.catalogue_root, rejects)
            return len(index) - len(rows)
        finally:
            index.close()


def _carry_out(
    plan: Plan,
    index: GarmentIndex,
    catalogue: Catalogue,
    encoder: Encoder,
    batch_size: int,
    progress: Progress | None,
    processes: int,
) -> UpdateReport:
    rejects = [*catalogue.rejects, *plan.rejects]
    before = index.manifest
    recorded = (before["catalogue"]["path"], before["wanted"], before.get("left_out", []))
    same = recorded == (str(catalogue.root.absolute()), plan.kind, plan.left_out)
    complete = "least_score" in before and not any(map(_lacks_words, index.parts))
    if same and complete and not plan.gone and not plan.encoded:
        remove_others(index.folder, index.manifest)  # what a killed writer may have left
        manifest = before
    else:

        def encode(draft: Draft) -> None:
            for left in encode_missing(
                plan.encoded, draft, encoder, batch_size, progress, processes
            ):
                rejects.append(left)
                plan.counts["changed" if left.file in plan.changed else "added"] -= 1
                plan.counts["removed"] += left.file in plan.changed

        manifest = _write(index, plan, catalogue.root, rejects, encoder, encode)
    return UpdateReport(
        manifest["count"],
        left_out=len(plan.left_out),
        rejects=tuple(rejects),
        searched=explain_kind(Kind.of(manifest), manifest["wanted"], manifest["count"]),
        **plan.counts,
    )


def _write(
    index: GarmentIndex,
    plan: Plan,
    root: Path,
    rejects: list[Reject],
    encoder: Encoder | None = None,
    encode: Callable[[Draft], None] | None = None,
) -> dict[str, Any]:
    """Write a part of what is copied and encoded, and the manifest; returns the latter.

    Args:
        encoder: to measure the least score of a match with, where it is due.
    """
    gone = np.zeros(index.vectors.end, dtype=bool)
    gone[plan.gone] = True
    parts = [
        _without(_described(index, number, plan, gone), part, gone[start:])
        for number, (start, part) in enumerate(index.started_parts())
    ]
    joined = _joined(parts, len(plan.copied) + len(plan.encoded))
    joined -= {
        number
        for number, part in enumerate(parts)
        if part["records"] != index.parts[number].entry["records"]
    }
    for number in joined:
        start, part = index.started_parts()[number]
        for row, record in part.records:
            if part.has(row) and not gone[start + row]:
                file = record.garment.file
                plan.garment_of[file] = record.garment
                plan.copied[file] = (start + row, (record.bytes, record.mtime_ns, record.content))
    parts = [part for number, part in enumerate(parts) if number not in joined]
    described = index.manifest["encoder"]
    files = [*plan.copied, *plan.encoded]
    if files:
        key = described["fingerprint"], described["dim"]
        with Draft(index.folder, *key, root, files) as draft:
            _copy(index, plan.copied, draft)
            if encode is not None:
                encode(draft)
            if draft.rows:
                parts.append(draft.finish(plan.garment_of))
    if not sum(map(garments_in, parts)):
        raise ValueError(
            f"No photo of the catalogue {root} can be read: {index.folder} is left as it was."
        )
    extra: dict[str, Any] = {"left_out": plan.left_out} if plan.left_out else {}
    if (least := _least_score(index, parts, encoder)) is not None:
        extra["least_score"] = least
    if "shard" in index.manifest:
        extra["shard"] = index.manifest["shard"]
    return commit(
        index.folder,
        parts,
        encoder=described,
        catalogue_root=index.catalogue_root,
        rejects=rejects,
        kind=plan.kind,
        former=index,
        extra=extra,
    )


def _described(index: GarmentIndex, number: int, plan: Plan, gone: np.ndarray) -> Mapping[str, Any]:
    """Return a part's entry for the manifest, its records written anew if that pays.

    It pays where most garments of the part get a new record, or where an earlier version wrote it
    without their words. They need not be copied to another part then: they are taken out of the
    plan and of `gone`.
    """
    start, part = index.started_parts()[number]
    end = start + len(part.embeddings)
    files = {row - start: f for f, (row, _) in plan.copied.items() if start <= row < end}
    if len(files) <= _FEW * len(part) and not _lacks_words(part):
        return part.entry
    changed = {}
    for row, file in files.items():
        state = plan.copied.pop(file)[1]
        thumbnail = part.records.record(row).thumbnail
        changed[row] = Record(plan.garment_of[file], *state, thumbnail)
        gone[start + row] = False
    records = ((row, changed.get(row, old)) for row, old in part.records if not gone[start + row])
    path = index.folder / f"garments-{new_word()}.sqlite"
    metadata = {name for record in changed.values() for name in record.garment.metadata}
    columns = metadata.union(part.records.columns()).difference(FIELDS)
    with RecordWriter.create(path, columns) as writer:
        writer.put((row, record) for row, record in records if part.has(row))
        writer.finish()
    sync(path)
    return {**part.entry, "records": file_entry(path)}


def _least_score(
    index: GarmentIndex, entries: Sequence[Mapping[str, Any]], encoder: Encoder | None
) -> Mapping[str, Any] | None:
    """Return the manifest's `least_score`, measured again where it is due."""
    known = index.manifest.get("least_score")
    if encoder is None:
        return known
    with contextlib.ExitStack() as opened:
        parts = [Part.open(index.folder, entry, index.vectors.dim) for entry in entries]
        for part in parts:
            opened.callback(part.close)
        return calibrate(encoder, parts) if is_outdated(known, parts) else known


def _lacks_words(part: Part) -> bool:
    return not part.records.has_words and text_table.fts5_is_there()


def _without(entry: Mapping[str, Any], part: Part, gone: np.ndarray) -> Mapping[str, Any]:
    """Return a part's entry for the manifest with the rows removed that `gone` is true of."""
    removed = np.union1d(part.removed, np.flatnonzero(gone[: len(part.embeddings)]))
    rows = len(part.embeddings)
    return {**entry, "removed": encode_rows(removed, rows)} if len(removed) else entry


def _joined(parts: Sequence[Mapping[str, Any]], added: int) -> set[int]:
    """Choose the parts, by number, whose garments are written anew into the new part.

    Those that are mostly removed; and where there are too many, the last ones that aren't much
    larger than all that follow them: so that a garment is written anew seldom, however many updates
    there are.
    """
    garments = [garments_in(part) for part in parts]
    joined = {n for n, part in enumerate(parts) if 0 < 2 * garments[n] < part["rows"]}
    if len(parts) - len(joined) >= MOST_PARTS:
        for number in reversed(range(len(parts))):
            if number not in joined:
                if garments[number] > 2 * max(added, 1):
                    break
                joined.add(number)
            added += garments[number]
    return joined


def _copy(index: GarmentIndex, copied: Mapping[str, tuple[int, State]], draft: Draft) -> None:
    """Write the vectors and thumbnails of rows, under the photos' files, unless they are there."""
    missing = [(file, *entry) for file, entry in copied.items() if file not in draft.rows]
    for start in range(0, len(missing), _COPIED):
        some = missing[start : start + _COPIED]
        photos = [
            Photo(file, *state, index.thumbnail_file(row), torch.empty(0))
            for file, row, state in some
        ]
        draft.append(photos, index.vectors.at(np.array([row for _, row, _ in some])))
