"""What an evaluation may know beyond the photos of a Dress Code folder.

Of photographed people nobody knows how they would look in another garment. Whoever made the folder
may: a `World` is given to `evaluation.run.evaluate` from above.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from PIL import Image

from .columns import Column
from .results import Measured


@dataclass(frozen=True)
class Verdict:
    """How one setting meets the targets of its world.

    targets: one JSON object each. lines: of a Markdown section. void: keys of measures whose
    figures mean nothing, because the network behind them failed its test.
    """

    targets: Sequence[Mapping[str, Any]] = ()
    lines: Sequence[str] = ()
    void: frozenset[str] = frozenset()


class World(Protocol):
    """The world that a folder's pictures show.

    unmeasured: measures that are left out here, by their titles, each with the reason.
    judged: the columns that a setting must have so that `judge` can be asked.
    """

    unmeasured: Mapping[str, str]
    judged: Sequence[Column]

    def worn(self, person: str, garment: str) -> tuple[Image.Image, np.ndarray]:
        """Return the photo of a person in a garment, by their numbers, and its label map.

        The label map is (H, W), of Dress Code's labels.
        """
        ...

    def measure(self, picture: np.ndarray, mask: np.ndarray, garment: str) -> dict[str, float]:
        """Compute the world's own measures, by key, of a picture and the garment it should show.

        picture: (H, W, 3) in 0..1. mask: (H, W), its inpainting mask.
        """
        ...

    def judge(self, measured: Measured, own: np.ndarray) -> Verdict:
        """Judge a paired setting that has all `judged` columns.

        Args:
            own: for every sample whether its own garment was found first (0 or 1), (n,).
        """
        ...
