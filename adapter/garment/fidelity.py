"""Fidelity: how similar a painted garment is to the photo that it was painted from.

Three parts, each from 0 to 1: what a CLIP encoder sees, the main colours, and the texture. None of
them compares pixel with pixel: the photo shows the garment flat, the picture shows it worn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter, label
from scipy.optimize import linear_sum_assignment

from ...pictures.boxes import box_of
from ...pictures.colour_difference import ciede2000, lab_of

Encode = Callable[[Sequence[Image.Image]], np.ndarray]
"""Photos to unit vectors (n, dim), as retrieval encodes them."""

WEIGHTS = {"cosine": 0.2, "colour": 0.5, "texture": 0.3}
"""Weights of the parts in the score; docs/evaluation.md shows how it agrees with the truth."""

_SIDE = 128
"""Garments are compared at this length of their longer side, in pixels."""
_COLOURS, _SHARES = 5, 24
"""Main colours of a garment, and the equal shares that they are split into for comparison."""
_FAR = 15.0
"""CIEDE2000 at which the colour part has fallen to 1/e."""
_GROUND = 12
"""Shades of 255 by which a photo's ground may differ from its first pixel, in every channel."""
_FILLED = 0.2
"""The least share of its box that a garment fills; overalls fill a third."""
_SCALES = (0.7, 1.4, 2.8)
"""Widths of the Gaussians, in pixels, at which texture is measured."""


@dataclass(frozen=True)
class Fidelity:
    """How similar a painted garment is to a photo; all but `difference` are in 0..1, 1 = the same.

    score: the weighted mean of cosine, colour and texture. cosine: the cosine similarity of the
    encoder's vectors, 0 where negative. colour: the similarity of the main colours, weighted by
    their shares. texture: the similarity of contrasts by direction and scale. difference: the
    CIEDE2000 between the main colours, 0 or more.
    """

    score: float
    cosine: float
    colour: float
    texture: float
    difference: float


def garment_fidelity(
    picture: Image.Image, mask: np.ndarray, photos: Sequence[Image.Image], encode: Encode
) -> list[Fidelity]:
    """Compare what is painted under a mask with each of some garment photos.

    Args:
        picture: RGB. mask: (H, W) of its size, from 0.5 on the garment is there; best the garment's
            own pixels, as a human parser finds them, else the inpainting mask.
        photos: RGB on a plain ground, or RGBA whose alpha cuts the garment out.

    Raises:
        ValueError: a mask of another size, or empty.
    """
    painted, *garments = _looks([_painted(picture, mask), *map(_garment, photos)], encode)
    return [_fidelity(painted, garment) for garment in garments]


def best_picture(
    pictures: Sequence[Image.Image],
    masks: Sequence[np.ndarray],
    photos: Sequence[Image.Image],
    encode: Encode,
) -> tuple[int, list[Fidelity]]:
    """Find the picture whose painted garment is most similar to one of some garment photos.

    Args:
        pictures, masks, photos: at least one; see `garment_fidelity`. masks: one a picture.

    Returns:
        The place of the best picture, and for every picture the fidelity to its most similar photo.

    Raises:
        ValueError: a mask of another size than its picture, or empty.
    """
    pieces = [*map(_painted, pictures, masks), *map(_garment, photos)]
    looks = _looks(pieces, encode)
    painted, garments = looks[: len(pictures)], looks[len(pictures) :]
    found = [
        max((_fidelity(one, garment) for garment in garments), key=lambda each: each.score)
        for one in painted
    ]
    return max(range(len(found)), key=lambda place: found[place].score), found


def fidelity_line(name: str, found: Fidelity, best: bool = False) -> str:
    """Write a line of a report: the score with its parts."""
    return (
        f"{name}: {found.score:.3f} (cosine {found.cosine:.3f}, colour {found.colour:.3f} with "
        f"CIEDE2000 {found.difference:.1f}, texture {found.texture:.3f})"
        f"{', the best' if best else ''}"
    )


def garment_of_photo(photo: Image.Image) -> np.ndarray:
    """Find the garment on its own photo: (H, W) bool.

    It is where alpha is at least one half; without alpha, all but the plain ground that begins at
    the edges. Where only a rim stands out, as of a white shirt on white, it is the whole photo.
    """
    if photo.has_transparency_data:
        alpha = np.asarray(photo.convert("RGBA").getchannel("A"))
        if (alpha >= 128).any():
            return alpha >= 128
    pixels = np.asarray(photo.convert("RGB"), dtype=np.int16)
    alike = np.abs(pixels - pixels[0, 0]).max(axis=-1) <= _GROUND
    # With `output` the array is filled; without, a type checker sees only the number of regions.
    regions = np.zeros(np.add(alike.shape, 2), np.int32)
    label(np.pad(alike, 1, constant_values=True), output=regions)
    garment = regions[1:-1, 1:-1] != regions[0, 0]
    if not garment.any() or garment[box_of(garment)].mean() < _FILLED:
        return np.ones_like(garment)
    return garment


