"""Pushing an index in a folder to a Milvus collection.

A push fills a new collection, NAME_GENERATION_KIND, and only when that is complete makes the alias
NAME stand for it and drops the former one. Where the former one holds most of the garments already
(rows.py), the others are added to it, and what the alias stands for then is a head: a collection
without rows, whose manifest says where they are and which of them count. Garments that are gone
are deleted after that. So a push that stops, however it stops, changes nothing that readers see,
and the next one of the same index goes on from there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...progress import Progress, silent
from ..store.filters import Comparison
from ..store.index import GarmentIndex
from ..store.lock import only_writer
from ..store.manifest import MANIFEST
from ..store.text_table import fts5_is_there
from .collection import count, create, create_head, delete, fill, row_numbers
from .connection import (
    KINDS,
    SCHEMA,
    CollectionPlace,
    Connection,
    NotLoadedError,
    read_manifest,
)
from .filters import Fields
from .full_text import FIELDS
from .rows import Rows
from .server import Server

_MOST_FIELDS = 64  # of a collection, unless the server is configured otherwise


def push(
    index: GarmentIndex,
    folder: Path,
    place: CollectionPlace,
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
        OSError: the server has no room for more rows.
        FileExistsError: `folder` holds a local index, or the collection's name is that of a
            collection that was made by something else.
        FileNotFoundError: a push of another index has ended meanwhile, and dropped this one's rows.
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
        except NotLoadedError as error:
            raise FileNotFoundError(
                f"{error} Another push may have ended meanwhile, and dropped this one's rows: push "
                "again."
            ) from error
        finally:
            connection.close()
        place.write(folder)
    return manifest


def _push(
    index: GarmentIndex, connection: Connection, kind: str, progress: Progress
) -> dict[str, Any]:
    alias = connection.place.collection
    with connection.explained():
        if alias in _collections(connection):
            raise FileExistsError(
                f"{connection.address} has a collection {alias!r} that was made by something else: "
                "choose another name."
            )
        manifest = _manifest(index, alias, kind, connection.server)
        former = _former(connection)
        if former is not None:
            if _is_whole(connection, index, manifest, *former):
                progress(len(index), len(index))
                return former[1]
            if _adds(index, manifest, former[1]):
                return _add(index, connection, manifest, *former, progress)
        name = _new_name(manifest, former)
        rows = Rows.of(index) or Rows.numbered(len(index))
        manifest["parts"] = rows.to_manifest()
        resumed = _keep_if_begun(connection, name, manifest)
        if resumed:
            connection.load(name)
        else:
            create(connection, name, manifest)
        fill(
            connection,
            name,
            index,
            manifest,
            rows.numbers(),
            index.rows,
            there=0,
            resumed=resumed,
            progress=progress,
        )
        _point(connection, name, former)
        _drop_others(connection, name)
    return manifest


def _is_whole(
    connection: Connection,
    index: GarmentIndex,
    manifest: Mapping[str, Any],
    head: str,
    former: Mapping[str, Any],
) -> bool:
    """Tell whether readers have this very index already; delete leftovers of its push."""
    if not manifest["generation"] or any(
        former.get(name) != value for name, value in manifest.items()
    ):
        return False
    data = former.get("rows_in", head)
    connection.load(data)
    _sweep(connection, data, Rows.of_manifest(former))
    if count(connection, data) != len(index):
        return False
    _drop_others(connection, head, data)
    return True


def _adds(index: GarmentIndex, manifest: Mapping[str, Any], former: Mapping[str, Any]) -> bool:
    """Tell whether the former collection can hold the index, and holds most of it."""
    alike = ("kind", "half", "encoder", "columns", "words")
    if any(former.get(name) != manifest.get(name) for name in alike):
        return False
    before = Rows.of_manifest(former)
    rows = Rows.of(index, before)
    return rows is not None and 2 * int(before.holds(rows.numbers()).sum()) >= len(index)


def _add(
    index: GarmentIndex,
    connection: Connection,
    manifest: dict[str, Any],
    head: str,
    former: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Make the former collection that of the index: write what it lacks, delete what is gone."""
    data = former.get("rows_in", head)
    before = Rows.of_manifest(former)
    rows = Rows.of(index, before)
    manifest |= {"parts": rows.to_manifest(), "rows_in": data}
    connection.load(data)
    name = _new_name(manifest, (head, former))
    resumed = _keep_if_begun(connection, name, manifest)
    if not resumed:
        _sweep(connection, data, before)
        create_head(connection, name, manifest)
    numbers, there = rows.numbers(), before.numbers()
    new = ~before.holds(numbers)
    fill(
        connection,
        data,
        index,
        manifest,
        numbers[new],
        index.rows[new],
        there=len(there),
        resumed=resumed,
        progress=progress,
    )
    _point(connection, name, (head, former))
    delete(connection, data, there[~rows.holds(there)])
    _drop_others(connection, name, data)
    return manifest


