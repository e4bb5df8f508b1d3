"""A catalogue: a folder of garment photos, with or without a table that describes them."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...categories import CATEGORIES
from ...files import state_of_folder
from ...pictures.photos import SUFFIXES
from .layouts import (
    DATA_SET,
    OTHER,
    SYSTEM,
    SYSTEM_FOLDERS,
    TABLE,
    UNREADABLE,
    category_of,
    describe_files,
    passed_over,
)
from .table import FIELDS, PhotoNames, Table, choose_table, is_named_table, may_be_table

__all__ = [
    "Catalogue",
    "Garment",
    "Reject",
    "read_catalogue",
    "safe_path",
    "state_of_catalogue",
    "without_garbage_collection",
]

STRONGEST = 2.0
"""The column `strength` scales a garment's pseudo-words: numbers from 0 to this."""


@dataclass(frozen=True)
class Garment:
    """One garment photo of a catalogue, with what the catalogue's table says of it.

    file: a POSIX path relative to the catalogue's root. metadata: the values of further columns.
    """

    id: str
    file: str
    category: str = ""
    caption: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Reject:
    """A file, folder or table row that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Catalogue:
    """The garments of a folder, and what of the folder was not taken for one.

    unread: folders below the root that can't be listed at the moment. notes: how many files of each
    sort the folder holds, and what of the table was corrected while it was read.
    """

    root: Path
    garments: tuple[Garment, ...]
    rejects: tuple[Reject, ...]
    unread: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pause the search for cycles: among the millions of small objects of a large catalogue there
    are none, and looking through all of them again and again takes longer than reading it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@without_garbage_collection()
def read_catalogue(root: Path) -> Catalogue:
    """List the garments below `root` in the order of their paths; no photo is opened.

    Every picture that can be read is a garment, at any depth, save names that start with a dot,
    what a NAS or an operating system keeps, and what stands beside the garments in the layouts of
    Dress Code and VITON-HD (see layouts.py). The category is the top folder where that is one of
    CATEGORIES, in any letter case. `garments.csv` or `garments.jsonl` in the root, or the only
    table there with a column `file` (file, id, category, caption, and any further columns as
    metadata), describes photos; those that it does not name stay in the catalogue. Of several
    photos with one id, that of the table's first row holds.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: no garment is found, there are two tables, or the table is unreadable.
    """
    root = Path(root)
    if not root.is_dir():
        kind = NotADirectoryError if root.exists() else FileNotFoundError
        raise kind(f"The catalogue {root} is not a folder: name a folder of garment photos.")
    rejects: list[Reject] = []
    unread: list[str] = []
    files, hidden = _files(root, rejects, unread)
    links = {reject.file: reject.reason for reject in rejects}
    passed = passed_over(files)
    photos = sorted(file for file in files if file not in passed)
    names = PhotoNames(root, photos)
    top = [file for file in files if "/" not in file and may_be_table(file)]
    table, others = choose_table([root / file for file in top], names)
    if table:
        passed[table.path.name] = TABLE
    rejects += [
        Reject(file, f"{PurePosixPath(file).suffix.lower()} is not read: save it as JPEG or PNG")
        for file, kind in passed.items()
        if kind == UNREADABLE
    ]
    rejects += [Reject(file, reason) for file, reason in others.items()]
    rejects += [
        Reject(file, "not read: a table stands in the catalogue's own folder, beside its folders")
        for file, kind in passed.items()
        if kind == OTHER and "/" in file and is_named_table(file)
    ]
    rows = _rows_of_photos(table, names, passed | links, rejects) if table else {}
    garments: list[Garment] = []
    file_of_id: dict[str, str] = {}
    in_order = sorted(photos, key=lambda file: (rows[file][0] if file in rows else 1 << 62, file))
    for file in in_order:
        garment = _garment(file, rows[file][1] if file in rows else {})
        first = file_of_id.setdefault(garment.id, file)
        if first == file:
            garments.append(garment)
        else:
            reason = f"its id {garment.id!r} is already that of {first}: one photo a garment"
            rejects.append(Reject(file, reason))
    garments.sort(key=lambda garment: garment.file)
    left_out = len(links) - len(unread) + len(photos) - len(garments)
    notes = [describe_files(len(garments), left_out, passed, hidden)]
    if table:
        notes.append(f"{len(rows)} of the photos are described by {table.path.name}.")
        notes += [*table.notes, *_odd_strengths(table)]
    if not garments:
        listed = "".join(f"\n  {reject.file}: {reject.reason}" for reject in rejects[:5])
        raise ValueError(
            f"The catalogue {root} holds no garment: expected photos ({', '.join(SUFFIXES)}) at "
            f"any depth. {notes[0]}{listed}"
        )
    return Catalogue(root, tuple(garments), tuple(rejects), tuple(unread), tuple(notes))


def state_of_catalogue(root: Path) -> int:
    """Return a number that changes with names, sizes and times of the photos and the table.

    It is made to be compared within one process. Nothing is opened. What a NAS or an operating
    system keeps does not count.
    """
    return state_of_folder(root, SYSTEM_FOLDERS)


def safe_path(root: Path, relative: str) -> Path:
    """Return the real path of `relative` below `root`, which itself may be a link.

    Raises:
        ValueError: `relative` is empty or absolute, holds '..', or is a link that leaves the root.
    """
    for flavour in (PurePosixPath, PureWindowsPath):
        path = flavour(relative)
        if not path.parts or path.anchor or ".." in path.parts or "\0" in relative:
            raise ValueError(
                f"{relative!r} is not a path inside {root}: expected one relative to it, without "
                "'..'."
            )
    real_root = os.path.realpath(root)
    real = os.path.realpath(os.path.join(real_root, relative))
    if os.path.splitdrive(real)[0] != os.path.splitdrive(real_root)[0] or (
        os.path.commonpath([real, real_root]) != real_root
    ):
        raise ValueError(f"{relative!r} leads out of {root}, to {real}: put the file itself there.")
    return Path(real)


def _files(root: Path, rejects: list[Reject], unread: list[str]) -> tuple[list[str], int]:
    """List all files below the root, and count the entries whose names start with a dot."""
    folders = [""]
    files: list[str] = []
    hidden = 0
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            rejects.append(Reject(folder, f"the folder can't be read: {error.strerror}"))
            unread.append(folder)
            continue
        for entry in entries:
            file = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                hidden += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append(file)
            elif entry.is_symlink() and not _stays_inside(root, file):
                rejects.append(Reject(file, "a link that leaves the catalogue; not followed"))
            elif reason := _why_no_file(entry):
                rejects.append(Reject(file, reason))
            else:
                files.append(file)
    return files, hidden


def _why_no_file(entry: os.DirEntry[str]) -> str:
    """Say why an entry that is no folder is no file either; "" if it is one."""
    try:
        if entry.is_file():
            return ""
        if not entry.is_symlink():
            return "no file but a pipe, a socket or a device; not opened"
        if entry.is_dir():
            return "a link to a folder; not followed"
    except OSError as error:  # a link to itself, or one that may not be looked at
        return f"it can't be looked at: {error.strerror}"
    return "a link that leads to no file: mend or remove it"


def _stays_inside(root: Path, file: str) -> bool:
    try:
        safe_path(root, file)
    except ValueError:
        return False
    return True


def _garment(file: str, row: Mapping[str, str]) -> Garment:
    top, slash, _ = file.partition("/")
    folder = category_of(top) if slash else ""
    return Garment(
        id=row.get("id") or file,
        file=file,
        category=category_of(row.get("category", "")) or (folder if folder in CATEGORIES else ""),
        caption=row.get("caption", ""),
        metadata={name: value for name, value in row.items() if name not in FIELDS},
    )


def _rows_of_photos(
    table: Table, names: PhotoNames, passed: Mapping[str, str], rejects: list[Reject]
) -> dict[str, tuple[int, dict[str, str]]]:
    """Return the table's rows, with their lines, by photo; unusable rows go to `rejects`."""
    faults = [(line, Reject(table.place(line), reason)) for line, reason in table.faults]
    found = []
    for line, values in table.rows:
        if (photo := names.find(values["file"])) is None:
            reason = f"{table.place(line)} names it, but {_why_no_photo(values['file'], passed)}"
            reason += names.hint(values["file"])
            faults.append((line, Reject(values["file"], reason)))
        else:
            found.append((photo[1], line, photo[0], values))
    rows: dict[str, tuple[int, dict[str, str]]] = {}
    # A row that names a photo exactly goes before one that means it.
    for _, line, file, values in sorted(found, key=lambda row: row[:2]):
        if file in rows:
            reason = f"{table.place(line)} names it a second time; the first row holds"
            faults.append((line, Reject(file, reason)))
        else:
            rows[file] = line, values if values["file"] == file else {**values, "file": file}
    rejects += [reject for _, reject in sorted(faults, key=lambda fault: fault[0])]
    return rows


