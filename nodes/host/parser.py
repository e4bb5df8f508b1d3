"""A human parser under ComfyUI's memory management."""

from __future__ import annotations

from pathlib import Path

import torch

from ...adapter.person.parsing import HumanParser, load_parser
from .memory import WholeModule, encoder_dtype
from .progress import progress_bar


class ManagedParser:
    """A human parser whose network the host moves to its device and back."""

    def __init__(self, parser: HumanParser):
        self.parser = parser
        self.module = WholeModule(parser.network)

    def labels(self, photos: torch.Tensor) -> torch.Tensor:
        """Label photos (b, H, W, 3) float in 0..1: (b, H, W) uint8, see `HumanParser.labels`.

        It moves the node's progress bar, and can be cancelled after each photo.
        """
        self.module.load()
        return self.parser.labels(photos, progress_bar())


def open_parser(folder: Path) -> ManagedParser:
    """Load a parser's folder, in half precision where the device supports it."""
    return ManagedParser(load_parser(folder, encoder_dtype()))
