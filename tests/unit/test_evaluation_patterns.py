"""The pattern classifier learns what it is for; its command writes what the evaluation reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fashion_rag.commands.main import main
from fashion_rag.evaluation.miniature.pattern_training import train_classifier
from fashion_rag.evaluation.miniature.patterns import load_classifier
from fashion_rag.miniature.dresscode import render
from fashion_rag.miniature.fabrics import PATTERNS, Fabric
from fashion_rag.miniature.standin import make_standin

KINDS = ("plain", "stripes", "vertical stripes", "dots")
SIDE = 80


def cloth(kind: str, rng: np.random.Generator) -> torch.Tensor:
    """A view (3, SIDE, SIDE) uint8 full of a fabric, in any two colours and of any scale."""
    base = rng.random(3)
    fabric = Fabric(tuple(base), kind, tuple((base + 0.5) % 1), rng.uniform(8, 16))
    across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    pixels = fabric.at(across.ravel() + rng.uniform(0, 9), down.ravel() * 1.0, 1.0)
    return torch.from_numpy((pixels.reshape(SIDE, SIDE, 3) * 255).astype(np.uint8)).movedim(-1, 0)


def test_it_learns_patterns_apart_in_any_colour():
    rng = np.random.default_rng(0)
    kinds = [KINDS[n % len(KINDS)] for n in range(256)]
    views = torch.stack([cloth(kind, rng) for kind in kinds])
    labels = torch.tensor([PATTERNS.index(kind) for kind in kinds])
    network, rates = train_classifier([(views, labels), (views, labels)], epochs=4)
    assert min(rates) > 0.85
    fresh = torch.stack([cloth(kind, rng) for kind in KINDS * 4])[..., 8:-8, 8:-8].float() / 255
    named = network.name(fresh)
    assert sum(a == b for a, b in zip(named, KINDS * 4, strict=True)) >= 13


def test_the_command_writes_a_classifier(tmp_path, capsys):
    model = make_standin(tmp_path / "model")
    for seed in (0, 5):
        render(tmp_path / f"{seed}", 40, 0, seed=seed, size=(96, 128), processes=1)
    arguments = ["pattern-classifier", "--model", str(model), "--out", str(tmp_path / "c.st")]
    arguments += ["--count", "40", "--round-trips", "40", "--epochs", "2"]
    # The world that is evaluated must not be learnt.
    assert main([*arguments, "--data", str(tmp_path / "0")]) == 1
    assert "the one that is evaluated" in capsys.readouterr().err
    assert main([*arguments, "--data", str(tmp_path / "5")]) == 0
    assert "through the VAE" in capsys.readouterr().out
    assert set(load_classifier(tmp_path / "c.st").name(torch.rand(3, 3, 64, 64))) <= set(PATTERNS)


def test_too_few_renders_are_refused():
    views = torch.zeros(8, 3, SIDE, SIDE, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64)
    with pytest.raises(ValueError, match="7 views are fewer than a batch of 64"):
        train_classifier([views], epochs=1)
