"""Which files of a folder are garment photos: by their endings, and by the layouts of data sets.

A Dress Code or VITON-HD folder holds people, masks and label maps beside the garments, a NAS
thumbnails of everything. What is passed over is returned with its kind, so that a report accounts
for every file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import PurePosixPath

from ...categories import CATEGORIES
from ...pictures.photos import SUFFIXES

SYSTEM_FOLDERS = frozenset(
    "@eadir @__thumb @recycle @recently-snapshot @tmp @sharebin #recycle #snapshot $recycle.bin "
    "lost+found __macosx system~1 networktrash~1".split()
) | {"system volume information", "network trash folder", "temporary items"}
"""Folders of a NAS or an operating system, in small letters, with thumbnails and deleted files."""

_SYSTEM_FILE = re.compile(
    r"syno(photo|video)_.*|(eh)?thumbs\.db|desktop\.ini|icon\r", re.IGNORECASE
)
_UNREAD = (
    ".heic .heif .hif .jxl .jp2 .j2k .psd .ai .eps .svg .pdf .tga .raw .dng .cr2 .cr3 .nef .arw "
    ".orf .rw2 .raf"
).split()
"""Endings of pictures that are not read."""

_DRESS_CODE_NAME = re.compile(r"\d{6}_[01]")
_DRESS_CODE_OTHERS = frozenset(
    "dense keypoints label_maps skeletons parse parsing agnostic masks mask image-parse".split()
)
_CLOTH = "cloth"
_BESIDE_CLOTH = re.compile(
    r"image([-_].*)?|agnostic.*|(cloth|unpaired-cloth)[-_](mask|warp).*|warp[-_].*|openpose.*|"
    r"parse.*|pose.*|gt_.*|dense.*|people|model|person",
    re.IGNORECASE,
)

# Why a file is passed over; the report counts by these words.
SYSTEM = "thumbnails and leftovers of a NAS or system"
DATA_SET = "people, masks and other files of a data set"
CLEANED = "garments that are in cleaned_inshop_imgs too"
UNREADABLE = "pictures of a kind that is not read"
TABLE = "table"
OTHER = "other files"


@lru_cache(4096)
def category_of(text: str) -> str:
    """Return a category as it is searched: the paper's three in any letter case and spacing."""
    name = re.sub(r"[\s_-]+", "_", text.strip()).casefold()
    return name if name in CATEGORIES else text.strip()


def passed_over(files: Iterable[str]) -> dict[str, str]:
    """Find the files, of all below a folder, that are no garment photos, each with its kind."""
    passed: dict[str, str] = {}
    photos: dict[str, tuple[str, ...]] = {}
    for file in sorted(files):
        parts = tuple(file.split("/"))
        name = parts[-1].lower()
        if any(map(_is_system_folder, parts[:-1])) or _is_of_system(name):
            passed[file] = SYSTEM
        elif not name.endswith(SUFFIXES):
            passed[file] = UNREADABLE if name.endswith(tuple(_UNREAD)) else OTHER
        else:
            photos[file] = parts
    passed |= _beside_dress_code(photos)
    passed |= _beside_cloth(photos)
    return passed


@lru_cache(4096)
def _is_system_folder(name: str) -> bool:
    return _is_of_system(name)


def _is_of_system(name: str) -> bool:
    return name.casefold() in SYSTEM_FOLDERS or bool(_SYSTEM_FILE.fullmatch(name))


def describe_files(garments: int, rejected: int, passed: Mapping[str, str], hidden: int) -> str:
    """Write one line that says how many files of each sort a folder holds."""
    counts = Counter(passed.values())
    total = garments + rejected + len(passed) + hidden
    parts = [f"garment photos {garments}"]
    parts += [f"photos left out {rejected}"] if rejected else []
    for kind in (TABLE, SYSTEM, DATA_SET, CLEANED, UNREADABLE, OTHER):
        if counts[kind]:
            parts.append(f"{kind} {counts[kind]}{_examples(passed, kind)}")
    parts += [f"names that start with a dot {hidden}"] if hidden else []
    return f"Files in the folder {total}: {', '.join(parts)}."


def _examples(passed: Mapping[str, str], kind: str) -> str:
    if kind == TABLE:
        names = Counter(file for file, what in passed.items() if what == kind)
    elif kind == SYSTEM:
        names = Counter(
            next(part for part in PurePosixPath(file).parts if _is_of_system(part))
            for file, what in passed.items()
            if what == kind
        )
    elif kind == DATA_SET:
        names = Counter(
            PurePosixPath(file).parent.name for file, what in passed.items() if what == kind
        )
    else:
        names = Counter(
            PurePosixPath(file).suffix.lower() for file, what in passed.items() if what == kind
        )
    shown = [name for name, _ in names.most_common(6) if name]
    more = ", ..." if len(names) > 6 else ""
    return f" ({', '.join(shown)}{more})" if shown else ""


def _beside_dress_code(photos: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Find what is no garment below category folders of Dress Code, by its own file names.

    A shop's `dresses/images/summer.jpg` so stays a garment.
    """
    official = {
        (category, *rest[:-1])
        for category, *rest in photos.values()
        if category in CATEGORIES and rest[:1] == ["images"] and len(rest) == 2
        if _DRESS_CODE_NAME.fullmatch(PurePosixPath(rest[-1]).stem)
    }
    cleaned = {
        (parts[0], PurePosixPath(parts[-1]).stem)
        for parts in photos.values()
        if len(parts) == 3 and parts[0] in CATEGORIES and parts[1] == "cleaned_inshop_imgs"
    }
    passed = {}
    for file, parts in photos.items():
        if len(parts) < 3 or (parts[0], "images") not in official:
            continue
        stem = PurePosixPath(parts[-1]).stem
        if parts[1] in _DRESS_CODE_OTHERS:
            passed[file] = DATA_SET
        elif parts[1] == "images" and len(parts) == 3 and _DRESS_CODE_NAME.fullmatch(stem):
            if stem.endswith("_0"):
                passed[file] = DATA_SET
            elif (parts[0], stem) in cleaned:
                passed[file] = CLEANED
    return passed


def _beside_cloth(photos: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Find what is no garment in VITON-HD's layout, where only the folder `cloth` has any."""
    places = {
        parts[:depth] for parts in photos.values() for depth, name in enumerate(parts[:-1])
        if name.casefold() == _CLOTH
    }  # fmt: skip
    return {
        file: DATA_SET
        for file, parts in photos.items()
        if any(
            parts[:depth] in places and _BESIDE_CLOTH.fullmatch(name)
            for depth, name in enumerate(parts[:-1])
        )
    }
