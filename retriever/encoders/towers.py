"""The retrieval encoder that a model folder holds: its own text encoder and image encoder.

What the encoder `host` is inside ComfyUI, outside of it: two halves of one CLIP in transformers'
format, with their projections.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch.nn import functional

from ...pictures.clip_pixels import clip_pixels

TEXT, IMAGE = "text_encoder", "image_encoder"


def is_model_folder(folder: Path) -> bool:
    """Whether the folder has both towers."""
    return all((folder / part).is_dir() for part in (TEXT, IMAGE))


class TowersEncoder:
    """See `open_clip.Encoder`; photos are padded to a square on white, nothing is cut off.

    Args:
        folder: with `text_encoder`, `image_encoder` and `tokenizer`.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: the towers have no projections, or different ones: not two halves of a CLIP.
        ImportError: transformers is missing.
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
        digest = hashlib.sha256()
        for part in (TEXT, IMAGE):
            weights = folder / part / "model.safetensors"
            if not weights.is_file():
                raise FileNotFoundError(f"{weights} is missing: a model folder holds both towers.")
            self._check_projection(weights, "text" if part == TEXT else "visual")
            digest.update(weights.read_bytes())
        local = {"local_files_only": True, "use_safetensors": True, "torch_dtype": dtype}
        text = CLIPTextModelWithProjection.from_pretrained(folder / TEXT, **local)
        vision = CLIPVisionModelWithProjection.from_pretrained(folder / IMAGE, **local)
        self.model = torch.nn.ModuleDict({TEXT: text, IMAGE: vision}).to(device)
        self.model.eval().requires_grad_(False)
        self._tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        self._size = vision.config.image_size
        self.name = folder.name
        self.device, self._dtype = torch.device(device), dtype
        self.dim: int = vision.config.projection_dim
        if text.config.projection_dim != self.dim:
            raise ValueError(
                f"{folder}: the text encoder projects to {text.config.projection_dim} dimensions, "
                f"the image encoder to {self.dim}; they are not two halves of one CLIP."
            )
        self.preprocessing: dict[str, Any] = {"preprocess": "whole"}
        self.fingerprint = digest.hexdigest()

    @staticmethod
    def _check_projection(weights: Path, name: str) -> None:
        from safetensors import safe_open

        with safe_open(weights, framework="pt") as file:
            if f"{name}_projection.weight" not in file.keys():
                raise ValueError(
                    f"{weights} lacks {name}_projection.weight, so it can't be used for retrieval; "
                    "name an encoder folder (`fashion-rag encoder get`)."
                )

    @torch.no_grad()
    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        size = (self._size, self._size)
        padded = [
            ImageOps.pad(photo.convert("RGB"), size, Image.Resampling.BICUBIC, color="white")
            for photo in photos
        ]
        data = b"".join(photo.tobytes() for photo in padded)
        pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8).float() / 255
        pixels = (
            clip_pixels(pixels.view(-1, *size, 3))
            .movedim(-1, 1)
            .contiguous()
            .to(self.device, self._dtype)
        )
        features = self.model[IMAGE](pixel_values=pixels).image_embeds
        return functional.normalize(features.float(), dim=-1).cpu()

    context_length = 77

    def count_tokens(self, text: str) -> int:
        """The tokens of a text, start and end included."""
        return len(self._tokenizer(text, verbose=False).input_ids)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See `open_clip.Encoder`.

        Raises:
            ValueError: a text is empty.
        """
        if not all(text.strip() for text in texts):
            raise ValueError("The text is empty: say what the garment looks like.")
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        )
        features = self.model[TEXT](tokens.input_ids.to(self.device)).text_embeds
        return functional.normalize(features.float(), dim=-1).cpu()
