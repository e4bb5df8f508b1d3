"""What a query asks of an index, whether its vectors lie in a folder or in a Milvus collection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from .encoders.open_clip import Encoder
from .photos.catalogue import Garment
from .search import nearest
from .store.filters import Filter
from .store.index import GarmentIndex
from .store.records import ColumnValues
from .word_search import search_words


class SearchBackend(Protocol):
    """What a query can ask of an index: garments in numbered rows, each with a unit vector.

    manifest: with `catalogue` (name, path) and `encoder` (name, fingerprint, dim).
    catalogue_root: the folder of the photos; may be set to where they are on this machine.
    """

    manifest: dict[str, Any]
    catalogue_root: Path

    def __len__(self) -> int: ...

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise ValueError unless `encoder` is the one that the vectors were made with."""
        ...

    def nearest(
        self, queries: np.ndarray, k: int, category: str | None, where: Filter | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find the k garments of `category` that match `where`, by cosine similarity.

        Args:
            queries: (q, dim) float32 unit vectors.

        Returns:
            scores (q, k) float32, best first, ties in row order; rows (q, k) int64, -1 where
            there are fewer.

        Raises:
            ValueError: there is no such category or column.
        """
        ...

    def nearest_by_words(
        self, text: str, query: np.ndarray, k: int, category: str | None, where: Filter | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Find the k garments of `category` that match `where` and hold a text's rarest words.

        Args:
            query: (dim,) float32 unit vector, by which equally good ones are ordered.

        Returns:
            Scores by words and cosine similarities, float32, and rows, int64, best first; no
            garment whose texts hold none of the words. See word_search.py.

        Raises:
            ValueError: there is no such category or column, or words can't be searched here.
        """
        ...

    @property
    def has_words(self) -> bool:
        """Whether the words of all garments can be searched."""
        ...

    def categories(self) -> Collection[str]:
        """Return the categories that occur; '' stands for garments without one."""
        ...

    def columns(self) -> Collection[str]:
        """Return the names of the columns of the garments' records."""
        ...

    def values_at(self, rows: np.ndarray, column: str) -> list[str]:
        """Return the values of a column in the given rows, in order; '' where there is none."""
        ...

    def values_of(self, column: str) -> ColumnValues:
        """Summarise the values of a column, to explain why a filter finds nothing."""
        ...

    def rows_of_ids(self, ids: Sequence[str]) -> np.ndarray:
        """Return the rows (n,) int64 of n garment ids; -1 for an id that the index lacks."""
        ...

    def garments_at(self, rows: np.ndarray) -> list[Garment]:
        """Return the records of the given rows, in their order."""
        ...

    def vectors_at(self, rows: np.ndarray) -> np.ndarray:
        """Return the unit vectors (len(rows), dim) float32 of the given rows, in their order."""
        ...

    def photo(self, garment: Garment) -> Image.Image:
        """Open the garment's photo from the catalogue: full size, RGB on white."""
        ...

    def thumbnail(self, garment: Garment) -> Image.Image:
        """Open the garment's photo, fitted into 256 x 256 pixels."""
        ...


class LocalBackend:
    """A SearchBackend over an index in a folder.

    search: how its vectors are searched, one of search.BACKENDS.
    """

    def __init__(self, index: GarmentIndex, search: str = "auto"):
        self.index, self.search = index, search
        self.manifest = index.manifest
        self.check_encoder = index.check_encoder
        self.photo, self.thumbnail = index.photo, index.thumbnail

    @property
    def catalogue_root(self) -> Path:
        """The folder of the catalogue's photos."""
        return self.index.catalogue_root

    @catalogue_root.setter
    def catalogue_root(self, root: Path) -> None:
        self.index.catalogue_root = root

    def __len__(self) -> int:
        return len(self.index)

    def nearest(
        self, queries: np.ndarray, k: int, category: str | None, where: Filter | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """See SearchBackend."""
        rows = self._rows(category, where)
        scores, rows = nearest(self.index, torch.from_numpy(queries), k, rows, self.search)
        return scores.numpy(), rows.numpy()

    def nearest_by_words(
        self, text: str, query: np.ndarray, k: int, category: str | None, where: Filter | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See SearchBackend."""
        rows = self._rows(category, where)
        return search_words(self.index, text, query, k, rows, self.search)

    @property
    def has_words(self) -> bool:
        """See SearchBackend."""
        return self.index.has_words

    def _rows(self, category: str | None, where: Filter | None) -> np.ndarray | None:
        if category is None and where is None:
            return None
        return self.index.rows_where(where, category)

    def categories(self) -> Collection[str]:
        """See SearchBackend."""
        return self.index.categories()

    def columns(self) -> Collection[str]:
        """See SearchBackend."""
        return self.index.columns()

    def values_at(self, rows: np.ndarray, column: str) -> list[str]:
        """See SearchBackend."""
        return self.index.values_at(rows, column)

    def values_of(self, column: str) -> ColumnValues:
        """See SearchBackend."""
        return self.index.values_of(column)

    def rows_of_ids(self, ids: Sequence[str]) -> np.ndarray:
        """See SearchBackend."""
        return np.array([self._row_of(name) for name in ids], dtype=np.int64)

    def _row_of(self, garment_id: str) -> int:
        try:
            return self.index.row_of(garment_id)
        except KeyError:
            return -1

    def garments_at(self, rows: np.ndarray) -> list[Garment]:
        """See SearchBackend."""
        return [self.index.garment(row) for row in rows.tolist()]

    def vectors_at(self, rows: np.ndarray) -> np.ndarray:
        """See SearchBackend."""
        return self.index.vectors.at(rows).float().numpy()
