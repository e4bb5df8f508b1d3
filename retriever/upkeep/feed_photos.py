"""Finding the photos that a feed names in folders, and bringing them into a catalogue."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ...files import atomic_file
from ...pictures.photos import SUFFIXES
from ..photos.download import Allowed, download_photo
from ..photos.feeds import Product, photo_name, photo_path
from ..photos.layouts import SYSTEM_FOLDERS
from ..photos.table import posix_path

FETCHED = "photos"
"""The folder in the catalogue for photos that are linked, copied or fetched."""


class FeedPhotos:
    """Brings the photos of a feed's products into a catalogue, each file for one photo alone.

    A photo is found by its path as the feed writes it, in the catalogue or else in the folder
    `photos`; then by as many of its last parts as a single file there shares, and no other photo of
    the feed; then by the product's id.
    """

    def __init__(
        self,
        catalogue: Path,
        photos: Path | None,
        products: Sequence[Product],
        *,
        download: bool,
        dry: bool,
        allowed: Allowed,
    ):
        self._catalogue, self._download = catalogue, download
        self._dry, self._allowed = dry, allowed
        self._folders = [_Folder(catalogue, None)]
        if photos is not None:
            self._folders.append(_Folder(photos, catalogue))
        distinct = {product.photo for product in products}
        self._shared = Counter(tail for photo in distinct for tail in _tails(photo_path(photo)))
        self._targets = _targets(products)
        self._owner: dict[str, Product] = {}

    def bring(self, product: Product) -> str:
        """Bring a product's photo into the catalogue, and return its path there.

        Raises:
            OSError: it can't be copied or fetched.
            ValueError: it is not found, or may be one of several, or is another product's already.
        """
        target, reason = self._targets[product.photo], ""
        found = self._written(product)
        for look in (self._by_path, self._by_name):
            if found is None:
                found, doubt = look(product)
                reason = reason or doubt
        if found is not None:
            return self._own(product, self._take(found, target))
        if self._download and "://" in product.photo and not reason:
            file = self._catalogue / FETCHED / target
            if os.path.lexists(file):
                raise ValueError(f"{file} is in the way of what would be fetched: take it away")
            if not self._dry:
                download_photo(product.photo, file, self._allowed)
            return self._own(product, file)
        hint = "" if self._download else ", or fetch it with --download"
        raise ValueError(reason or f"not found: put it into the catalogue{hint}")

    def _written(self, product: Product) -> Path | None:
        if "://" in product.photo:
            return None
        return next(filter(None, (f.written(product.photo) for f in self._folders)), None)

    def _by_path(self, product: Product) -> tuple[Path | None, str]:
        path = photo_path(product.photo)
        for tail in _tails(path):
            if self._shared[tail] > 1:  # such as "image.jpg" of every article
                break
            for folder in self._folders:
                if files := folder.named(tail, path):
                    return _only(files, path)
        return None, ""

    def _by_name(self, product: Product) -> tuple[Path | None, str]:
        """Find what a former import brought, or a file that is called by the product's id."""
        target, identity = self._targets[product.photo], product.columns.get("id", "")
        own = photo_name(product.photo)
        # A file of the photo's own name is found by its path, or is one of several.
        names = [f"{FETCHED}/{target}", f"{identity}_{own}", target]
        tried = [(name, self._folders[:1]) for name in names if _key(target) != _key(own)]
        tried += [(identity + suffix, self._folders) for suffix in SUFFIXES]
        for name, folders in tried:
            for folder in folders:
                if not self._shared[_key(name)] and (files := folder.named(_key(name), name)):
                    return _only(files, name)
        return None, ""

    def _take(self, found: Path, target: str) -> Path:
        """Return the file in the catalogue that is the found one, linked or copied if need be."""
        if _is_below(found, self._catalogue):
            return self._catalogue / os.path.relpath(found, self._catalogue)
        file = self._free(target, found)
        if not self._dry and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(found, file)
        return file

    def _free(self, target: str, source: Path) -> Path:
        """Return a place where nothing is yet, or the same picture as `source`."""
        stem, dot, suffix = target.rpartition(".")
        file = self._catalogue / FETCHED / target
        place = 1
        while os.path.lexists(file) and not _same(file, source):
            place += 1
            file = file.with_name(f"{stem}_{place}{dot}{suffix}")
        return file

    def _own(self, product: Product, file: Path) -> str:
        relative = self._relative(file)
        owner = self._owner.setdefault(_key(relative), product)
        if owner is not product:
            raise ValueError(
                f"{relative} is already the photo of {owner.columns.get('id', '')!r} of line "
                f"{owner.line}: a garment has a photo of its own"
            )
        return relative

    def _relative(self, file: Path) -> str:
        return file.relative_to(self._catalogue).as_posix()