def _sweep(connection: Connection, data: str, rows: Rows) -> None:
    """Delete the rows that no reader counts: those of a push that stopped."""
    if count(connection, data) != len(rows):
        for found in row_numbers(connection, data):
            delete(connection, data, found[~rows.holds(found)])


def _manifest(index: GarmentIndex, alias: str, kind: str, server: Server) -> dict[str, Any]:
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
    words = server.has_full_text and fts5_is_there() and used + FIELDS <= _MOST_FIELDS
    return {
        "schema": SCHEMA,
        "generation": index.manifest["generation"],
        "collection": alias,
        "count": len(index),
        "kind": kind,
        "half": server.has_half and kind != "exact",
        "catalogue": index.manifest["catalogue"],
        "encoder": index.manifest["encoder"],
        "columns": {name: list(fields) for name, fields in columns.items()},
        "categories": index.category_counts,
        # Named where it is so alone: to others a manifest of an earlier version is the same.
        **({"words": True} if words else {}),
    }


def _collections(connection: Connection) -> list[str]:
    return connection.client.list_collections(timeout=connection.place.timeout)


def _former(connection: Connection) -> tuple[str, dict[str, Any]] | None:
    """Return the collection that the alias stands for, with its manifest.

    None: there is no alias, or no manifest of this schema.

    Raises:
        FileExistsError: the alias is of something else.
    """
    alias, options = connection.place.collection, {"timeout": connection.place.timeout}
    if not connection.client.has_collection(alias, **options):
        return None
    described = connection.client.describe_collection(alias, **options)
    name, manifest = described["collection_name"], read_manifest(described)
    if manifest is None and not _pattern(alias).fullmatch(name):
        raise FileExistsError(
            f"{connection.address} has an alias {alias!r} for the collection {name!r}, which was "
            "made by something else: choose another name."
        )
    return None if manifest is None else (name, manifest)


def _pattern(alias: str) -> re.Pattern[str]:
    """Return a pattern for the names of collections that pushes make."""
    return re.compile(rf"{alias}_[0-9a-f]{{8}}_({'|'.join(KINDS)})(_[bc])?")


def _new_name(manifest: Mapping[str, Any], former: tuple[str, Mapping[str, Any]] | None) -> str:
    """Choose a name for a collection that readers don't use.

    Theirs may be of the same index, pushed by another version or from another folder.
    """
    used = {former[0], former[1].get("rows_in")} if former else set()
    name = f"{manifest['collection']}_{manifest['generation']}_{manifest['kind']}"
    return next(one for one in (name, f"{name}_b", f"{name}_c") if one not in used)


def _keep_if_begun(connection: Connection, name: str, manifest: Mapping[str, Any]) -> bool:
    """Tell whether a push of the same index began with this collection; drop any other one."""
    options = {"timeout": connection.place.timeout}
    if name not in _collections(connection):
        return False
    if read_manifest(connection.client.describe_collection(name, **options)) == manifest:
        return True
    connection.client.drop_collection(name, **options)
    return False


def _point(connection: Connection, name: str, former: tuple[str, Mapping[str, Any]] | None) -> None:
    """Make the alias stand for a collection.

    Raises:
        ValueError: another push has done so meanwhile.
    """
    options = {"timeout": connection.place.timeout}
    client, alias = connection.client, connection.place.collection
    now = _former(connection)
    if now is not None and now[0] not in (name, former and former[0]):
        raise ValueError(
            f"Another push to {alias!r} at {connection.address} has ended meanwhile: push again."
        )
    if client.has_collection(alias, **options):
        client.alter_alias(name, alias, **options)
    else:
        client.create_alias(name, alias, **options)


def _drop_others(connection: Connection, *kept: str) -> None:
    """Drop the collections of other pushes under the same name, finished or not."""
    options = {"timeout": connection.place.timeout}
    alias = connection.place.collection
    for other in _collections(connection):
        if other not in kept and _pattern(alias).fullmatch(other):
            manifest = read_manifest(connection.client.describe_collection(other, **options))
            if manifest is not None and manifest["collection"] == alias:
                connection.client.drop_collection(other, **options)
