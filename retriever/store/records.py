"""The records of a part of an index: one row a garment in an SQLite file, read on demand.

Rows are numbered as the part's embeddings are; some may be missing. Beside the record itself, a row
holds every column of the catalogue's table twice, as text and, where the text is a number, as
number, with indexes, so that filters (see filters.py) are answered without looking at each garment.
The words of its texts are in a table of their own (see text_table.py).
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from ...files import parse_json
from ..photos.catalogue import Garment
from . import text_table
from .filters import Comparison, Filter, number_of, sql_column, sql_value
from .manifest import REMEDY

FIELDS = ("id", "file", "category", "caption")

_MOST_COLUMNS = 500  # SQLite's own limit is 2000, and each takes two
_LONGEST_INDEXED = 64  # characters: longer texts are descriptions, which nobody asks for whole
_LONGEST_VALUE = 16 << 20  # bytes, of a value in a small file
_BATCH = 4096


class ThumbnailPlace(NamedTuple):
    """Where a thumbnail lies in a part: number of the file, offset and length in bytes, CRC-32."""

    file: int
    offset: int
    length: int
    crc32: int


class ColumnValues(NamedTuple):
    """A summary of a column: how many values it has, how many are numbers, and examples.

    examples: the most frequent values, texts before numbers, at most 3.
    """

    texts: int
    numbers: int
    examples: tuple[str, ...]


class Numbers(NamedTuple):
    """A column of nothing but numbers: how many values, whether they are whole and no two alike,
    the lowest and the highest (inf and -inf where there is none)."""

    count: int
    names: bool
    low: float
    high: float


NO_NUMBERS = Numbers(0, True, math.inf, -math.inf)


@dataclass(frozen=True)
class Record:
    """A garment, with what tells whether its photo has changed since it was encoded.

    bytes, mtime_ns: of the photo's file. content: its sha256.
    """

    garment: Garment
    bytes: int
    mtime_ns: int
    content: str
    thumbnail: ThumbnailPlace


_PLAIN = (
    "metadata",
    "bytes",
    "mtime_ns",
    "content",
    *(f"thumbnail_{f}" for f in ThumbnailPlace._fields),
)
_RECORD = ", ".join([*(sql_column(name, False) for name in FIELDS), *_PLAIN])
_LINE = ", ".join([*(sql_column(name, False) for name in FIELDS), *_PLAIN[:4]])


class Line(NamedTuple):
    """A row as it is stored, without the thumbnail: what an update compares."""

    row: int
    id: str | bytes
    file: str | bytes
    category: str | bytes | None
    caption: str | bytes | None
    metadata: str
    bytes: int
    mtime_ns: int
    content: str


class Records:
    """The rows of an SQLite file, opened for reading; may be used from several threads.

    end: the number after the last row. path: of the file; None in memory. has_words: whether
    `rows_with` can be asked: not of files of former versions, nor by an SQLite without FTS5.
    """

    def __init__(self, path: Path | None, connection: sqlite3.Connection, has_words: bool):
        self.path, self._connection = path, connection
        self.has_words = has_words and text_table.fts5_is_there()
        self._lock = threading.Lock()
        # Texts come after numbers, and what is below 0 would count from the end.
        (first,), (last,) = (
            self._one(f"SELECT {end}(row) FROM garments") or (None,) for end in ("min", "max")
        )
        if first is not None and not (isinstance(last, int) and isinstance(first, int)):
            raise self._damaged(f"has rows from {_short(first)} to {_short(last)}")
        if first is not None and first < 0:
            raise self._damaged(f"has a row {first}")
        self.end = 0 if last is None else last + 1

    @classmethod
    def open(cls, path: Path) -> Records:
        """Open a file that `RecordWriter` made.

        Raises:
            ValueError: it is damaged, or something else.
        """
        try:
            # Immutable: no lock files, so that a disk that can't be written to serves as well.
            uri = sqlite_uri(path.absolute(), "mode=ro&immutable=1")
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=1073741824"):
                connection.execute(f"PRAGMA {pragma}")
            there = connection.execute("SELECT type, name FROM sqlite_master").fetchall()
            if not (kinds := {kind for kind, _ in there}) <= {"table", "index"}:
                raise ValueError(f"{path} holds more than tables: {sorted(kinds)}. {REMEDY}")
            _check_sizes(path, connection)
            return cls(path, connection, ("table", text_table.TABLE) in there)
        except sqlite3.Error as error:
            raise ValueError(f"{path} is damaged ({error}). {REMEDY}") from error

    @classmethod
    def in_memory(cls, garments: Iterable[Garment]) -> Records:
        """Make the records of garments without photos, for an index that is not on disk."""
        garments = list(garments)
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.isolation_level = None
        writer = RecordWriter(connection, {name for g in garments for name in g.metadata})
        writer.put(
            enumerate(Record(garment, 0, 0, "", ThumbnailPlace(0, 0, 0, 0)) for garment in garments)
        )
        writer.finish()
        return cls(None, connection, has_words=True)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def record(self, row: int) -> Record:
        """Read the record of a row.

        Raises:
            IndexError: there is no such row.
            ValueError: the row is damaged.
        """
        found = self._one(f"SELECT {_RECORD} FROM garments WHERE row = ?", [int(row)])
        if found is None:
            raise IndexError(f"{self.path} has no row {row}.")
        return self._record(row, found)

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        """Yield all rows with their records, in order."""
        for row, *values in self._in_order(_RECORD):
            yield row, self._record(row, values)

    def lines(self) -> Iterator[Line]:
        """Yield all rows in order as they are stored, several times faster than records."""
        return map(Line._make, self._in_order(_LINE))

    def row_of(self, garment_id: str) -> int | None:
        """Find the row of a garment; None if there is no garment of that id."""
        name = sql_column("id", False)
        found = self._one(f"SELECT row FROM garments WHERE {name} IS ?", [sql_value(garment_id)])
        return found and found[0]

    def rows_where(self, condition: Filter) -> np.ndarray:
        """Find the rows that a filter is true of: int64, ascending; a missing column is empty."""
        sql, parameters = condition.to_sql()
        missing = condition.columns() - set(self.columns())
        empty = [f"NULL AS {sql_column(c, number)}" for c in missing for number in (False, True)]
        table = f"(SELECT *, {', '.join(empty)} FROM garments)" if empty else "garments"
        return self._rows("row", f"{table} WHERE {sql}", parameters)

    def rows_with(self, term: str) -> np.ndarray:
        """Find the rows whose texts hold a term (see text_table.terms_of): int64, ascending.

        Raises:
            ValueError: the file is damaged.
        """
        table = text_table.TABLE
        rows = self._rows("rowid", f"{table} WHERE {table} MATCH ?", [term])
        if len(rows) and not 0 <= rows[0] <= rows[-1] < self.end:
            raise ValueError(f"{self.path} has words of row {rows[-1]}, but no such row. {REMEDY}")
        return rows

    def columns(self) -> list[str]:
        """Return the names of the columns that the rows have."""
        found = self._all("SELECT name FROM columns ORDER BY place")
        names = [self._text("columns", name) for (name,) in found]
        return [*FIELDS, *names]

    def categories(self, removed: np.ndarray) -> dict[str, int]:
        """Count the garments of each category that occurs, without removed rows."""
        name = sql_column("category", False)
        query = f"SELECT {name}, count(*) FROM garments"
        counts = dict(self._all(f"{query} GROUP BY {name}"))
        gone = f"{query} WHERE row IN (SELECT value FROM json_each(?)) GROUP BY {name}"
        if len(removed):
            for category, count in self._all(gone, [json.dumps(removed.tolist())]):
                counts[category] -= count
        left = {value or "": count for value, count in counts.items() if count}
        return {self._text("category", value): count for value, count in left.items()}

    def values_at(self, rows: np.ndarray, column: str) -> dict[int, str]:
        """Return the values of a column by row; rows without a value are missing."""
        if column not in self.columns():
            return {}
        name = sql_column(column, False)
        found = self._all(
            f"SELECT row, {name} FROM garments WHERE row IN (SELECT value FROM json_each(?)) "
            f"AND {name} IS NOT NULL",
            [json.dumps(rows.tolist())],
        )
        return {row: self._text(column, value) for row, value in found}

    def value_counts(self, column: str, most: int, removed: np.ndarray) -> dict[str, int] | None:
        """Count the garments with each value of a column, without removed rows.

        None: there are more than `most` values. Garments without a value are not counted.
        """
        if column not in self.columns():
            return {}
        name = sql_column(column, False)
        left, parameters = _without(removed)
        rows = f"FROM garments WHERE {name} IS NOT NULL{left}"
        # Long texts have no index: they would all be sorted to be counted.
        if len(self._all(f"SELECT DISTINCT {name} {rows} LIMIT {most + 1}", parameters)) > most:
            return None
        counts = self._all(f"SELECT {name}, count(*) {rows} GROUP BY {name}", parameters)
        return {self._text(column, value): count for value, count in counts}

    def numbers_of(self, column: str, removed: np.ndarray) -> Numbers | None:
        """Return the numbers of a column, without removed rows; None if a value is no number."""
        if column not in self.columns():
            return NO_NUMBERS
        text, number = sql_column(column, False), sql_column(column, True)
        left, parameters = _without(removed)
        other = f"{text} IS NOT NULL AND {number} IS NULL{left}"
        if self._one(f"SELECT 1 FROM garments WHERE {other} LIMIT 1", parameters):
            return None
        # Of this column alone, so that its index is read and not the table.
        count, different, low, high, whole = self._one(
            f"SELECT count({number}), count(DISTINCT {number}), min({number}), max({number}), "
            f"min({number} = CAST({number} AS INTEGER)) "
            f"FROM garments WHERE {number} IS NOT NULL{left}",
            parameters,
        )
        if count and not all(isinstance(value, (int, float)) for value in (low, high)):
            raise self._damaged(f"has numbers from {_short(low)} to {_short(high)} in {column!r}")
        names = bool(whole and different == count)
        return Numbers(count, names, low, high) if count else NO_NUMBERS

    def values_of(self, column: str, removed: np.ndarray) -> ColumnValues:
        """Summarise the values of a column, without removed rows."""
        if column not in self.columns():
            return ColumnValues(0, 0, ())
        text, number = sql_column(column, False), sql_column(column, True)
        left, parameters = _without(removed)
        counts = self._one(
            f"SELECT count({text}), count({number}) FROM garments WHERE 1{left}", parameters
        )
        most = self._all(
            f"SELECT {text} FROM garments WHERE {text} IS NOT NULL{left} GROUP BY {text} "
            f"ORDER BY {number} IS NOT NULL, count(*) DESC, {text} LIMIT 3",
            parameters,
        )
        texts, numbers = counts or (0, 0)
        examples = tuple(self._text(column, value)[:60] for (value,) in most)
        return ColumnValues(texts, numbers, examples)

    def check(self) -> None:
        """Check the whole file by reading every record.

        Raises:
            ValueError: the file is damaged.
        """
        (verdict,) = self._one("PRAGMA integrity_check(1)")
        if verdict != "ok":
            raise ValueError(f"{self.path} is damaged ({verdict}). {REMEDY}")
        for _ in self:
            pass

    def _in_order(self, columns: str) -> Iterator[tuple]:
        start = 0
        query = f"SELECT row, {columns} FROM garments WHERE row >= ? ORDER BY row LIMIT {_BATCH}"
        while found := self._all(query, [start]):
            yield from found
            start = found[-1][0] + 1

    def _record(self, row: int, values: Sequence[Any]) -> Record:
        try:
            *texts, metadata, size, mtime, content = values[:8]
            garment = Garment(*(text_of(text or "") for text in texts), parse_json(metadata))
            record = Record(garment, size, mtime, content, ThumbnailPlace(*values[8:]))
            if not _is_record(record):
                raise ValueError("of other types")
            return record
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self.path} row {row} is not a garment record ({error}). {REMEDY}"
            ) from error

    def _text(self, column: str, value: Any) -> str:
        """Return a stored text (see `text_of`) of a column, for messages.

        Raises:
            ValueError: it is none.
        """
        try:
            return text_of(value)
        except ValueError as error:
            raise self._damaged(f"has no text in {column!r}: {error}") from error

    def _damaged(self, why: str) -> ValueError:
        return ValueError(f"{self.path} {why}: it is damaged. {REMEDY}")

    def _rows(self, name: str, source: str, parameters: Sequence[Any]) -> np.ndarray:
        # One text is fetched several times faster than as many rows.
        (found,) = self._one(f"SELECT group_concat({name}) FROM {source}", parameters)
        return np.sort(np.fromstring(found or "", np.int64, sep=","))

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple | None:
        rows = self._all(sql, parameters)
        return rows[0] if rows else None

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple]:
        with self._lock:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.DatabaseError as error:
                raise ValueError(f"{self.path} is damaged ({error}). {REMEDY}") from error


class RecordWriter:
    """A context manager that fills a new SQLite file of records.

    columns: the names of all metadata that its rows have.
    """

    def __init__(self, connection: sqlite3.Connection, columns: Iterable[str]):
        self._connection = connection
        columns = sorted(columns)
        if len(columns) > _MOST_COLUMNS:
            raise ValueError(
                f"The garments have {len(columns)} different columns ({', '.join(columns[:5])}, "
                f"...): the limit is {_MOST_COLUMNS}. Leave out some of them in the table."
            )
        self._columns = columns
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-65536"):
            connection.execute(f"PRAGMA {pragma}")
        self._names = [sql_column(n, number) for n in (*FIELDS, *columns) for number in (0, 1)]
        defined = ", ".join(["row INTEGER PRIMARY KEY", *_PLAIN, *self._names])
        connection.execute(f"CREATE TABLE garments ({defined})")
        connection.execute("CREATE TABLE columns (place INTEGER PRIMARY KEY, name)")
        connection.executemany(
            "INSERT INTO columns (name) VALUES (?)", [(sql_value(c),) for c in columns]
        )

    @classmethod
    def create(cls, path: Path, columns: Iterable[str]) -> RecordWriter:
        """Create the file at `path`, in place of one that is there."""
        path.unlink(missing_ok=True)
        uri = sqlite_uri(path.absolute())
        return cls(sqlite3.connect(uri, uri=True, isolation_level=None), columns)

    def put(self, records: Iterable[tuple[int, Record]]) -> None:
        """Write (row, record) pairs, in place of what the rows held before."""
        names = ["row", *_PLAIN, *self._names]
        sql = f"REPLACE INTO garments ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        self._connection.execute("BEGIN")
        self._connection.executemany(sql, (self._line(row, record) for row, record in records))
        self._connection.execute("COMMIT")

    def finish(self) -> None:
        """Write the indexes and the words. Columns of long texts are not indexed."""
        run = self._connection.execute
        run("BEGIN")
        run(f"CREATE UNIQUE INDEX of_id ON garments ({sql_column('id', False)})")
        for number, name in enumerate(("category", *self._columns)):
            text, value = sql_column(name, False), sql_column(name, True)
            longest, numbers = run(
                f"SELECT max(length({text})), count({value}) FROM garments"
            ).fetchone()
            if longest is not None and longest <= _LONGEST_INDEXED:
                run(f"CREATE INDEX text_{number} ON garments ({text})")
            if numbers:
                run(f"CREATE INDEX number_{number} ON garments ({value})")
        if text_table.fts5_is_there():
            text_table.fill(self._connection, self._texts())
        run("COMMIT")

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _texts(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the rows with the texts of their columns, numbers left out."""
        columns = [name for name in self._columns if text_table.is_text_column(name)]
        wanted = ", ".join(
            f"CASE WHEN {sql_column(name, True)} IS NULL THEN {sql_column(name, False)} END"
            for name in ("caption", *columns)
        )
        for row, *texts in self._connection.execute(f"SELECT row, {wanted} FROM garments"):
            yield row, [text_of(text) for text in texts if text is not None]

    def _line(self, row: int, record: Record) -> list[Any]:
        garment = record.garment
        line = [row, json.dumps(dict(garment.metadata)), record.bytes, record.mtime_ns]
        line += [record.content, *record.thumbnail]
        texts = [getattr(garment, name) for name in FIELDS]
        texts += [garment.metadata.get(name, "") for name in self._columns]
        for text in texts:
            line += [sql_value(text) if text else None, number_of(text)]
        return line


