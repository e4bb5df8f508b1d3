"""What the tests of training share: a drawn world, a tiny model folder, a model of one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from fashion_rag.training.config import Run
from fashion_rag.training.loop import Task, train
from PIL import Image
from torch.utils.data import Dataset

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"width": 32, "heads": 2, "layers": 2},
}
UNET = {
    "block_out_channels": [32, 32],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 32,
    "use_linear_projection": True,
    "sample_size": 8,
}
VAE = {
    "block_out_channels": [32] * 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "latent_channels": 4,
    "layers_per_block": 1,
    "sample_size": 64,
}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "projection_dim": 32,
}
ADAPTER = {
    "width": 32,
    "heads": 2,
    "layers": 1,
    "mlp_width": 64,
    "hidden": 64,
    "words": 4,
    "output_width": 32,
}


def small_world(base: Path) -> Path:
    """Nine pairs to train on and three held out, drawn once a session."""
    folder = base / "training-world"
    if not folder.exists():
        from fashion_rag.miniature.dresscode import render

        render(folder, count=12, test=3, seed=3, size=(48, 64), processes=1)
    return folder


def small_model(base: Path) -> Path:
    """An untrained model folder with a 9-channel U-Net, and `encoder` in it, made once."""
    folder = base / "training-model"
    if not folder.exists():
        from fashion_rag.adapter.garment.inversion import InversionAdapterConfig
        from fashion_rag.miniature.standin import Sizes, write_encoder, write_model_folder

        special = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 0}
        sizes = Sizes(
            unet={"in_channels": 9, **UNET},
            vae=VAE,
            text_encoder={**TOWER, **special},
            image_encoder={**TOWER, "image_size": 32, "patch_size": 16},
            adapter=InversionAdapterConfig(**ADAPTER),
        )
        write_model_folder(folder, sizes, seed=1)
        preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "resize_mode": "longest"}
        preprocess["interpolation"] = "bicubic"
        encoder = {"model_cfg": CLIP, "preprocess_cfg": preprocess}
        write_encoder(folder / "encoder", encoder, seed=1)
    return folder


def settings(model: Path, **changes: Any) -> dict[str, Any]:
    """A configuration of the stage `fashion_rag` for the small world and model."""
    return {
        "stage": "fashion_rag",
        "model": str(model),
        "encoder": str(model / "encoder"),
        "size": [64, 48],
        "garments": [0.25, 0.25, 0.25, 0.25],
        "run": {
            "steps": 4,
            "batch_size": 2,
            "learning_rate": 1e-3,
            "warmup": 0,
            "checkpoint_every": 2,
            "preview_every": 100,
        },
        **changes,
    }


def toml(content: dict[str, Any]) -> str:
    """A configuration of plain values and tables as a TOML file."""
    import json

    lines = [f"{k} = {json.dumps(v)}" for k, v in content.items() if not isinstance(v, dict)]
    for name, table in content.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items())]
    return "\n".join(lines) + "\n"


class Line(Dataset):
    """Eight numbers by position, and their sum."""

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        x = torch.sin(torch.arange(8.0) * (position + 1))
        return {"x": x, "y": x.sum()[None]}


class LineTask(Task):
    """Learns the sum; its loss is NaN from the forward pass `breaks_at` on, if that is given."""

    def __init__(self, breaks_at: int | None = None, width: int = 8):
        super().__init__()
        self.stream, self.breaks_at, self.passes = Line(), breaks_at, 0
        self.layer = torch.nn.Linear(width, 1)
        torch.nn.init.constant_(self.layer.weight, 0.1)
        torch.nn.init.zeros_(self.layer.bias)

    def forward(self, batch):
        self.passes += 1
        loss = (self.layer(batch["x"]) - batch["y"]).square().mean()
        if self.breaks_at is not None and self.passes >= self.breaks_at:
            loss = loss * float("nan")
        return loss, {"twice": 2 * loss.detach()}

    def preview(self) -> Image.Image:
        return Image.new("RGB", (8, 8))

    def export(self, folder: Path) -> None:
        torch.save(self.state_dict(), folder / "line.pt")


def train_line(folder: Path, task: LineTask | None = None, resume: bool = False, **run: Any) -> Any:
    """Train a LineTask; the run's options have small defaults."""
    options = {"steps": 8, "batch_size": 2, "learning_rate": 0.05, "warmup": 0, "log_every": 1}
    options |= {"checkpoint_every": 2, "preview_every": 100, **run}
    changed = {name: options[name] for name in ("batch_size", "accumulate") if name in options}
    task = task or LineTask()
    train(task, Run(**options), {"run": changed}, folder, resume)
    return task
