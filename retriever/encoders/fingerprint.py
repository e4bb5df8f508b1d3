"""Fingerprints of encoders' weights, by which an index finds the encoder it was built with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...files import remembered

SAMPLED = 4096
"""How many elements of each tensor are read."""
_BLOCK = 1 << 22
_REMEMBERED_FROM = 16 << 20  # bytes; smaller files are hashed at once


def fingerprint_of_files(start: bytes, paths: Sequence[Path]) -> str:
    """Return the SHA-256 in hex over `start` and then the files' bytes, one after the other.

    Gigabytes are read once, and again only after a file has changed.

    Raises:
        OSError: a file can't be read.
    """

    def compute() -> str:
        digest = hashlib.sha256(start)
        for path in paths:
            with open(path, "rb") as file:
                while block := file.read(_BLOCK):
                    digest.update(block)
        return digest.hexdigest()

    if sum(path.stat().st_size for path in paths) < _REMEMBERED_FROM:
        return compute()
    return remembered(f"fingerprint {hashlib.sha256(start).hexdigest()}", paths, compute)


def fingerprint_of_pair(text: Mapping[str, torch.Tensor], image: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 in hex over two CLIP towers in memory, in transformers' names.

    It is the same in ComfyUI and outside, and for weights loaded as float32, float16, bfloat16 or
    float8: it reads the signs of evenly spaced elements, which rounding leaves as they are.

    Args:
        text, image: the towers' state dicts, their projections included.
    """
    digest = hashlib.sha256(b"pair")
    for tower in (text, image):
        tensors = {_short(name): tensor for name, tensor in tower.items()}
        for name in sorted(tensors):
            tensor = tensors[name]
            if not tensor.is_floating_point():
                continue  # transformers kept position ids among the weights once
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            flat = tensor.detach().flatten()
            signs = torch.signbit(flat[:: max(1, flat.numel() // SAMPLED)].float())
            digest.update(signs.to("cpu", torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _short(name: str) -> str:
    return name.removeprefix("text_model.").removeprefix("vision_model.")


def has_fingerprint(encoder: Any, fingerprint: str) -> bool:
    """Tell whether a fingerprint is that of `encoder`.

    An encoder may have a method `had_fingerprint`, which knows what version 0.1 called it.
    """
    if fingerprint == encoder.fingerprint:
        return True
    had = getattr(encoder, "had_fingerprint", None)
    return had is not None and had(fingerprint)
