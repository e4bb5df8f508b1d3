"""A transformers folder's preprocessing of photos for its image tower, done with Pillow.

transformers itself has two implementations whose pixels differ, and picks one by version and by
what is installed. An index outlives both, so this is one of its own: the same numbers everywhere,
those of transformers' Pillow backend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

FILES = ("processor_config.json", "preprocessor_config.json")

_KNOWN = frozenset(
    "do_resize size resample do_center_crop crop_size do_rescale rescale_factor do_normalize "
    "image_mean image_std do_convert_rgb patch_size max_num_patches "
    # Names, or how tensors are laid out:
    "image_processor_type feature_extractor_type processor_class data_format input_data_format "
    "return_tensors device disable_grouping default_to_square backend do_pad".split()
)
_EPSILON = 1e-5


@dataclass(frozen=True)
class Preprocessing:
    """Turns an RGB photo into (3, height, width) float32: resized, cropped, scaled, normalised.

    size: (height, width) that it is squashed to, the length of its shorter side, or None.
    crop: (height, width) about the middle, black where the photo is smaller, or None.
    resample: a number of Image.Resampling. scale, mean, std: of the values 0 to 255, per channel.
    """

    size: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, photo: Image.Image) -> torch.Tensor:
        if self.size is not None:
            photo = _resized(photo, self._target(photo), self.resample)
        if self.crop is not None:
            height, width = self.crop
            left, top = (photo.width - width) // 2, (photo.height - height) // 2
            photo = photo.crop((left, top, left + width, top + height))
        return torch.from_numpy(_normalised(photo, self.scale, self.mean, self.std)).contiguous()

    def _target(self, photo: Image.Image) -> tuple[int, int]:
        if isinstance(self.size, tuple):
            return self.size
        short, long = sorted(photo.size)
        other = int(self.size * long / short)
        return (other, self.size) if photo.height > photo.width else (self.size, other)


@dataclass(frozen=True)
class Patches:
    """Cuts an RGB photo into patches in its own proportions, for SigLIP2's NaFlex towers.

    The result is (1 + most, values) float32, so that photos of any proportions make one batch: the
    numbers of rows and columns of patches first, then the patches, then zeros.
    """

    patch: int
    most: int
    resample: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, photo: Image.Image) -> torch.Tensor:
        target = _largest_grid(photo.height, photo.width, self.patch, self.most)
        values = _normalised(
            _resized(photo, target, self.resample), self.scale, self.mean, self.std
        )
        rows, columns = target[0] // self.patch, target[1] // self.patch
        values = values.reshape(len(values), rows, self.patch, columns, self.patch)
        values = values.transpose(1, 3, 2, 4, 0).reshape(rows * columns, -1)
        packed = torch.zeros(1 + self.most, values.shape[1])
        packed[0, 0], packed[0, 1] = rows, columns
        packed[1 : 1 + len(values)] = torch.from_numpy(values)
        return packed


def unpack_patches(packed: torch.Tensor) -> dict[str, torch.Tensor]:
    """Turn (n, 1 + most, values) of `Patches` into the arguments of SigLIP2's image tower."""
    shapes = packed[:, 0, :2].long()
    places = torch.arange(packed.shape[1] - 1, device=packed.device)
    return {
        "pixel_values": packed[:, 1:],
        "pixel_attention_mask": (places < shapes.prod(dim=1, keepdim=True)).int(),
        "spatial_shapes": shapes,
    }


