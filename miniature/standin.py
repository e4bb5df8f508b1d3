"""Untrained models in the real file formats: random weights of sane size, the same for a seed.

A stand-in lets the whole method run where the trained weights are not at hand. What it paints is
noise, and what it retrieves is arbitrary; whoever shows its pictures says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import torch

from ..adapter.garment.checkpoints import write_safetensors
from ..adapter.garment.inversion import InversionAdapter, InversionAdapterConfig
from ..adapter.headless.pipeline import MODEL_INDEX
from ..files import write_text
from ..model_parts import write_tokenizer


@dataclass(frozen=True)
class Sizes:
    """The configurations of a model folder's parts, in the keys of diffusers and transformers."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    text_encoder: Mapping[str, Any]
    image_encoder: Mapping[str, Any]
    adapter: InversionAdapterConfig


MINIATURE = Sizes(
    unet={
        "in_channels": 27,
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": (2, 4, 4),
        "cross_attention_dim": 64,
        "use_linear_projection": True,
        "sample_size": 64,
    },
    vae={
        "block_out_channels": (32, 32, 32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4,
        "sample_size": 512,
    },
    text_encoder={
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "projection_dim": 64,
    },
    image_encoder={
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "hidden_act": "gelu",
        "patch_size": 32,
        "projection_dim": 64,
    },
    adapter=InversionAdapterConfig(
        width=64, heads=4, layers=1, mlp_width=128, hidden=128, words=4, output_width=64
    ),
)

RETRIEVER = {
    "model_cfg": {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 64,
            "layers": 2,
            "width": 64,
            "head_width": 16,
            "patch_size": 16,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 4,
            "layers": 2,
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}


def make_standin(folder: Path, seed: int = 0) -> Path:
    """Write a tiny untrained model folder and its retrieval encoder, `folder/encoder`.

    Raises:
        ImportError: diffusers, transformers or open_clip is missing.
    """
    folder = Path(folder)
    write_encoder(folder / "encoder", RETRIEVER, seed)
    return write_model_folder(folder, MINIATURE, seed)


def write_model_folder(folder: Path, sizes: Sizes, seed: int = 0) -> Path:
    """Write an untrained model folder in diffusers layout, float32, `model_index.json` last."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    text_config = CLIPTextConfig(**sizes.text_encoder, architectures=["CLIPTextModel"])
    vision_config = CLIPVisionConfig(
        **sizes.image_encoder, architectures=["CLIPVisionModelWithProjection"]
    )
    # Only the shapes are needed here, so nothing is allocated or initialised twice.
    with torch.device("meta"):
        unet = UNet2DConditionModel(**sizes.unet)
        vae = AutoencoderKL(**sizes.vae)
        text_encoder = CLIPTextModel(text_config)
        image_encoder = CLIPVisionModelWithProjection(vision_config)
        adapter = InversionAdapter(sizes.adapter)

    unet.save_config(folder / "unet")
    vae.save_config(folder / "vae")
    text_config.save_pretrained(folder / "text_encoder")
    vision_config.save_pretrained(folder / "image_encoder")
    for file, model in (
        ("unet/diffusion_pytorch_model", unet),
        ("vae/diffusion_pytorch_model", vae),
        ("text_encoder/model", text_encoder),
        ("image_encoder/model", image_encoder),
    ):
        weights = untrained_weights(model, f"{seed}/{file}")
        if model is text_encoder:
            weights = {_with_prefix(name): tensor for name, tensor in weights.items()}
        write_safetensors(weights, folder / f"{file}.safetensors")
    write_safetensors(
        untrained_weights(adapter, f"{seed}/adapter"),
        folder / "inversion_adapter.safetensors",
        {name: str(value) for name, value in asdict(sizes.adapter).items()},
    )
    write_scheduler(folder / "scheduler")
    write_tokenizer(folder / "tokenizer")
    write_text(folder / "model_index.json", json.dumps(MODEL_INDEX, indent=2))
    return folder


def write_encoder(folder: Path, config: Mapping[str, Any], seed: int = 0) -> Path:
    """Write an untrained open_clip encoder folder from an `open_clip_config.json`'s content."""
    import open_clip

    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        model = open_clip.CLIP(**config["model_cfg"])
    weights = untrained_weights(model, f"{seed}/encoder")
    write_safetensors(weights, folder / "open_clip_model.safetensors")
    write_text(folder / "open_clip_config.json", json.dumps(config, indent=2))
    return folder


def write_scheduler(folder: Path) -> None:
    """Write the noise schedule of Stable Diffusion 2 inpainting."""
    from diffusers import DDIMScheduler

    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    ).save_pretrained(folder)


def untrained_weights(model: torch.nn.Module, seed: str) -> dict[str, torch.Tensor]:
    """Draw float32 weights by name and shape, so that activations keep a std of about 1.

    Every tensor has a generator of its own, seeded by `seed` and its name. Matrices and kernels are
    N(0, 1 / fan-in), norms are near 1, biases and embeddings small but not zero.
    """
    weights = {}
    for name, tensor in model.state_dict().items():
        generator = torch.Generator().manual_seed(crc32(f"{seed}/{name}".encode()))
        values = torch.randn(tensor.shape, generator=generator)
        if "embedding" in name and "patch_embedding" not in name:
            weights[name] = values.mul_(0.5)
        elif tensor.ndim >= 2:
            weights[name] = values.div_(math.sqrt(math.prod(tensor.shape[1:])))
        else:
            weights[name] = values.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
    return weights


def _with_prefix(name: str) -> str:
    # Published checkpoints, and ComfyUI, call it so; newer transformers drop the prefix.
    return name if name.startswith("text_model.") else f"text_model.{name}"
