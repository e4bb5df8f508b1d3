"""A catalogue: a folder of garment photos, with or without a table that describes them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ...categories import CATEGORIES

"""The paper's (and Dress Code's) categories; a catalogue may use words of its own."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TABLES = ("garments.csv", "garments.jsonl")

_FIELDS = ("file", "id", "category", "caption")


@dataclass(frozen=True)
class Garment:
    """One garment photo. `file` is a POSIX path relative to the catalogue's root."""

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
    """What a folder holds. unread: folders below the root that can't be listed at the moment."""

    root: Path
    garments: tuple[Garment, ...]
    rejects: tuple[Reject, ...]
    unread: tuple[str, ...] = ()


def read_catalogue(root: Path) -> Catalogue:
    """List the garments below `root` in the order of their paths; no photo is opened.

    Every jpg, png and webp is a garment, at any depth, save names that start with a dot. In a
    Dress Code folder only the in-shop photos are: `cleaned_inshop_imgs`, and `images/*_1.jpg` for
    garments that are not there. The category is the top folder where that is one of CATEGORIES.
    `garments.csv` or `garments.jsonl` in the root (file, id, category, caption, and any further
    columns as metadata) describes photos; those that it does not name stay in the catalogue.

    Raises:
        FileNotFoundError, NotADirectoryError: `root` is no folder.
        ValueError: no garment is found, both tables are there, or the table is unreadable.
    """
    root = Path(root)
    if not root.is_dir():
        kind = NotADirectoryError if root.exists() else FileNotFoundError
        raise kind(f"The catalogue {root} is not a folder: name a folder of garment photos.")
    rejects: list[Reject] = []
    unread: list[str] = []
    files = sorted(_photo_files(root, rejects, unread))
    if any((root / category / "images").is_dir() for category in CATEGORIES):
        files = sorted(_dress_code_garments(files))
    rows = _read_table(root, set(files), rejects)
    garments: list[Garment] = []
    file_of_id: dict[str, str] = {}
    for file in files:
        garment = _garment(file, rows.get(file, {}))
        first = file_of_id.setdefault(garment.id, file)
        if first == file:
            garments.append(garment)
        else:
            rejects.append(Reject(file, f"its id {garment.id!r} is already that of {first}"))
    if not garments:
        listed = "".join(f"\n  {reject.file}: {reject.reason}" for reject in rejects[:5])
        raise ValueError(
            f"The catalogue {root} is empty: expected garment photos ({', '.join(SUFFIXES)}) "
            f"at any depth.{listed}"
        )
    return Catalogue(root, tuple(garments), tuple(rejects), tuple(unread))


def safe_path(root: Path, relative: str) -> Path:
    """The real path of `relative` below `root`, which itself may be a link.

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


def _photo_files(root: Path, rejects: list[Reject], unread: list[str]) -> Iterator[str]:
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            rejects.append(Reject(folder, f"the folder can't be read: {error.strerror}"))
            unread.append(folder)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            file = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(file)
            elif entry.is_symlink() and not _stays_inside(root, file):
                rejects.append(Reject(file, "a link that leaves the catalogue; not followed"))
            elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                yield file


def _stays_inside(root: Path, file: str) -> bool:
    try:
        safe_path(root, file)
    except ValueError:
        return False
    return True


def _dress_code_garments(files: Iterable[str]) -> Iterator[str]:
    cleaned: set[tuple[str, str]] = set()
    in_shop: dict[tuple[str, str], str] = {}
    for file in files:
        category, *folders, name = PurePosixPath(file).parts
        key = (category, PurePosixPath(name).stem)
        if folders[:1] == ["cleaned_inshop_imgs"]:
            cleaned.add(key)
            yield file
        elif folders == ["images"] and key[1].endswith("_1"):
            in_shop[key] = file
    yield from (file for key, file in in_shop.items() if key not in cleaned)


def _garment(file: str, row: Mapping[str, str]) -> Garment:
    folder = file.split("/", 1)[0]
    return Garment(
        id=row.get("id") or file,
        file=file,
        category=row.get("category") or (folder if folder in CATEGORIES else ""),
        caption=row.get("caption", ""),
        metadata={name: value for name, value in row.items() if name not in _FIELDS},
    )


def _read_table(root: Path, files: set[str], rejects: list[Reject]) -> dict[str, dict[str, str]]:
    """The table's rows by file; rows that can't be used go to `rejects`."""
    tables = [root / name for name in TABLES if (root / name).is_file()]
    if len(tables) > 1:
        raise ValueError(f"{root} holds both {' and '.join(TABLES)}: keep one of them.")
    rows: dict[str, dict[str, str]] = {}
    for table in tables:
        read = _csv_rows if table.suffix == ".csv" else _jsonl_rows
        for line, row in read(table):
            place = f"{table.name} line {line}"
            if not isinstance(row, dict) or None in row or not row.get("file"):
                rejects.append(Reject(place, f"not a row with a file: {str(row)[:80]}"))
                continue
            values = {str(name): _text(value) for name, value in row.items()}
            file = values["file"] = str(PurePosixPath(values["file"].replace("\\", "/")))
            if file not in files:
                rejects.append(Reject(file, f"{place} names it, but there is no such photo"))
            elif file in rows:
                rejects.append(Reject(file, f"{place} names it a second time; the first row holds"))
            else:
                rows[file] = values
    return rows


def _csv_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if "file" not in (reader.fieldnames or ()):
                raise ValueError(
                    f"{table} has the columns {reader.fieldnames}: expected 'file' and any of "
                    "id, category, caption and your own, separated by commas."
                )
            for row in reader:
                yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is not a CSV file in UTF-8 ({error}): save it anew.") from error


def _jsonl_rows(table: Path) -> Iterator[tuple[int, Any]]:
    try:
        with open(table, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        yield number, json.loads(line)
                    except json.JSONDecodeError:
                        yield number, line
    except UnicodeDecodeError as error:
        raise ValueError(f"{table} is not UTF-8 ({error}): save it anew.") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
