"""Multimodal embedders in sentence-transformers' layout, such as Qwen3-VL-Embedding.

One language model reads photos and texts. Preparing a photo (its chat template, its patches) is
the library's, and so are the prompts that a folder may record for queries and for documents.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional

from ...pictures.photos import to_rgb_on_white
from .batches import in_smaller_batches
from .model_files import (
    CONFIG,
    fingerprint_of_folder,
    read_object,
    read_settings,
    refuse_code,
    weight_files,
)
from .texts import MULTILINGUAL_FROM, check_texts

MODULES = "modules.json"
_OPTIONS = re.compile(r"sentence_[\w-]+_config\.json")  # named after the model in old folders
_TYPE = re.compile(r"sentence_transformers(\.\w+)+\.(Transformer|Pooling|Normalize)")
_TASK = "feature-extraction"
_METHODS = ("forward", "get_text_features", "get_image_features", "get_multimodal_features")
_KWARGS = re.compile(r"(model|processor|tokenizer|config)_(args|kwargs)")
_NOT_COUNTED = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json")


def is_sentence_folder(folder: Path) -> bool:
    """Tell whether a folder is in sentence-transformers' layout."""
    return (folder / MODULES).is_file()


class SentenceEncoder:
    """See `open_clip.Encoder`. `device` and `dtype` may be changed with `model`.

    Nothing is downloaded, only safetensors are read, and no code of the folder is run.

    Args:
        folder: with `modules.json`, whose modules are Transformer, Pooling and Normalize, and the
            model's own files beside it.
        dtype: of the weights and the compute.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the folder asks for code, or its model reads no photos or no texts.
        ImportError: sentence-transformers is missing.
    """

    def __init__(
        self,
        folder: Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        folder = Path(folder)
        settings = read_settings(folder)
        modules = _check_modules(folder, settings)
        weights = weight_files(folder)
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ImportError(
                f"The encoder {folder.name!r} is in sentence-transformers' layout, and this needs "
                "the package sentence-transformers, 5.4 or later: pip install "
                "sentence-transformers"
            ) from error
        try:
            self.model: Any = SentenceTransformer(
                str(folder),
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "torch_dtype": dtype},
            )
        except (ImportError, MemoryError):
            raise
        except Exception as error:  # transformers' own classes have no common one
            raise ValueError(
                f"sentence-transformers can't open {folder} ({error}): fetch the folder again, or "
                "bring the package up to date."
            ) from error
        supports = getattr(self.model, "supports", lambda kind: kind == "text")
        if lacking := [kind for kind in ("image", "text") if not supports(kind)]:
            raise ValueError(
                f"{folder} is a model that reads no {lacking[0]}s, or the installed "
                "sentence-transformers is older than 5.4: an encoder needs both photos and texts."
            )
        self.model.eval().requires_grad_(False).to(device)
        self.name: str = folder.name
        self.device, self.dtype = torch.device(device), dtype
        self.preprocessing: dict[str, Any] = {"by": "sentence-transformers"}
        counted = {n: s for n, s in {**settings, **modules}.items() if n not in _NOT_COUNTED}
        templates = sorted(folder.glob("*.jinja"))
        self.fingerprint: str = fingerprint_of_folder(counted, [*counted], [*templates, *weights])
        self.dim: int = self.encode_texts(["garment"]).shape[1]

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """See Encoder; transparency is laid on white."""
        on_white = [p if p.mode == "RGB" else to_rgb_on_white(p) for p in photos]
        return in_smaller_batches(lambda some: self._encode("document", some), on_white)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See Encoder.

        Raises:
            ValueError: a text is empty.
        """
        check_texts(texts)
        return in_smaller_batches(lambda some: self._encode("query", some), list(texts))

    def _encode(self, role: str, inputs: list[Any]) -> torch.Tensor:
        encode = self.model.encode_query if role == "query" else self.model.encode_document
        found = encode(
            inputs,
            batch_size=len(inputs),
            show_progress_bar=False,
            convert_to_tensor=True,
            device=str(self.device),
        )
        return functional.normalize(found.float(), dim=-1).cpu()

    @property
    def multilingual(self) -> bool:
        """Whether the tokenizer is that of a model of many languages."""
        return len(self.model.tokenizer) >= MULTILINGUAL_FROM


def _check_modules(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the modules in subfolders, by their path.

    Raises:
        ValueError: there is a module of another kind than can be trusted, or options that change
            what is loaded.
    """
    path = folder / MODULES
    modules, found = settings[MODULES], {}
    if not isinstance(modules, list) or not modules:
        raise ValueError(f"{path} is no list of modules: fetch the whole folder again.")
    for module in modules:
        kind = module.get("type") if isinstance(module, dict) else None
        place = module.get("path") if isinstance(module, dict) else None
        if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
            raise ValueError(
                f"{path} names the module {kind!r}: expected sentence-transformers' own "
                "Transformer, Pooling and Normalize. Code of the folder is never run."
            )
        if not isinstance(place, str) or not re.fullmatch(r"(\w[\w.-]*)?", place):
            raise ValueError(f"{path} places a module in {place!r}: expected a folder beside it.")
        if place and kind.endswith(".Transformer"):
            raise ValueError(f"{path} has its model in {place!r}: expected it beside {MODULES}.")
        if place and (folder / place / CONFIG).is_file():
            found[f"{place}/{CONFIG}"] = read_object(folder / place / CONFIG)
            refuse_code(folder / place / CONFIG, found[f"{place}/{CONFIG}"])
    for name in filter(_OPTIONS.fullmatch, settings):
        _check_options(folder / name, settings[name])
    return found


def _check_options(path: Path, options: Any) -> None:
    """Raise ValueError where options change what is loaded, or what of the model is called."""
    if not isinstance(options, dict):
        raise ValueError(f"{path} holds no options: fetch the whole folder again.")
    if odd := [key for key in options if _KWARGS.fullmatch(key) and options[key]]:
        raise ValueError(
            f"{path} has {odd[0]} ({options[odd[0]]}), which changes what is loaded: such options "
            "are not followed. Save the model without them."
        )
    if (task := options.get("transformer_task", _TASK)) != _TASK:
        raise ValueError(f"{path} has the transformer_task {task!r}: expected {_TASK!r}.")
    modalities = options.get("modality_config", {})
    methods = {str(entry.get("method")) for entry in modalities.values()}
    if odd := methods.difference(_METHODS):
        raise ValueError(
            f"{path} calls the model by {odd.pop()!r}: expected one of {', '.join(_METHODS)}."
        )
