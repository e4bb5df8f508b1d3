"""Between an index in a folder and a Milvus collection: push and pull.

A push fills a new collection, NAME_GENERATION_KIND, and only when that is complete makes the alias
NAME stand for it and drops the former one: a push that stops, however it stops, changes nothing
that readers see, and the next one of the same index goes on from there.
"""

from __future__ import annotations

import json
import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...progress import Progress, silent
from ..photos.catalogue import Reject
from ..photos.reader import Photo, PhotoReader
from ..store.commit import commit
from ..store.filters import Comparison, number_of
from ..store.index import GarmentIndex
from ..store.journal import Draft
from ..store.lock import only_writer
from ..store.manifest import MANIFEST
from ..store.records import FIELDS, Record
from .connection import KINDS, SCHEMA, Connection, Place, read_manifest
from .filters import Fields, stored_number, stored_text
from .index import VECTOR, MilvusIndex, garment_of

logger = logging.getLogger(__name__)


_BATCH = 1000  # rows in one request, well below the 64 MB of a message
_MOST_BYTES = 65_535  # of a VARCHAR
_MOST_FIELDS = 64  # of a collection, unless the server is configured otherwise
_INDEX = {
    "exact": ("FLAT", {}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 200}),
    "hnsw_sq": ("HNSW_SQ", {"M": 32, "efConstruction": 200, "sq_type": "SQ8"}),
    "diskann": ("DISKANN", {}),
}


