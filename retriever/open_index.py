"""Opening an index of any sort by its folder."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from .backends import LocalBackend, SearchBackend
from .milvus.connection import CONFIG, CollectionPlace, Connection
from .milvus.index import MilvusIndex
from .store.index import GarmentIndex
from .store.manifest import MANIFEST, read_manifest

logger = logging.getLogger(__name__)

_UNANSWERED_FOR = 20.0
"""Seconds for which a server that did not answer is not asked for a collection's state again."""
_STATE_TIMEOUT = 5.0
_unanswered: dict[tuple[Path, int], tuple[float, OSError]] = {}


def open_index(
    folder: Path, catalogue_root: Path | None = None, search: str = "auto"
) -> SearchBackend:
    """Open the index in `folder`: a Milvus collection if it has a `milvus.json`, else a local one.

    Args:
        catalogue_root: where the photos are; None takes the place that the index records.
        search: how a local index is searched, one of search.BACKENDS.

    Raises:
        As `GarmentIndex.open` and `MilvusIndex.open` do.
    """
    folder = Path(folder)
    if (folder / CONFIG).is_file():
        return MilvusIndex.open(folder, catalogue_root)
    return LocalBackend(GarmentIndex.open(folder, catalogue_root), search)


def categories_of_index(folder: Path) -> tuple[str, ...]:
    """List the categories of a local index, sorted, to choose from; () where it can't be opened.

    A collection is not asked: a page that lists what there is must not wait for a server.
    """
    folder = Path(folder)
    if (folder / CONFIG).is_file() or not (folder / MANIFEST).is_file():
        return ()
    try:
        return _categories(folder, state_of_index(folder))
    except Exception as error:  # whatever it is: nodes are defined by this, and would be missing
        logger.info("The categories of %s are unknown: %s", folder, error)
        return ()


@lru_cache(maxsize=256)
def _categories(folder: Path, state: tuple) -> tuple[str, ...]:
    index = GarmentIndex.open(folder)
    try:
        return tuple(index.categories())
    finally:
        index.close()


def names_of_index(folder: Path) -> tuple[str, str] | None:
    """Return the names of a local index's encoder and catalogue.

    None: it is a collection, which is not asked, or the index can't be read.
    """
    folder = Path(folder)
    if (folder / CONFIG).is_file():
        return None
    try:
        manifest = read_manifest(folder)
    except (OSError, ValueError) as error:
        logger.info("The encoder of %s is unknown: %s", folder, error)
        return None
    return manifest["encoder"]["name"], manifest["catalogue"]["name"]


def state_of_index(folder: Path) -> tuple:
    """Return plain values that change when the index does; a collection's server is asked.

    A server that can't be asked is a state of its own, for some seconds without asking again:
    opening the index then says what is wrong.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        stat = (folder / MANIFEST).stat()
        return (stat.st_mtime_ns, stat.st_size)
    stat = (folder / CONFIG).stat()
    if (known := unanswered(folder)) is not None:
        return (stat.st_mtime_ns, stat.st_size, type(known).__name__)
    try:
        place = CollectionPlace.read(folder)
        place = replace(place, timeout=min(place.timeout, _STATE_TIMEOUT))
        connection = Connection(folder, place)
        try:
            return (stat.st_mtime_ns, stat.st_size, connection.manifest()[0])
        finally:
            connection.close()
    except (OSError, ValueError, ImportError) as error:
        logger.info("The state of %s is unknown: %s", folder, error)
        if isinstance(error, OSError):
            _unanswered[folder, stat.st_mtime_ns] = (time.monotonic(), error)
        return (stat.st_mtime_ns, stat.st_size, type(error).__name__)


def unanswered(folder: Path) -> OSError | None:
    """Return why the server of the collection in `folder` gave no answer some seconds ago.

    None: it is no collection, it answered, or it may be asked again.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        return None
    since, error = _unanswered.get((Path(folder), path.stat().st_mtime_ns), (0.0, None))
    return error if time.monotonic() - since < _UNANSWERED_FOR else None
