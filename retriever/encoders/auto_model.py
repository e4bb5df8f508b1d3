"""Folders in transformers' layout with an image and a text tower of one space, such as SigLIP2.

What `AutoModel` opens and what has `get_image_features` and `get_text_features`, of the
architectures in ARCHITECTURES: others may have these methods and give something else by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional

from ...model_parts import check_mismatched, variant_of
from ...pictures.photos import to_rgb_on_white
from .batches import in_smaller_batches
from .model_files import (
    CONFIG,
    check_tokenizer,
    fingerprint_of_folder,
    read_settings,
    weight_files,
)
from .preprocessing import FILES, Patches, read_preprocessing, unpack_patches
from .texts import MULTILINGUAL_FROM, check_texts

ARCHITECTURES = ("clip", "siglip", "siglip2", "metaclip_2")
"""Values of `model_type` in config.json that are opened; each is tested."""

_WHOLE_LENGTH = ("siglip", "siglip2")
"""Text towers that were trained on texts padded to their full length, without a mask: they read the
last place, whatever stands there."""


def is_transformers_folder(folder: Path) -> bool:
    """Tell whether a folder holds one model of transformers (and not diffusers' several)."""
    return (folder / CONFIG).is_file()


class AutoModelEncoder:
    """See `open_clip.Encoder`. `device` and `dtype` may be changed with `model`.

    Nothing is downloaded, only safetensors are read, and no code of the folder is run.

    Args:
        folder: with `config.json`, `model.safetensors` or its shards, `preprocessor_config.json`
            and a tokenizer.
        dtype: of the weights and the compute.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folder asks for code, its model has no text or image tower, these are of
            different widths, or the files do not fit each other.
        ImportError: transformers is missing.
    """

    def __init__(
        self,
        folder: Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise ImportError(
                "The encoder needs the package transformers: pip install transformers"
            ) from error

        folder = Path(folder)
        settings = read_settings(folder)
        self._kind = _architecture(folder, settings[CONFIG])
        weights = weight_files(folder)
        check_tokenizer(folder)
        preprocess = read_preprocessing(folder, settings, in_patches=self._kind == "siglip2")
        try:
            self.model, loaded = AutoModel.from_pretrained(
                folder,
                variant=variant_of(weights[0]),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                torch_dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # to name them below
            )
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # transformers' own classes have no common one
            raise ValueError(
                f"{weights[0]} does not fit {folder / CONFIG} ({error}): fetch both again."
            ) from error
        if missing := sorted(loaded["missing_keys"]):
            raise ValueError(
                f"{weights[0]} lacks {len(missing)} tensors of {folder / CONFIG}, such as "
                f"{missing[0]}: the folder holds a part of the model. Expected both towers."
            )
        check_mismatched(weights[0], loaded["mismatched_keys"])
        self.model.eval().requires_grad_(False).to(device)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # what a damaged tokenizer.json raises is of no other class
            raise ValueError(
                f"The tokenizer of {folder} can't be opened ({error}): fetch its files again."
            ) from error
        # A tokenizer may record that it lowercases, and be of a class that does not do it.
        self._lower = bool(settings.get("tokenizer_config.json", {}).get("do_lower_case"))
        self.name: str = folder.name
        self.device, self.dtype = torch.device(device), dtype
        self.prepare: Callable[[Image.Image], torch.Tensor] = preprocess
        self._in_patches = isinstance(preprocess, Patches)
        self.preprocessing: dict[str, Any] = {**vars(preprocess)}
        self.fingerprint: str = fingerprint_of_folder(settings, (CONFIG, *FILES), weights)
        longest = self.model.config.text_config.max_position_embeddings
        self.context_length: int = min(longest, self._tokenizer.model_max_length)
        self.dim: int = self._checked_width(folder)

    def _checked_width(self, folder: Path) -> int:
        try:
            image = self.encode_images([Image.new("RGB", (64, 64), "white")]).shape[1]
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"The preprocessing of {folder} ({self.preprocessing}) does not fit its image "
                f"tower ({error}): fetch both configurations again."
            ) from error
        text = self.encode_texts(["garment"]).shape[1]
        if text != image:
            raise ValueError(
                f"{folder}: the text tower gives vectors of {text} dimensions, the image tower of "
                f"{image}; expected the same. They can't be compared: use a model whose towers "
                "were trained together."
            )
        return text

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """See Encoder; transparency is laid on white."""
        on_white = (p if p.mode == "RGB" else to_rgb_on_white(p) for p in photos)
        return self.encode_prepared(torch.stack([self.prepare(photo) for photo in on_white]))

    def encode_prepared(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode a batch of what `prepare` gives: (n, dim) float32 unit vectors on the CPU."""
        return in_smaller_batches(self._encode_pixels, pixels)

    @torch.no_grad()
    def _encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        inputs = unpack_patches(pixels) if self._in_patches else {"pixel_values": pixels}
        inputs = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        inputs["pixel_values"] = inputs["pixel_values"].to(self.dtype)
        return _unit(self.model.get_image_features(**inputs))

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See Encoder.

        Raises:
            ValueError: a text is empty.
        """
        check_texts(texts)
        return in_smaller_batches(self._encode_texts, list(texts))

    @torch.no_grad()
    def _encode_texts(self, texts: list[str]) -> torch.Tensor:
        whole = self._kind in _WHOLE_LENGTH
        tokens = self._tokenizer(
            [text.lower() for text in texts] if self._lower else texts,
            padding="max_length" if whole else True,
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        )
        names = ("input_ids",) if whole else ("input_ids", "attention_mask")
        inputs = {name: tokens[name].to(self.device) for name in names if name in tokens}
        return _unit(self.model.get_text_features(**inputs))

    def count_tokens(self, text: str) -> int:
        """Count all tokens of a text, start and end included, read or not."""
        return len(self._tokenizer(text, verbose=False).input_ids)

    @property
    def multilingual(self) -> bool:
        """Whether the tokenizer is that of a text tower of many languages."""
        return len(self._tokenizer) >= MULTILINGUAL_FROM


def _architecture(folder: Path, config: Any) -> str:
    """Return the `model_type` of a folder's model, one of ARCHITECTURES."""
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind in ARCHITECTURES:
        return kind
    raise ValueError(
        f"{folder / CONFIG} describes a model of the type {kind!r}, which has not an image tower "
        f"and a text tower of one space: expected one of {', '.join(ARCHITECTURES)}. A model of "
        "texts alone, or of photos alone, can't find photos by words."
    )


def _unit(features: Any) -> torch.Tensor:
    # transformers 4 gives the tensor, 5 an object that holds it.
    if not torch.is_tensor(features):
        features = features.pooler_output
    return functional.normalize(features.float(), dim=-1).cpu()
