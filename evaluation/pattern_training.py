"""Train the pattern classifier on renders of a world of its own, raw and through the VAE."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch.nn import functional

from ..miniature.fabrics import PATTERNS
from .dresscode import load_scene, read_samples
from .patterns import SIZE, WINDOW, PatternClassifier, garment_view

logger = logging.getLogger(__name__)

HELD_OUT = 1 / 8
_MARGIN = 8  # pixels that a window is shifted by at most
_SIDE = WINDOW + 2 * _MARGIN

Progress = Callable[[int, int, str], None]
RoundTrip = Callable[[torch.Tensor], torch.Tensor]
"""Pictures (b, H, W, 3) in 0..1 through a VAE and back."""


def read_views(
    world: Path, round_trip: RoundTrip | None, progress: Progress = lambda *_: None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The garments of a world's training pairs as the classifier sees them.

    Returns:
        Views (n, copies, 3, side, side) uint8 with a margin, the raw ones and, with a VAE, their
        round trips; and the patterns' numbers (n,).
    """
    rows = [json.loads(line) for line in (world / "garments.jsonl").read_text().splitlines()]
    patterns = {row["id"]: row["pattern"] for row in rows}
    samples = read_samples(world, "train")
    views = torch.empty(
        (len(samples), 1 if round_trip is None else 2, 3, _SIDE, _SIDE), dtype=torch.uint8
    )
    with ThreadPoolExecutor(2) as pool:
        for number, scene in enumerate(pool.map(lambda s: load_scene(s, SIZE), samples)):
            pictures = [scene.photo]
            if round_trip is not None:
                pictures.append(round_trip(scene.photo[None])[0])
            for place, picture in enumerate(pictures):
                view = garment_view(picture.numpy(), scene.mask.numpy(), _MARGIN)
                views[number, place] = (view * 255).round().byte()
            progress(number + 1, len(samples), "reading")
    return views, torch.tensor([PATTERNS.index(patterns[sample.garment]) for sample in samples])


def train_classifier(
    views: torch.Tensor,
    labels: torch.Tensor,
    epochs: int,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress = lambda *_: None,
) -> tuple[PatternClassifier, list[float]]:
    """Train on the views (n, copies, 3, side, side) of `read_views`; the last eighth is held out.

    Returns:
        The network, and its accuracy on the held-out views, by copy (raw, round trip).
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    count = len(views) - round(len(views) * HELD_OUT)
    network = PatternClassifier()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    steps = epochs * (count // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    started, done = time.monotonic(), 0
    for epoch in range(epochs):
        network.train()
        order = rng.sample(range(count), count)
        for start in range(0, count - batch_size + 1, batch_size):
            rows = torch.tensor(order[start : start + batch_size])
            copies = torch.randint(views.shape[1], (batch_size,))
            pixels = _varied(views[rows, copies].float() / 255)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(pixels)
            loss = functional.cross_entropy(logits.float(), labels[rows], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            done += 1
            progress(done, steps, f"loss {loss.item():.3f}")
        rates = [_rate(network, views[count:, copy], labels[count:])
                 for copy in range(views.shape[1])]  # fmt: skip
        logger.info("epoch %d: %s right, %.0f s", epoch + 1, rates, time.monotonic() - started)
    return network.eval(), rates


def _varied(pixels: torch.Tensor) -> torch.Tensor:
    """Views (b, 3, side, side) mirrored, shifted, in other colours and a little blurred or noisy,
    each in its own way: the pattern stays. Returns (b, 3, WINDOW, WINDOW)."""
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
