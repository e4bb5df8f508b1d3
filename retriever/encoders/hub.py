"""Fetching encoders from the Hugging Face hub: the one place of the pack that downloads."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ...files import replace_file
from .open_clip import CONFIG, TOKENIZER_FILES, WEIGHTS

PICKLE = "open_clip_pytorch_model.bin"
_TOKENIZER_FILES = (*TOKENIZER_FILES, "special_tokens_map.json", "spiece.model", "vocab.json")


@dataclass(frozen=True)
class Source:
    """Where an encoder comes from. preprocessing: what its published configuration must say."""

    repository: str
    description: str
    licence: str
    preprocessing: Mapping[str, Any] = field(default_factory=dict)


SOURCES = {
    "ViT-L-14/laion2b_s32b_b82k": Source(
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "the paper's retriever, CLIP ViT-L/14",
        "mit",
        {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
    ),
    "Marqo/marqo-fashionCLIP": Source(
        "Marqo/marqo-fashionCLIP", "CLIP ViT-B/16 trained on fashion", "apache-2.0"
    ),
    "Marqo/marqo-fashionSigLIP": Source(
        "Marqo/marqo-fashionSigLIP", "SigLIP ViT-B/16 trained on fashion", "apache-2.0"
    ),
}


def folder_name(tag: str) -> str:
    """The name of an encoder's folder: the tag without separators."""
    return tag.replace("/", "-")


def get_encoder(tag: str, folder: Path, report: Callable[[str], None]) -> Path:
    """Fetch the encoder `tag` into `folder`, complete or not at all; a second try goes on.

    Args:
        tag: one of SOURCES.
        report: told, line by line, what is fetched, its size and its licence.

    Raises:
        ValueError: an unknown tag.
        FileExistsError: the folder is there.
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
    weights = WEIGHTS if WEIGHTS in sizes else PICKLE
    wanted = [CONFIG, weights, *(name for name in _TOKENIZER_FILES if name in sizes)]
    licence = (info.card_data or {}).get("license") or source.licence
    gigabytes = sum(sizes.get(name, 0) for name in wanted) / 1e9
    report(f"{source.repository} ({source.description}): {gigabytes:.2f} GB, licence {licence}")
    partial = folder.with_name(folder.name + ".part")

    def fetch(repository: str, name: str, revision: str | None) -> None:
        report(f"  {repository}/{name}")
        hf_hub_download(repository, name, revision=revision, local_dir=partial)

    for name in wanted:
        fetch(source.repository, name, info.sha)
    config = json.loads((partial / CONFIG).read_text(encoding="utf-8"))
    tokenizer = config["model_cfg"]["text_cfg"].get("hf_tokenizer_name")
    if tokenizer and not any((partial / name).is_file() for name in TOKENIZER_FILES):
        for name in TOKENIZER_FILES:
            fetch(tokenizer, name, None)
    config["preprocess_cfg"] = {**config.get("preprocess_cfg", {}), **source.preprocessing}
    (partial / CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    if weights == PICKLE:
        _to_safetensors(partial / PICKLE, partial / WEIGHTS)
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the hub client's notes
    replace_file(partial, folder)
    return folder


def _to_safetensors(pickled: Path, target: Path) -> None:
    try:
        state = torch.load(pickled, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{pickled} holds more than tensors; it is not opened.") from error
    save_file({name: tensor.clone().contiguous() for name, tensor in state.items()}, target)
    pickled.unlink()