def sqlite_uri(path: PurePath, options: str = "") -> str:
    """Return the URI of an absolute path for SQLite: of a share (UNC) too, and of any name.

    `Path.as_uri` names the share's server as the URI's authority, which SQLite refuses.
    """
    name = quote(os.fsencode(path.as_posix()), safe="/:")
    return f"file://{'' if name.startswith('/') else '/'}{name}?{options}"


def _without(removed: np.ndarray) -> tuple[str, list[str]]:
    """Return an SQL condition that leaves out removed rows, with its parameters."""
    if not len(removed):
        return "", []
    return " AND row NOT IN (SELECT value FROM json_each(?))", [json.dumps(removed.tolist())]


def of_category(category: str) -> Filter:
    """Return the filter for the garments of a category."""
    return Comparison("category", "=", category)


def text_of(value: str | bytes) -> str:
    """Return a stored text, which is bytes where it is no UTF-8 (see `filters.sql_value`).

    Raises:
        ValueError: it is none, as in a file that is damaged.
    """
    if not isinstance(value, (str, bytes)):
        raise ValueError(f"{value!r} is a {type(value).__name__}, expected a text")
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def _short(value: Any) -> str:
    return ascii(value)[:40]


def _check_sizes(path: Path, connection: sqlite3.Connection) -> None:
    """Check that no value of an untrusted file is made up while it is read, of whatever size.

    Raises:
        ValueError: a column is computed.
    """
    if hasattr(connection, "setlimit"):  # from Python 3.11 on
        # Lists of rows and of removed ones are shorter than the rows themselves.
        limit = min(max(_LONGEST_VALUE, path.stat().st_size), 1_000_000_000)
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, limit)
    for table in ("garments", "columns"):
        for _, name, *_, hidden in connection.execute(f"PRAGMA table_xinfo({table})"):
            if hidden:
                raise ValueError(
                    f"{path} computes the column {_short(name)} of {table}, expected stored ones: "
                    f"it is damaged. {REMEDY}"
                )


def _is_record(record: Record) -> bool:
    garment = record.garment
    texts = (garment.id, garment.file, garment.category, garment.caption, record.content)
    numbers = (record.bytes, *record.thumbnail)
    metadata = garment.metadata
    return (
        all(isinstance(text, str) for text in texts)
        and isinstance(record.mtime_ns, int)
        and all(isinstance(number, int) and number >= 0 for number in numbers)
        and isinstance(metadata, dict)
        and all(isinstance(value, str) for value in metadata.values())
    )
