"""A small network that tells the pattern of a worn garment, for the drawn world.

It sees a window about the middle of the inpainting mask's box, at a picture of `SIZE`; outside the
box all is grey.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import interpolate

from ...adapter.garment.checkpoints import write_safetensors
from ...miniature.fabrics import PATTERNS
from ...pictures.boxes import box_of

SIZE = (128, 96)
"""Height and width of the pictures that it was trained on."""
WINDOW = 64
"""Rows and columns that the network sees of them."""
# Channels, kernel, stride, and whether a pooling by two follows.
_STAGES = (
    (24, 5, 2, False),
    (48, 3, 1, True),
    (64, 3, 1, False),
    (96, 3, 1, True),
    (128, 3, 1, False),
)
_GREY = 0.5


class PatternClassifier(nn.Module):
    """A network of five convolutions, mean and maximum over the picture, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        before = 3
        for width, kernel, stride, pool in _STAGES:
            stages += [
                nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            if pool:
                stages.append(nn.MaxPool2d(2))
            before = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * before, len(PATTERNS)))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map views (b, 3, WINDOW, WINDOW) in 0..1 to logits (b, patterns)."""
        features = self.stages((pixels - _GREY) * 4)
        return self.head(torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1))

    @torch.no_grad()
    def name(self, pixels: torch.Tensor) -> list[str]:
        """Name the patterns of views (b, 3, WINDOW, WINDOW)."""
        return [PATTERNS[number] for number in self(pixels).argmax(dim=1).tolist()]


def garment_view(picture: np.ndarray, mask: np.ndarray, margin: int = 0) -> torch.Tensor:
    """Cut the network's view out of a picture (H, W, 3) in 0..1 with its mask (H, W).

    A picture of another size than `SIZE` is brought to it.

    Returns:
        (3, WINDOW + 2 * margin, WINDOW + 2 * margin) float32.
    """
    if picture.shape[:2] != SIZE:
        picture, mask = _at_size(picture, mask)
    rows, columns = box_of(mask)
    half = WINDOW // 2 + margin
    view = np.full((*mask.shape, 3), _GREY, dtype=np.float32)
    view[rows, columns] = picture[rows, columns]
    view = np.pad(view, ((half, half), (half, half), (0, 0)), constant_values=_GREY)
    top, left = ((part.start + part.stop) // 2 for part in (rows, columns))
    return torch.from_numpy(view[top : top + 2 * half, left : left + 2 * half]).movedim(-1, 0)


def _at_size(picture: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bring a picture (H, W, 3) in 0..1 and its mask (H, W) to the classifier's size."""
    pixels = torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0)[None].float()
    pixels = interpolate(pixels, SIZE, mode="bilinear", antialias=True)[0].movedim(0, -1)
    covered = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
    covered = interpolate(covered, SIZE, mode="nearest-exact")[0, 0]
    return pixels.numpy(), covered.numpy()


def save_classifier(classifier: PatternClassifier, path: Path, notes: dict[str, str]) -> None:
    """Write the weights as float16 safetensors with notes on how they were made."""
    weights = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in classifier.state_dict().items()
    }
    write_safetensors(weights, path, {"patterns": ",".join(PATTERNS), **notes})


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
