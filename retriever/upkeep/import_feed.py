"""Importing a product feed into a catalogue: its table, and the photos that it names."""

from __future__ import annotations

import csv
import io
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...files import write_bytes
from ...progress import Progress
from ..photos.download import Allowed, download_photo, is_public
from ..photos.feeds import Feed, Product, photo_name, read_feed

TABLE = "garments.csv"
FETCHED = "photos"
"""The folder in the catalogue for photos that are linked, copied or fetched."""

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp", ".jfif")


@dataclass
class ImportReport:
    """What an import did; with `dry`, what it would do.

    written: photos in the catalogue's table. missing: (photo, reason). categories: photos by
    category.
    """

    feed: Feed
    written: int = 0
    missing: list[tuple[str, str]] = field(default_factory=list)
    categories: Counter[str] = field(default_factory=Counter)
    dry: bool = False

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
        lines += [f"  line {line}: {reason}" for line, reason in self.feed.faults]
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

    Photos are found by their file names, or by the product's id, in the catalogue or in `photos`,
    from where they are linked or copied. An import that was stopped, or is run again, fetches only
    what is not there yet; a former garments.csv is kept as garments.csv.old.

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
    there = {_key(path.name): path for path in _pictures(catalogue)}
    elsewhere = {_key(path.name): path for path in _pictures(photos)} if photos else {}
    shared = Counter(_key(photo_name(photo)) for photo in {p.photo for p in read.products})
    rows: list[dict[str, str]] = []
    for number, product in enumerate(read.products, start=1):
        file = None
        try:
            unique = shared[_key(photo_name(product.photo))] == 1
            file = _bring(product, unique, catalogue, there, elsewhere, download, dry, allowed)
        except (OSError, ValueError) as error:
            report.missing.append((product.photo, str(error)))
        if file:
            rows.append({"file": file, **product.columns})
            report.categories[product.columns.get("category", "")] += 1
        elif file is None and (not report.missing or report.missing[-1][0] != product.photo):
            hint = "" if download else ", or fetch it with --download"
            report.missing.append((product.photo, f"not found: put it into the catalogue{hint}"))
        if progress:
            progress(number, len(read.products))
    report.written = len(rows)
    if not rows and not dry:
        raise ValueError("\n".join([f"{feed}: no photo is found.", *report.lines()[:20]]))
    if not dry:
        _write_table(catalogue / TABLE, rows)
    return report


def _bring(
    product: Product,
    unique: bool,
    catalogue: Path,
    there: dict[str, Path],
    elsewhere: Mapping[str, Path],
    download: bool,
    dry: bool,
    allowed: Allowed,
) -> str | None:
    """Bring a photo into the catalogue, and return its path there; None where that fails."""
    name, identity = photo_name(product.photo), product.columns.get("id", "")
    if not unique:  # such as "image.jpg" of every article: only the id tells them apart
        name = f"{identity}_{name}"
    target = catalogue / FETCHED / _safe_name(name, identity)
    names = [name, target.name, *(identity + suffix for suffix in _PICTURES)]
    for key in map(_key, names):
        if key in there:
            return there[key].relative_to(catalogue).as_posix()
    for key in map(_key, names):
        if key in elsewhere:
            if not dry:
                target.parent.mkdir(parents=True, exist_ok=True)
                _link_or_copy(elsewhere[key], target)
            break
    else:
        if not download or "://" not in product.photo:
            return None
        if not dry:
            download_photo(product.photo, target, allowed)
    there[_key(name)] = target
    return target.relative_to(catalogue).as_posix()


def _link_or_copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _safe_name(name: str, identity: str) -> str:
    """Return a file name that every system allows; the id stands in for a name without letters."""
    stem, dot, suffix = name.rpartition(".")
    suffix = suffix.lower() if dot and f".{suffix.lower()}" in _PICTURES else "jpg"
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in (stem or name)).strip("_")
    return f"{(stem or identity or 'photo')[:100]}.{suffix}"


def _pictures(folder: Path | None) -> list[Path]:
    if folder is None or not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _PICTURES and not path.name.startswith(".")
    )


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    first = ("file", "id", "category", "caption", "price", "currency", "brand", "size", "stock")
    names = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
    names = [name for name in names if any(row.get(name) for row in rows)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    if path.is_file():
        write_bytes(path.with_name(f"{path.name}.old"), path.read_bytes())
    write_bytes(path, text.getvalue().encode("utf-8"))
