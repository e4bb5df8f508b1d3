"""Importing a product feed into a catalogue: its table, and the photos that it names."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...files import write_bytes
from ...progress import Progress
from ..photos.download import Allowed, is_public
from ..photos.feeds import Feed, read_feed
from .feed_photos import FeedPhotos

TABLE = "garments.csv"
_WRITTEN = f".{TABLE}.imported"
"""The hash of the table that the last import wrote: it may be replaced without keeping it."""


@dataclass
class ImportReport:
    """What an import did; with `dry`, what it would do.

    written: photos in the catalogue's table. missing: (photo, reason). categories: photos by
    category. kept: the name of the file that keeps the former table, or ''. left: photos that the
    former import's table named and this one does not, which stay garments.
    """

    feed: Feed
    written: int = 0
    missing: list[tuple[str, str]] = field(default_factory=list)
    categories: Counter[str] = field(default_factory=Counter)
    dry: bool = False
    kept: str = ""
    left: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Write the report, one string a line."""
        kept = [name for name, meaning in self.feed.mapping.items() if not meaning]
        lines = [
            f"  {name}  is  {meaning}" for name, meaning in self.feed.mapping.items() if meaning
        ]
        lines.append(f"  kept under their names: {', '.join(kept) or 'none'}")
        words = "would be" if self.dry else "are"
        lines.append(f"{self.written} photos {words} in the catalogue's table.")
        for name, count in sorted(self.categories.items()):
            lines.append(f"  {count:>8}  {name or 'without a category'}")
        if self.kept:
            lines.append(f"The former {TABLE} {'would be' if self.dry else 'is'} kept: {self.kept}")
        if merged := len(self.feed.merged):
            lines.append(f"{merged} rows add their size and stock to a photo of their article.")
        told = sorted([*self.feed.faults, *self.feed.notes])
        lines += [f"  line {line}: {reason}" for line, reason in told]
        if self.left:
            lines.append(
                f"{len(self.left)} photos of the former table are not in this one. They stay "
                "garments, without words; delete the files to have them go:"
            )
            lines += [f"  {photo}" for photo in self.left]
        if self.missing:
            lines.append(f"{len(self.missing)} photos are missing:")
            lines += [f"  {photo}: {reason}" for photo, reason in self.missing]
        return lines


def import_feed(
    feed: Path,
    catalogue: Path,
    photos: Path | None = None,
    *,
    download: bool = False,
    dry: bool = False,
    words: Mapping[str, Sequence[str]] | None = None,
    progress: Progress | None = None,
    allowed: Allowed = is_public,
) -> ImportReport:
    """Write `garments.csv` into a catalogue from a product feed, and bring its photos there.

    Photos are found as FeedPhotos says, in the catalogue or in `photos`, from where they are linked
    or copied. An import that was stopped, or is run again, fetches only what is not there yet. A
    former garments.csv that no import wrote is kept as garments.csv.old, .old2 and so on.

    Args:
        download: fetch photos that are not found and have an https address.
        dry: change nothing.
        words: categories with the words that mean them, see `feeds.read_feed`.
        progress: called with (done, total) photos; it may raise to cancel.
        allowed: see `download_photo`.

    Raises:
        OSError: from the file system. ValueError: the feed can't be read, or no photo is found.
    """
    read = read_feed(feed, words)
    report = ImportReport(read, dry=dry)
    found = FeedPhotos(
        catalogue, photos, read.products, download=download, dry=dry, allowed=allowed
    )
    rows: list[dict[str, str]] = []
    for number, product in enumerate(read.products, start=1):
        try:
            file = found.bring(product)
        except (OSError, ValueError) as error:
            report.missing.append((product.photo, f"{error} (line {product.line})"))
        else:
            rows.append({"file": file, **_named_apart(product.columns)})
            report.categories[product.columns.get("category", "")] += 1
        if progress:
            progress(number, len(read.products))
    report.written = len(rows)
    if not rows and not dry:
        raise ValueError("\n".join([f"{feed}: no photo is found.", *report.lines()[:20]]))
    if rows:
        table = _table(rows)
        report.left = _left_out(catalogue, {row["file"] for row in rows})
        report.kept = _keep_former(catalogue / TABLE, table, dry)
        if not dry:
            write_bytes(catalogue / TABLE, table)
            write_bytes(catalogue / _WRITTEN, _hash_of(table))
    return report


def _named_apart(columns: Mapping[str, str]) -> dict[str, str]:
    """Rename a column of the feed that would be taken for the photo's path."""
    return {
        f"original_{name}" if name.casefold() == "file" else name: value
        for name, value in columns.items()
    }


def _table(rows: Sequence[Mapping[str, str]]) -> bytes:
    first = ("file", "id", "category", "caption", "price", "currency", "brand", "size", "stock")
    names = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
    names = [name for name in names if any(row.get(name) for row in rows)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8")


def _left_out(catalogue: Path, named: set[str]) -> list[str]:
    """List the photos that are there and that the last import's table names, but not `named`."""
    path, written = catalogue / TABLE, catalogue / _WRITTEN
    if not path.is_file() or not written.is_file():
        return []
    former = path.read_bytes()
    if written.read_bytes() != _hash_of(former):
        return []
    rows = csv.DictReader(io.StringIO(former.decode("utf-8"), newline=""))
    files = {row["file"] for row in rows} - named
    return sorted(file for file in files if (catalogue / file).is_file())


def _keep_former(path: Path, table: bytes, dry: bool) -> str:
    """Keep a table of the user's that is about to be replaced; return the name, or ''.

    No file that is there is written over, and nothing is kept twice.
    """
    if not path.is_file() or (former := path.read_bytes()) == table:
        return ""
    written = path.with_name(_WRITTEN)
    if written.is_file() and written.read_bytes() == _hash_of(former):
        return ""
    for place in itertools.count(1):
        kept = path.with_name(f"{path.name}.old{place if place > 1 else ''}")
        if not os.path.lexists(kept):
            if not dry:
                write_bytes(kept, former)
            return kept.name
        if kept.is_file() and kept.read_bytes() == former:
            return kept.name
    raise AssertionError("unreachable")


def _hash_of(table: bytes) -> bytes:
    return hashlib.sha256(table).hexdigest().encode()
