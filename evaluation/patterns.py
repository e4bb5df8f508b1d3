"""A small network that tells the pattern of a worn garment, for the drawn world.

It sees the picture at the miniature's size; outside the box of the inpainting mask all is grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ..miniature.fabrics import PATTERNS
from .measures import box_of

SIZE = (128, 96)
"""Height and width of the pictures that it was trained on."""
WEIGHTS = "pattern_classifier.safetensors"
_WIDTHS = (24, 48, 96, 128)
_GREY = 0.5


class PatternClassifier(nn.Module):
    """Four convolutional stages, their mean and maximum over the picture, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = 3
        for number, width in enumerate(_WIDTHS):
            for channels in (before, width):
                stages += [
                    nn.Conv2d(channels, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
            if number + 1 < len(_WIDTHS):
                stages.append(nn.MaxPool2d(2))
            before = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(2 * before, len(PATTERNS)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pictures (b, 3, H, W) in 0..1 with grey around the garment to logits (b, patterns)."""
        features = self.stages((pixels - _GREY) * 4)
        return self.head(torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1))

    @torch.no_grad()
    def name(self, pixels: torch.Tensor) -> list[str]:
        """The patterns of pictures (b, 3, H, W)."""
        return [PATTERNS[number] for number in self(pixels).argmax(dim=1).tolist()]


def garment_view(picture: np.ndarray, mask: np.ndarray) -> torch.Tensor:
    """What the network sees of a picture (H, W, 3) in 0..1 with its mask (H, W): (3, H, W)."""
    view = np.full_like(picture, _GREY, dtype=np.float32)
    box = box_of(mask)
    view[box] = picture[box]
    return torch.from_numpy(view).movedim(-1, 0)


def save_classifier(classifier: PatternClassifier, path: Path, notes: dict[str, str]) -> None:
    """Write the weights as float16 safetensors with notes on how they were made."""
    weights = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in classifier.state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata={"patterns": ",".join(PATTERNS), **notes})


def load_classifier(path: Path) -> PatternClassifier:
    """Read what `save_classifier` wrote, ready to use.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds another network.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing: make it with `fashion-rag pattern-classifier --model FOLDER "
            f"--out {path}`."
        )
    classifier = PatternClassifier()
    try:
        classifier.load_state_dict({name: t.float() for name, t in load_file(path).items()})
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{path} holds no pattern classifier: {error}") from error
    return classifier.eval().requires_grad_(False)


def accuracy(named: Sequence[str], truth: Sequence[str]) -> np.ndarray:
    """1 where the pattern is right, else 0; float (n,)."""
    return np.array([float(a == b) for a, b in zip(named, truth, strict=True)])
