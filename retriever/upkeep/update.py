"""Bringing an index up to date with its catalogue: only what changed is encoded.

A photo is the same while its size and time are, or else its sha256. One whose name is gone and
whose content appears under another name was renamed: it keeps its id, and is not encoded again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..encoders.open_clip import Encoder
from ..photos.catalogue import Catalogue, Garment, Reject, read_catalogue, safe_path
from ..store.generation import Fresh, Kept, commit, remove_others
from ..store.index import GarmentIndex
from ..store.journal import Draft
from ..store.lock import only_writer
from ..store.manifest import sha256
from ..store.records import Place, Record
from .build import Progress, encode_missing


@dataclass(frozen=True)
class UpdateReport:
    """What an update did; all are numbers of garments, but the rejects, seconds and notes.

    count: in the index now. added, changed: encoded. renamed: of the same content under another
    name. described: whose record alone is another. removed: whose photo is gone. left_out: that
    were taken out of the index by `remove_garments` before, and stay out. notes: see Catalogue.
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
        listed = "\n  ".join([text, *(f"{r.file}: {r.reason}" for r in self.rejects)])
        return "\n".join([listed, *self.notes])


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
    goes on with what was encoded. Rows may get other numbers; ids stay.

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
            records = [index.records.record(row) for row in rows]
            left_out = index.manifest.get("left_out", []) + [
                {"file": record.garment.file, "content": record.content, "reason": reason}
                for record in records
            ]
            keep = np.delete(np.arange(len(index)), rows)
            if not len(keep):
                raise ValueError(f"All garments of {folder} would be removed: delete the folder.")
            if rows:
                _commit(index, [Kept(index, keep)], left_out, index.manifest["rejects"])
        finally:
            index.close()
    return len(keep)


@dataclass
class _Plan:
    keep: list[int] = field(default_factory=list)
    changed: dict[int, Record] = field(default_factory=dict)
    encode: dict[str, Garment] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))


_COUNTED = ("added", "changed", "renamed", "described", "removed")


def _plan(
    index: GarmentIndex,
    catalogue: Catalogue,
    left_out: Collection[Mapping[str, Any]],
    check_content: bool,
) -> _Plan:
    plan = _Plan()
    old = {record.garment.file: (row, record) for row, record in enumerate(index.records)}
    files = {garment.file for garment in catalogue.garments}
    gone = {file: entry for file, entry in old.items() if file not in files}
    taken = {""}
    for file in [file for file in gone if _is_below(file, catalogue.unread)]:
        row, record = gone.pop(file)  # not gone, as far as anyone can see
        plan.keep.append(row)
        taken.add(record.garment.id)
    gone_by_content = {record.content: (row, record) for row, record in gone.values()}
    stays_out = {entry["content"]: entry for entry in left_out}
    kept: list[tuple[int, Record, Record, Garment]] = []
    fresh: list[tuple[Garment, str, str]] = []
    for garment in catalogue.garments:
        row, record = old.get(garment.file, (-1, None))
        state = _state(catalogue.root, garment, record, check_content)
        if state is None:
            plan.rejects.append(Reject(garment.file, "can't be read at the moment"))
            state = record
            if record is None:
                continue
        if record is not None and state.content == record.content:
            kept.append((row, record, state, garment))
        elif state.content in stays_out:
            plan.left_out.append({**stays_out[state.content], "file": garment.file})
        elif record is None and state.content in gone_by_content:
            row, record = gone_by_content.pop(state.content)
            del gone[record.garment.file]
            kept.append((row, record, state, garment))
            plan.counts["renamed"] += 1
        else:
            former = "" if record is None else record.garment.id
            fresh.append((garment, former, state.content))
            plan.counts["added" if record is None else "changed"] += 1
    _name(plan, kept, fresh, taken)
    plan.counts["removed"] = len(gone)
    plan.keep.sort()
    return plan


