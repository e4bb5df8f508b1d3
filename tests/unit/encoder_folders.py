"""Photos for tests of encoders, and encoder folders that were changed or ask for code."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fashion_rag.retriever.encoders.open_clip import load_encoder
from PIL import Image


def noise_photos(*sizes: tuple[int, int]) -> list[Image.Image]:
    """RGB photos of noise, the same every time; sizes: width and height."""
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]


def changed(content: Any, **changes: Any) -> Any:
    """A copy of nested objects with other values: `a__b=1` sets content["a"]["b"]."""
    content = copy.deepcopy(content)
    for place, value in changes.items():
        part = content
        *steps, last = place.split("__")
        for step in steps:
            part = part[step]
        part[last] = value
    return content


def rewrite(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the JSON value in a file; where there is no file, that of `{}`."""
    content = json.loads(path.read_text("utf-8")) if path.exists() else {}
    path.write_text(json.dumps(change(content)))


def check_code_is_refused(broken: Path, trace: Path, message: str) -> None:
    """Loading the folder is refused, and `code.py`, which it names, is not imported."""
    (broken / "code.py").write_text(f"open({str(trace)!r}, 'w')\n")
    with pytest.raises(ValueError, match=message):
        load_encoder(broken)
    assert not trace.exists()


def check_a_pickle_is_not_read(broken: Path) -> None:
    """Weights that are there as a pickle alone are refused."""
    (broken / "model.safetensors").unlink()
    (broken / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(FileNotFoundError, match=r"found: pytorch_model\.bin; a pickle is not read"):
        load_encoder(broken)