def read_preprocessing(
    folder: Path, settings: Mapping[str, Mapping[str, Any]], in_patches: bool
) -> Preprocessing | Patches:
    """Read the preprocessing that a folder records.

    Args:
        settings: the folder's, by file name; see `model_files.read_settings`.
        in_patches: whether the tower takes patches (NaFlex).

    Raises:
        FileNotFoundError: the folder records none.
        ValueError: it asks for something unknown, or gives photos of different sizes.
    """
    found, name = None, FILES[1]
    if "image_processor" in settings.get(FILES[0], {}):
        found, name = settings[FILES[0]]["image_processor"], FILES[0]
    elif FILES[1] in settings:
        found = settings[FILES[1]]
    if found is None:
        raise FileNotFoundError(
            f"{folder / name} is missing: how photos are prepared for this model is not known."
        )
    path = folder / name
    if unknown := sorted(key for key in found if key not in _KNOWN and found[key]):
        raise ValueError(
            f"{path} asks for {', '.join(unknown)}, which this pack does not do: expected the "
            "preprocessing of CLIP, SigLIP or SigLIP2."
        )
    try:
        return _patches(found) if in_patches else _whole(found)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{path} is no preprocessing ({error!r}): expected size, image_mean and image_std as "
            "transformers writes them."
        ) from error


def _whole(found: Mapping[str, Any]) -> Preprocessing:
    crops = found.get("do_center_crop", "crop_size" in found)
    crop = _pair(found["crop_size"]) if crops else None
    size: tuple[int, int] | int | None = None
    if found.get("do_resize", True):
        given = found["size"]
        if isinstance(given, int):
            size = given if crops else (given, given)
        elif "shortest_edge" in given:
            if "longest_edge" in given and given["longest_edge"]:
                raise ValueError(f"size is {given}")
            size = int(given["shortest_edge"])
        else:
            size = _pair(given)
    if crop is None and not isinstance(size, tuple):
        raise ValueError("photos of different sizes: neither a height and width nor a crop")
    return Preprocessing(size, crop, int(found.get("resample", 3)), *_values(found))


def _patches(found: Mapping[str, Any]) -> Patches:
    patch, most = int(found.get("patch_size", 16)), int(found.get("max_num_patches", 256))
    if patch < 1 or not 0 < most <= 1 << 14:
        raise ValueError(f"patch_size {patch}, max_num_patches {most}")
    return Patches(patch, most, int(found.get("resample", 2)), *_values(found))


def _values(found: Mapping[str, Any]) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    scale = float(found.get("rescale_factor", 1 / 255)) if found.get("do_rescale", True) else 1.0
    if not found.get("do_normalize", True):
        return scale, (0.0,) * 3, (1.0,) * 3
    mean, std = (tuple(map(float, found[f"image_{name}"])) for name in ("mean", "std"))
    finite = all(map(math.isfinite, (scale, *mean, *std)))
    if len(mean) != 3 or len(std) != 3 or not finite or not all(std):
        raise ValueError(f"rescale_factor {scale}, image_mean {mean}, image_std {std}")
    return scale, mean, std


def _pair(size: Any) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else (int(size["height"]), int(size["width"]))
    if not all(0 < side <= 4096 for side in pair):
        raise ValueError(f"size is {size}")
    return pair


def _resized(photo: Image.Image, target: tuple[int, int], resample: int) -> Image.Image:
    return photo.resize(target[::-1], Image.Resampling(resample))


def _normalised(
    photo: Image.Image, scale: float, mean: tuple[float, ...], std: tuple[float, ...]
) -> np.ndarray:
    values = np.asarray(photo.convert("RGB")).transpose(2, 0, 1).astype(np.float32) * scale
    middle, spread = (np.array(v, np.float32)[:, None, None] for v in (mean, std))
    return ((values - middle) / spread).astype(np.float32)


def _largest_grid(height: int, width: int, patch: int, most: int) -> tuple[int, int]:
    """Find the size in whole patches, near the photo's proportions, of at most `most` patches.

    The photo is scaled as far as that, its sides rounded up to whole patches; the factor is found
    by bisection, to the precision that SigLIP2's own preprocessing has.
    """

    def size(factor: float) -> tuple[int, int]:
        return tuple(max(1, math.ceil(side * factor / patch)) * patch for side in (height, width))

    low, high = _EPSILON / 10, 100.0
    while high - low >= _EPSILON:
        middle = (low + high) / 2
        rows, columns = size(middle)
        if rows * columns <= most * patch * patch:
            low = middle
        else:
            high = middle
    return size(low)
