"""The columns of the results' tables: which garments and words the model gets in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..adapter.garment.prompts import CAPTION_PROMPT, DEPTH_PROMPT, PAPER_PROMPT
from .dresscode import Sample
from .retrieval import Ranking

CAPTION, RETRIEVED, OTHERS, OWN, TRUTH = "caption", "retrieved", "others", "own", "truth"


@dataclass(frozen=True)
class Column:
    """One way to condition the model.

    key: names its folder and its place in the JSON. garments: how many are given. source: CAPTION
    for the text alone, RETRIEVED, OTHERS (retrieved without the sample's own), OWN (the oracle),
    TRUTH for the true photo that only went through the VAE. parsed: the mask comes from a human
    parser's labels, not from the data's own. captioned: the caption stands before the garments.
    """

    key: str
    title: str
    source: str
    garments: int
    parsed: bool = False
    captioned: bool = False

    @property
    def prompt(self) -> str:
        """The paper's prompt for text alone or for garments, or the one that has both."""
        if self.source == CAPTION:
            return DEPTH_PROMPT
        return CAPTION_PROMPT if self.captioned else PAPER_PROMPT

    def pick(self, sample: Sample, ranking: Ranking, chunks: int) -> tuple[str, ...]:
        """Choose the photos of the garments that a sample gets, best first."""
        if self.source in (CAPTION, TRUTH):
            return ()
        if self.source == OWN:
            return (sample.file,)
        found: Sequence[str] = ranking[sample.caption(chunks)]
        if self.source == OTHERS:
            found = [file for file in found if file != sample.file]
        return tuple(found[: self.garments])


TEXT = Column("k0", "k = 0 (caption)", CAPTION, 0)
FIRST, SECOND, THIRD = (Column(f"k{k}", f"k = {k}", RETRIEVED, k) for k in (1, 2, 3))
WITHOUT_OWN = Column("k1_without_own", "k = 1, own removed", OTHERS, 1)
CAPTIONED = tuple(
    Column(f"k{k}_captioned", f"caption and {k} found", RETRIEVED, k, captioned=True)
    for k in (1, 2, 3)
)
CAPTIONED_WITHOUT_OWN = Column(
    "k3_captioned_without_own", "caption and 3 found, own removed", OTHERS, 3, captioned=True
)
ORACLE = Column("oracle", "oracle (own garment)", OWN, 1)
PARSED = Column("oracle_parsed", "oracle, mask by the parser", OWN, 1, parsed=True)
ROUND_TRIP = Column("vae", "true photos through the VAE", TRUTH, 0)
"""No picture that this VAE decodes can be expected to be nearer to the truth."""

PROTOCOL = (TEXT, FIRST, SECOND, THIRD)
"""The paper's: 0 to 3 retrieved garments."""
CLAIM = (*PROTOCOL, WITHOUT_OWN, ORACLE, PARSED, ROUND_TRIP)
SEVERAL = (*CAPTIONED, CAPTIONED_WITHOUT_OWN)
"""For a model that was trained on garments as they are found, the caption before them."""
COLUMNS_BY_KEY = {column.key: column for column in (*CLAIM, *SEVERAL)}


def garments_needed(columns: Sequence[Column]) -> int:
    """Count the garments that a caption has to find so that every column gets enough."""
    return max(
        (column.garments + (column.source == OTHERS) for column in columns
         if column.source in (RETRIEVED, OTHERS)),
        default=0,
    )  # fmt: skip
