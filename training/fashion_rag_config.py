"""Configuration of the stages `fashion_rag` and `adapter`, as their TOML files spell it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..adapter.garment.garment_images import PREPROCESS
from ..adapter.person.masks import MODES
from .config import Run, check_shares

ORDERS = ("own_first", "retrieved")


@dataclass(frozen=True)
class FashionRag:
    """Configuration of the stages."""

    run: Run
    model: str
    """Model folder with vae, text_encoder, tokenizer, image_encoder and scheduler; unet and
    inversion_adapter.safetensors too, where they are not given below."""
    encoder: str = ""
    """Encoder folder of the retriever; by default the model folder's own pair."""
    unet: dict[str, Any] = field(default_factory=dict)
    """diffusers' UNet2DConditionModel configuration: an untrained one of these sizes."""
    adapter: dict[str, Any] = field(default_factory=dict)
    """Sizes of an untrained adapter, see InversionAdapterConfig."""
    train_unet: bool = True
    size: tuple[int, ...] = (512, 384)
    """Height and width in pixels."""
    garments: tuple[float, ...] = (0.0, 0.34, 0.33, 0.33)
    """Probability of 0, 1, 2, 3 garments; with none the caption's prompt is used."""
    order: str = "own_first"
    """Which garments a prompt with a caption before them gets: `own_first`, the own one and what
    the retriever finds beside it, or `retrieved`, what a search returns. A prompt without a caption
    always has the own one first: what is made of a garment shows this garment."""
    captioned: float = 0.0
    """Probability that a prompt with garments has the caption before them."""
    own_left_out: float = 0.5
    """Order `retrieved`: probability that the searched catalogue lacks the own garment."""
    catalogue: int = 0
    """Order `retrieved`: garments of a category in the searched catalogue, about so many, drawn
    anew for each sample; 0 for all of the split."""
    keep: float = 1.0
    """Order `retrieved`: probability of each found garment to be given."""
    focus: str = ""
    """A list of pairs in the data's folder, spelt as its lists of pairs are, that are to be shown
    more often, each with its own garment first and no caption; one named twice is shown twice as
    often. For garments that the model learns slowly, such as prints."""
    focus_share: float = 0.3
    """Probability that a sample is one of these pairs."""
    chunks: tuple[float, ...] = (0.1, 0.1, 0.8)
    """Probability of captions of 1, 2, 3 noun chunks."""
    drop: float = 0.1
    """Probability of the empty prompt and pose, for classifier-free guidance."""
    pool: int = 20
    """How many garments the retriever finds for a caption, before `catalogue` thins them out."""
    masks: dict[str, float] = field(default_factory=lambda: {"bounding_box": 1.0})
    """Share of each kind of inpainting mask."""
    mirror: bool = True
    preprocess: str = "fit"
    adapter_dropout: float = 0.5
    snr_gamma: float = 0.0
    """Min-SNR weighting of the loss (arXiv 2303.09556); 0 for none."""
    noise_offset: float = 0.0
    """Standard deviation of noise that all pixels of a latent's channel share; 0 for none, often
    .05 to .1. The more pixels, the better the last timestep still tells their mean colour, which
    sampling begins without: such noise teaches the model not to rely on it."""
    outside: float = 1.0
    """Weight of the loss outside the mask."""
    precompute: bool = False
    """Encode everything once before training; needs room for it in memory."""

    def __post_init__(self) -> None:
        if self.preprocess not in PREPROCESS:
            raise ValueError(f"preprocess is {self.preprocess!r}; expected one of {PREPROCESS}.")
        unknown = sorted(set(self.masks) - set(MODES))
        if unknown or not self.masks:
            raise ValueError(f"masks is {self.masks}; expected shares of {', '.join(MODES)}.")
        check_shares("masks", list(self.masks.values()))
        check_shares("garments", self.garments)
        check_shares("chunks", self.chunks, 3)
        if len(self.size) != 2 or any(side <= 0 or side % 8 for side in self.size):
            raise ValueError(f"size is {self.size}; expected height and width, multiples of 8.")
        if self.order not in ORDERS:
            raise ValueError(f"order is {self.order!r}; expected one of {', '.join(ORDERS)}.")
        shares = ("drop", "adapter_dropout", "captioned", "own_left_out", "keep", "focus_share")
        unbounded = ("noise_offset", "outside", "catalogue")
        for name in (*shares, *unbounded):
            most = 1.0 if name in shares else float("inf")
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 to {most:g}.")
        if self.focus and not any(self.garments[1:]):
            raise ValueError(
                f"garments is {self.garments} and focus {self.focus!r}, whose pairs are shown with "
                "garments: expected a probability for one garment or more."
            )
        if self.snr_gamma < 0 or self.pool < len(self.garments) - 1:
            raise ValueError(
                f"snr_gamma is {self.snr_gamma} and pool {self.pool}; expected 0 or more, and at "
                f"least as many as `garments` allows, {len(self.garments) - 1}."
            )
