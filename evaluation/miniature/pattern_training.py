"""Training the pattern classifier on renders of a world of its own, raw and through the VAE."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from ...miniature.fabrics import PATTERNS
from ...progress import Progress, silent
from ..dresscode import Sample, load_scene
from .drawn_world import DrawnWorld
from .patterns import SIZE, WINDOW, PatternClassifier, garment_view

logger = logging.getLogger(__name__)

HELD_OUT = 1 / 8
_MARGIN = 8  # pixels that a window is shifted by at most
_SIDE = WINDOW + 2 * _MARGIN

Views = tuple[torch.Tensor, torch.Tensor]
"""Views (n, 3, side, side) uint8 with a margin, and the numbers of their patterns (n,)."""
RoundTrip = Callable[[torch.Tensor], torch.Tensor]
"""Pictures (b, H, W, 3) in 0..1 through a VAE and back."""


def read_views(
    samples: Sequence[Sample],
    round_trip: RoundTrip | None = None,
    progress: Progress = silent,
) -> Views:
    """Read the worn garments of a drawn world's samples as the classifier sees them.

    Args:
        round_trip: what the photos go through first; None leaves them as they are.
        progress: called with (views read, views in all).
    """
    world = DrawnWorld.open(samples[0].data.root)
    views = torch.empty((len(samples), 3, _SIDE, _SIDE), dtype=torch.uint8)
    for number, sample in enumerate(samples):
        scene = load_scene(sample, SIZE)
        photo = scene.photo if round_trip is None else round_trip(scene.photo[None])[0]
        view = garment_view(photo.numpy(), scene.mask.numpy(), _MARGIN)
        views[number] = (view * 255).round().byte()
        progress(number + 1, len(samples))
    labels = [PATTERNS.index(world.pattern(sample.garment)) for sample in samples]
    return views, torch.tensor(labels)


def train_classifier(
    sets: Sequence[Views],
    epochs: int,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress = silent,
) -> tuple[PatternClassifier, list[float]]:
    """Train on all but the first eighth of every set.

    Returns:
        The network, and its accuracy on the eighth that was held out, by set.

    Raises:
        ValueError: the sets make no batch.
    """
    torch.manual_seed(seed)
    # The sets may be of the same samples in the same order: none of them is in both parts.
    held = round(min(len(labels) for _, labels in sets) * HELD_OUT)
    views, labels = (torch.cat([part[place][held:] for part in sets]) for place in (0, 1))
    if len(views) < batch_size:
        raise ValueError(
            f"{len(views)} views are fewer than a batch of {batch_size}: draw more garments."
        )
    network = PatternClassifier()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    steps = epochs * (len(views) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    started, done = time.monotonic(), 0
    for epoch in range(epochs):
        network.train()
        for rows in torch.randperm(len(views)).split(batch_size):
            if len(rows) < batch_size:
                continue
            pixels = _varied(views[rows].float() / 255)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(pixels)
            loss = functional.cross_entropy(logits.float(), labels[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            done += 1
            progress(done, steps)
        rates = [_rate(network, part[:held], truth[:held]) for part, truth in sets]
        seconds = time.monotonic() - started
        logger.info("epoch %d: loss %.3f, %s right, %.0f s", epoch + 1, loss.item(), rates, seconds)
    return network.eval(), rates


def _varied(pixels: torch.Tensor) -> torch.Tensor:
    """Vary views (b, 3, side, side), and cut them to (b, 3, WINDOW, WINDOW).

    Each is mirrored, shifted, coloured otherwise, and a little blurred or noisy, but keeps its
    pattern.
    """
    count = len(pixels)
    pixels = torch.where(_some(count, 0.5), pixels.flip(3), pixels)
    places = torch.randint(2 * _MARGIN + 1, (2, count, 1)) + torch.arange(WINDOW)
    rows = torch.arange(count)[:, None, None]
    moved = pixels.movedim(1, -1)[rows, places[0][:, :, None], places[1][:, None]].movedim(-1, 1)
    channels = torch.argsort(torch.rand(count, 3), dim=1)
    moved = moved.gather(1, channels[:, :, None, None].expand_as(moved))
    moved = torch.where(_some(count, 0.3), 1 - moved, moved)
    contrast = torch.empty(count, 1, 1, 1).uniform_(0.7, 1.15)
    shift = torch.empty(count, 3, 1, 1).uniform_(-0.08, 0.08)
    moved = (moved - 0.5) * contrast + 0.5 + shift
    soft = functional.avg_pool2d(moved, 3, 1, 1, count_include_pad=False)
    moved = torch.lerp(moved, soft, 0.7 * torch.rand(count, 1, 1, 1) * _some(count, 0.4))
    noise = torch.randn_like(moved) * torch.rand(count, 1, 1, 1) * 0.03
    return (moved + noise).clamp(0, 1)


def _some(count: int, share: float) -> torch.Tensor:
    return torch.rand(count, 1, 1, 1) < share


@torch.no_grad()
def _rate(network: PatternClassifier, views: torch.Tensor, labels: torch.Tensor) -> float:
    network.eval()
    views = views[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    right = [
        (network(part.float() / 255).argmax(dim=1) == truth).sum()
        for part, truth in zip(views.split(256), labels.split(256), strict=True)
    ]
    return float(sum(right)) / len(views)
