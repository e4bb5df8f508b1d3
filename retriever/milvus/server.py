"""What servers of different versions know.

| from | |
|---|---|
| 2.3 | the oldest that is supported: rows can be replaced, collections lie in databases |
| 2.4 | INVERTED indexes of texts and numbers, half precision |
| 2.5 | parameters in filters, graphs of 8-bit codes, full-text search |

milvus-lite has numbers of its own: full-text search, but no parameters, half precision,
descriptions or graphs on disk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OLDEST = (2, 3)


@dataclass(frozen=True)
class Server:
    """The server, or milvus-lite, at an address, and what its version can do.

    version: as the server states it. number: (major, minor) of a Milvus server; None where the
    version states none, as that of a server built from source may: it counts as new. is_lite:
    whether it is milvus-lite.
    """

    version: str
    number: tuple[int, int] | None
    is_lite: bool

    @classmethod
    def of(cls, version: str, address: str) -> Server:
        """Read a server's version.

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
        """Whether it keeps a collection's description; milvus-lite keeps its properties instead."""
        return not self.is_lite

    @property
    def has_half(self) -> bool:
        """Whether it stores vectors of half precision."""
        return self._knows(2, 4)

    @property
    def has_parameters(self) -> bool:
        """Whether it takes a filter's values as parameters beside the expression."""
        return self._knows(2, 5)

    @property
    def has_full_text(self) -> bool:
        """It searches texts by their words."""
        return self.is_lite or self._knows(2, 5)

    @property
    def counts_words_by_segment(self) -> bool:
        """It weighs a word by how many texts of a segment hold it, not of all texts."""
        return self.is_lite

    @property
    def has_text_match(self) -> bool:
        """It has an index for text_match; else that reads every text, 20 times as long as LIKE."""
        return self.has_full_text and not self.is_lite

    @property
    def text_index(self) -> str:
        """The type of index for a field of texts."""
        return "INVERTED" if self.is_lite or self._knows(2, 4) else "Trie"

    @property
    def number_index(self) -> str:
        """The type of index for a field of numbers."""
        return "INVERTED" if self.is_lite or self._knows(2, 4) else "STL_SORT"

    def check_kind(self, kind: str) -> None:
        """Refuse a kind of index (see `sync.push`) that the server can't search by.

        Raises:
            ValueError: the server lacks it.
        """
        if self.is_lite and kind == "diskann":
            raise ValueError("kind is 'diskann': milvus-lite doesn't have it, use 'hnsw'.")
        if kind == "hnsw_sq" and not self.is_lite and not self._knows(2, 5):
            raise ValueError(
                f"kind is 'hnsw_sq': Milvus has it from version 2.5, and this one is "
                f"{self.version}; use 'hnsw'."
            )
