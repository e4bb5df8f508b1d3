"""Bringing an index up to date with its catalogue: only what changed is encoded.

A photo is the same while its size and time are, or else its sha256. One whose name is gone and
whose content appears under another name was renamed: it keeps its id, and is not encoded again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...files import sha256_of_file
from ..encoders.open_clip import Encoder
from ..photos.catalogue import Catalogue, Garment, Reject, read_catalogue, safe_path
from ..photos.reader import Photo
from ..store.commit import commit, garments_in, remove_others
from ..store.index import GarmentIndex
from ..store.journal import Draft
from ..store.lock import only_writer
from ..store.manifest import encode_rows
from ..store.part import Part
from ..store.records import Line, text_of
from .build import Progress, encode_missing

MOST_PARTS = 16
"""An index of more parts has its small ones joined by the next update."""

_COPIED = 256  # garments at a time


@dataclass(frozen=True)
class UpdateReport:
    """What an update did; all are numbers of garments, but the rejects and seconds.

    count: in the index now. added, changed: encoded. renamed: of the same content under another
    name. described: whose record alone is another. removed: whose photo is gone. left_out: that
    were taken out of the index by `remove_garments` before, and stay out.
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

    def summary(self) -> str:
        """The report in words, the rejects one a line."""
        text = (
            f"{self.count} garments in the index: {self.added} added, {self.changed} changed, "
            f"{self.renamed} renamed, {self.described} described anew, {self.removed} removed, in "
            f"{self.seconds:.1f} s."
        )
        if self.left_out:
            text += f" {self.left_out} stay out, as they were taken out (`--restore` adds them)."
        if self.rejects:
            text += f" {len(self.rejects)} can't be used:"
        return "\n  ".join([text, *(f"{r.file}: {r.reason}" for r in self.rejects)])


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
) -> UpdateReport:
    """Make the index `folder` that of its catalogue as it is now.

    Readers go on with what they opened; a crash leaves the index as it was, and the next update
    goes on with what was encoded. Only what is new is written, as a further part; where there are
    many parts, or most of one is removed, these are joined with it. Ids stay; rows too, but for
    those of parts that are joined and those after them.

    Args:
        catalogue_root: where the catalogue is; None takes the place recorded in the manifest.
        check_content: read every photo, also those of the same size and time.
        restore: add the garments that `remove_garments` took out.
        batch_size, progress, processes: see `build_index`.

    Raises:
        BlockingIOError: another process writes the index.
        FileNotFoundError, NotADirectoryError: the index or the catalogue is not there.
        ValueError: the index was built with another encoder or is damaged, or the catalogue is
            empty: nothing is removed then.
    """
    started = time.perf_counter()
    folder = Path(folder)
    index = GarmentIndex.open(folder, catalogue_root)  # names what is wrong before the lock does
    index.close()
    with only_writer(folder):
        index = GarmentIndex.open(folder, catalogue_root)
        try:
            index.check_encoder(encoder)
            catalogue = read_catalogue(index.catalogue_root)
            left_out = [] if restore else index.manifest.get("left_out", [])
            plan = _plan(index, catalogue, left_out, check_content)
            report = _carry_out(plan, index, catalogue, encoder, batch_size, progress, processes)
        finally:
            index.close()
    return replace(report, seconds=time.perf_counter() - started)


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
                plan = _Plan(gone=rows, left_out=left_out)
                _write(index, plan, index.catalogue_root, rejects)
            return len(index) - len(rows)
        finally:
            index.close()


@dataclass
class _Plan:
    """What an update is to do.

    gone: rows to be removed; the garments of some come again, in new rows.
    copied: garments with new records whose vectors and thumbnails are those of a row: by file, the
    row and the photo's state. encoded: those to be encoded, by file.
    """

    gone: list[int] = field(default_factory=list)
    copied: dict[str, tuple[int, _State]] = field(default_factory=dict)
    encoded: list[str] = field(default_factory=list)
    garment_of: dict[str, Garment] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))


_State = tuple[int, int, str]  # of a photo: bytes, mtime_ns, content
_COUNTED = ("added", "changed", "renamed", "described", "removed")


