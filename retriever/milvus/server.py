"""What servers of different versions know.

| from | |
|---|---|
| 2.3 | the oldest that is supported: rows can be replaced, collections lie in databases |
| 2.4 | INVERTED indexes of texts and numbers, half precision |
| 2.5 | parameters in filters, graphs of 8-bit codes |

milvus-lite has numbers of its own: no parameters, half precision, descriptions or graphs on disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OLDEST = (2, 3)


@dataclass(frozen=True)
class Server:
    """What answers at an address.

    version: as it says itself. number: of a Milvus, (major, minor); None if it says none, as those
    that are built from source may: then it counts as new. is_lite: it is milvus-lite.
    """

    version: str
    number: tuple[int, int] | None
    is_lite: bool

    @classmethod
    def of(cls, version: str, address: str) -> Server:
        """The server that calls itself `version`.

        Raises:
            ValueError: it is too old.
        """
        # The package `milvus` is a whole server and calls itself 2.3.5-lite.
        if version.startswith("milvus_lite"):
            return cls(version, None, is_lite=True)
        found = re.search(r"(\d+)\.(\d+)", version)
        number = (int(found[1]), int(found[2])) if found else None
        if number and number < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise ValueError(
                f"The Milvus at {address} has version {version}; expected {oldest} or newer: "
                "update the server."
            )
        return cls(version, number, is_lite=False)

    def _knows(self, major: int, minor: int) -> bool:
        return not self.is_lite and (self.number is None or self.number >= (major, minor))

    @property
    def keeps_descriptions(self) -> bool:
        """It keeps a collection's description; else its properties."""
        return not self.is_lite

    @property
    def has_half(self) -> bool:
        """It has vectors of half precision."""
        return self._knows(2, 4)

    @property
    def has_parameters(self) -> bool:
        """It takes filters whose values stand beside them."""
        return self._knows(2, 5)

    @property
    def text_index(self) -> str:
        """The index of a field of texts."""
        return "INVERTED" if self.is_lite or self._knows(2, 4) else "Trie"

    @property
    def number_index(self) -> str:
        """The index of a field of numbers."""
        return "INVERTED" if self.is_lite or self._knows(2, 4) else "STL_SORT"

    def check_kind(self, kind: str) -> None:
        """
        Raises:
            ValueError: it can't search by a kind of index (see `sync.push`).
        """
        if self.is_lite and kind == "diskann":
            raise ValueError("kind is 'diskann': milvus-lite doesn't have it, use 'hnsw'.")
        if kind == "hnsw_sq" and not self.is_lite and not self._knows(2, 5):
            raise ValueError(
                f"kind is 'hnsw_sq': Milvus has it from version 2.5, and this one is "
                f"{self.version}; use 'hnsw'."
            )
