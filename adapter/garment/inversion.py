"""The inversion adapter: image features of a garment to pseudo-word token embeddings.

The network of LaDI-VTON (ACM MM 2023) that Fashion-RAG trains further (section III-B), in plain
torch, its parameters named as in the published state dicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class InversionAdapterConfig:
    """The sizes of an adapter; the published ones have (1280, 16, 1, 5120, 5120, 16, 1024)."""

    width: int
    """Width of the vision tower's features."""
    heads: int
    layers: int
    mlp_width: int
    """Width of the encoder layers' MLP."""
    hidden: int
    """Width of the head's two hidden layers."""
    words: int
    """How many pseudo-words a garment has."""
    output_width: int
    """Width of a pseudo-word: that of the text encoder's token embeddings."""


class InversionAdapter(nn.Module):
    """The network from image features to pseudo-words.

    It has CLIP encoder layers, a LayerNorm of the CLS row, and a head of three linear layers.

    Args:
        config: the sizes.
        operations: where Linear and LayerNorm are taken from; ComfyUI's casting ones fit.
    """

    def __init__(
        self,
        config: InversionAdapterConfig,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.config = config
        self.metadata: Mapping[str, str] = {}
        """What the file says that it was read from; see `checkpoints.load_adapter`."""
        place = {"device": device, "dtype": dtype}
        self.encoder_layers = nn.ModuleList(
            _EncoderLayer(config, operations, place) for _ in range(config.layers)
        )
        self.post_layernorm = operations.LayerNorm(config.width, **place)
        self.layers = nn.Sequential(
            operations.Linear(config.width, config.hidden, **place),
            nn.GELU(),
            nn.Dropout(0.5),
            operations.Linear(config.hidden, config.hidden, **place),
            nn.GELU(),
            nn.Dropout(0.5),
            operations.Linear(config.hidden, config.words * config.output_width, **place),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map `last_hidden_state` of the vision tower, before its post-layernorm, to pseudo-words.

        Args:
            features: (n, tokens, width), the CLS token first.

        Returns:
            (n, words, output_width).
        """
        for layer in self.encoder_layers:
            features = layer(features)
        words = self.layers(self.post_layernorm(features[:, 0]))
        return words.unflatten(-1, (self.config.words, self.config.output_width))


class _EncoderLayer(nn.Module):
    """A CLIP encoder layer (pre-norm, exact GELU); attention without a mask."""

    def __init__(self, config: InversionAdapterConfig, operations: Any, place: dict):
        super().__init__()
        self.self_attn = _SelfAttention(config.width, config.heads, operations, place)
        self.layer_norm1 = operations.LayerNorm(config.width, **place)
        self.mlp = nn.ModuleDict(
            {
                "fc1": operations.Linear(config.width, config.mlp_width, **place),
                "fc2": operations.Linear(config.mlp_width, config.width, **place),
            }
        )
        self.layer_norm2 = operations.LayerNorm(config.width, **place)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.layer_norm2(x))))


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int, operations: Any, place: dict):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            operations.Linear(width, width, **place) for _ in range(4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))
