"""Cut-outs: which part of a garment photo is the garment, as far as the catalogue knows."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ...pictures.photos import open_photo, to_alpha, to_mask
from ...pictures.references import white_outside
from .catalogue import Garment, safe_path

COLUMN = "cutout"
"""The catalogue's column that names a mask picture, relative to the catalogue. Kept in a folder
whose name starts with a dot, such as `.cutouts`, the masks are not taken for garments."""

_ASPECT_TOLERANCE = 0.02


def files_of(root: Path, garment: Garment) -> tuple[Path, ...]:
    """Return the files that `with_cutout` reads: the photo, and what its column `cutout` names.

    Raises:
        ValueError: one leads out of the catalogue.
    """
    names = (garment.file, _named(garment))
    return tuple(safe_path(root, name) for name in names if name)


def _named(garment: Garment) -> str:
    return garment.metadata.get(COLUMN, "").strip().replace("\\", "/")


def with_cutout(
    root: Path, garment: Garment, photo: Image.Image
) -> tuple[Image.Image, Image.Image | None]:
    """Return a garment's photo on white, and its mask (L, 255 = the garment, same size) or None.

    The picture in the column `cutout` decides (white, or opaque, is the garment); without one the
    photo's own transparency does. What the column cuts off turns white in the photo.

    Args:
        root: the catalogue's folder. photo: RGB on white, upright, as `open_photo` gives it.

    Raises:
        FileNotFoundError: the picture that the column names is not there.
        ValueError: it leads out of the catalogue, is damaged, or has another aspect than the photo.
    """
    name = _named(garment)
    if not name:
        alpha = open_photo(safe_path(root, garment.file), to_alpha)
        return photo, alpha if alpha.getextrema()[0] < 255 else None
    path = safe_path(root, name)
    if not path.is_file():
        raise FileNotFoundError(
            f"Garment {garment.id!r} names the cut-out {name!r}, but there is no {path}: put it "
            f"there, or empty the column {COLUMN!r} of that garment."
        )
    mask = open_photo(path, to_mask)
    if mask.size != photo.size:
        aspects = mask.width / mask.height, photo.width / photo.height
        if abs(aspects[0] / aspects[1] - 1) > _ASPECT_TOLERANCE:
            raise ValueError(
                f"{path} has {mask.width} x {mask.height} pixels, the photo {garment.file} has "
                f"{photo.width} x {photo.height}: expected a cut-out of the photo's own aspect."
            )
        mask = mask.resize(photo.size, Image.Resampling.BILINEAR)
    return white_outside(photo, mask), mask
