"""In which number formats ComfyUI wants the pack's models."""

from __future__ import annotations

import comfy.model_management
import comfy.ops
import torch

CASTING_LAYERS = comfy.ops.manual_cast
"""Linear, LayerNorm, ...: their weights are cast to the input's device and dtype when they run."""


def encoder_dtype() -> torch.dtype:
    """float16 where text encoders run fast in it, else float32."""
    management = comfy.model_management
    half = management.should_use_fp16(management.text_encoder_device())
    return torch.float16 if half else torch.float32
