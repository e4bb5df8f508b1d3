"""The retrieval encoder that a model folder holds: its own text encoder and image encoder.

It is, outside of ComfyUI, what the encoder `host` is inside: two halves of one CLIP in
transformers' format, with their projections.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn import functional

from ...model_parts import CONFIG, load_part, tokenizer_of, told_of, weights_of
from ...pictures.clip_pixels import clip_pixels
from ...pictures.photos import to_rgb_on_white
from .batches import in_smaller_batches
from .fingerprint import fingerprint_of_files, fingerprint_of_pair
from .texts import check_texts

TEXT, IMAGE = "text_encoder", "image_encoder"
PREPROCESSING = {"preprocess": "whole"}
"""How a pair sees a photo, inside ComfyUI and outside: see `square_on_white`."""


def is_model_folder(folder: Path) -> bool:
    """Tell whether a model folder has both towers."""
    return all((folder / part).is_dir() for part in (TEXT, IMAGE))


def square_on_white(photo: Image.Image, size: int) -> torch.Tensor:
    """Fit a photo of any size into a square on white: (3, size, size) uint8.

    Nothing is cut off, and the photo's own size makes no difference beyond the resampling.
    """
    if photo.mode != "RGB" or photo.has_transparency_data:
        photo = to_rgb_on_white(photo)
    padded = ImageOps.pad(photo, (size, size), Image.Resampling.BICUBIC, color="white")
    return torch.from_numpy(np.array(padded)).movedim(-1, 0).contiguous()


class TowersEncoder:
    """See `open_clip.Encoder`; photos are padded to a square on white, nothing is cut off.

    Args:
        folder: with `text_encoder`, `image_encoder`, and `tokenizer` unless that is CLIP's.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: the towers have no projections, or different ones: not two halves of a CLIP;
            or see `load_part`.
        ImportError: transformers is missing, or open_clip where the folder has no tokenizer.
    """

    def __init__(
        self,
        folder: Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        from transformers import (
            CLIPTextModelWithProjection,
            CLIPTokenizer,
            CLIPVisionModelWithProjection,
        )

        folder = Path(folder)
        self._weights = [weights_of(folder / part, "model") for part in (TEXT, IMAGE)]
        for weights, name in zip(self._weights, ("text", "visual"), strict=True):
            _check_projection(weights, name)
        tokenizer = tokenizer_of(folder)
        text, vision = (
            load_part(model, weights.parent, "model", torch_dtype=dtype)
            for model, weights in zip(
                (CLIPTextModelWithProjection, CLIPVisionModelWithProjection),
                self._weights,
                strict=True,
            )
        )
        self.model = torch.nn.ModuleDict({TEXT: text, IMAGE: vision}).to(device)
        self.model.eval().requires_grad_(False)
        self._tokenizer = CLIPTokenizer.from_pretrained(tokenizer, local_files_only=True)
        self.name = folder.name
        self.device, self.dtype = torch.device(device), dtype
        self.dim: int = vision.config.projection_dim
        if text.config.projection_dim != self.dim:
            raise ValueError(
                f"{folder}: the text encoder projects to {text.config.projection_dim} dimensions, "
                f"the image encoder to {self.dim}; they are not two halves of one CLIP."
            )
        self.preprocessing: dict[str, Any] = PREPROCESSING
        self.fingerprint = fingerprint_of_pair(text.state_dict(), vision.state_dict())
        self.prepare: Callable[[Image.Image], torch.Tensor] = functools.partial(
            square_on_white, size=vision.config.image_size
        )

    def had_fingerprint(self, fingerprint: str) -> bool:
        """Tell whether version 0.1 had this fingerprint for the weights: both files' SHA-256."""
        return fingerprint == fingerprint_of_files(b"", self._weights)

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """See `open_clip.Encoder`; transparency is laid on white."""
        return self.encode_prepared(torch.stack([self.prepare(photo) for photo in photos]))

    def encode_prepared(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode (n, 3, size, size) uint8 of `prepare`: (n, dim) float32 unit vectors (CPU)."""
        return in_smaller_batches(self._encode_pixels, pixels)

    context_length = 77

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, start and end included."""
        return len(self._tokenizer(text, verbose=False).input_ids)

    @torch.no_grad()
    def _encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        normalised = clip_pixels(pixels.movedim(1, -1).float() / 255)
        normalised = normalised.movedim(-1, 1).contiguous().to(self.device, self.dtype)
        features = self.model[IMAGE](pixel_values=normalised).image_embeds
        return functional.normalize(features.float(), dim=-1).cpu()

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See `open_clip.Encoder`.

        Raises:
            ValueError: a text is empty.
        """
        check_texts(texts)
        return in_smaller_batches(self._encode_texts, list(texts))

    @torch.no_grad()
    def _encode_texts(self, texts: list[str]) -> torch.Tensor:
        tokens = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        )
        features = self.model[TEXT](tokens.input_ids.to(self.device)).text_embeds
        return functional.normalize(features.float(), dim=-1).cpu()


def _check_projection(weights: Path, name: str) -> None:
    from safetensors import safe_open

    with told_of(weights, weights.parent / CONFIG), safe_open(weights, framework="pt") as file:
        names = set(file.keys())
    if f"{name}_projection.weight" not in names:
        raise ValueError(
            f"{weights} lacks {name}_projection.weight, so it can't be used for retrieval; "
            "name an encoder folder (`fashion-rag encoder get`)."
        )
