"""Which rows of a collection are the garments of an index.

The number of a garment's row is the base of its part plus the garment's place in the part, removed
places included. A push keeps the base of every part that the collection has and gives each new part
a higher one: so it sends the new parts alone, and the rows are in the order of the local index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..store.index import GarmentIndex
from ..store.manifest import decode_rows, encode_rows
from ..store.part import Part

_MOST_TEXT = 256 << 10  # bytes of removed rows in a description; servers keep one of about a MB


@dataclass(frozen=True)
class PartRows:
    """The rows of one part of an index in a collection.

    name: by which other pushes know the part; empty: they don't. base: the number of its first row.
    rows: how many it has, removed ones included. removed: places that hold no garment, int64,
    ascending.
    """

    name: str
    base: int
    rows: int
    removed: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def numbers(self) -> np.ndarray:
        """Return the numbers of the rows that hold a garment: int64, ascending."""
        return self.base + np.delete(np.arange(self.rows), self.removed)


@dataclass(frozen=True)
class Rows:
    """The rows of an index in a collection, in the order of its garments; bases ascend."""

    parts: tuple[PartRows, ...]

    @classmethod
    def of(cls, index: GarmentIndex, former: Rows | None = None) -> Rows | None:
        """Number the rows of a local index.

        Args:
            former: the rows that the collection has; its parts keep their bases.

        Returns:
            The rows; None where kept bases would put them in another order than the index.
        """
        known = {part.name: part.base for part in former.parts} if former else {}
        end = max((part.base + part.rows for part in former.parts), default=0) if former else 0
        parts = []
        for part in index.parts:
            name, rows = _name(part), len(part.embeddings)
            base = known.get(name, end) if name else end
            end = max(end, base + rows)
            parts.append(PartRows(name, base, rows, part.removed))
        ordered = all(a.base + a.rows <= b.base for a, b in zip(parts, parts[1:], strict=False))
        if sum(len(_removed(part)) for part in parts) > _MOST_TEXT:
            return cls.numbered(len(index)) if former is None else None
        return cls(tuple(parts)) if ordered else None

    @classmethod
    def numbered(cls, count: int) -> Rows:
        """Return `count` rows of one part that no other push knows."""
        return cls((PartRows("", 0, count),))

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> Rows:
        """Read what `to_manifest` wrote; manifests of version 0.1.0 have none.

        Raises:
            ValueError: the rows that are removed can't be read.
        """
        if "parts" not in manifest:
            return cls.numbered(manifest["count"])
        return cls(
            tuple(
                PartRows(name, base, rows, decode_rows(removed, rows))
                if removed
                else PartRows(name, base, rows)
                for name, base, rows, removed in manifest["parts"]
            )
        )

    def to_manifest(self) -> list[list[Any]]:
        """Return [name, base, number of rows, removed ones as text] of every part."""
        return [[part.name, part.base, part.rows, _removed(part)] for part in self.parts]

    def __len__(self) -> int:
        return sum(part.rows - len(part.removed) for part in self.parts)

    def numbers(self) -> np.ndarray:
        """Return the numbers of all rows: int64, ascending."""
        return np.concatenate([part.numbers() for part in self.parts])

    def holds(self, numbers: np.ndarray) -> np.ndarray:
        """Tell which of `numbers` (n,) are rows of the index: (n,) bool."""
        bases = np.array([part.base for part in self.parts])
        part_of = np.searchsorted(bases, numbers, side="right") - 1
        held = np.zeros(len(numbers), bool)
        for number, part in enumerate(self.parts):
            local = numbers - part.base
            held |= (part_of == number) & (local < part.rows) & ~np.isin(local, part.removed)
        return held


def are_parts(value: Any) -> bool:
    """Tell whether `value` has the form of what `to_manifest` returns."""
    match value:
        case [_, *_]:
            return all(map(_is_part, value))
    return False


def _is_part(value: Any) -> bool:
    match value:
        case [str(), int(base), int(rows), str()]:
            return 0 <= base < 1 << 62 and 0 < rows < 1 << 40
    return False


def _removed(part: PartRows) -> str:
    return encode_rows(part.removed, part.rows) if len(part.removed) else ""


def _name(part: Part) -> str:
    """Return the checksums of a part's vectors and records; '' for a part in memory."""
    entry = part.entry
    if "embeddings" not in entry:
        return ""
    return f"{entry['embeddings']['sha256'][:16]}-{entry['records']['sha256'][:16]}"
