"""A person dressed in several garments at once, each in a region of its own.

Two ways. `two_passes` paints one piece after the other, each as the paper does. `one_pass` samples
once: every piece's prediction counts in its own region, as with ComfyUI's conditioning masks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt

from ...progress import Progress
from ..garment.prompts import (
    PAPER_PROMPT,
    category_words,
    refuse_embeddings,
    scale_garments,
    split_prompt,
)
from ..person.cut_out import CONTEXT, cut_mask, cut_out
from ..person.framing import mask_tensor
from ..person.inpainting import CELL, THRESHOLD, fit_mask
from .pipeline import FashionRAGPipeline, check_size


@dataclass(frozen=True)
class Piece:
    """One garment of an outfit, and where to paint it.

    mask: of the photo's size, white (1) is repainted. garments: its photos on white, best first.
    category: a catalogue category, or "". caption: the words for {caption}.
    """

    mask: Image.Image | np.ndarray
    garments: Sequence[Image.Image]
    category: str = ""
    caption: str = ""


def two_passes(
    pipeline: FashionRAGPipeline, person: Image.Image, pieces: Sequence[Piece], **options: Any
) -> Image.Image:
    """Paint one piece after the other, each on the picture that the one before it left.

    The options are those of `FashionRAGPipeline.__call__`.
    """
    for piece in _checked(pieces):
        person = pipeline(
            person,
            piece.mask,
            piece.garments,
            category=piece.category,
            caption=piece.caption,
            **options,
        )
    return person


@torch.no_grad()
def one_pass(
    pipeline: FashionRAGPipeline,
    person: Image.Image,
    pieces: Sequence[Piece],
    *,
    prompt: str = PAPER_PROMPT,
    keypoints: np.ndarray | None = None,
    strength: float = 1.0,
    preprocess: str | None = None,
    steps: int = 50,
    guidance_scale: float = 7.5,
    height: int = 512,
    width: int = 384,
    context: float = CONTEXT,
    seed: int = 0,
    feather: int = 8,
    callback: Progress | None = None,
) -> Image.Image:
    """Paint all pieces in one sampling; the options are those of `FashionRAGPipeline.__call__`.

    What is repainted is the union of the pieces' masks. Where two overlap, the first one counts;
    what belongs to none belongs to the nearest.
    """
    pieces = _checked(pieces)
    check_size(height, width)
    refuse_embeddings(prompt, *(p.caption for p in pieces if "{caption}" in prompt))
    masks = [fit_mask(mask_tensor(p.mask), (person.height, person.width))[0] for p in pieces]
    union = torch.stack(masks).amax(dim=0)
    found = cut_out(person, union.numpy(), keypoints, (height, width), context)
    contexts = []
    for piece in pieces:
        parts = split_prompt(prompt, category_words([piece.category]), piece.caption)
        words = pipeline.pseudo_words(piece.garments, preprocess)
        contexts.append(pipeline.encode_prompt(parts, scale_garments(words, strength)))
    length = math.lcm(*(one.shape[1] for one in contexts))
    noise = torch.randn(
        (1, pipeline.vae.config.latent_channels, height // CELL, width // CELL),
        generator=torch.Generator().manual_seed(seed),
    )
    latents = pipeline.denoise(
        noise.to(pipeline.device, pipeline.dtype),
        pipeline.inpainting_channels(found.image, found.mask),
        pipeline.pose_channels(found.keypoints, (height, width)),
        # Repeated to the same length, which attention does not notice.
        torch.cat([one.repeat(1, length // one.shape[1], 1) for one in contexts]),
        regions=regions_of([cut_mask(mask, found.frame) for mask in masks]),
        steps=steps,
        guidance_scale=guidance_scale,
        callback=callback,
    )
    return found.paste(pipeline.decode(latents)[0], feather)


def regions_of(masks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Split the canvas between masks (h, w) in 0..1: weights (n, h/8, w/8) that sum to 1.

    Every pixel belongs to the first mask that covers it, or else to the nearest one.
    """
    far = [distance_transform_edt(mask.numpy() < THRESHOLD) for mask in masks]
    owner = torch.from_numpy(np.argmin(far, axis=0))
    pixels = torch.stack([(owner == number).float() for number in range(len(masks))])
    return torch.nn.functional.avg_pool2d(pixels[None], CELL)[0]


def _checked(pieces: Sequence[Piece]) -> Sequence[Piece]:
    if not pieces:
        raise ValueError("The outfit has no piece: give at least one garment with its mask.")
    return pieces
