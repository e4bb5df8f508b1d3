"""Files of a model folder in diffusers layout: its parts and their weights, and its tokenizer.

Both the adapter and the retriever read such folders, and so do the nodes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .files import cache_folder, read_object, write_text

CLIP_VOCABULARY = 49408
"""Tokens that Stable Diffusion's text encoders know, and open_clip's own tokenizer."""
TOKENIZER = "tokenizer"
CONFIG = "config.json"

Shape = Sequence[int]


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


def read_config(part: Path, stem: str) -> dict[str, Any]:
    """Read the `config.json` of one part.

    Args:
        stem: see `weights_of`; for the message.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is no JSON object; the message names the file.
    """
    file = part / CONFIG
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing: {part} must hold {CONFIG} and {stem}.safetensors "
            "(diffusers layout)."
        )
    return read_object(file, "fetch it again")


def load_part(
    kind: Any, part: Path, stem: str, may_lack: Collection[str] = (), **options: Any
) -> Any:
    """Load one part by its class of transformers or diffusers, with all of its weights.

    These libraries fill weights that a file lacks with random ones, and only log it. Nothing is
    downloaded, and no pickle is read.

    Args:
        kind: the class, such as `CLIPVisionModelWithProjection`.
        stem: see `weights_of`.
        may_lack: names of weights that nothing reads.
        options: of `kind.from_pretrained`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the weights are not those that its config.json describes.
    """
    read_config(part, stem)
    weights = weights_of(part, stem)
    with told_of(weights, part / CONFIG):
        model, report = kind.from_pretrained(
            part,
            variant=variant_of(weights),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # to name them below
            **options,
        )
    check_names(weights, set(report["missing_keys"]) - set(may_lack))
    check_mismatched(weights, report["mismatched_keys"])
    return model


@contextlib.contextmanager
def told_of(weights: Path, config: Path | None = None) -> Iterator[None]:
    """Name the files in whatever another library raises over damaged ones, as a ValueError.

    What has other causes passes: a package that is missing, or memory that is short.
    """
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # the libraries' own classes have no common one
        if isinstance(error, RuntimeError) and "memory" in str(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        described, both = (f" as {config} describes it", "both files") if config else ("", "it")
        raise ValueError(
            f"{weights} can't be loaded{described} ({reason}): it is not whole, or of another "
            f"model. Fetch {both} again."
        ) from error


def check_names(weights: Path, missing: Collection[str]) -> None:
    """Refuse a weights file that lacks some.

    Args:
        missing: their names.

    Raises:
        ValueError: there is one; the message counts them and names the first.
    """
    if missing:
        raise ValueError(
            f"{weights} lacks {len(missing)} weights of its architecture, the first is "
            f"{min(missing)}: it is not whole, or of another model. Fetch it again, with the "
            f"{CONFIG} beside it if there is one."
        )


def check_shapes(weights: Path, expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> None:
    """Refuse a weights file that lacks some, or has some of another shape; more are no fault.

    Args:
        expected: the architecture's weights.
        found: those of the file.

    Raises:
        ValueError: it does; the message counts them and names the first.
    """
    check_names(weights, expected.keys() - found.keys())
    others = [name for name in sorted(expected) if list(found[name]) != list(expected[name])]
    if others:
        name = others[0]
        raise ValueError(
            f"{weights} has {len(others)} weights of another shape than its architecture, the "
            f"first is {name}: it is {tuple(found[name])}, expected {tuple(expected[name])}. It is "
            f"of another model: fetch it again, with the {CONFIG} beside it if there is one."
        )


def check_mismatched(weights: Path, others: Iterable[tuple[str, Shape, Shape]]) -> None:
    """Refuse what `from_pretrained` reports as mismatched: name, shape found, shape expected.

    Raises:
        ValueError: see `check_shapes`.
    """
    others = list(others)
    check_shapes(
        weights, {n: shape for n, _, shape in others}, {n: shape for n, shape, _ in others}
    )


def shapes_of(tensors: Mapping[str, Any]) -> dict[str, Shape]:
    """Return the shapes of tensors by their names."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


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
    config = folder / "text_encoder" / CONFIG
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