class _Folder:
    """The photos below a folder, by their paths and by the last parts of them."""

    def __init__(self, root: Path, without: Path | None):
        self._root = root
        self._by_tail: dict[str, list[Path]] = {}
        nested = without is not None and _is_below(without, root) and not _is_below(root, without)
        for path in _pictures(root):
            if not (nested and without and _is_below(path, without)):
                for tail in _tails(path.relative_to(root).as_posix()):
                    self._by_tail.setdefault(tail, []).append(path)

    def written(self, photo: str) -> Path | None:
        """Return the photo at a path as written, relative to the folder or absolute inside it."""
        for text in dict.fromkeys((photo, photo_path(photo))):
            path, foreign = posix_path(text, self._root)
            if not foreign:
                files = [
                    file
                    for file in self.named(_key(path), path)
                    if _key(file.relative_to(self._root).as_posix()) == _key(path)
                ]
                if len(files) == 1:
                    return files[0]
                if files := [f for f in files if f.relative_to(self._root).as_posix() == path]:
                    return files[0]
        return None

    def named(self, tail: str, path: str) -> list[Path]:
        """Return the photos whose paths end in a key; of several, that whose letters agree too."""
        files = self._by_tail.get(tail, [])
        parts = path.split("/")[-(tail.count("/") + 1) :]
        same = [file for file in files if list(file.parts[-len(parts) :]) == parts]
        return same if len(same) == 1 else files


def _targets(products: Sequence[Product]) -> dict[str, str]:
    """Choose a file name in the catalogue for each photo, the same at every import.

    It is the photo's own; where several have it, the product's id stands before it, and where that
    is not enough, a part of the address's hash behind it.
    """
    identities: dict[str, str] = {}
    for product in products:
        identities.setdefault(product.photo, product.columns.get("id", ""))
    targets = {photo: _safe_name(photo_name(photo), own) for photo, own in identities.items()}
    count = Counter(map(_key, targets.values()))
    for photo, own in identities.items():
        if count[_key(targets[photo])] > 1:
            targets[photo] = _safe_name(f"{own}_{photo_name(photo)}", own)
    count = Counter(map(_key, targets.values()))
    for photo, target in targets.items():
        if count[_key(target)] > 1:
            stem, _, suffix = target.rpartition(".")
            digest = hashlib.sha256(photo.encode("utf-8", "surrogatepass")).hexdigest()
            targets[photo] = f"{stem}_{digest[:8]}.{suffix}"
    return targets


def _only(files: Sequence[Path], path: str) -> tuple[Path | None, str]:
    if len(files) == 1:
        return files[0], ""
    names = " and ".join(map(str, files[:3])) + (f" and {len(files) - 3} more" * (len(files) > 3))
    return None, f"may be {names}: name it in the feed with its folder, not {path!r} alone"


def _tails(path: str) -> Iterator[str]:
    """Yield the keys of a path and of its last parts, the longest first."""
    parts = [part for part in _key(path).split("/") if part not in ("", ".")]
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def _pictures(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(
            part.startswith(".") or part.casefold() in SYSTEM_FOLDERS
            for part in path.relative_to(folder).parts
        )
    )


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def _same(file: Path, source: Path) -> bool:
    try:
        return file.samefile(source) or filecmp.cmp(file, source, shallow=False)
    except OSError:  # a link to nowhere
        return False


def _link_or_copy(source: Path, target: Path) -> None:
    source = Path(os.path.realpath(source))  # a link to a link would lead nowhere
    try:
        os.link(source, target)
    except OSError:
        with atomic_file(target) as whole:
            shutil.copyfile(source, whole)


def _safe_name(name: str, identity: str) -> str:
    """Return a file name that every system allows; the id stands in for a name without letters."""
    stem, dot, suffix = name.rpartition(".")
    suffix = suffix.lower() if dot and f".{suffix.lower()}" in SUFFIXES else "jpg"
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in (stem or name)).strip("_")
    return f"{(stem or _plain(identity) or 'photo')[:100]}.{suffix}"


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in text).strip("_")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
