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
from .measured import Measured


@dataclass(frozen=True)
class Verdict:
    """What a world's own targets say of one setting.

    targets: plain JSON values, one each. lines: of a Markdown section. void: keys of measures whose
    figures mean nothing, because what they are measured with failed its test.
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
        """The photo of the person with this number in the garment with that number, and its label
        map (H, W) of Dress Code's labels."""
        ...

    def measure(self, picture: np.ndarray, mask: np.ndarray, garment: str) -> dict[str, float]:
        """Measures of its own, by key: a picture (H, W, 3) in 0..1 with its inpainting mask (H, W)
        against the garment that should be seen."""
        ...

    def judge(self, measured: Measured, own: np.ndarray) -> Verdict:
        """Judge a paired setting that has all `judged` columns.

        Args:
            own: for every sample whether its own garment was found first (0 or 1), (n,).
        """
        ...
