"""Tensors that are computed once before training and kept in a file beside the run."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..adapter.garment.checkpoints import write_safetensors
from ..files import sha256_of_file
from .checkpoint import is_full
from .dresscode import DressCode

logger = logging.getLogger(__name__)

_MADE_FROM = "made_from"


def fingerprint(
    data: DressCode, models: Sequence[Path], *, captions: bool = False, **settings: Any
) -> str:
    """Hash what cached tensors depend on.

    That is the pairs, with or without their captions, the files of model folders, and settings.
    """
    pairs = [str(data.root.resolve()), data.digest(captions)]
    text = json.dumps([pairs, settings], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    for model in models:
        for file in sorted(model.rglob("*")):
            if file.suffix not in (".json", ".safetensors", ".txt"):
                continue
            digest.update(file.relative_to(model.parent).as_posix().encode())
            digest.update(sha256_of_file(file).encode())
    return digest.hexdigest()


def cached_tensors(
    file: Path, made_from: str, make: Callable[[], dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Read tensors from `file`, or compute them with `make` and write them there.

    Args:
        made_from: a fingerprint of all that `make` depends on; with another one the file is old.

    Raises:
        OSError: it could not be written.
    """
    found = _read(file, made_from)
    if found is not None:
        return found
    made = make()
    try:
        write_safetensors(made, file, {_MADE_FROM: made_from})
    except (OSError, SafetensorError) as error:
        full = is_full(error, file.parent)
        reason = "no space is left on the disk" if full else str(error)
        raise OSError(
            f"{file} could not be written: {reason}. Free some space and start again; what was "
            "finished is kept."
        ) from error
    return made


def _read(file: Path, made_from: str) -> dict[str, torch.Tensor] | None:
    try:
        with safe_open(file, framework="pt") as opened:
            if (opened.metadata() or {}).get(_MADE_FROM) == made_from:
                return {name: opened.get_tensor(name) for name in opened.keys()}
        logger.info("%s was made from other data, models or settings: it is made again.", file)
    except FileNotFoundError:
        pass
    except SafetensorError as error:
        logger.warning("%s is damaged (%s): it is made again.", file, error)
    return None