@dataclass(frozen=True)
class _Look:
    """What is compared of a garment: the encoder's vector, main colours and texture."""

    vector: np.ndarray
    palette: np.ndarray
    texture: np.ndarray


def _looks(pieces: Sequence[tuple[np.ndarray, np.ndarray]], encode: Encode) -> list[_Look]:
    vectors = encode([Image.fromarray(_on_white(*piece)) for piece in pieces])
    return [
        _Look(np.asarray(vector), _palette(*piece), _texture(*piece))
        for vector, piece in zip(vectors, pieces, strict=True)
    ]


def _fidelity(painted: _Look, garment: _Look) -> Fidelity:
    difference = _colour_difference(painted.palette, garment.palette)
    parts = {
        "cosine": float(max(0.0, painted.vector @ garment.vector)),
        "colour": float(np.exp(-difference / _FAR)),
        "texture": float(np.exp(-np.abs(painted.texture - garment.texture).mean())),
    }
    score = sum(WEIGHTS[name] * value for name, value in parts.items())
    return Fidelity(score=score, difference=difference, **parts)


def _painted(picture: Image.Image, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hard = np.asarray(mask) >= 0.5
    if hard.shape != (picture.height, picture.width):
        raise ValueError(
            f"The mask has {hard.shape[::-1]} pixels, the picture {picture.size}: connect the mask "
            "of this picture."
        )
    if not hard.any():
        raise ValueError("The mask is empty: it has to show where the garment is in the picture.")
    return _piece(picture.convert("RGB"), hard)


def _garment(photo: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    return _piece(photo.convert("RGB"), garment_of_photo(photo))


def _piece(picture: Image.Image, hard: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut the garment out by its box, at the common size: (h, w, 3) uint8 and (h, w) bool."""
    rows, columns = box_of(hard)
    box = (columns.start, rows.start, columns.stop, rows.stop)
    scale = _SIDE / max(box[2] - box[0], box[3] - box[1])
    size = (max(8, round((box[2] - box[0]) * scale)), max(8, round((box[3] - box[1]) * scale)))
    part = picture.crop(box).resize(size, Image.Resampling.BICUBIC)
    shape = Image.fromarray(hard).convert("L").crop(box).resize(size, Image.Resampling.BOX)
    inside = np.asarray(shape) >= 128
    surely = binary_erosion(inside, iterations=2)  # without the seam to what is beside it
    return np.asarray(part), surely if surely.any() else np.ones(inside.shape, bool)


def _on_white(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    return np.where(inside[..., None], pixels, 255).astype(np.uint8)


def _palette(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return _SHARES main colours in CIELAB, each as often as its share of the garment."""
    colours = Image.fromarray(np.ascontiguousarray(pixels[inside][None]))
    few = colours.quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, kmeans=4)
    table = np.array(few.getpalette()).reshape(-1, 3)
    numbers = np.sort(np.asarray(few)[0])
    places = (np.arange(_SHARES) + 0.5) / _SHARES * len(numbers)
    return lab_of(table[numbers[places.astype(int)]] / 255)


def _colour_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Return the mean CIEDE2000 of two garments' main colours under the best matching of them."""
    costs = ciede2000(first[:, None], second[None])
    return float(costs[linear_sum_assignment(costs)].mean())


def _texture(pixels: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return log contrasts of lightness across, down and along both diagonals, at each scale."""
    light = lab_of(pixels / 255.0)[..., 0]
    light = np.where(inside, light, light[inside].mean())
    found = []
    for sigma in _SCALES:
        smooth = gaussian_filter(light, sigma)
        step = max(1, round(2 * sigma))
        for down, across in ((0, step), (step, 0), (step, step), (step, -step)):
            moved = np.roll(smooth, (down, across), axis=(0, 1))
            both = inside & np.roll(inside, (down, across), axis=(0, 1))
            change = np.abs(smooth - moved)[both]
            found.append(np.log(1.0 + change.mean()) if change.size else 0.0)
    return np.array(found)