def _plan(
    index: GarmentIndex,
    catalogue: Catalogue,
    left_out: Collection[Mapping[str, Any]],
    check_content: bool,
) -> _Plan:
    plan = _Plan()
    old = {text_of(line.file): line for line in index.lines()}
    files = {garment.file for garment in catalogue.garments}
    gone = {file: line for file, line in old.items() if file not in files}
    taken = {""}
    for file in [file for file in gone if _is_below(file, catalogue.unread)]:
        taken.add(text_of(gone.pop(file).id))  # not gone, as far as anyone can see
    gone_by_content = {line.content: line for line in gone.values()}
    stays_out = {entry["content"]: entry for entry in left_out}
    kept: list[tuple[Garment, _State, Line]] = []
    fresh: list[tuple[Garment, _State, Line | None]] = []
    for garment in catalogue.garments:
        line = old.get(garment.file)
        state = _state(catalogue.root, garment.file, line, check_content)
        if state is None:
            plan.rejects.append(Reject(garment.file, "can't be read at the moment"))
            if line is None:
                continue
            state = line.bytes, line.mtime_ns, line.content
        content = state[2]
        if line is not None and content == line.content:
            kept.append((garment, state, line))
        elif content in stays_out:
            plan.left_out.append({**stays_out[content], "file": garment.file})
            plan.gone += [] if line is None else [line.row]
        elif line is None and content in gone_by_content:
            line = gone_by_content.pop(content)
            del gone[text_of(line.file)]
            kept.append((garment, state, line))
            plan.counts["renamed"] += 1
        else:
            fresh.append((garment, state, line))
            plan.gone += [] if line is None else [line.row]
            plan.counts["added" if line is None else "changed"] += 1
    plan.gone += [line.row for line in gone.values()]
    plan.counts["removed"] = len(gone)
    _name(plan, kept, fresh, taken)
    return plan


def _name(
    plan: _Plan,
    kept: Sequence[tuple[Garment, _State, Line]],
    fresh: Sequence[tuple[Garment, _State, Line | None]],
    taken: set[str],
) -> None:
    """Give every garment its id: that of the catalogue's table, else the one it had."""
    everything = [*kept, *fresh]
    # Without an id of its own in the table, a garment goes by its file.
    names = [garment.id if garment.id != garment.file else "" for garment, *_ in everything]
    taken.update(names)
    for choice in (
        lambda garment, state, line: "" if line is None else text_of(line.id),
        lambda garment, state, line: garment.file,
        lambda garment, state, line: f"{garment.file}#{state[2][:16]}",
    ):
        for place, entry in enumerate(everything):
            if not names[place] and (name := choice(*entry)) not in taken:
                names[place] = name
                taken.add(name)
    for (garment, state, line), name in zip(kept, names, strict=False):
        described = _is_described_anew(garment, name, line)
        moved = text_of(line.file) != garment.file
        if described or moved or state[:2] != (line.bytes, line.mtime_ns):
            plan.gone.append(line.row)
            plan.copied[garment.file] = (line.row, state)
            plan.garment_of[garment.file] = replace(garment, id=name)
        plan.counts["described"] += described and not moved
    for (garment, _, _), name in zip(fresh, names[len(kept) :], strict=True):
        plan.encoded.append(garment.file)
        plan.garment_of[garment.file] = replace(garment, id=name)


def _is_described_anew(garment: Garment, name: str, line: Line) -> bool:
    told = (name, garment.category, garment.caption)
    if told != tuple(text_of(text or "") for text in (line.id, line.category, line.caption)):
        return True
    return (
        json.loads(line.metadata) != garment.metadata
        if len(line.metadata) > 2
        else bool(garment.metadata)
    )


def _state(root: Path, file: str, line: Line | None, check_content: bool) -> _State | None:
    """What a photo is now; None where it can't be read at the moment."""
    try:
        stat = os.stat(os.path.join(root, file))
        now = (stat.st_size, stat.st_mtime_ns)
        if line is not None and not check_content and now == (line.bytes, line.mtime_ns):
            return *now, line.content
        return *now, sha256_of_file(safe_path(root, file), read_anew=True)
    except OSError:
        return None


