"""One collection on a server: creating it, filling it, reading and deleting its rows.

A collection of rows holds garments. One without rows, a head, only carries the manifest of an
index whose rows lie in another.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ...progress import Progress
from ..store.filters import number_of
from ..store.index import GarmentIndex
from ..store.records import FIELDS, Record
from .connection import Connection
from .filters import Fields, stored_number, stored_text
from .full_text import WORDS, add_fields, stored_words
from .index import VECTOR

logger = logging.getLogger(__name__)

BATCH = 1000  # rows in one request, well below the 64 MB of a message

_MOST_BYTES = 65_535  # of a VARCHAR
_MOST_LISTED = 16_000  # rows in one answer
_LONG = 600.0  # seconds, for requests that take longer the more rows there are
_INDEX = {
    "exact": ("FLAT", {}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 200}),
    "hnsw_sq": ("HNSW_SQ", {"M": 32, "efConstruction": 200, "sq_type": "SQ8"}),
    "diskann": ("DISKANN", {}),
}


def create(connection: Connection, name: str, manifest: Mapping[str, Any]) -> None:
    """Make an empty collection for the rows of an index, with the manifest as its description."""
    from pymilvus import DataType

    server, schema = connection.server, _schema(connection, manifest)
    schema.add_field("record", DataType.VARCHAR, max_length=_MOST_BYTES)
    indexes = connection.client.prepare_index_params()
    index_type, parameters = _INDEX[manifest["kind"]]
    indexes.add_index(VECTOR, index_type, VECTOR, metric_type="IP", params=parameters)
    for column, fields in manifest["columns"].items():
        schema.add_field(fields[0], DataType.VARCHAR, max_length=_MOST_BYTES)
        if column not in ("file", "caption"):
            indexes.add_index(fields[0], server.text_index, fields[0])
        if fields[1]:
            schema.add_field(fields[1], DataType.DOUBLE)
            indexes.add_index(fields[1], server.number_index, fields[1])
    if manifest.get("words"):
        add_fields(schema, indexes)
    _make(connection, name, schema, manifest)
    connection.client.create_index(name, indexes, sync=False, timeout=_patient(connection))
    connection.load(name)


def create_head(connection: Connection, name: str, manifest: Mapping[str, Any]) -> None:
    """Make a collection that only carries a manifest."""
    _make(connection, name, _schema(connection, manifest), manifest)


def _schema(connection: Connection, manifest: Mapping[str, Any]) -> Any:
    from pymilvus import DataType, MilvusClient

    text = json.dumps(manifest) if connection.server.keeps_descriptions else ""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False, description=text)
    schema.add_field("row", DataType.INT64, is_primary=True)
    vector = DataType.FLOAT16_VECTOR if manifest["half"] else DataType.FLOAT_VECTOR
    schema.add_field(VECTOR, vector, dim=manifest["encoder"]["dim"])
    return schema


def _make(connection: Connection, name: str, schema: Any, manifest: Mapping[str, Any]) -> None:
    kept = connection.server.keeps_descriptions
    connection.client.create_collection(
        name,
        schema=schema,
        properties=None if kept else {"fashion_rag": json.dumps(manifest)},
        timeout=_patient(connection),
    )


def fill(
    connection: Connection,
    name: str,
    index: GarmentIndex,
    manifest: Mapping[str, Any],
    numbers: np.ndarray,
    rows: np.ndarray,
    *,
    there: int,
    resumed: bool,
    progress: Progress,
) -> None:
    """Write garments into a collection, and return when every reader finds them.

    Args:
        numbers: (n,) int64, the garments' rows in the collection; rows: (n,) those in the index.
        there: how many rows the collection has beside these.
        resumed: a former push may have written some of them; what follows its last whole request
            is written.

    Raises:
        ValueError: a record that Milvus doesn't take, or another number of rows in the end.
    """
    start = 0
    if resumed:
        start = min(max(0, count(connection, name) - there), len(numbers)) // BATCH * BATCH
    # Rows of a request that was interrupted may be there already; so may those of another push.
    _write(connection, name, index, manifest, numbers, rows, start, resumed, progress)
    expected = there + len(numbers)
    if count(connection, name) > expected:  # another push of the same index wrote rows as well
        logger.warning("%s holds rows twice: all are written once more.", name)
        _write(connection, name, index, manifest, numbers, rows, 0, True, progress)
    connection.client.flush(name, timeout=_patient(connection))
    _wait_for_index(connection, name, lambda: progress(len(index), len(index)))
    if (found := count(connection, name)) != expected:
        raise ValueError(
            f"The collection {name!r} at {connection.address} has {found} rows after a push that "
            f"makes it {expected}: another push may be at work. Push again when it has ended; if "
            "that doesn't help, drop the collection."
        )
    _wait_for_readers(connection, name, expected)


def _write(
    connection: Connection,
    name: str,
    index: GarmentIndex,
    manifest: Mapping[str, Any],
    numbers: np.ndarray,
    rows: np.ndarray,
    start: int,
    replace: bool,
    progress: Progress,
) -> None:
    columns = {column: Fields(*pair) for column, pair in manifest["columns"].items()}
    kept = len(index) - len(numbers)
    progress(kept + start, len(index))
    write = connection.client.upsert if replace else connection.client.insert
    for first in range(start, len(numbers), BATCH):
        last = min(first + BATCH, len(numbers))
        batch = _batch(index, columns, numbers[first:last], rows[first:last], manifest)
        write(name, batch, timeout=connection.place.timeout)
        progress(kept + last, len(index))


def _batch(
    index: GarmentIndex,
    columns: Mapping[str, Fields],
    numbers: np.ndarray,
    rows: np.ndarray,
    manifest: Mapping[str, Any],
) -> list[dict[str, Any]]:
    vectors = index.vectors.at(rows).numpy()
    vectors = vectors if manifest["half"] else vectors.astype(np.float32)
    records = [index.record(row) for row in rows.tolist()]
    lines = [
        {"row": number, VECTOR: vector, **_values(record, columns)}
        for number, vector, record in zip(numbers.tolist(), vectors, records, strict=True)
    ]
    if manifest.get("words"):
        words = stored_words([record.garment for record in records])
        for line, text in zip(lines, words, strict=True):
            line[WORDS] = text
    return lines


def _values(record: Record, columns: Mapping[str, Fields]) -> dict[str, Any]:
    garment = record.garment
    # ASCII, since names may hold bytes that are no UTF-8.
    values: dict[str, Any] = {"record": json.dumps(record_of(record))}
    for column, fields in columns.items():
        plain = column in FIELDS
        text = getattr(garment, column) if plain else garment.metadata.get(column, "")
        values[fields.text] = stored_text(text)
        if fields.number:
            values[fields.number] = stored_number(number_of(text))
    for name, value in values.items():
        if isinstance(value, str) and len(value.encode()) > _MOST_BYTES:
            raise ValueError(
                f"The garment {garment.id!r} has a text of {len(value.encode())} bytes ({name}); "
                f"Milvus takes {_MOST_BYTES}: shorten it in the catalogue's table."
            )
    return values


def record_of(record: Record) -> dict[str, Any]:
    """Return what a collection stores of a garment beside its vector."""
    garment = record.garment
    return {
        **{name: getattr(garment, name) for name in FIELDS},
        "metadata": dict(garment.metadata),
        "content": record.content,
    }


def count(connection: Connection, name: str, consistency: str = "Strong") -> int:
    """Count the rows: all that were written, or with "Bounded" those that readers see."""
    (line,) = connection.client.query(
        name,
        filter="",
        output_fields=["count(*)"],
        consistency_level=consistency,
        timeout=connection.place.timeout,
    )
    return line["count(*)"]


def delete(connection: Connection, name: str, numbers: np.ndarray) -> None:
    """Delete rows of a collection; those that it does not have are passed over."""
    for start in range(0, len(numbers), BATCH):
        some = numbers[start : start + BATCH].tolist()
        connection.client.delete(name, ids=some, timeout=connection.place.timeout)


def row_numbers(connection: Connection, name: str) -> Iterator[np.ndarray]:
    """Return the rows that the collection has, int64, ascending."""
    last = -1
    while True:
        lines = connection.client.query(
            name,
            filter=f"row > {last}",
            output_fields=["row"],
            limit=_MOST_LISTED,
            consistency_level="Strong",
            timeout=connection.place.timeout,
        )
        if not lines:
            return
        found = np.sort(np.array([line["row"] for line in lines], np.int64))
        last = int(found[-1])
        yield found


def _wait_for_index(connection: Connection, name: str, tick: Any) -> None:
    while True:
        found = connection.client.describe_index(name, VECTOR, timeout=connection.place.timeout)
        if int((found or {}).get("pending_index_rows") or 0) == 0:
            return
        tick()
        time.sleep(1)


def _wait_for_readers(connection: Connection, name: str, expected: int) -> None:
    """Wait until a reader, who doesn't wait for what was just written, finds all rows."""
    until = time.monotonic() + max(60.0, connection.place.timeout)
    while count(connection, name, "Bounded") != expected:
        if time.monotonic() > until:
            logger.warning("%s: readers may miss some garments for a while.", name)
            return
        time.sleep(0.2)


def _patient(connection: Connection) -> float:
    return max(_LONG, connection.place.timeout)
