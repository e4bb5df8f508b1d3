"""What the retriever's tests share: an encoder without a model, drawn photos, a tiny open_clip."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

TINY = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 20,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
        "interpolation": "bilinear",
        "resize_mode": "shortest",
    },
}


class ColourEncoder:
    """Embeds a photo by its mean colour and a text by the colour that it names."""

    name = "colour"
    dim = 8
    preprocessing = {"size": 1}
    colours = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "white": (255,) * 3}

    def __init__(self, fingerprint: str = "c0ffee"):
        self.fingerprint = fingerprint
        self.photos_seen = 0

    def _embed(self, colours: np.ndarray) -> torch.Tensor:
        basis = np.random.default_rng(0).normal(size=(4, self.dim))
        values = np.column_stack([colours / 255 - 0.5, np.full(len(colours), 0.1)]) @ basis
        return torch.nn.functional.normalize(torch.from_numpy(values).float(), dim=1)

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        self.photos_seen += len(photos)
        assert all(photo.mode == "RGB" for photo in photos)
        return self._embed(np.array([np.asarray(p).mean(axis=(0, 1)) for p in photos]))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        named = [
            next((rgb for name, rgb in self.colours.items() if name in text), (128,) * 3)
            for text in texts
        ]
        return self._embed(np.array(named, dtype=np.float64))


def draw_catalogue(folder: Path, count: int = 12, size: tuple[int, int] = (24, 32)) -> Path:
    """A folder of `count` photos of one colour each, all different."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        colour = (number * 53 % 256, number * 101 % 256, number * 197 % 256)
        Image.new("RGB", size, colour).save(folder / f"{number:03}.png")
    return folder


def write_tiny_encoder(folder: Path, config: dict = TINY, seed: int = 0) -> Path:
    """An open_clip folder of a tiny model with seeded weights."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config["model_cfg"])
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder
