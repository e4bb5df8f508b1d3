"""The inversion adapter against the official output, and against transformers' own layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fashion_rag.adapter.garment.checkpoints import load_adapter
from fashion_rag.adapter.garment.inversion import InversionAdapter, InversionAdapterConfig
from safetensors.torch import load_file
from transformers import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

DATA = Path(__file__).parent.parent / "data"


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_golden(record_figure):
    golden = np.load(DATA / "adapter_tiny.npz")
    config = InversionAdapterConfig(
        width=64, heads=4, layers=1, mlp_width=128, hidden=256, words=4, output_width=32
    )
    adapter = InversionAdapter(config).eval()
    adapter.load_state_dict(load_file(DATA / "adapter_tiny.safetensors"))
    found = adapter(torch.from_numpy(golden["input"]))
    assert found.shape == (2, 4, 32)
    error = relative(found.flatten(1), torch.from_numpy(golden["output"]))
    record_figure("adapter, official output, relative", error, 1e-5)


def test_full_width_against_transformers(record_figure):
    """SD2's sizes; the encoder layer by transformers, the head by hand."""
    torch.manual_seed(0)
    config = InversionAdapterConfig(
        width=1280, heads=16, layers=1, mlp_width=640, hidden=320, words=2, output_width=1024
    )
    adapter = InversionAdapter(config).eval()
    weights = adapter.state_dict()
    layer = CLIPEncoderLayer(
        CLIPVisionConfig(
            hidden_size=1280, num_attention_heads=16, intermediate_size=640, hidden_act="gelu"
        )
    ).eval()
    prefix = "encoder_layers.0."
    layer.load_state_dict(
        {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    )
    features = torch.randn(2, 257, 1280)
    with torch.no_grad():
        hidden = layer(features, None)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        norm = weights["post_layernorm.weight"], weights["post_layernorm.bias"]
        x = torch.nn.functional.layer_norm(hidden[:, 0], (1280,), *norm)
        for number in (0, 3, 6):
            x = x @ weights[f"layers.{number}.weight"].T + weights[f"layers.{number}.bias"]
            x = torch.nn.functional.gelu(x) if number < 6 else x
        found = adapter(features)
    record_figure(
        "adapter, width 1280, transformers' layer, relative", relative(found.flatten(1), x), 1e-5
    )


def test_every_row_of_the_features_matters():
    adapter = load_adapter(DATA / "adapter_tiny.safetensors")
    features = torch.randn(1, 17, 64)
    changed = features.clone()
    changed[:, 1:] = 0
    assert not torch.allclose(adapter(features), adapter(changed), atol=1e-3)
