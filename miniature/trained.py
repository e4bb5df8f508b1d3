"""The trained miniature that comes with the pack, and its model folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..model_parts import write_tokenizer

WEIGHTS = Path(__file__).parent / "weights" / "model"
"""The model folder without its tokenizer, whose vocabulary comes with open_clip."""
PARSER = WEIGHTS.parent / "parser"
"""The folder of the human parser that knows the drawn world."""
SIZE = (192, 256)
"""Width and height in pixels of the pictures that it paints."""
STEPS, GUIDANCE = 20, 2.5


def write_miniature(folder: Path) -> Path:
    """Write the trained miniature's model folder, tokenizer included, into `folder`; return it.

    Raises:
        FileNotFoundError: the weights are missing.
        ImportError: open_clip is missing.
    """
    if not (WEIGHTS / "model_index.json").is_file():
        raise FileNotFoundError(
            f"The trained miniature is missing: {WEIGHTS} has no model_index.json. Get the whole "
            "repository (a Git clone, or the archive of a release), or train it with "
            "`fashion-rag miniature train --out FOLDER` and copy FOLDER/model there."
        )
    folder = Path(folder)
    shutil.copytree(WEIGHTS, folder, dirs_exist_ok=True)
    write_tokenizer(folder / "tokenizer")
    return folder


def is_miniature(folder: Path) -> bool:
    """Tell whether a model folder is the trained miniature, or trained as it is."""
    folder = Path(folder)
    if WEIGHTS.is_dir() and folder.resolve() == WEIGHTS.resolve():
        return True
    record = folder / "training.json"
    return record.is_file() and '"fashion-rag miniature train' in record.read_text("utf-8")
