"""The records of an index: one row a garment in an SQLite file, read on demand.

Rows are numbered as the embeddings are. Beside the record itself, a row holds every column of the
catalogue's table twice, as text and, where the text is a number, as number, with indexes, so that
filters (see filters.py) are answered without looking at each garment.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..photos.catalogue import Garment
from .filters import Comparison, Filter, number_of, sql_column, sql_value
from .manifest import REMEDY

FIELDS = ("id", "file", "category", "caption")

_MOST_COLUMNS = 500  # SQLite's own limit is 2000, and each takes two
_LONGEST_INDEXED = 64  # characters: longer texts are descriptions, which nobody asks for whole
_BATCH = 4096


class Place(NamedTuple):
    """Where a thumbnail lies: the number of its file in the manifest, offset, length, CRC-32."""

    file: int
    offset: int
    length: int
    crc32: int


class ColumnValues(NamedTuple):
    """What a column holds: how many values, how many of them are numbers, the most frequent ones
    (rather those that are no numbers)."""

    texts: int
    numbers: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """A garment, and what tells whether its photo has changed since it was encoded.

    bytes, mtime_ns: of the photo's file. content: its sha256.
    """

    garment: Garment
    bytes: int
    mtime_ns: int
    content: str
    thumbnail: Place


_PLAIN = ("metadata", "bytes", "mtime_ns", "content", *(f"thumbnail_{f}" for f in Place._fields))
_RECORD = ", ".join([*(sql_column(name, False) for name in FIELDS), *_PLAIN])


class Records:
    """The rows of an SQLite file, opened for reading; may be used from several threads."""

    def __init__(self, path: Path | None, connection: sqlite3.Connection):
        self._path, self._connection = path, connection
        self._lock = threading.Lock()
        (last,) = self._one("SELECT max(row) FROM garments")
        self._count = 0 if last is None else last + 1

    @classmethod
    def open(cls, path: Path) -> Records:
        """Open a file that `RecordWriter` made.

        Raises:
            ValueError: it is damaged, or something else.
        """
        try:
            # Immutable: no lock files, so that a disk that can't be written to serves as well.
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            connection = sqlite3.connect(uri, uri=True, check_same_thread=False)
            for pragma in ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=1073741824"):
                connection.execute(f"PRAGMA {pragma}")
            kinds = {kind for (kind,) in connection.execute("SELECT type FROM sqlite_master")}
            if not kinds <= {"table", "index"}:
                raise ValueError(f"{path} holds more than tables: {sorted(kinds)}. {REMEDY}")
            return cls(path, connection)
        except sqlite3.Error as error:
            raise ValueError(f"{path} is damaged ({error}). {REMEDY}") from error

    @classmethod
    def in_memory(cls, garments: Iterable[Garment]) -> Records:
        """The records of garments without photos, for an index that is not on disk."""
        garments = list(garments)
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        connection.isolation_level = None
        writer = RecordWriter(connection, {name for g in garments for name in g.metadata})
        writer.put(enumerate(Record(garment, 0, 0, "", Place(0, 0, 0, 0)) for garment in garments))
        writer.finish()
        return cls(None, connection)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __len__(self) -> int:
        return self._count

    def record(self, row: int) -> Record:
        """The record of a row.

        Raises:
            IndexError: there is no such row.
            ValueError: the row is damaged.
        """
        found = self._one(f"SELECT {_RECORD} FROM garments WHERE row = ?", [int(row)])
        if found is None:
            raise IndexError(f"There is no row {row}: the index has {len(self)}.")
        return self._record(row, found)

    def __iter__(self) -> Iterator[Record]:
        """All records in the order of the rows."""
        start = 0
        query = f"SELECT row, {_RECORD} FROM garments WHERE row >= ? ORDER BY row LIMIT {_BATCH}"
        while found := self._all(query, [start]):
            for row, *values in found:
                yield self._record(row, values)
            start = found[-1][0] + 1

    def row_of(self, garment_id: str) -> int:
        """The row of a garment.

        Raises:
            KeyError: there is no garment of that id.
        """
        name = sql_column("id", False)
        found = self._one(f"SELECT row FROM garments WHERE {name} IS ?", [sql_value(garment_id)])
        if found is None:
            raise KeyError(garment_id)
        return found[0]

    def rows_where(self, condition: Filter | None) -> np.ndarray:
        """The rows that a filter is true of, int64, ascending.

        Raises:
            ValueError: the filter names a column that the catalogue's table doesn't have.
        """
        if condition is None:
            return np.arange(len(self))
        known = self.columns()
        if unknown := sorted(condition.columns() - set(known)):
            raise ValueError(
                f"The filter asks for the column {unknown[0]!r}; the garments have: "
                f"{', '.join(known)}."
            )
        sql, parameters = condition.to_sql()
        # One text is fetched several times faster than as many rows.
        (found,) = self._one(f"SELECT group_concat(row) FROM garments WHERE {sql}", parameters)
        return np.sort(np.fromstring(found or "", np.int64, sep=","))

    def rows_also_in(self, other: Records) -> np.ndarray:
        """The rows of garments whose ids, or files, another file of records has as well."""
        name, file = sql_column("id", False), sql_column("file", False)
        ids = {row for (row,) in other._all(f"SELECT {name} FROM garments")}
        files = {row for (row,) in other._all(f"SELECT {file} FROM garments")}
        found = [
            row
            for row, own, path in self._all(f"SELECT row, {name}, {file} FROM garments")
            if own in ids or path in files
        ]
        return np.array(sorted(found), dtype=np.int64)

    def columns(self) -> list[str]:
        """The columns that a filter may name."""
        names = [_text(name) for (name,) in self._all("SELECT name FROM columns ORDER BY place")]
        return [*FIELDS, *names]

    def categories(self) -> dict[str, int]:
        """The number of garments of each category that occurs, sorted; '' is 'none'."""
        name = sql_column("category", False)
        counts = self._all(f"SELECT {name}, count(*) FROM garments GROUP BY {name}")
        return dict(sorted((_text(category or ""), count) for category, count in counts))

    def value_counts(self, column: str, most: int) -> dict[str, int] | None:
        """The number of garments with each value of a column, sorted; None if there are more than
        `most` values. Garments without a value are not counted.

        Raises:
            ValueError: there is no such column.
        """
        if column not in self.columns():
            raise ValueError(f"There is no column {column!r}; there are {self.columns()}.")
        name = sql_column(column, False)
        counts = self._all(
            f"SELECT {name}, count(*) FROM garments WHERE {name} IS NOT NULL GROUP BY {name} "
            f"LIMIT {most + 1}"
        )
        if len(counts) > most:
            return None
        return dict(sorted((_text(value), count) for value, count in counts))

    def values_of(self, column: str) -> ColumnValues:
        """What a column of `columns` holds."""
        text, number = sql_column(column, False), sql_column(column, True)
        texts, numbers = self._one(f"SELECT count({text}), count({number}) FROM garments")
        most = self._all(
            f"SELECT {text} FROM garments WHERE {text} IS NOT NULL GROUP BY {text} "
            f"ORDER BY {number} IS NOT NULL, count(*) DESC, {text} LIMIT 3"
        )
        return ColumnValues(texts, numbers, tuple(_text(value)[:60] for (value,) in most))

    def check(self) -> None:
        """Read everything.

        Raises:
            ValueError: the file is damaged.
        """
        (verdict,) = self._one("PRAGMA integrity_check(1)")
        (count,) = self._one("SELECT count(*) FROM garments NOT INDEXED")
        if verdict != "ok" or count != len(self):
            raise ValueError(f"{self._path} is damaged ({verdict}, {count} rows). {REMEDY}")
        for _ in self:
            pass

    def _record(self, row: int, values: Sequence[Any]) -> Record:
        try:
            *texts, metadata, size, mtime, content = values[:8]
            garment = Garment(*(_text(text or "") for text in texts), json.loads(metadata))
            record = Record(garment, size, mtime, content, Place(*values[8:]))
            if not _is_record(record):
                raise ValueError("of other types")
            return record
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{self._path} row {row} is not a garment record ({error}). {REMEDY}"
            ) from error

    def _one(self, sql: str, parameters: Sequence[Any] = ()) -> tuple | None:
        rows = self._all(sql, parameters)
        return rows[0] if rows else None

    def _all(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple]:
        with self._lock:
            try:
                return self._connection.execute(sql, parameters).fetchall()
            except sqlite3.DatabaseError as error:
                raise ValueError(f"{self._path} is damaged ({error}). {REMEDY}") from error


class RecordWriter:
    """Fills a new SQLite file; `columns` are all names of metadata that its rows have."""

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
        path.unlink(missing_ok=True)
        uri = path.absolute().as_uri()
        return cls(sqlite3.connect(uri, uri=True, isolation_level=None), columns)

    def put(self, records: Iterable[tuple[int, Record]]) -> None:
        """Write records under their row numbers, in place of what a row held before."""
        names = ["row", *_PLAIN, *self._names]
        sql = f"REPLACE INTO garments ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        self._connection.execute("BEGIN")
        self._connection.executemany(sql, (self._line(row, record) for row, record in records))
        self._connection.execute("COMMIT")

    def copy(self, source: Path, rows: np.ndarray, start: int, files: Sequence[int]) -> None:
        """Copy `rows` (ascending) of another file of records; the first becomes row `start`.

        files: the new numbers of the thumbnail files 0, 1, ... of the source.
        """
        run = self._connection.execute
        run("ATTACH ? AS source", [f"{source.absolute().as_uri()}?mode=ro&immutable=1"])
        try:
            there = {name for _, name, *_ in run("PRAGMA source.table_info(garments)")}
            names = [name for name in self._names if name.strip('"') in there]
            into = ", ".join(["row", *_PLAIN, *names])
            number = "CASE thumbnail_file " + " ".join(
                f"WHEN {old} THEN {new}" for old, new in enumerate(files)
            )
            of = ", ".join(
                [
                    f"{number} END" if name == "thumbnail_file" else name
                    for name in (*_PLAIN, *names)
                ]
            )
            run("BEGIN")
            for first, last, place in ranges(rows):
                run(
                    f"INSERT INTO garments ({into}) SELECT row + ?, {of} FROM source.garments "
                    "WHERE row BETWEEN ? AND ? ORDER BY row",
                    [start + place - first, first, last],
                )
            run("COMMIT")
        finally:
            run("DETACH source")

    def thumbnail_bytes(self) -> dict[int, int]:
        """How much of each thumbnail file the rows use, by its number."""
        return dict(
            self._connection.execute(
                "SELECT thumbnail_file, sum(thumbnail_length) FROM garments GROUP BY thumbnail_file"
            ).fetchall()
        )

    def move_thumbnails(
        self,
        files: Collection[int],
        move: Callable[[int, int, int], int],
        new_number: Mapping[int, int],
        number: int,
    ) -> None:
        """Move the thumbnails of `files` to the file `number` and renumber those of the others.

        move: takes file, offset and length, and returns the new offset.
        """
        run = self._connection.execute
        run("BEGIN")
        run("CREATE TEMP TABLE moved (row INTEGER PRIMARY KEY, place)")
        places = run(
            "SELECT row, thumbnail_file, thumbnail_offset, thumbnail_length FROM garments "
            f"WHERE thumbnail_file IN ({', '.join(map(str, sorted(files)))}) ORDER BY row"
        )
        insert = self._connection.cursor()
        insert.executemany(
            "INSERT INTO moved VALUES (?, ?)", ((row, move(*place)) for row, *place in places)
        )
        cases = " ".join(f"WHEN {old} THEN {new}" for old, new in new_number.items())
        if cases:
            run(f"UPDATE garments SET thumbnail_file = CASE thumbnail_file {cases} ELSE -1 END")
        run(
            "UPDATE garments SET thumbnail_file = ?, thumbnail_offset = moved.place FROM moved "
            "WHERE moved.row = garments.row",
            [number],
        )
        run("DROP TABLE moved")
        run("COMMIT")

    def finish(self) -> None:
        """Write the indexes. Columns of long texts are not indexed."""
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
        run("COMMIT")

    def close(self) -> None:
        self._connection.close()

    def _line(self, row: int, record: Record) -> list[Any]:
        garment = record.garment
        line = [row, json.dumps(dict(garment.metadata)), record.bytes, record.mtime_ns]
        line += [record.content, *record.thumbnail]
        texts = [getattr(garment, name) for name in FIELDS]
        texts += [garment.metadata.get(name, "") for name in self._columns]
        for text in texts:
            line += [sql_value(text) if text else None, number_of(text)]
        return line


def ranges(rows: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """The runs of consecutive numbers in ascending `rows`: first, last, place of the first."""
    starts = np.flatnonzero(np.diff(rows, prepend=rows[:1] - 2) != 1)
    for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield int(rows[start]), int(rows[end - 1]), int(start)


def of_category(category: str) -> Filter:
    return Comparison("category", "=", category)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


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
