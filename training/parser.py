"""Stage `parser`: a small SegFormer (arXiv 2105.15203) that finds garments and body on a photo.

It is trained on windows of model photos and their label maps: cross-entropy, and a Dice loss over
the labels that occur, by which a pair of glasses counts as much as a dress. The network knows no
positions, so that windows of one size prepare it for whole photos of another.
"""

from __future__ import annotations

import json
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from ..adapter.person.masks import LABELS
from ..adapter.person.parsing import coloured
from .clip import epoch_order
from .config import Run
from .dresscode import DressCode, Pair
from .loop import Task

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SIDES = (("left_shoe", "right_shoe"), ("left_leg", "right_leg"), ("left_arm", "right_arm"))
_PREVIEWED = 10
_SETTLING = 64


@dataclass(frozen=True)
class Parser:
    """The configuration of the stage `parser`."""

    run: Run
    model: dict[str, Any]
    """transformers' SegformerConfig."""
    size: tuple[int, ...] = (192, 144)
    """Height and width of the windows in pixels."""
    input: tuple[int, ...] = (320, 240)
    """Height and width that a photo has before the trained parser, see preprocessor_config.json."""
    windows: tuple[float, ...] = (0.5, 1.6)
    """Least and largest height of a window, in heights of the photo: beyond 1 the person is small
    in it."""
    whole: float = 0.3
    """Share of windows that show just the photo."""
    small: float = 0.35
    """Share of photos that are made small first, down to 96 pixels across, and so lose detail."""
    dice_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in ("size", "input"):
            sides = getattr(self, name)
            if len(sides) != 2 or any(side <= 0 or side % 16 for side in sides):
                raise ValueError(
                    f"{name} is {list(sides)}; expected height and width, multiples of 16."
                )
        if len(self.windows) != 2 or not 0 < self.windows[0] <= self.windows[1] < math.inf:
            raise ValueError(
                f"windows is {list(self.windows)}; expected the least and the largest height."
            )
        for name in ("whole", "small"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to 1.")


class ParserTask(Task):
    """Trains a SegFormer on windows of model photos, with the losses that the module names."""

    def __init__(self, config: Parser, data: Path):
        super().__init__()
        self.config = config
        labels = {number: name for name, number in LABELS.items()}
        try:
            sizes = SegformerConfig(
                **config.model, id2label=labels, label2id={n: i for i, n in labels.items()}
            )
            self.parser = SegformerForSemanticSegmentation(sizes)
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"[model] is no SegformerConfig: {error}") from error
        self.stream = WindowStream(DressCode(data, need=("photos", "labels")), config)
        self.held_out = DressCode(data, "paired", need=("photos", "labels"))

    def forward(self, batch):
        # Every second pixel tells as much, in a quarter of the memory and time.
        labels = batch["labels"][:, ::2, ::2].long()
        logits = self.parser(normalised(batch["pixels"])).logits.float()
        logits = functional.interpolate(logits, size=labels.shape[1:], mode="bilinear")
        chances = logits.log_softmax(dim=1)
        near = functional.nll_loss(chances, labels)
        overlap = dice(chances.exp(), labels)
        loss = near + self.config.dice_weight * (1 - overlap)
        return loss, {"cross_entropy": near.detach(), "dice": overlap.detach()}

    def _logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map pixels (b, 3, h, w) uint8 to logits (b, labels, h, w)."""
        logits = self.parser(normalised(pixels)).logits
        return functional.interpolate(logits, size=pixels.shape[-2:], mode="bilinear")

    def preview(self) -> Image.Image:
        """Draw held-out photos, below them what the parser sees, below that the truth."""
        pairs = self.held_out.pairs
        pairs = pairs[:: max(1, len(pairs) // _PREVIEWED)][:_PREVIEWED]
        size = self.config.input
        found = [photo_and_labels(self.held_out, pair, size) for pair in pairs]
        pixels, truth = (torch.stack(part) for part in zip(*found, strict=True))
        device = next(self.parameters()).device
        seen = self._logits(pixels.to(device)).argmax(dim=1).cpu()
        rows = (pixels, _pictures(seen), _pictures(truth))
        sheet = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
        picture = Image.fromarray(sheet.permute(1, 2, 0).numpy())
        return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BILINEAR)

    def export(self, folder: Path) -> None:
        """Write a folder for AutoModelForSemanticSegmentation, float16."""
        self._settle_norms()
        self.parser.half().save_pretrained(folder)
        self.parser.float()
        height, width = self.config.input
        settings = {
            "do_normalize": True,
            "do_reduce_labels": False,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": MEAN,
            "image_processor_type": "SegformerImageProcessor",
            "image_std": STD,
            "resample": int(Image.Resampling.BILINEAR),
            "rescale_factor": 1 / 255,
            "size": {"height": height, "width": width},
        }
        text = json.dumps(settings, indent=2) + "\n"
        (folder / "preprocessor_config.json").write_text(text, encoding="utf-8")

    @torch.no_grad()
    def _settle_norms(self) -> None:
        """Compute the batch norms' means and variances anew with the averaged weights.

        Those of the training belong to the weights before averaging, and begin again in a resumed
        run.
        """
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
        device, size = next(self.parameters()).device, self.config.run.batch_size
        self.train()
        for start in range(0, _SETTLING * size, size):
            batch = [self.stream[start + i]["pixels"] for i in range(size)]
            self._logits(torch.stack(batch).to(device))
        self.eval()


class WindowStream(Dataset):
    """Windows of model photos: `pixels` uint8 (3, h, w) and `labels` uint8 (h, w)."""

    def __init__(self, data: DressCode, config: Parser):
        self.data, self.config = data, config

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        epoch, place = divmod(position, len(self.data))
        index = int(epoch_order(self.config.run.seed, epoch, len(self.data))[place])
        rng = random.Random(f"{self.config.run.seed} {position}")
        pair = self.data.pairs[index]
        photo, labels = self.data.photo(pair), Image.fromarray(self.data.labels(pair))
        if rng.random() < self.config.small:
            width = rng.randint(min(96, photo.width), photo.width)
            small = (width, max(1, round(photo.height * width / photo.width)))
            photo = photo.resize(small, Image.Resampling.BICUBIC)
            labels = labels.resize(small, Image.Resampling.NEAREST)
        box = self._window(rng, photo.size)
        pixels = _cut(np.asarray(photo), box, rng.random() < 0.5, rng)
        height, width = self.config.size
        pixels = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
        labels = Image.fromarray(_cut(np.asarray(labels), box, False, None))
        labels = labels.resize((width, height), Image.Resampling.NEAREST)
        pixels = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)
        labels = torch.from_numpy(np.array(labels))
        if rng.random() < 0.5:
            pixels, labels = pixels.flip(2), mirrored(labels.flip(1))
        return {"pixels": _tinted(pixels, rng), "labels": labels.contiguous()}

    def _window(self, rng: random.Random, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Draw a window: left, top, right, bottom in pixels of the photo, also beyond its edges."""
        if rng.random() < self.config.whole:
            return (0, 0, *size)
        low, high = (math.log(part) for part in self.config.windows)
        height = max(8, round(size[1] * math.exp(rng.uniform(low, high))))
        across = self.config.size[1] / self.config.size[0] * math.exp(rng.uniform(-0.2, 0.2))
        width = max(8, round(height * across))
        left, top = (
            rng.randint(min(0, whole - part), max(0, whole - part))
            for whole, part in zip(size, (width, height), strict=True)
        )
        return left, top, left + width, top + height


