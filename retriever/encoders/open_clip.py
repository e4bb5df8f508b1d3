"""Encoders: photos and texts to unit vectors of one space."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from safetensors import SafetensorError

from ...files import parse_json
from ...pictures.photos import to_rgb_on_white
from .auto_model import AutoModelEncoder, is_transformers_folder
from .batches import in_smaller_batches
from .fingerprint import fingerprint_of_files
from .sentence import SentenceEncoder, is_sentence_folder
from .texts import MULTILINGUAL_FROM, check_texts
from .towers import TowersEncoder, is_model_folder

CONFIG = "open_clip_config.json"
WEIGHTS = "open_clip_model.safetensors"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

_PRECISION = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


class Encoder(Protocol):
    """A pair of towers that embed photos and texts in one space of unit vectors.

    name: what people call it. dim: width of the embeddings.
    fingerprint: hash of the weights and the preprocessing; equal ones may share an index.
    preprocessing: what happens to a photo, as plain JSON values, for the record.

    An encoder may also have `prepare` and `encode_prepared` (see OpenClipEncoder); the first is
    then called on other threads, while photos are being encoded. `count_tokens` (of a text, with
    start and end), `context_length` (the most tokens that it reads) and `multilingual` are used to
    tell users what of a text it does not read.
    """

    name: str
    dim: int
    fingerprint: str
    preprocessing: dict[str, Any]

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """Encode RGB photos to (n, dim) float32 unit vectors on the CPU."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Encode texts to (n, dim) float32 unit vectors on the CPU."""
        ...


