"""Human parsing: labels of garments and body on a photo, by a network from a local folder.

The folder has transformers' layout of `AutoModelForSemanticSegmentation`: `config.json`,
`model.safetensors`, and `preprocessor_config.json` where the photos are not to be brought to
512x512. What its numbers mean is read from `id2label`, and mapped by name to `masks.LABELS`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from ...files import parse_json
from ...progress import Progress
from .masks import GARMENT_LABELS, LABELS

logger = logging.getLogger(__name__)

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
LONGEST = 2048
"""Pixels of the longer side up to which photos are parsed; a larger photo's labels are enlarged."""

# Names of the published tables beside our own: SegFormer's of ATR (segformer_b2_clothes), of 24
# labels (segformer-b2-human-parse-24), FASHN's, and LIP's. A label for both sides becomes the left
# one's: no mask tells them apart. Neck and chest are face in ATR, a hand is an arm.
_ALSO = {
    "accessory": "sunglasses",
    "arm": "left_arm",
    "arms": "left_arm",
    "blouse": "upper_clothes",
    "coat": "upper_clothes",
    "coat_only_torso_region": "upper_clothes",
    "dresses": "dress",
    "dresses_only_torso_region": "dress",
    "feet": "left_shoe",
    "glasses": "sunglasses",
    "glove": "left_arm",
    "gloves": "left_arm",
    "hand": "left_arm",
    "hands": "left_arm",
    "jacket": "upper_clothes",
    "jewelry": "sunglasses",
    "jumpsuit": "dress",
    "jumpsuits": "dress",
    "left_foot": "left_shoe",
    "left_hand": "left_arm",
    "left_pants": "pants",
    "left_sleeve_for_upper": "upper_clothes",
    "leg": "left_leg",
    "legs": "left_leg",
    "neck": "face",
    "right_foot": "right_shoe",
    "right_hand": "right_arm",
    "right_pants": "pants",
    "right_patns": "pants",  # a slip of the published table
    "right_sleeve_for_upper": "upper_clothes",
    "shirt": "upper_clothes",
    "shoe": "left_shoe",
    "shoes": "left_shoe",
    "shorts": "pants",
    "skin_around_neck_region": "face",
    "skirts": "skirt",
    "socks": "left_leg",
    "sweater": "upper_clothes",
    "t_shirt": "upper_clothes",
    "top": "upper_clothes",
    "torso": "face",
    "torso_skin": "face",
    "trousers": "pants",
    "upper": "upper_clothes",
    "upper_only_torso_region": "upper_clothes",
}
_COLOURS = torch.tensor(
    list(
        bytes.fromhex(
            "141418 fabe3c 784628 3c3c3c dc5a50 a05ac8 4678c8 eb82aa f0dc5a"
            "28a08c 3cbeaa fac8aa c8966e dcaa82 d2a08c e6b4a0 8c8c3c 5ac85a"
        )
    )
).view(-1, 3)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How a photo is prepared for the network.

    size: height and width; None: the photo's own.
    """

    size: tuple[int, int] | None = (512, 512)
    mean: tuple[float, ...] = _IMAGENET[0]
    std: tuple[float, ...] = _IMAGENET[1]

    def __call__(self, photo: torch.Tensor) -> torch.Tensor:
        """Turn a photo (1, H, W, 3) float in 0..1 into (1, 3, h, w) float32."""
        pixels = photo.movedim(-1, 1).float()
        size = self.size or tuple(max(32, 32 * round(side / 32)) for side in pixels.shape[-2:])
        pixels = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(v).to(pixels)[:, None, None] for v in (self.mean, self.std))
        return (pixels.clamp(0, 1) - mean) / std


@dataclass(frozen=True)
class HumanParser:
    """A human-parsing network with its preprocessing.

    table[i]: the number in `masks.LABELS` of the network's label i.
    """

    name: str
    network: torch.nn.Module
    table: tuple[int, ...]
    preprocessing: Preprocessing

    @torch.no_grad()
    def labels(self, photos: torch.Tensor, progress: Progress | None = None) -> torch.Tensor:
        """Label the pixels of photos, one by one, at their own size.

        Args:
            photos: (b, H, W, 3 or 4) float in 0..1, any size.
            progress: called with (photos done, photos in all) before each and at the end.

        Returns:
            (b, H, W) uint8 on the CPU, numbers of `masks.LABELS`.

        Raises:
            ValueError: another shape.
        """
        if photos.ndim != 4 or photos.shape[-1] < 3 or 0 in photos.shape:
            raise ValueError(
                f"the photos have the shape {tuple(photos.shape)}; expected (batch, height, width, "
                "3)."
            )
        weight = next(self.network.parameters())
        found = torch.empty(photos.shape[:3], dtype=torch.uint8)
        for i in range(len(photos)):
            if progress is not None:
                progress(i, len(photos))
            pixels = self.preprocessing(photos[i : i + 1, ..., :3]).to(weight)
            found[i] = self._at(
                self.network(pixels).logits.float(), (photos.shape[1], photos.shape[2])
            )
        if progress is not None:
            progress(len(photos), len(photos))
        return found

    def labels_of(self, photo: Image.Image) -> np.ndarray:
        """Label the pixels of one photo: (H, W) uint8.

        A photo larger than LONGEST is scaled down to it first: finer detail does not count, and a
        photo of 100 megapixels takes 1.3 GB as floats.
        """
        small = photo if photo.mode == "RGB" else photo.convert("RGB")
        if max(small.size) > LONGEST:
            small = ImageOps.contain(small, (LONGEST, LONGEST), Image.Resampling.BILINEAR)
        pixels = np.asarray(small, dtype=np.float32) / 255
        labels = self.labels(torch.from_numpy(pixels)[None])[0].numpy()
        if small.size == photo.size:
            return labels
        return np.asarray(Image.fromarray(labels).resize(photo.size, Image.Resampling.NEAREST))

    def _at(self, logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Resize logits (1, labels, h, w) to `size`, and return the labels (*size) uint8."""
        scale = min(1.0, LONGEST / max(size))
        inner = tuple(max(1, round(side * scale)) for side in size)
        numbers = functional.interpolate(logits, size=inner, mode="bilinear").argmax(dim=1)
        table = torch.tensor(self.table, dtype=torch.uint8, device=numbers.device)
        labels = table[numbers].cpu()
        if inner != tuple(size):
            labels = functional.interpolate(labels[None], size=tuple(size), mode="nearest-exact")[0]
        return labels[0]


