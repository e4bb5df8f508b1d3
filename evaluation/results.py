"""The results of measuring one setting."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .distances import distance_figures
from .dresscode import Sample
from .statistics import Figure

Values = dict[str, np.ndarray]
"""Values (n,) of n samples by measure, nan where a sample has none."""


@dataclass
class Measured:
    """What was measured of one setting's pictures.

    values: measures by column. features: by network and column, one row (d,) a sample; the column
    "" is the persons' own photos.
    """

    samples: list[Sample]
    values: dict[str, Values] = field(default_factory=dict)
    features: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)

    def distances(self, column: str, name: str, rows: np.ndarray) -> tuple[Figure, Figure] | None:
        """Compute Fréchet and kernel distance of a column's pictures to the photos, over `rows`."""
        if name not in self.features or column not in self.features[name] or len(rows) < 2:
            return None
        of = self.features[name]
        return distance_figures(of[column][rows], of[""][rows])