def push(
    index: GarmentIndex,
    folder: Path,
    place: Place,
    *,
    kind: str = "exact",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Copy an index to a Milvus collection, and write `milvus.json` into `folder`.

    Args:
        kind: `exact` compares every vector, in full precision; `hnsw` is a graph in memory,
            `hnsw_sq` one of 8-bit codes, `diskann` one on disk (servers alone). What an
            approximate kind finds is ranked by exact scores.
        progress: called with (done, total) rows. It may raise to cancel.

    Returns:
        The collection's manifest.

    Raises:
        ImportError: pymilvus or milvus-lite is missing.
        ConnectionError, TimeoutError, PermissionError: the server can't be asked.
        FileExistsError: `folder` holds a local index, or the collection's name is that of a
            collection that was made by something else.
        ValueError: an unknown kind, a record or a number of columns that Milvus doesn't take, or
            rows that are missing in the end.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}: expected one of {', '.join(KINDS)}.")
    folder = Path(folder)
    if (folder / MANIFEST).exists():
        raise FileExistsError(f"{folder} holds a local index: choose another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    with only_writer(folder):
        connection = Connection(folder, place)
        try:
            connection.server.check_kind(kind)
            manifest = _push(index, connection, kind, progress or silent)
        finally:
            connection.close()
        place.write(folder)
    return manifest


def _push(
    index: GarmentIndex, connection: Connection, kind: str, progress: Progress
) -> dict[str, Any]:
    client, alias = connection.client, connection.place.collection
    options = {"timeout": connection.place.timeout}
    name = f"{alias}_{index.manifest['generation']}_{kind}"
    manifest = _manifest(index, alias, kind, half=connection.server.has_half and kind != "exact")
    with connection.explained():
        names = client.list_collections(**options)
        if alias in names:
            raise FileExistsError(
                f"{connection.address} has a collection {alias!r} that was made by something else: "
                "choose another name."
            )
        start, resumed = 0, name in names
        if resumed:
            there = read_manifest(client.describe_collection(name, **options))
            if there == manifest:
                client.load_collection(name, **options)
                start = _count(connection, name) // _BATCH * _BATCH
            else:  # made by another version
                client.drop_collection(name, **options)
                resumed = False
        if not resumed:
            _create(connection, name, manifest)
        columns = {column: Fields(*pair) for column, pair in manifest["columns"].items()}
        progress(start, len(index))
        for rows in _batches(index, columns, start, manifest["half"]):
            # Rows of a request that was interrupted may be there already.
            write = client.upsert if resumed and rows[0]["row"] == start else client.insert
            write(name, rows, **options)
            progress(rows[-1]["row"] + 1, len(index))
        client.flush(name, timeout=max(600.0, connection.place.timeout))
        _wait_for_index(connection, name, lambda: progress(len(index), len(index)))
        if (count := _count(connection, name)) != len(index):
            raise ValueError(
                f"The collection {name!r} at {connection.address} has {count} rows after a push of "
                f"{len(index)}: push again; if that doesn't help, drop the collection."
            )
        _point(connection, alias, name)
        _drop_former(connection, alias, name)
    return manifest


def pull(
    folder: Path,
    target: Path,
    catalogue_root: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[int, list[Reject]]:
    """Make a local index of a collection, without encoding anything.

    Thumbnails are made of the catalogue's photos. A photo that is not there, or not the one that
    was encoded, is left out: `fashion-rag index update` then takes it up.

    Args:
        folder: with `milvus.json`. target: of the index. catalogue_root: where the photos are.
        progress: called with (done, total) rows. It may raise to cancel; the next pull goes on
            from there.

    Returns:
        The number of garments in the index, and what was left out.

    Raises:
        FileExistsError: there is a finished index and `overwrite` is off.
        ValueError: none of the photos is there.
        Others as `MilvusIndex.open` does.
    """
    target, progress = Path(target), progress or silent
    if (target / MANIFEST).exists() and not overwrite:
        raise FileExistsError(
            f"{target} holds a finished index: choose another folder, or turn on overwrite."
        )
    if not Path(catalogue_root).is_dir():
        raise FileNotFoundError(f"The catalogue {catalogue_root} is not there.")
    source = MilvusIndex.open(folder, catalogue_root)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with only_writer(target):
            return _pull(source, target, progress)
    finally:
        source.close()


def _pull(source: MilvusIndex, target: Path, progress: Progress) -> tuple[int, list[Reject]]:
    encoder, root = source.manifest["encoder"], source.catalogue_root
    garments, contents = {}, []
    for record in source.records():
        garment = garment_of(json.dumps(record))
        garments[garment.file] = garment
        contents.append(record.get("content", ""))
    files, rejects = list(garments), []
    key = encoder["fingerprint"], encoder["dim"]
    with Draft(target, *key, root, files) as draft, PhotoReader(root, _no_pixels) as reader:
        rows = [row for row, file in enumerate(files) if file not in draft.rows]
        photos = reader.read([files[row] for row in rows], _BATCH)
        progress(len(draft.rows), len(files))
        for start in range(0, len(rows), _BATCH):
            part = np.array(rows[start : start + _BATCH])
            vectors = torch.from_numpy(source.vectors_at(part)).half()
            kept, places = [], []
            for place, (row, photo) in enumerate(zip(part, photos, strict=False)):
                if isinstance(photo, Photo) and contents[row] not in ("", photo.content):
                    photo = Reject(photo.file, "the photo is not the one that was encoded")
                if isinstance(photo, Photo):
                    kept.append(photo)
                    places.append(place)
                else:
                    rejects.append(photo)
            if kept:
                draft.append(kept, vectors[places])
            progress(len(draft.rows) + len(rejects), len(files))
        if not draft.rows:
            listed = "".join(f"\n  {reject.file}: {reject.reason}" for reject in rejects[:5])
            raise ValueError(f"No photo of the catalogue {root} can be used:{listed}")
        commit(
            target,
            [draft.finish(garments)],
            encoder=encoder,
            catalogue_root=root,
            rejects=rejects,
        )
        return len(draft.rows), rejects


def _no_pixels(image: Image.Image) -> torch.Tensor:
    """Prepare a photo for no encoder: a pull copies the vectors."""
    return torch.empty(0)


def _manifest(index: GarmentIndex, alias: str, kind: str, half: bool) -> dict[str, Any]:
    columns: dict[str, Fields] = {}
    for number, name in enumerate(index.columns()):
        numbers = index.rows_where(Comparison(name, ">=", -math.inf))
        columns[name] = Fields(f"t{number}", f"n{number}" if len(numbers) else None)
    used = 3 + sum(1 + (fields.number is not None) for fields in columns.values())
    if used > _MOST_FIELDS:
        raise ValueError(
            f"The garments have {len(columns)} columns, which take {used} fields; a collection of "
            f"Milvus has at most {_MOST_FIELDS}: leave some out of the catalogue's table."
        )
    return {
        "schema": SCHEMA,
        "generation": index.manifest["generation"],
        "collection": alias,
        "count": len(index),
        "kind": kind,
        "half": half,
        "catalogue": index.manifest["catalogue"],
        "encoder": index.manifest["encoder"],
        "columns": {name: list(fields) for name, fields in columns.items()},
        "categories": index.category_counts,
    }


def _create(connection: Connection, name: str, manifest: Mapping[str, Any]) -> None:
    from pymilvus import DataType, MilvusClient

    text = json.dumps(manifest)
    schema = MilvusClient.create_schema(
        auto_id=False,
        enable_dynamic_field=False,
        description=text if connection.server.keeps_descriptions else "",
    )
    schema.add_field("row", DataType.INT64, is_primary=True)
    vector = DataType.FLOAT16_VECTOR if manifest["half"] else DataType.FLOAT_VECTOR
    schema.add_field(VECTOR, vector, dim=manifest["encoder"]["dim"])
    schema.add_field("record", DataType.VARCHAR, max_length=_MOST_BYTES)
    indexes = connection.client.prepare_index_params()
    index_type, parameters = _INDEX[manifest["kind"]]
    indexes.add_index(VECTOR, index_type, VECTOR, metric_type="IP", params=parameters)
    for column, fields in manifest["columns"].items():
        schema.add_field(fields[0], DataType.VARCHAR, max_length=_MOST_BYTES)
        if column not in ("file", "caption"):
            indexes.add_index(fields[0], connection.server.text_index, fields[0])
        if fields[1]:
            schema.add_field(fields[1], DataType.DOUBLE)
            indexes.add_index(fields[1], connection.server.number_index, fields[1])
    connection.client.create_collection(
        name,
        schema=schema,
        properties=None if connection.server.keeps_descriptions else {"fashion_rag": text},
        timeout=connection.place.timeout,
    )
    connection.client.create_index(name, indexes, sync=False, timeout=connection.place.timeout)
    connection.client.load_collection(name, timeout=connection.place.timeout)


def _batches(
    index: GarmentIndex, columns: Mapping[str, Fields], start: int, half: bool
) -> Iterator[list[dict[str, Any]]]:
    for first in range(start, len(index), _BATCH):
        rows = index.rows[first : first + _BATCH]
        vectors = index.vectors.at(rows).numpy()
        vectors = vectors if half else vectors.astype(np.float32)
        # The collection's rows are numbered without those that are removed.
        yield [
            {"row": number, VECTOR: vector, **_values(index.record(row), columns)}
            for number, (row, vector) in enumerate(zip(rows, vectors, strict=True), first)
        ]


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
    """What is stored of a garment beside its vector."""
    garment = record.garment
    return {
        **{name: getattr(garment, name) for name in FIELDS},
        "metadata": dict(garment.metadata),
        "content": record.content,
    }


def _count(connection: Connection, name: str) -> int:
    (line,) = connection.client.query(
        name,
        filter="",
        output_fields=["count(*)"],
        consistency_level="Strong",
        timeout=connection.place.timeout,
    )
    return line["count(*)"]


def _wait_for_index(connection: Connection, name: str, tick: Callable[[], None]) -> None:
    while True:
        found = connection.client.describe_index(name, VECTOR, timeout=connection.place.timeout)
        if int((found or {}).get("pending_index_rows") or 0) == 0:
            return
        tick()
        time.sleep(1)


def _point(connection: Connection, alias: str, name: str) -> None:
    options = {"timeout": connection.place.timeout}
    client = connection.client
    if client.has_collection(alias, **options):
        client.alter_alias(name, alias, **options)
    else:
        client.create_alias(name, alias, **options)


def _drop_former(connection: Connection, alias: str, name: str) -> None:
    """Drop the collections of other pushes under the same name, finished or not."""
    options = {"timeout": connection.place.timeout}
    for other in connection.client.list_collections(**options):
        if other != name and re.fullmatch(rf"{alias}_[0-9a-f]{{8}}_({'|'.join(KINDS)})", other):
            manifest = read_manifest(connection.client.describe_collection(other, **options))
            if manifest is not None and manifest["collection"] == alias:
                connection.client.drop_collection(other, **options)
