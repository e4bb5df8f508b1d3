"""Torch modules under ComfyUI's memory management: it loads and offloads them as its own models."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch

from ...adapter.garment.checkpoints import load_adapter
from ...adapter.garment.inversion import InversionAdapter
from ...retriever.encoders.batches import free_memory, is_out_of_memory

logger = logging.getLogger(__name__)

_WHOLE = 1e32
"""More bytes than any model has, so that `partially_load` loads all of it."""


class ManagedAdapter:
    """An inversion adapter that the host casts and offloads as it does its own models."""

    def __init__(self, module: InversionAdapter):
        self.module = module
        self.patcher = comfy.model_patcher.ModelPatcher(
            module,
            load_device=comfy.model_management.text_encoder_device(),
            offload_device=comfy.model_management.text_encoder_offload_device(),
        )

    @classmethod
    def load(cls, path: Path) -> ManagedAdapter:
        """Load an adapter file.

        Raises:
            FileNotFoundError, ValueError: see `load_adapter`.
        """
        # The host's casting layers: the adapter may be loaded in part, or in half precision.
        return cls(load_adapter(path, operations=comfy.ops.manual_cast))

    def pseudo_words(self, features: torch.Tensor) -> torch.Tensor:
        """Map features (n, tokens, width) to pseudo-words (n, words, output_width) on the CPU."""
        comfy.model_management.load_models_gpu([self.patcher])
        features = features.to(self.patcher.load_device, torch.float32)
        return self.module(features).float().cpu()


class WholePatcher(comfy.model_patcher.ModelPatcher):
    """A ModelPatcher of a module that works only when all of its weights are on one device.

    The host moves single layers to and fro where memory is short, and its own layers fetch their
    weights when they are called. Those of another library do not.
    """

    def partially_load(
        self, device_to: torch.device, extra_memory: float = 0, **options: Any
    ) -> float:
        """Load everything, even if the host asks for less."""
        return super().partially_load(device_to, _WHOLE, **options)

    def partially_unload(self, *args: Any, **options: Any) -> int:
        """Unload nothing; the host, which gets no memory this way, unloads the whole module."""
        return 0


class WholeModule:
    """A module of another library, loaded whole; on the CPU where it does not fit the device.

    in_float32: whether the module was moved to the CPU, and its weights became float32.
    """

    def __init__(self, module: torch.nn.Module):
        management = comfy.model_management
        self.module = module
        # The host writes to a module's `device`, which those of transformers only let it read.
        self._held = torch.nn.ModuleList([module])
        self.in_float32 = False
        device = management.text_encoder_device()
        self._patcher = self._on(device)
        if not management.is_device_cpu(device) and not _can_fit(module, device):
            self.to_cpu()

    def load(self) -> torch.device:
        """Bring all weights to one device, and return it."""
        management = comfy.model_management
        try:
            management.load_models_gpu([self._patcher], force_full_load=True)
            return self._patcher.load_device
        except RuntimeError as error:
            if management.is_device_cpu(self._patcher.load_device) or not is_out_of_memory(error):
                raise
        self.to_cpu()
        return self.load()

    def to_cpu(self) -> None:
        """Take the module off its device for good."""
        logger.warning(
            "%s does not fit the memory of %s: it runs on the CPU, which takes longer.",
            type(self.module).__name__,
            self._patcher.load_device,
        )
        comfy.model_management.unload_model_and_clones(self._patcher)
        self.module.float().to("cpu")
        self._patcher, self.in_float32 = self._on(torch.device("cpu")), True
        free_memory()

    def _on(self, device: torch.device) -> WholePatcher:
        offload_device = comfy.model_management.text_encoder_offload_device()
        return WholePatcher(self._held, load_device=device, offload_device=offload_device)


def _can_fit(module: torch.nn.Module, device: torch.device) -> bool:
    """Tell whether the empty device could hold the module and the memory that computing needs."""
    management = comfy.model_management
    needed = management.module_size(module) + management.minimum_inference_memory()
    return needed < management.get_total_memory(device)


def encoder_dtype() -> torch.dtype:
    """Return the dtype of a retrieval encoder on the host's device for text encoders."""
    management = comfy.model_management
    half = management.should_use_fp16(management.text_encoder_device())
    return torch.float16 if half else torch.float32