def _why_no_photo(text: str, passed: Mapping[str, str]) -> str:
    file = str(PurePosixPath(text.replace("\\", "/")))
    kind = passed.get(file)
    if kind is None:
        return "there is no such photo"
    if kind in (SYSTEM, DATA_SET):
        return f"it is passed over with the {kind}"
    return (
        "it is no photo that is read" if kind in (OTHER, UNREADABLE) else f"it is left out: {kind}"
    )


def _odd_strengths(table: Table) -> list[str]:
    """Note values of the column `strength` that are no numbers from 0 to STRONGEST."""
    odd = [
        (line, values["strength"])
        for line, values in table.rows
        if values.get("strength") and strength_of(values["strength"]) is None
    ]
    if not odd:
        return []
    line, value = odd[0]
    return [
        f"{len(odd)} values of the column 'strength' are no numbers from 0 to {STRONGEST:g} (such "
        f"as {value!r}, {table.place(line)}) and count as 1: it scales a garment's pseudo-words. "
        "Call the column otherwise if it means something else."
    ]


def strength_of(text: str) -> float | None:
    """Return the strength in a garment's column, 1 where it is empty.

    None: it is no number from 0 to STRONGEST.
    """
    try:
        strength = float(text or "1")
    except ValueError:
        return None
    return strength if 0 <= strength <= STRONGEST else None
