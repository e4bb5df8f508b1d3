"""The full-size SD2-inpainting architecture with deterministic weights, made once and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fashion_rag.adapter.garment.inversion import InversionAdapterConfig
from fashion_rag.miniature.standin import Sizes, write_model_folder

RECIPE = 1
"""Counted up whenever the weights would come out differently."""

FULL_SIZE = Sizes(
    unet={
        "in_channels": 27,
        "block_out_channels": (320, 640, 1280, 1280),
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
        "sample_size": 64,
    },
    vae={
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
    },
    text_encoder={
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "projection_dim": 512,
    },
    image_encoder={
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
        "patch_size": 14,
        "projection_dim": 1024,
    },
    adapter=InversionAdapterConfig(
        width=1280, heads=16, layers=1, mlp_width=5120, hidden=5120, words=16, output_width=1024
    ),
)


def full_size_folder() -> Path:
    """The model folder (8 GB, float32, diffusers layout), written at the first call.

    It lies in FASHION_RAG_CACHE, by default ~/.cache/fashion-rag/tests. The U-Net is one file,
    `unet/diffusion_pytorch_model.safetensors`, in diffusers names.
    """
    cache = os.environ.get("FASHION_RAG_CACHE") or Path.home() / ".cache/fashion-rag/tests"
    folder = Path(cache) / f"full-size-{RECIPE}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        try:
            # In a process of its own: this one would keep gigabytes of freed tensors.
            subprocess.run([sys.executable, __file__, unfinished], check=True)
            unfinished.replace(folder)
        except OSError:
            # Another process may have been faster; its folder is the same.
            if not folder.is_dir():
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


if __name__ == "__main__":
    write_model_folder(Path(sys.argv[1]), FULL_SIZE)
