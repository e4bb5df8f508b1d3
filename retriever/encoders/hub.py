"""Fetching encoders from the Hugging Face hub: the one place of the pack that downloads."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ...files import parse_json, replace_file
from .open_clip import CONFIG, TOKENIZER_FILES, WEIGHTS

PICKLE = "open_clip_pytorch_model.bin"
_TOKENIZER_FILES = (*TOKENIZER_FILES, "special_tokens_map.json", "spiece.model", "vocab.json")


OPEN_CLIP, TRANSFORMERS = "open_clip", "transformers"
_SETTINGS = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*\.(json|jinja|model)|vocab\.txt|merges\.txt")
_WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")


@dataclass(frozen=True)
class Source:
    """Where an encoder comes from.

    gigabytes: size of its weights as published, roughly: parameters times their bytes.
    preprocessing: what its published configuration must say.
    layout: of its files, OPEN_CLIP or TRANSFORMERS, which stands for sentence-transformers' too.
    """

    repository: str
    description: str
    licence: str
    gigabytes: float
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    layout: str = OPEN_CLIP


SOURCES = {
    "ViT-L-14/laion2b_s32b_b82k": Source(
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "the paper's retriever, CLIP ViT-L/14",
        "mit",
        1.71,
        {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    ),
    "Marqo/marqo-fashionCLIP": Source(
        "Marqo/marqo-fashionCLIP", "CLIP ViT-B/16 trained on fashion", "apache-2.0", 0.60
    ),
    "Marqo/marqo-fashionSigLIP": Source(
        "Marqo/marqo-fashionSigLIP", "SigLIP ViT-B/16 trained on fashion", "apache-2.0", 0.81
    ),
    "HopitAI/moda-pro-lite": Source(
        "HopitAI/moda-pro-lite", "MODA's fashion SigLIP, for words", "apache-2.0", 0.85
    ),
    "HopitAI/moda-fashion-distilled": Source(
        "HopitAI/moda-fashion-distilled", "MODA's fashion SigLIP, for photos by photos", "mit", 0.81
    ),
    "HopitAI/moda-fashion-matryoshka": Source(
        "HopitAI/moda-fashion-matryoshka", "the same, with nested dimensions", "mit", 0.81
    ),
    "patrickjohncyh/fashion-clip": Source(
        "patrickjohncyh/fashion-clip",
        "CLIP ViT-B/32 trained on fashion",
        "mit",
        0.61,
        layout=TRANSFORMERS,
    ),
    "google/siglip2-base-patch16-224": Source(
        "google/siglip2-base-patch16-224",
        "SigLIP2 ViT-B/16, words in any language",
        "apache-2.0",
        1.50,
        layout=TRANSFORMERS,
    ),
    "google/siglip2-base-patch16-naflex": Source(
        "google/siglip2-base-patch16-naflex",
        "the same, photos in their own proportions",
        "apache-2.0",
        1.50,
        layout=TRANSFORMERS,
    ),
    "Qwen/Qwen3-VL-Embedding-2B": Source(
        "Qwen/Qwen3-VL-Embedding-2B",
        "a language model that reads photos; needs the package sentence-transformers",
        "apache-2.0",
        4.26,
        layout=TRANSFORMERS,
    ),
}


def folder_name(tag: str) -> str:
    """Return the name of the folder of an encoder: its tag without separators."""
    return tag.replace("/", "-")


def get_encoder(tag: str, folder: Path, report: Callable[[str], None]) -> Path:
    """Fetch the encoder `tag` into `folder`, complete or not at all; a second try goes on.

    Args:
        tag: one of SOURCES.
        report: called with lines on what is fetched, its size and its licence.

    Raises:
        ValueError: an unknown tag.
        FileExistsError: the folder is there.
        FileNotFoundError: the repository holds no weights that can be opened.
        ImportError: huggingface_hub is missing.
        OSError: the hub can't be reached.
    """
    if tag not in SOURCES:
        raise ValueError(f"Unknown encoder {tag!r}: expected one of {', '.join(SOURCES)}.")
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists: the encoder is there, or remove the folder first.")
    try:
        from huggingface_hub import HfApi, hf_hub_download
    except ImportError as error:
        raise ImportError(
            "Fetching an encoder needs the package huggingface_hub: pip install huggingface_hub"
        ) from error
    source = SOURCES[tag]
    info = HfApi().model_info(source.repository, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    wanted = _wanted(source, sizes)
    licence = (info.card_data or {}).get("license") or source.licence
    gigabytes = sum(sizes.get(name, 0) for name in wanted) / 1e9
    report(f"{source.repository} ({source.description}): {gigabytes:.2f} GB, licence {licence}")
    partial = folder.with_name(folder.name + ".part")

    def fetch(repository: str, name: str, revision: str | None) -> None:
        report(f"  {repository}/{name}")
        hf_hub_download(repository, name, revision=revision, local_dir=partial)

    for name in wanted:
        fetch(source.repository, name, info.sha)
    if source.layout == OPEN_CLIP:
        _complete_open_clip(partial, source, fetch)
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # of the hub's client
    replace_file(partial, folder)
    return folder


def _wanted(source: Source, there: Iterable[str]) -> list[str]:
    """List the files of a repository that its encoder needs."""
    names = sorted(there)
    if source.layout == OPEN_CLIP:
        weights = WEIGHTS if WEIGHTS in names else PICKLE
        return [CONFIG, weights, *(name for name in _TOKENIZER_FILES if name in names)]
    weights = [name for name in names if _WEIGHTS.fullmatch(name)]
    if not weights:
        raise FileNotFoundError(
            f"{source.repository} holds no model.safetensors: a pickle is not fetched."
        )
    return [*(name for name in names if _SETTINGS.fullmatch(name)), *weights]


def _complete_open_clip(
    partial: Path, source: Source, fetch: Callable[[str, str, str | None], None]
) -> None:
    """Fetch the configuration's tokenizer, correct the configuration, make safetensors."""
    config = parse_json((partial / CONFIG).read_text(encoding="utf-8"))
    tokenizer = config["model_cfg"]["text_cfg"].get("hf_tokenizer_name")
    if tokenizer and not any((partial / name).is_file() for name in TOKENIZER_FILES):
        for name in TOKENIZER_FILES:
            fetch(tokenizer, name, None)
    config["preprocess_cfg"] = {**config.get("preprocess_cfg", {}), **source.preprocessing}
    (partial / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    if (partial / PICKLE).is_file():
        _to_safetensors(partial / PICKLE, partial / WEIGHTS)


def _to_safetensors(pickled: Path, target: Path) -> None:
    try:
        state = torch.load(pickled, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # what torch raises over damaged files has no common class
        raise ValueError(
            f"{pickled} holds more than tensors or is damaged; it is not opened. Fetch it again."
        ) from error
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, target)
    pickled.unlink()