def load_parser(folder: Path, dtype: torch.dtype = torch.float32) -> HumanParser:
    """Load a parser from a folder, on the CPU. Nothing but that folder is read, no code of it runs.

    Raises:
        FileNotFoundError: no config.json, or no safetensors.
        ValueError: the folder asks for code of its own, transformers does not know the
            architecture, weights are missing, or no label of it is a garment.
        ImportError: transformers is missing.
    """
    folder = Path(folder)
    config = _checked_config(folder)
    table = label_table(_id2label(config, folder / CONFIG), str(folder / CONFIG))
    preprocessing = read_preprocessing(folder)
    _check_weights(folder)
    try:
        from transformers import AutoModelForSemanticSegmentation
    except ImportError as error:
        raise ImportError(
            "A human parser needs the package transformers: pip install transformers."
        ) from error
    try:
        network, report = AutoModelForSemanticSegmentation.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them below
            dtype=dtype,
        )
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # what transformers raises on damaged folders has no common class
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{folder} can't be loaded as a semantic segmentation model of transformers, of the "
            f"model_type {config.get('model_type')!r} in {CONFIG} ({reason}): fetch the folder "
            "again, whole, and take a parser such as SegFormer."
        ) from error
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} weights of {CONFIG}'s architecture, the first is "
            f"{missing[0]}: the weights belong to another model. Fetch the folder again, whole."
        )
    return HumanParser(folder.name, network.eval().requires_grad_(False), table, preprocessing)