class OpenClipEncoder:
    """An open_clip model; see Encoder. `device` and `dtype` may be changed with `model`."""

    def __init__(self, name, model, preprocess, tokenizer, fingerprint, device, dtype):
        self.name: str = name
        self.model: Any = model
        self.device: torch.device = device
        self.fingerprint: str = fingerprint
        self.preprocessing: dict[str, Any] = dict(model.visual.preprocess_cfg)
        self.dtype: torch.dtype = dtype
        self._preprocess, self._tokenizer = preprocess, tokenizer
        self.dim: int = self.encode_texts(["garment"]).shape[1]

    @property
    def prepare(self) -> Callable[[Image.Image], torch.Tensor]:
        """A function from an RGB photo to (3, height, width) float32; any thread may call it."""
        return self._preprocess

    def encode_prepared(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode (n, 3, height, width) of `prepare`: (n, dim) float32 unit vectors on the CPU."""
        return in_smaller_batches(self._encode_pixels, pixels)

    @torch.no_grad()
    def _encode_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        features = self.model.encode_image(pixels.to(self.device, self.dtype))
        return torch.nn.functional.normalize(features.float(), dim=-1).cpu()

    def encode_images(self, photos: Sequence[Image.Image]) -> torch.Tensor:
        """See Encoder; transparency is laid on white."""
        on_white = (p if p.mode == "RGB" else to_rgb_on_white(p) for p in photos)
        return self.encode_prepared(torch.stack([self._preprocess(photo) for photo in on_white]))

    @property
    def context_length(self) -> int:
        """The most tokens of a text that count, start and end included."""
        return self._tokenizer.context_length or 77

    @property
    def multilingual(self) -> bool:
        """Whether the tokenizer is that of a text encoder of many languages."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        return inner is not None and len(inner) >= MULTILINGUAL_FROM

    def count_tokens(self, text: str) -> int:
        """Count all tokens of a text, start and end included, read or not."""
        inner = getattr(self._tokenizer, "tokenizer", None)
        if inner is None:
            return len(self._tokenizer.encode(text)) + 2
        return len(inner(text, verbose=False).input_ids)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """See Encoder.

        Raises:
            ValueError: a text is empty.
        """
        check_texts(texts)
        return in_smaller_batches(self._encode_texts, list(texts))

    @torch.no_grad()
    def _encode_texts(self, texts: list[str]) -> torch.Tensor:
        tokens = self._tokenizer(texts).to(self.device)
        features = self.model.encode_text(tokens)
        return torch.nn.functional.normalize(features.float(), dim=-1).cpu()


LocalEncoder = OpenClipEncoder | TowersEncoder | AutoModelEncoder | SentenceEncoder
"""The encoders of folders: their `model` may be moved, with `device` and `dtype`."""


def load_encoder(
    folder: Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> LocalEncoder:
    """Load an encoder folder by what it holds. Nothing is downloaded, no code of it is run.

    A model folder's own pair of towers: see `towers`. A folder of sentence-transformers, with
    `modules.json`: see `sentence`. One of transformers, with `config.json`: see `auto_model`.
    Any other, and one that has both, is open_clip's: it holds `open_clip_config.json` as open_clip
    publishes it on the hub (`model_cfg`, and `preprocess_cfg` with mean, std, interpolation,
    resize_mode), the weights as `open_clip_model.safetensors`, and tokenizer files where the
    config names a tokenizer of transformers.

    Args:
        dtype: of the compute; open_clip keeps its layer norms in float32.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the files do not make one model, or ask for a download or for code.
        ImportError: open_clip_torch, transformers or sentence-transformers is missing.
    """
    folder = Path(folder)
    if is_model_folder(folder):
        return TowersEncoder(folder, device, dtype)
    if not (folder / CONFIG).is_file():
        if is_sentence_folder(folder):
            return SentenceEncoder(folder, device, dtype)
        if is_transformers_folder(folder):
            return AutoModelEncoder(folder, device, dtype)
    weights = folder / WEIGHTS
    for path in (folder / CONFIG, weights):
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing: an encoder is a folder with {CONFIG} and {WEIGHTS}, or one of "
                "transformers with config.json. Fetch one with `fashion-rag encoder get`."
            )
    model_cfg, config = _read_config(folder)
    try:
        import open_clip
    except ImportError as error:
        raise ImportError(
            "The encoder needs the package open_clip_torch: pip install open_clip_torch"
        ) from error
    # An absolute path: open_clip takes everything after the colon as it stands.
    source = f"local-dir:{folder.absolute()}"
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            source, precision=_PRECISION[dtype], device=device
        )
    except (SafetensorError, RuntimeError, TypeError, KeyError, AssertionError) as error:
        raise ValueError(
            f"{weights} does not fit {folder / CONFIG} ({error}): fetch both again with "
            "`fashion-rag encoder get`."
        ) from error
    uses_transformers = "hf_tokenizer_name" in model_cfg["text_cfg"]
    options: dict[str, Any] = {"local_files_only": True} if uses_transformers else {}
    tokenizer = open_clip.get_tokenizer(source, **options)
    fingerprint = fingerprint_of_files(json.dumps(config, sort_keys=True).encode(), [weights])
    model.eval().requires_grad_(False)
    return OpenClipEncoder(
        folder.name, model, preprocess, tokenizer, fingerprint, torch.device(device), dtype
    )


def _read_config(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    path = folder / CONFIG
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
        model_cfg = config["model_cfg"]
        text_cfg, vision_cfg = model_cfg["text_cfg"], model_cfg["vision_cfg"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not the configuration of an open_clip model ({error!r}): expected "
            "model_cfg with text_cfg and vision_cfg, and preprocess_cfg."
        ) from error
    if "hf_model_name" in text_cfg or ":" in vision_cfg.get("timm_model_name", ""):
        raise ValueError(
            f"{path} describes a tower that is fetched from the hub when it is loaded: use a model "
            "whose configuration holds the whole architecture."
        )
    if "trust_remote_code" in text_cfg.get("tokenizer_kwargs", {}):
        raise ValueError(
            f"{path} asks for trust_remote_code: its tokenizer would run code from the folder, "
            "which is never done. Use an encoder with a standard tokenizer."
        )
    if "hf_tokenizer_name" in text_cfg and not any(
        (folder / name).is_file() for name in TOKENIZER_FILES
    ):
        raise FileNotFoundError(
            f"{folder} lacks the tokenizer {text_cfg['hf_tokenizer_name']!r}: expected "
            f"{' and '.join(TOKENIZER_FILES)}. `fashion-rag encoder get` brings them."
        )
    return model_cfg, config