def _name(
    plan: _Plan,
    kept: list[tuple[int, Record, Record, Garment]],
    fresh: list[tuple[Garment, str, str]],
    taken: set[str],
) -> None:
    """Give every garment its id: that of the catalogue's table, else the one it had."""
    garments = [*(garment for *_, garment in kept), *(garment for garment, *_ in fresh)]
    former = [*(record.garment.id for _, record, _, _ in kept), *(name for _, name, _ in fresh)]
    content = [*(state.content for _, _, state, _ in kept), *(digest for *_, digest in fresh)]
    # Without an id of its own in the table, a garment goes by its file.
    names = ["" if garment.id == garment.file else garment.id for garment in garments]
    taken.update(names)
    for choice in (
        former,
        [garment.file for garment in garments],
        [
            f"{garment.file}#{digest[:16]}"
            for garment, digest in zip(garments, content, strict=True)
        ],
    ):
        for place, name in enumerate(choice):
            if not names[place] and name not in taken:
                names[place] = name
                taken.add(name)
    named = [replace(garment, id=name) for garment, name in zip(garments, names, strict=True)]
    for (row, record, state, _), garment in zip(kept, named, strict=False):
        plan.keep.append(row)
        after = replace(state, garment=garment, thumbnail=record.thumbnail)
        if after != record:
            plan.changed[row] = after
        if after.garment.file == record.garment.file and after.garment != record.garment:
            plan.counts["described"] += 1
    plan.encode = {garment.file: garment for garment in named[len(kept) :]}


def _state(
    root: Path, garment: Garment, record: Record | None, check_content: bool
) -> Record | None:
    """What the garment's photo is now; None where it can't be read at the moment."""
    path = safe_path(root, garment.file)
    try:
        stat = path.stat()
        now = (stat.st_size, stat.st_mtime_ns)
        if record is not None and not check_content and now == (record.bytes, record.mtime_ns):
            content = record.content
        else:
            content = sha256(path)
    except OSError:
        return None
    return Record(garment, *now, content, Place(0, 0, 0, 0))


def _carry_out(
    plan: _Plan,
    index: GarmentIndex,
    catalogue: Catalogue,
    encoder: Encoder,
    batch_size: int,
    progress: Progress | None,
    processes: int,
) -> UpdateReport:
    rejects = (*catalogue.rejects, *plan.rejects)
    kept = Kept(index, np.array(plan.keep, dtype=np.int64), plan.changed)
    before = index.manifest.get("left_out", [])
    same = len(kept) == len(index) and not plan.changed and plan.left_out == before
    if same and not plan.encode:
        remove_others(index.folder, index.manifest)  # what a killed writer may have left
        return UpdateReport(len(index), left_out=len(before), rejects=rejects, **plan.counts)
    files = list(plan.encode)
    base = index.manifest["generation"]
    with Draft(index.folder, encoder, catalogue.root, files, base) as draft:
        rejects += tuple(encode_missing(files, draft, encoder, batch_size, progress, processes))
        parts = [part for part in (kept, Fresh(draft, plan.encode)) if len(part)]
        if not parts:
            raise ValueError(
                f"No photo of the catalogue {catalogue.root} can be read: {index.folder} is left "
                "as it was."
            )
        _commit(index, parts, plan.left_out, [asdict(reject) for reject in rejects])
    plan.counts["added"] -= len(files) - len(draft.rows)
    count = sum(map(len, parts))
    return UpdateReport(count, left_out=len(plan.left_out), rejects=rejects, **plan.counts)


def _commit(
    index: GarmentIndex,
    parts: list[Kept | Fresh],
    left_out: list[dict[str, Any]],
    rejects: list[dict[str, str]],
) -> None:
    commit(
        index.folder,
        parts,
        encoder=index.manifest["encoder"],
        catalogue_root=index.catalogue_root,
        rejects=[Reject(**reject) for reject in rejects],
        **index.manifest["wanted"],
        extra={"left_out": left_out} if left_out else None,
    )


def _is_below(file: str, folders: Collection[str]) -> bool:
    return any(not folder or file.startswith(f"{folder}/") for folder in folders)