def label_table(id2label: Mapping[int, str], source: str = "the parser") -> tuple[int, ...]:
    """Find the number in `masks.LABELS` of each label of a parser, by its name.

    A label that nobody knows counts as background; one warning names all of them.

    Args:
        id2label: numbers from 0 on, and names in any spelling ("Upper-clothes", "upper clothes").
        source: named in messages.

    Raises:
        ValueError: the numbers have a gap, or no name is that of a garment.
    """
    if not id2label or sorted(id2label) != list(range(len(id2label))):
        raise ValueError(f"{source}: id2label numbers its labels {sorted(id2label)}, not 0, 1, ...")
    table, unknown = [], []
    for number in range(len(id2label)):
        name = _plain(id2label[number])
        name = _ALSO.get(name, name)
        if name not in LABELS:
            unknown.append(str(id2label[number]))
        table.append(LABELS.get(name, 0))
    if not {LABELS[name] for name in GARMENT_LABELS} & set(table):
        raise ValueError(
            f"{source} has no label of a garment ({', '.join(map(str, id2label.values()))[:300]}): "
            "it is no human parser. Labels are known by the names of segformer_b2_clothes, "
            f"such as {', '.join(GARMENT_LABELS)}."
        )
    if unknown:
        logger.warning("%s: labels that count as background: %s.", source, ", ".join(unknown))
    return tuple(table)


def read_preprocessing(folder: Path) -> Preprocessing:
    """Read `preprocessor_config.json`; SegFormer's own preprocessing where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    file = folder / PREPROCESSOR
    if not file.is_file():
        return Preprocessing()
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
        size = content.get("size", 512)
        if not isinstance(size, Mapping):
            size = {"shortest_edge": size}
        side = size.get("shortest_edge")
        height, width = size.get("height", side), size.get("width", side)
        if height is None or width is None:
            raise ValueError(f"size is {dict(size)}, expected height and width")
        sides = (int(height), int(width))
        if not all(16 <= side <= 4096 for side in sides):
            raise ValueError(f"size is {sides}, expected 16 to 4096 pixels")
        normalised = content.get("do_normalize", True)
        mean, std = (
            tuple(map(float, content.get(name, default))) if normalised else (plain,) * 3
            for name, default, plain in (
                ("image_mean", _IMAGENET[0], 0.0),
                ("image_std", _IMAGENET[1], 1.0),
            )
        )
        finite = all(map(math.isfinite, (*mean, *std)))
        if len(mean) != 3 or len(std) != 3 or not finite or not all(value > 0 for value in std):
            raise ValueError(f"image_mean is {mean}, image_std {std}, expected three numbers each")
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"{file} is damaged ({error}): fetch it again.") from error
    return Preprocessing(sides if content.get("do_resize", True) else None, mean, std)


def _checked_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"{folder} has no {CONFIG}: a human parser is a folder in transformers' layout, with "
            f"{CONFIG} and model.safetensors (such as segformer_b2_clothes)."
        )
    try:
        config = parse_json(file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no table")
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): fetch it again.") from error
    if "auto_map" in config:
        raise ValueError(
            f"{file} asks for code from the folder (auto_map), which is never run: take a parser "
            "that transformers knows by itself, such as SegFormer."
        )
    # transformers would fetch these.
    parts = [part for part in (config, config.get("backbone_config")) if isinstance(part, dict)]
    for part in parts:
        if part.get("use_pretrained_backbone") or part.get("use_timm_backbone"):
            raise ValueError(
                f"{file} asks for a backbone from elsewhere: take a parser whose weights are all "
                "in its folder, such as SegFormer."
            )
    return config


def _id2label(config: dict[str, Any], file: Path) -> dict[int, str]:
    try:
        return {int(number): str(name) for number, name in config["id2label"].items()}
    except (KeyError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{file} has no id2label, the table of what the parser's labels mean: fetch it again."
        ) from error


def _check_weights(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        raise FileNotFoundError(
            f"{folder} has its weights as a pickle only ({pickles[0]}), which could run code: get "
            "model.safetensors of the same model."
        )
    raise FileNotFoundError(f"{folder} has no model.safetensors: fetch the folder again, whole.")


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", str(name).lower()).strip("_")


def coloured(labels: torch.Tensor) -> torch.Tensor:
    """Colour labels (...) for people to look at: (..., 3) float32 in 0..1."""
    return _COLOURS[labels.long()].float() / 255


def describe_labels(labels: torch.Tensor) -> str:
    """Name what a label map (H, W) holds, with shares of the picture, the largest first."""
    names = {number: name for name, number in LABELS.items()}
    counts = torch.bincount(labels.flatten().long(), minlength=len(LABELS)).tolist()
    found = sorted(((n, i) for i, n in enumerate(counts) if n and i), reverse=True)
    return ", ".join(f"{names[i]} {n / labels.numel():.1%}" for n, i in found)
