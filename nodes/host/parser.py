"""A human parser under ComfyUI's memory management."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import torch

from ...adapter.person.parsing import HumanParser, load_parser
from .memory import progress_bar


class ManagedParser:
    """A parser whose network the host brings to its device, and takes away again."""

    def __init__(self, parser: HumanParser):
        self.parser = parser
        # The host writes to `device`, which transformers' own modules only let it read.
        self.patcher = comfy.model_patcher.ModelPatcher(
            torch.nn.ModuleDict({"parser": parser.network}),
            load_device=comfy.model_management.get_torch_device(),
            offload_device=comfy.model_management.unet_offload_device(),
        )

    def labels(self, photos: torch.Tensor) -> torch.Tensor:
        """(b, H, W, 3) float in 0..1 -> (b, H, W) uint8, see `HumanParser.labels`; moves the node's
        bar, and can be cancelled after each photo."""
        comfy.model_management.load_models_gpu([self.patcher])
        return self.parser.labels(photos, progress_bar())


def open_parser(folder: Path) -> ManagedParser:
    """A parser's folder, in half precision where the device is fit for it."""
    management = comfy.model_management
    half = management.should_use_fp16(management.get_torch_device())
    return ManagedParser(load_parser(folder, torch.float16 if half else torch.float32))