def _carry_out(
    plan: _Plan,
    index: GarmentIndex,
    catalogue: Catalogue,
    encoder: Encoder,
    batch_size: int,
    progress: Progress | None,
    processes: int,
) -> UpdateReport:
    rejects = [*catalogue.rejects, *plan.rejects]
    before = index.manifest.get("left_out", [])
    if not plan.gone and not plan.encoded and plan.left_out == before:
        remove_others(index.folder, index.manifest)  # what a killed writer may have left
        return UpdateReport(len(index), left_out=len(before), rejects=tuple(rejects), **plan.counts)

    def encode(draft: Draft) -> None:
        left = encode_missing(plan.encoded, draft, encoder, batch_size, progress, processes)
        plan.counts["added"] -= len(left)
        rejects.extend(left)

    count = _write(index, plan, catalogue.root, rejects, encode)
    return UpdateReport(count, left_out=len(plan.left_out), rejects=tuple(rejects), **plan.counts)


def _write(
    index: GarmentIndex,
    plan: _Plan,
    root: Path,
    rejects: list[Reject],
    encode: Callable[[Draft], None] | None = None,
) -> int:
    """Write a part of what is copied and encoded, and the manifest; returns how many there are."""
    gone = np.zeros(index.vectors.end, dtype=bool)
    gone[plan.gone] = True
    parts = [_without(part, gone[start:]) for start, part in index.started_parts()]
    joined = _joined(parts, len(plan.copied) + len(plan.encoded))
    for number in joined:
        start, part = index.started_parts()[number]
        for row, record in part.records:
            if part.has(row) and not gone[start + row]:
                file = record.garment.file
                plan.garment_of[file] = record.garment
                plan.copied[file] = (start + row, (record.bytes, record.mtime_ns, record.content))
    parts = [part for number, part in enumerate(parts) if number not in joined]
    encoder = index.manifest["encoder"]
    files = [*plan.copied, *plan.encoded]
    if files:
        with Draft(index.folder, encoder["fingerprint"], encoder["dim"], root, files) as draft:
            _copy(index, plan.copied, draft)
            if encode is not None:
                encode(draft)
            if draft.rows:
                parts.append(draft.finish(plan.garment_of))
    if not sum(map(garments_in, parts)):
        raise ValueError(
            f"No photo of the catalogue {root} can be read: {index.folder} is left as it was."
        )
    manifest = commit(
        index.folder,
        parts,
        encoder=encoder,
        catalogue_root=index.catalogue_root,
        rejects=rejects,
        kind=index.manifest["wanted"],
        former=index,
        extra={"left_out": plan.left_out} if plan.left_out else None,
    )
    return manifest["count"]


def _without(part: Part, gone: np.ndarray) -> dict[str, Any]:
    """A part as the manifest names it, with the rows removed that `gone` is true of."""
    removed = np.union1d(part.removed, np.flatnonzero(gone[: len(part.embeddings)]))
    rows = len(part.embeddings)
    return {**part.entry, "removed": encode_rows(removed, rows)} if len(removed) else part.entry


def _joined(parts: Sequence[Mapping[str, Any]], added: int) -> set[int]:
    """The numbers of the parts whose garments are to be written anew, into the new part.

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


def _copy(index: GarmentIndex, copied: Mapping[str, tuple[int, _State]], draft: Draft) -> None:
    """Write the vectors and thumbnails of rows, under the photos' files, unless they are there."""
    missing = [(file, *entry) for file, entry in copied.items() if file not in draft.rows]
    for start in range(0, len(missing), _COPIED):
        some = missing[start : start + _COPIED]
        photos = [
            Photo(file, *state, index.thumbnail_file(row), torch.empty(0))
            for file, row, state in some
        ]
        draft.append(photos, index.vectors.at(np.array([row for _, row, _ in some])))


def _is_below(file: str, folders: Collection[str]) -> bool:
    return any(not folder or file.startswith(f"{folder}/") for folder in folders)
