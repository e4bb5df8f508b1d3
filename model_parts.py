"""Files of a model folder in diffusers layout: the weights of its parts, and its tokenizer.

Both the adapter and the retriever read such folders, and so do the nodes.
"""

from __future__ import annotations

import json
from pathlib import Path

from .files import cache_folder, read_object, write_text

CLIP_VOCABULARY = 49408
"""Tokens that Stable Diffusion's text encoders know, and open_clip's own tokenizer."""
TOKENIZER = "tokenizer"


def weights_of(part: Path, stem: str) -> Path:
    """Find the weights of one part, such as `vae`: `STEM.safetensors`, else its fp16 variant.

    Args:
        stem: `model` for transformers' parts, `diffusion_pytorch_model` for diffusers'.

    Raises:
        FileNotFoundError: neither is there; the message names the weights that are.
    """
    names = (f"{stem}.safetensors", f"{stem}.fp16.safetensors")
    for name in names:
        if (part / name).is_file():
            return part / name
    others = sorted(p.name for p in part.glob("*") if p.suffix in (".safetensors", ".bin", ".pth"))
    there = f" (found: {', '.join(others)}; a pickle is not read)" if others else ""
    raise FileNotFoundError(
        f"{part / names[0]} is missing{there}: expected it or {names[1]}, as diffusers and "
        "transformers save them with safe_serialization=True."
    )


def variant_of(weights: Path) -> str | None:
    """Return the `variant` of `from_pretrained` for the file `weights_of` found: None or "fp16"."""
    return "fp16" if weights.name.endswith(".fp16.safetensors") else None


def tokenizer_of(folder: Path) -> Path:
    """Find the folder of a model folder's tokenizer files.

    A model folder without one, as the shipped miniature, gets CLIP's from the user's cache folder,
    where open_clip's vocabulary is written the first time.

    Raises:
        FileNotFoundError: there is no tokenizer, and the text encoder's vocabulary is not CLIP's.
        ImportError: open_clip, whose vocabulary is needed, is missing.
    """
    own = folder / TOKENIZER
    if own.is_dir():
        return own
    config = folder / "text_encoder" / "config.json"
    settings = read_object(config, "fetch the model folder again")
    vocabulary = settings.get("vocab_size", CLIP_VOCABULARY)
    if vocabulary != CLIP_VOCABULARY:
        raise FileNotFoundError(
            f"{own} is missing, and CLIP's tokenizer of {CLIP_VOCABULARY} tokens does not fit "
            f"{config} ({vocabulary} tokens): put the model's own tokenizer there."
        )
    cached = cache_folder() / "clip-tokenizer"
    if not all((cached / name).is_file() for name in _FILES):
        write_tokenizer(cached)
    return cached


_FILES = ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json")


def write_tokenizer(folder: Path) -> Path:
    """Write Stable Diffusion 2's tokenizer files; open_clip ships the same vocabulary.

    Raises:
        ImportError: open_clip is missing.
    """
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise ImportError(
            "A model folder without a tokenizer needs the package open_clip_torch, which holds "
            "CLIP's vocabulary: pip install open_clip_torch"
        ) from error

    words = SimpleTokenizer()
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(word, word): number for word, number in words.encoder.items()}
    merges = ["#version: 0.2", *(" ".join(pair) for pair in words.bpe_ranks), ""]
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",
    }
    settings = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    contents = (
        json.dumps(vocabulary, ensure_ascii=False),
        "\n".join(merges),
        json.dumps(special),
        json.dumps(settings),
    )
    for name, content in zip(_FILES, contents, strict=True):
        write_text(folder / name, content)
    return folder
