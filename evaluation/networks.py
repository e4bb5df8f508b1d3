"""The networks of the metrics: LPIPS and Inception, if their weights are here, and CLIP.

Nothing is downloaded. Weights are looked for where torch keeps those it fetches
(`$TORCH_HOME/hub/checkpoints`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

INCEPTION = "inception-2015-12-05.pt"
ALEXNET = "alexnet-owt-7be5be79.pth"
SOURCES = {
    INCEPTION: "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
    + INCEPTION,
    ALEXNET: f"https://download.pytorch.org/models/{ALEXNET}",
}
_BATCH = 32

Features = Callable[[Sequence[np.ndarray]], np.ndarray]
"""Pictures (H, W, 3) float in 0..1 to features (n, d) float64."""


class MissingWeightsError(Exception):
    """The weights of a metric are not on this machine; the message says what to fetch."""


def checkpoints() -> Path:
    """Return the folder where the weights are looked for."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def inception_features(device: torch.device | str) -> Features:
    """Load clean-fid's features for FID and KID: its resizing, and StyleGAN2-ADA's Inception.

    Raises:
        MissingWeightsError: the weights are not there.
        ImportError: clean-fid is missing.
    """
    _present(INCEPTION)
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    network = InceptionV3W(str(checkpoints()), download=False).to(device).eval()
    resize = build_resizer("clean")

    @torch.no_grad()
    def features(pictures: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        for part in _parts(pictures):
            pixels = np.stack([resize(_bytes(picture)) for picture in part])
            rows.append(network(torch.from_numpy(pixels).movedim(-1, 1).to(device)).cpu())
        return torch.cat(rows).double().numpy()

    return features


def lpips_distance(
    device: torch.device | str,
) -> Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], np.ndarray]:
    """Load LPIPS (AlexNet, v0.1), which gives (n,) of n pairs of pictures; Zhang et al. 2018.

    Raises:
        MissingWeightsError: AlexNet's weights are not there.
        ImportError: lpips is missing.
    """
    _present(ALEXNET)
    from lpips import LPIPS

    network = LPIPS(net="alex", verbose=False).to(device)

    @torch.no_grad()
    def distance(pictures: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> np.ndarray:
        rows = []
        for part, other in zip(_parts(pictures), _parts(truths), strict=True):
            pair = (torch.from_numpy(np.stack(x)).float().movedim(-1, 1) for x in (part, other))
            rows.append(network(*(x.to(device) for x in pair), normalize=True).flatten().cpu())
        return torch.cat(rows).double().numpy()

    return distance


def clip_features(encoder) -> Features:
    """Make image features of an encoder (retriever/encoders): unit vectors."""

    def features(pictures: Sequence[np.ndarray]) -> np.ndarray:
        rows = [
            encoder.encode_images([Image.fromarray(_bytes(picture)) for picture in part])
            for part in _parts(pictures)
        ]
        return torch.cat(rows).double().numpy()

    return features


def _present(name: str) -> None:
    path = checkpoints() / name
    if not path.is_file():
        raise MissingWeightsError(f"{path} is not there: fetch it from {SOURCES[name]}")


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (picture * 255).round().clip(0, 255).astype(np.uint8)


def _parts(pictures: Sequence[np.ndarray]) -> Iterator[Sequence[np.ndarray]]:
    for start in range(0, len(pictures), _BATCH):
        yield pictures[start : start + _BATCH]
