"""A catalogue's table: rows that describe photos, from CSV, TSV, JSON or JSON lines.

What people's programs write is read as it is meant: any of four separators, spaces after them, a
byte order mark, UTF-16, header names in another letter case, empty cells at the end of a line. A
row that can't be used is told with its line and the reason, and costs no other row.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ...files import parse_json, read_text
from .separated import SEPARATORS, csv_rows, first_line, quote_fault, surplus

NAME = "garments"
"""A table of this name is read; another one where it is the only one with a column `file`."""
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
FIELDS = ("file", "id", "category", "caption")

_FILE_NAMES = ("file", "file_name", "filename")
_LONGEST_CELL = 500  # lines: a quote that is open for longer was left open by mistake

IsPhoto = Callable[[str], bool]
"""Whether a table's path names a photo of the catalogue."""


@dataclass
class Table:
    """The content of a catalogue's table.

    rows: (line, values by column name), in the order of the file; every row has a `file`.
    faults: (line, reason) of the rows that can't be used. notes: on columns and cells left out.
    """

    path: Path
    rows: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    faults: list[tuple[int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def place(self, line: int) -> str:
        """Name the place of a row: file and line."""
        return f"{self.path.name} line {line}"


def may_be_table(file: str) -> bool:
    """Tell whether a file has the ending of a table or a spreadsheet."""
    return file.lower().endswith((*SUFFIXES, *SPREADSHEETS))


def is_named_table(file: str) -> bool:
    """Tell whether a file has the name of a catalogue's table, in any letter case."""
    path = PurePosixPath(file)
    return path.suffix.lower() in SUFFIXES and path.stem.casefold() == NAME


def choose_table(paths: Sequence[Path], is_photo: IsPhoto) -> tuple[Table | None, dict[str, str]]:
    """Read the one of a folder's tables that describes its photos.

    Args:
        paths: the files of the folder; others than tables are passed over.

    Returns:
        The table, or None; and the reasons why other tables are not read, by file name.

    Raises:
        ValueError: two tables are called NAME, or the one that is can't be read.
    """
    tables = sorted(path for path in paths if path.suffix.lower() in SUFFIXES)
    named = [path for path in tables if is_named_table(path.name)]
    if len(named) > 1:
        raise ValueError(
            f"{named[0].parent} holds both {' and '.join(path.name for path in named)}: keep one "
            "of them."
        )
    passed = {
        path.name: f"a spreadsheet is not read: save it as {NAME}.csv (UTF-8)"
        for path in paths
        if path.suffix.lower() in SPREADSHEETS
    }
    read: list[Table] = []
    for path in named or tables:
        try:
            read.append(read_table(path, is_photo))
        except (ValueError, OSError) as error:
            if named:
                raise
            passed[path.name] = f"not read as the table of the photos: {_short(error, path)}"
    for path in tables if named else ():
        if path not in named and _is_table(path, is_photo):
            passed[path.name] = f"not read: {named[0].name} is the table"
    if len(read) > 1:
        names = " and ".join(table.path.name for table in read)
        reason = f"not read: {names} both have a column 'file'; call the right one {NAME}.csv"
        passed |= {table.path.name: reason for table in read}
    return (read[0] if len(read) == 1 else None), passed


def _is_table(path: Path, is_photo: IsPhoto) -> bool:
    """Tell whether a file describes photos; a data set's captions and settings do not."""
    try:
        read_table(path, is_photo)
    except (ValueError, OSError):
        return False
    return True


def read_table(path: Path, is_photo: IsPhoto) -> Table:
    """Read a table.

    Raises:
        OSError: from the file system.
        ValueError: it has no column `file`, or is no UTF-8 or UTF-16 text of its kind.
    """
    table = Table(path)
    suffix = path.suffix.lower()
    text = read_text(path, "save it anew, in Excel as 'CSV UTF-8'")
    if suffix in (".csv", ".tsv"):
        _read_separated(table, text, is_photo)
    else:
        _read_json(table, text, suffix == ".json")
    return table


def posix_path(text: str, root: Path) -> tuple[str, bool]:
    """Return a path with slashes, relative to `root` if it lies there.

    The second value: whether it is an absolute path of somewhere else.
    """
    path = PurePosixPath(text.strip().replace("\\", "/"))
    if not path.is_absolute() and not PureWindowsPath(text).anchor:
        return str(path), False
    for base in (root, root.absolute(), root.resolve()):
        name = base.as_posix()
        if name not in (".", "/") and str(path).startswith(f"{name}/"):
            return str(path)[len(name) + 1 :], False
    return str(path), True


class PhotoNames:
    """Finds the photo that a table's path means.

    The same name counts first, then one that differs in Unicode form alone (macOS decomposes
    letters), then the only one that differs in letter case, as Windows and macOS would open it.
    An absolute path of another machine means the photo that its last parts name.
    """

    def __init__(self, root: Path, files: Sequence[str]):
        self._root, self._files = root, frozenset(files)

    # Made when a path is first met that names no photo exactly: of a million, they take a while.
    @cached_property
    def _by_form(self) -> dict[str, list[str]]:
        return _grouped(self._files, _form)

    @cached_property
    def _by_case(self) -> dict[str, list[str]]:
        return _grouped(self._files, lambda file: _form(file).casefold())

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped(self._files, lambda file: _form(file.rpartition("/")[2]).casefold())

    def find(self, text: str) -> tuple[str, int] | None:
        """Find the photo and the rank of the match: 0 exact, 1 Unicode form, 2 letter case."""
        if text in self._files:
            return text, 0
        path, foreign = posix_path(text, self._root)
        parts = PurePosixPath(path).parts
        for start in range(len(parts) if foreign else 1):
            name = "/".join(parts[start:]) if foreign else path
            if name in self._files:
                return name, 0
            for rank, names in ((1, self._by_form), (2, self._by_case)):
                key = _form(name) if rank == 1 else _form(name).casefold()
                if len(found := names.get(key, ())) == 1:
                    return found[0], rank
        return None

    def __call__(self, text: str) -> bool:
        return self.find(text) is not None

    def hint(self, text: str) -> str:
        """Suggest what a path that names no photo may have meant; "" without an idea."""
        path, _ = posix_path(text, self._root)
        same = self._by_case.get(_form(path).casefold(), [])
        if len(same) > 1:
            return f"; {' and '.join(same[:3])} differ from it in letter case alone"
        there = self._by_name.get(_form(PurePosixPath(path).name).casefold(), [])
        return f"; {there[0]} is there: name it with its folder" if len(there) == 1 else ""


def _form(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _grouped(files: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for file in sorted(files):
        groups.setdefault(key(file), []).append(file)
    return groups


def _read_separated(table: Table, text: str, is_photo: IsPhoto) -> None:
    lines = list(io.StringIO(text, newline=None))
    separator, start = first_line(lines)
    head = lines[start] if start < len(lines) else ""
    separator, columns = _header(table.path, head, separator)
    names = _column_names(table, columns)
    empty = dict.fromkeys((name for name in names if name), "")
    seen = {}
    line = start + 1
    while line < len(lines):
        number = line + 1
        try:
            cells, line = _record(lines, line, separator, names, is_photo)
        except csv.Error as error:
            table.faults.append((number, quote_fault(error)))
            line += 1
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if reason := surplus(cells, len(names), separator, lines[number - 1]):
            table.faults.append((number, reason))
            continue
        for place, cell in enumerate(cells):
            if not names[place] and cell.strip():
                seen.setdefault(place, number)
        values = empty | {
            name: cell.strip() for name, cell in zip(names, cells, strict=False) if name
        }
        _add(table, number, values)
    for place, number in seen.items():
        what = f"named {columns[place]!r} again" if columns[place] else "without a name"
        table.notes.append(
            f"{table.place(number)}: column {place + 1} is {what}; its values are not read"
        )


def _header(path: Path, line: str, separator: str) -> tuple[str, list[str]]:
    """Return the separator and the stripped names of the columns."""
    best: list[str] = []
    for choice in separator or SEPARATORS:
        try:
            names = [name.strip() for name in _cells(line, choice)]
        except csv.Error as error:
            raise ValueError(f"{path} has a first line that is no CSV: {error}.") from error
        if any(name.casefold() in _FILE_NAMES for name in names):
            return choice, names
        best = max(best, names, key=len)
    raise ValueError(
        f"{path} has the columns {best}: expected 'file' and any of id, category, caption and "
        "your own, separated by commas."
    )


def _column_names(table: Table, columns: Sequence[str]) -> list[str]:
    """Return the columns as a garment has them; '' for one that is not read."""
    lower = [name.casefold() for name in columns]
    file = next(name for name in _FILE_NAMES if name in lower)
    names: list[str] = []
    for name, small in zip(columns, lower, strict=True):
        meant = "file" if small == file else small if small in FIELDS else name
        names.append("" if meant in names else meant)
    return names


def _record(
    lines: Sequence[str], line: int, separator: str, names: Sequence[str], is_photo: IsPhoto
) -> tuple[list[str], int]:
    """Return the cells of the record that begins at a line, and the line after it.

    A cell in quotes may go on over lines. A quote that swallows a line which is itself the row of a
    photo was left open by mistake.

    Raises:
        csv.Error: a quote is not closed, or stands inside a text.
    """
    text = lines[line]
    if '"' not in text:  # as csv reads it, many times faster
        return text.rstrip("\n").split(separator), line + 1
    place = names.index("file")
    for end in range(line + 1, min(len(lines), line + _LONGEST_CELL) + 1):
        try:
            return _cells(text, separator), end
        except csv.Error as error:
            if "unexpected end of data" not in str(error) or end == len(lines):
                raise
        further = lines[end]
        alone = further.replace('"', "").split(separator)
        if 1 < len(names) <= len(alone) and is_photo(alone[place].strip()):
            raise csv.Error("unexpected end of data")
        text += further
    raise csv.Error("unexpected end of data")


def _cells(text: str, separator: str) -> list[str]:
    rows = list(csv_rows(io.StringIO(text), separator, skipinitialspace=True))
    return rows[0] if rows else []


def _read_json(table: Table, text: str, whole: bool) -> None:
    found = False
    for number, row in _json_rows(table, text, whole):
        if not isinstance(row, Mapping):
            table.faults.append((number, f"not a row with a file: {str(row)[:80]}"))
            continue
        lower = {str(name).strip().casefold(): name for name in row}
        file = next((name for name in _FILE_NAMES if name in lower), "")
        found = found or bool(file)
        values: dict[str, str] = {}
        for name, value in row.items():
            name = str(name).strip()
            small = name.casefold()
            meant = "file" if small == file else small if small in FIELDS else name
            values.setdefault(meant, _text(value))
        _add(table, number, values)
    if not found and not (table.path.stem.casefold() == NAME and not whole):
        raise ValueError(f"{table.path} has no row with a 'file'.")


def _json_rows(table: Table, text: str, whole: bool) -> Iterator[tuple[int, Any]]:
    if whole:
        try:
            content = parse_json(text)
        except ValueError as error:
            raise ValueError(f"{table.path} is no JSON: {error}.") from error
        if not isinstance(content, list):
            raise ValueError(f"{table.path} is no list of rows with a 'file'.")
        yield from enumerate(content, start=1)
        return
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            try:
                yield number, parse_json(line)
            except ValueError:
                yield number, line.rstrip("\n")


def _add(table: Table, number: int, values: dict[str, str]) -> None:
    if values.get("file"):
        table.rows.append((number, values))
    else:
        shown = {name: value for name, value in values.items() if value}
        table.faults.append((number, f"not a row with a file: {str(shown)[:80]}"))


def _short(error: Exception, path: Path) -> str:
    return str(error).removeprefix(str(path)).lstrip(": ")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
