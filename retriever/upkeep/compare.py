"""Comparing an index with its catalogue: the plan of what an update has to do."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...files import parse_json, sha256_of_file
from ..photos.catalogue import (
    Catalogue,
    Garment,
    Reject,
    safe_path,
    without_garbage_collection,
)
from ..store.index import GarmentIndex
from ..store.records import Line, text_of

State = tuple[int, int, str]
"""What tells whether a photo has changed: its size in bytes, mtime_ns, and sha256 in hex."""

_quoted = json.encoder.encode_basestring_ascii

COUNTED = ("added", "changed", "renamed", "described", "removed")


@dataclass
class Plan:
    """The rows that an update removes, and the photos that it copies and encodes.

    Attributes:
        gone: rows to be removed; the garments of some come again, in new rows.
        copied: for each garment, by its file, that gets a new record but keeps vector and
            thumbnail: the row to copy these from, and the photo's state.
        encoded: files of the photos to be encoded; `changed`: those of them that the index has
            with other content.
        garment_of: the garments of `copied` and `encoded` by their files, with their final ids.
        left_out: the manifest's entries for photos that stay out of the index.
        rejects: photos that can't be read at the moment.
        kind: the one of KINDS that the index is to have.
        counts: how many garments there are of each of COUNTED, for the report.
    """

    gone: list[int] = field(default_factory=list)
    copied: dict[str, tuple[int, State]] = field(default_factory=dict)
    encoded: list[str] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    garment_of: dict[str, Garment] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    kind: str = "auto"
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))


@without_garbage_collection()
def compare(
    index: GarmentIndex,
    catalogue: Catalogue,
    left_out: Collection[Mapping[str, Any]],
    check_content: bool,
) -> Plan:
    """Plan an update of an index to its catalogue as it is now.

    A photo is the same while its size and time are, or else its sha256. One whose name is gone and
    whose content appears under another name was renamed: it keeps its id and is not encoded again.

    Args:
        left_out: the manifest's entries for photos that were taken out and stay out.
        check_content: read every photo, also those of the same size and time.
    """
    plan, root = Plan(), str(catalogue.root)
    old = {text_of(line.file): line for line in index.lines()}
    files = {garment.file for garment in catalogue.garments}
    gone = {file: line for file, line in old.items() if file not in files}
    taken = {""}
    for file in [file for file in gone if _is_below(file, catalogue.unread)]:
        taken.add(text_of(gone.pop(file).id))  # its folder can't be listed: it may still be there
    gone_by_content = {line.content: line for line in gone.values()}
    stays_out = {entry["content"]: entry for entry in left_out}
    stays_out_of = {entry["file"]: entry for entry in left_out}
    plan.left_out += [
        entry for file, entry in stays_out_of.items() if _is_below(file, catalogue.unread)
    ]
    kept: list[tuple[Garment, State, Line]] = []
    fresh: list[tuple[Garment, State, Line | None]] = []
    for garment in catalogue.garments:
        line = old.get(garment.file)
        state = _state(root, garment.file, line, check_content)
        if state is None:
            plan.rejects.append(Reject(garment.file, "can't be read at the moment"))
            if line is None:
                if garment.file in stays_out_of:
                    plan.left_out.append(stays_out_of[garment.file])
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
            if line is not None:
                plan.gone.append(line.row)
                plan.changed.add(garment.file)
            plan.counts["added" if line is None else "changed"] += 1
    plan.gone += [line.row for line in gone.values()]
    plan.counts["removed"] = len(gone)
    _name(plan, kept, fresh, taken)
    return plan


def _name(
    plan: Plan,
    kept: Sequence[tuple[Garment, State, Line]],
    fresh: Sequence[tuple[Garment, State, Line | None]],
    taken: set[str],
) -> None:
    """Give every garment its id: that of the catalogue's table, else the one it had."""
    everything = [*kept, *fresh]
    # Without an id of its own in the table, a garment goes by its file.
    names = [garment.id if garment.id != garment.file else "" for garment, *_ in everything]
    taken.update(names)
    unnamed = [place for place, name in enumerate(names) if not name]
    for choice in (
        lambda garment, state, line: "" if line is None else text_of(line.id),
        lambda garment, state, line: garment.file,
        lambda garment, state, line: f"{garment.file}#{state[2][:16]}",
    ):
        for place in unnamed:
            if (name := choice(*everything[place])) not in taken:
                names[place] = name
                taken.add(name)
        unnamed = [place for place in unnamed if not names[place]]
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
    now = (name, garment.category, garment.caption)
    if now != tuple(text_of(text or "") for text in (line.id, line.category, line.caption)):
        return True
    if not garment.metadata:
        return line.metadata != "{}"
    # As RecordWriter writes it, but faster; another order of the columns is no other description.
    pairs = (f"{_quoted(name)}: {_quoted(value)}" for name, value in garment.metadata.items())
    if f"{{{', '.join(pairs)}}}" == line.metadata:
        return False
    return parse_json(line.metadata) != garment.metadata


def _state(root: str, file: str, line: Line | None, check_content: bool) -> State | None:
    """Return size, time (ns) and SHA-256 of a photo now; None where it can't be read at present."""
    try:
        stat = os.stat(f"{root}/{file}")
        now = (stat.st_size, stat.st_mtime_ns)
        if line is not None and not check_content and now == (line.bytes, line.mtime_ns):
            return *now, line.content
        return *now, sha256_of_file(safe_path(Path(root), file), read_anew=True)
    except OSError:
        return None


def _is_below(file: str, folders: Collection[str]) -> bool:
    return any(not folder or file.startswith(f"{folder}/") for folder in folders)
