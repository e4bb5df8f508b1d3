"""The files of a model folder in transformers' layout, checked before the library reads them.

A folder is untrusted: transformers and sentence-transformers would import Python files that a
configuration names, open pickles, and fetch compiled attention kernels. Nothing of that is asked
for; a folder that wants it is refused, because without its code it would be another model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import parse_json
from ...model_parts import weights_of
from .fingerprint import fingerprint_of_files

CONFIG = "config.json"
_SHARDS = "model.safetensors.index.json"
_NOT_SETTINGS = ("tokenizer.json", "vocab.json", "added_tokens.json")
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("spiece.model",), ("vocab.txt",))
_ADAPTER = "adapter_config.json"
_VARYING = ("_name_or_path", "transformers_version", "__version__")
"""Keys that say who saved a file, and change nothing."""


def read_settings(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the settings in a folder's JSON files, by file name; vocabularies are left out.

    Raises:
        ValueError: a file is no JSON, or asks for code: Python files of the folder (`auto_map`,
            `trust_remote_code`), kernels of the hub (`attn_implementation` with a repository's
            name), or a model elsewhere that this one adapts.
    """
    if (folder / _ADAPTER).is_file():
        raise ValueError(
            f"{folder / _ADAPTER} describes an adapter of a model that is elsewhere: expected the "
            "whole model, as save_pretrained writes it after merge_and_unload."
        )
    settings = {}
    for path in sorted(folder.glob("*.json")):
        if path.name not in _NOT_SETTINGS and not path.name.endswith(".index.json"):
            settings[path.name] = read_object(path)
            refuse_code(path, settings[path.name])
    return settings


def read_object(path: Path) -> Any:
    """Read the JSON value in a file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: fetch the whole folder again.") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): fetch it again.") from error


def refuse_code(path: Path, settings: Any) -> None:
    """Raise ValueError where the settings in the file `path` ask for code; see `read_settings`."""
    for key, value in _pairs(settings):
        wants_code = key in ("auto_map", "trust_remote_code", "use_kernels") and value
        wants_kernel = key.endswith("_implementation") and "/" in json.dumps(value)
        if wants_code or wants_kernel:
            raise ValueError(
                f"{path} asks for code that is not transformers' own ({key}: {json.dumps(value)}): "
                "such code is never run. Use a model of an architecture that transformers knows, "
                "or its open_clip folder (`fashion-rag encoder list`)."
            )


def weight_files(folder: Path) -> list[Path]:
    """Find the safetensors files that hold a folder's weights: one, or its shards, sorted.

    Raises:
        FileNotFoundError: there are none, or one is missing; the message names pickles.
        ValueError: the list of shards is none, or leads out of the folder.
    """
    index = folder / _SHARDS
    if (folder / "model.safetensors").is_file() or not index.is_file():
        return [weights_of(folder, "model")]
    names = read_object(index)
    names = names.get("weight_map") if isinstance(names, dict) else None
    names = set(names.values()) if isinstance(names, dict) else set()
    if not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise ValueError(
            f'{index} is no list of weights: expected {{"weight_map": {{tensor: file}}}} with '
            "names of files beside it."
        )
    if wrong := sorted(name for name in names if not name.endswith(".safetensors")):
        raise ValueError(f"{index} names {wrong[0]}, which is no safetensors file: not opened.")
    for name in sorted(names):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing, which {_SHARDS} names.")
    return [folder / name for name in sorted(names)]


def check_tokenizer(folder: Path) -> None:
    """Raise FileNotFoundError where a folder has no tokenizer.

    transformers 5 would make one up, whose tokens mean nothing to the model.
    """
    if not any(all((folder / name).is_file() for name in names) for names in _TOKENIZERS):
        there = " or ".join(" and ".join(names) for names in _TOKENIZERS)
        raise FileNotFoundError(f"{folder} holds no tokenizer: expected {there}.")


def fingerprint_of_folder(
    settings: Mapping[str, Mapping[str, Any]], names: Sequence[str], weights: Sequence[Path]
) -> str:
    """Return the SHA-256 in hex over some settings of a folder and its weights.

    Args:
        names: the files of `settings` that count, where they are there.
    """
    counted = {name: _lasting(settings[name]) for name in sorted(names) if name in settings}
    return fingerprint_of_files(json.dumps(counted, sort_keys=True).encode(), weights)


def _lasting(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _lasting(v) for k, v in value.items() if k not in _VARYING}
    return [_lasting(item) for item in value] if isinstance(value, list) else value


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every key of nested JSON objects with its value."""
    values = [value]
    while values:  # a file of somebody else's may be nested deeper than functions may call
        value = values.pop()
        if isinstance(value, Mapping):
            yield from value.items()
            values += value.values()
        elif isinstance(value, list):
            values += value
