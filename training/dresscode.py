"""Dress Code folders: pairs of a model photo and a garment, with all that belongs to them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from ..adapter.person.masks import inpainting_mask
from ..adapter.person.pose import keypoints_from_dresscode
from ..categories import CATEGORIES
from ..files import parse_json, read_text
from ..pictures.photos import to_rgb_on_white

SPLITS = {
    "train": "train_pairs.txt",
    "paired": "test_pairs_paired.txt",
    "unpaired": "test_pairs_unpaired.txt",
}
CAPTIONS = ("fine_captions.json", "coarse_captions.json")
_SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """A person to be dressed in a garment; in a paired split it is the one that is worn."""

    category: str
    person: str
    """Number of the model photo, as "000012"."""
    garment: str
    """Number of the garment."""
    chunks: tuple[str, ...]
    """Noun chunks of the garment's caption."""


class DressCode:
    """One split of a Dress Code folder.

    Args:
        root: the folder with `dresses`, `upper_body` and `lower_body`.
        split: `train`, `paired` or `unpaired` (test pairs).
        categories: which ones to take.
        need: what must be there for each pair: `photos`, `garments`, `keypoints`, `labels`.

    Raises:
        FileNotFoundError: a list, a caption file or a file of a pair is missing; the first ones
            are named.
        ValueError: a list or a caption file is damaged, the lists are empty, or garments have no
            caption.
    """

    def __init__(
        self,
        root: Path,
        split: str = "train",
        categories: Collection[str] = CATEGORIES,
        need: Collection[str] = ("photos", "garments", "keypoints", "labels"),
    ):
        self.root = Path(root)
        unknown = [name for name in categories if name not in CATEGORIES]
        if split not in SPLITS or unknown:
            raise ValueError(
                f"split is {split!r} and categories {list(categories)}; expected one of "
                f"{', '.join(SPLITS)}, and some of {', '.join(CATEGORIES)}."
            )
        captions = self._captions()
        rows = [
            (category, *row)
            for category in CATEGORIES
            if category in categories
            for row in _read_pairs(self.root / category / SPLITS[split])
        ]
        without = sorted({garment for _, _, garment in rows} - captions.keys())
        if without:
            raise ValueError(
                f"{self.root / CAPTIONS[0]} has no caption for {_few(without)}, which "
                f"{SPLITS[split]} names: add them, or take these pairs out of the list."
            )
        if not rows:
            raise ValueError(
                f"{self.root}: {SPLITS[split]} names no pair of {', '.join(categories)}. Add some."
            )
        self.pairs = [
            Pair(category, person, garment, captions[garment]) for category, person, garment in rows
        ]
        self._check_files(need)

    def __len__(self) -> int:
        return len(self.pairs)

    def positions(self, file: str) -> list[int]:
        """Return the positions of the pairs that a list in the folder names, as often as it does.

        Raises:
            FileNotFoundError: there is no such list.
            ValueError: it is damaged, empty, or names a pair that this split lacks.
        """
        path = self.root / file
        place = {(pair.person, pair.garment): row for row, pair in enumerate(self.pairs)}
        named = _read_pairs(path)
        absent = [" ".join(pair) for pair in named if pair not in place]
        if absent or not named:
            raise ValueError(
                f"{path} names {_few(absent) or 'nothing'}: expected pairs of the split's lists."
            )
        return [place[pair] for pair in named]

    def digest(self, captions: bool = True) -> str:
        """Hash the pairs and their captions, wherever the folder lies: 16 hexadecimal digits."""
        pairs = [astuple(pair if captions else replace(pair, chunks=())) for pair in self.pairs]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:16]

    def photo(self, pair: Pair) -> Image.Image:
        """Open the model photo, RGB."""
        return to_rgb_on_white(_open(self._file(pair, "photos")))

    def garment(self, pair: Pair) -> Image.Image:
        """Open the garment's in-shop photo, RGB; the cleaned one if there is one."""
        return to_rgb_on_white(_open(self._file(pair, "garments")))

    def garment_file(self, pair: Pair) -> str:
        """Return the name of the garment's in-shop photo below the root, with slashes."""
        return self._file(pair, "garments").relative_to(self.root).as_posix()

    def keypoints(self, pair: Pair) -> np.ndarray:
        """Read the keypoints (18, 3) in the 384x512 frame, see `adapter.person.pose`."""
        path = self._file(pair, "keypoints")
        try:
            return keypoints_from_dresscode(parse_json(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise ValueError(
                f"{path} holds no Dress Code keypoints ({error}): fetch it again, or take "
                f"{pair.person} out of the lists of pairs."
            ) from error

    def labels(self, pair: Pair) -> np.ndarray:
        """Read the label map (H, W) uint8, see `adapter.person.masks.LABELS`."""
        path = self._file(pair, "labels")
        labels = np.asarray(_open(path))
        if labels.ndim != 2:
            raise ValueError(
                f"{path} has the shape {labels.shape}; expected one label a pixel: fetch it again, "
                f"or take {pair.person} out of the lists of pairs."
            )
        return labels.astype(np.uint8)

    def mask(
        self, pair: Pair, labels: np.ndarray, keypoints: np.ndarray | None, mode: str
    ) -> np.ndarray:
        """Make the mask (H, W) uint8, 1 = repaint; see `adapter.person.masks.inpainting_mask`.

        Raises:
            ValueError: nothing is to be repainted; the label map is named.
        """
        try:
            return inpainting_mask(labels, keypoints, pair.category, mode, strict=False)
        except ValueError as error:
            raise ValueError(
                f"{self._file(pair, 'labels')}: {error} Or take {pair.person} out of the lists of "
                "pairs."
            ) from error

    def _file(self, pair: Pair, kind: str) -> Path:
        folder = self.root / pair.category
        if kind == "photos":
            return folder / "images" / f"{pair.person}_0.jpg"
        if kind == "keypoints":
            return folder / "keypoints" / f"{pair.person}_2.json"
        if kind == "labels":
            return folder / "label_maps" / f"{pair.person}_4.png"
        cleaned = folder / "cleaned_inshop_imgs" / f"{pair.garment}_1_cleaned.jpg"
        return cleaned if cleaned.is_file() else folder / "images" / f"{pair.garment}_1.jpg"

    def _captions(self) -> dict[str, tuple[str, ...]]:
        """Read the coarse captions, and the fine ones in their place where there are any."""
        files = [self.root / name for name in reversed(CAPTIONS) if (self.root / name).is_file()]
        if not files:
            raise FileNotFoundError(
                f"{self.root} has neither {' nor '.join(CAPTIONS)}: a Dress Code folder for this "
                "method holds noun chunks for each garment (Multimodal Garment Designer's files)."
            )
        captions: dict[str, tuple[str, ...]] = {}
        for file in files:
            try:
                content = parse_json(file.read_text(encoding="utf-8"))
                for name, chunks in content.items():
                    if not isinstance(chunks, list):
                        raise TypeError(f"{name!r} has {chunks!r}")
                    captions[name] = tuple(map(str, chunks))
            except (ValueError, AttributeError, TypeError) as error:
                raise ValueError(
                    f'{file} is damaged ({error}): expected {{"000000": [chunk, chunk, chunk]}}. '
                    "Fetch it again."
                ) from error
        return {name: chunks for name, chunks in captions.items() if any(c.strip() for c in chunks)}

    def _check_files(self, need: Iterable[str]) -> None:
        for kind in need:
            files = (self._file(pair, kind) for pair in self.pairs)
            missing = [str(file.relative_to(self.root)) for file in files if not file.is_file()]
            if missing:
                raise FileNotFoundError(
                    f"{self.root} lacks {len(missing)} files that its pairs name ({kind}): "
                    f"{_few(missing)}. Add them, or take these pairs out of the lists."
                )


def caption(chunks: Collection[str]) -> str:
    """Join noun chunks to a caption: in alphabetical order, as the official retrieval does."""
    return ", ".join(sorted(chunks))


def _read_pairs(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it lists the pairs, one a line.")
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            person, garment = line.split()[:2]
            rows.append((_number(person), _number(garment)))
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number}: {line!r} names no pair; expected two file names such as "
                "000012_0.jpg and 000012_1.jpg."
            ) from error
    return rows


def _number(name: str) -> str:
    number = name.split("_")[0]
    if not number.isdecimal():
        raise ValueError(name)
    return number


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
        return image
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path} can't be read as a picture ({error}): fetch it again, or take it out of the "
            "lists of pairs."
        ) from error


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