def _cut(
    pixels: np.ndarray, box: tuple[int, int, int, int], edge: bool, rng: random.Random | None
) -> np.ndarray:
    """Cut out a window; beyond the photo is its edge, one colour, or zeros without `rng`."""
    left, top, right, bottom = box
    height, width = pixels.shape[:2]
    inside = pixels[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    rows = (max(-top, 0), max(bottom - height, 0))
    columns = (max(-left, 0), max(right - width, 0))
    around = (rows, columns, *(((0, 0),) if pixels.ndim == 3 else ()))
    if edge:
        return np.pad(inside, around, mode="edge")
    found = np.pad(inside, around)
    if rng is not None:
        beyond = np.pad(np.zeros(inside.shape[:2], bool), around[:2], constant_values=True)
        found[beyond] = [rng.randint(0, 255) for _ in range(3)]
    return found


def _tinted(pixels: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Change the light: each channel brighter or darker, with more or less contrast."""
    light = torch.tensor([rng.uniform(0.85, 1.15) for _ in range(3)])[:, None, None]
    light *= rng.uniform(0.85, 1.15)
    contrast = rng.uniform(0.8, 1.15)
    return (((pixels * light - 127.5) * contrast) + 127.5).round().clamp(0, 255).byte()


def mirrored(labels: torch.Tensor) -> torch.Tensor:
    """Swap left and right in the labels of a mirrored photo."""
    table = torch.arange(256, dtype=torch.uint8)
    for left, right in _SIDES:
        table[LABELS[left]], table[LABELS[right]] = LABELS[right], LABELS[left]
    return table[labels.long()]


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Normalise uint8 (b, 3, h, w) as the network reads it, to float32."""
    mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (MEAN, STD))
    return (pixels.float() / 255 - mean) / std


def dice(shares: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Compute the Dice coefficient, 2 overlap / (sum of both areas): mean of the labels that occur.

    Args:
        shares: (b, labels, h, w), that sum to 1 over the labels.
        labels: (b, h, w) int64.
    """
    right = shares.gather(1, labels[:, None]).flatten()
    both = shares.new_zeros(shares.shape[1]).index_add(0, labels.flatten(), right)
    truth = torch.bincount(labels.flatten(), minlength=shares.shape[1])
    there = truth > 0
    areas = shares.sum(dim=(0, 2, 3)) + truth
    return (2 * both[there] / areas[there]).mean()


def photo_and_labels(
    data: DressCode, pair: Pair, size: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Read a photo and its labels at (height, width): uint8 (3, h, w) and uint8 (h, w)."""
    photo = data.photo(pair).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    labels = Image.fromarray(data.labels(pair)).resize(photo.size, Image.Resampling.NEAREST)
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
    return pixels, torch.from_numpy(np.array(labels))


def _pictures(labels: torch.Tensor) -> torch.Tensor:
    return (coloured(labels) * 255).byte().movedim(-1, 1)
