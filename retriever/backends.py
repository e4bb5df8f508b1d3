"""What a query needs of an index, whether its vectors lie in a folder or in a Milvus collection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from PIL import Image

from .catalogue import Garment
from .encoders import Encoder
from .filters import Filter


class SearchBackend(Protocol):
    """Garments in rows 0 to n - 1, each with a unit vector.

    manifest: with `catalogue` (name, path) and `encoder` (name, fingerprint, dim).
    """

    manifest: dict[str, Any]

    def __len__(self) -> int: ...

    def check_encoder(self, encoder: Encoder) -> None:
        """Raise ValueError unless `encoder` is the one that the vectors were made with."""
        ...

    def nearest(
        self, queries: np.ndarray, k: int, category: str | None, where: Filter | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k garments of the highest cosine similarity that are of `category` and match `where`.

        Args:
            queries: (q, dim) float32 unit vectors.

        Returns:
            scores (q, k) float32, best first, ties in row order; rows (q, k) int64, -1 where
            there are fewer. Both are narrower than k where no query has as many.

        Raises:
            ValueError: there is no such category or column.
        """
        ...

    def rows_of_ids(self, ids: Sequence[str]) -> np.ndarray:
        """The rows of garment ids, int64, -1 for an id that is not there."""
        ...

    def garments_at(self, rows: np.ndarray) -> list[Garment]:
        """The records of rows, in their order."""
        ...

    def vectors_at(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), dim) float32: the unit vectors of rows, in their order."""
        ...

    def photo(self, garment: Garment) -> Image.Image:
        """The garment's photo from the catalogue, full size, RGB on white."""
        ...

    def thumbnail(self, garment: Garment) -> Image.Image:
        """The garment's photo, fitted into 256 x 256."""
        ...
