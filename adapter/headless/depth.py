"""The official per-depth mode: pseudo-words at chosen depths of the U-Net, the caption elsewhere.

Depths are counted as the official code does: 0 is the middle block, and the full resolution (first
block down, last block up) has the highest number, 3 in Stable Diffusion.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

import torch

LEVELS = (0, 1, 2, 3)


def parse_levels(text: str) -> set[int]:
    """Parse depths of the U-Net, such as "2 3": each 0 (middle block) to 3 (full resolution).

    Raises:
        ValueError: nothing, or something else than these numbers.
    """
    words = text.replace(",", " ").split()
    if not words or any(word not in {str(level) for level in LEVELS} for word in words):
        raise ValueError(
            f"levels is {text!r}; expected numbers from 0 (middle block) to 3 (full resolution), "
            "such as '2 3'."
        )
    return {int(word) for word in words}


def cross_attentions(unet: torch.nn.Module, levels: Collection[int]) -> list[torch.nn.Module]:
    """List the cross-attention layers of a diffusers U-Net at the given depths.

    Raises:
        ValueError: the U-Net has none there.
    """
    deepest = len(unet.down_blocks) - 1
    found, present = [], set()
    for name, module in unet.named_modules():
        match = re.match(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?.*attn2$", name)
        if match is None:
            continue
        part, number = match[1], int(match[2] or 0) if match[1] != "mid" else 0
        level = deepest - number if part == "down" else number
        present.add(level)
        if level in levels:
            found.append(module)
    if not found:
        raise ValueError(
            f"this U-Net has no cross-attention at the levels {sorted(levels)}; "
            f"it has some at {sorted(present)}."
        )
    return found


@contextmanager
def context_at(layers: Collection[torch.nn.Module], context: torch.Tensor) -> Iterator[None]:
    """Let layers attend to `context` (b, tokens, width) while this context manager is open."""

    def replace(layer, args, kwargs):
        return args, {**kwargs, "encoder_hidden_states": context}

    with ExitStack() as stack:
        for layer in layers:
            hook = layer.register_forward_pre_hook(replace, with_kwargs=True)
            stack.callback(hook.remove)
        yield
