"""What the U-Net is trained on: pairs as tensors, their garments and their prompts."""

from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from ..adapter.garment.prompts import (
    CAPTION_PROMPT,
    DEPTH_PROMPT,
    PAPER_PROMPT,
    category_words,
    split_prompt,
    windows,
)
from ..adapter.person.framing import frame
from ..adapter.person.inpainting import prepare_inpainting
from ..adapter.person.pose import DRESSCODE_FRAME, pose_map
from .dresscode import DressCode, Pair

# Left and right change places in a mirrored picture; OpenPose's numbers.
_MIRRORED = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)


def person_inputs(
    data: DressCode, pair: Pair, size: tuple[int, int], mode: str
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Prepare a model photo as the U-Net's inputs before the VAE: as it is, and mirrored.

    Args:
        size: height and width in pixels, multiples of 8.
        mode: of the inpainting mask, see `adapter.person.masks.MODES`.

    Returns:
        `pixels` and `masked` (3, H, W) uint8 in 0..255, `latent_mask` (1, H/8, W/8) uint8 in 0..1,
        `mask` (1, H, W) uint8 in 0..1, `pose` (18, H/8, W/8) float16 in 0..1.
    """
    photo, labels, keypoints = data.photo(pair), data.labels(pair), data.keypoints(pair)
    mask = data.mask(pair, labels, keypoints, mode)
    scale = (photo.width / DRESSCODE_FRAME[1], photo.height / DRESSCODE_FRAME[0], 1)
    framed = frame(photo, mask.astype(np.float32), keypoints * scale, size)
    mirrored = framed.keypoints[list(_MIRRORED)]
    mirrored[:, 0] = size[1] - 1 - mirrored[:, 0]
    return (
        _network_inputs(framed.image, framed.mask, framed.keypoints, size),
        _network_inputs(framed.image.flip(2), framed.mask.flip(2), mirrored, size),
    )


def _network_inputs(
    image: torch.Tensor, mask: torch.Tensor, keypoints: np.ndarray, size: tuple[int, int]
) -> dict[str, torch.Tensor]:
    inputs = prepare_inpainting(image, mask)
    return {
        "pixels": _bytes(inputs.image[0].movedim(-1, 0)),
        "masked": _bytes(inputs.masked_image[0].movedim(-1, 0)),
        "mask": inputs.mask.byte(),
        "latent_mask": inputs.latent_mask[0].byte(),
        "pose": pose_map(keypoints, size, size).half(),
    }


def _bytes(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels * 255).round().byte().contiguous()


class Prompts:
    """Makes token ids of the prompts, with places for pseudo-words.

    Args:
        tokenizer: transformers' CLIP tokenizer.
        words: pseudo-words a garment.
    """

    def __init__(self, tokenizer, words: int, length: int = 77):
        self._tokenizer, self._words, self._length = tokenizer, words, length
        self._known: dict[tuple[str, int], tuple[torch.Tensor, torch.Tensor]] = {}

    def garments(self, category: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode the paper's prompt: ids (length,) int64, places of pseudo-words (length,) bool."""
        key = (category, count)
        if key not in self._known:
            parts = split_prompt(PAPER_PROMPT, category_words([category]))
            self._known[key] = self._ids(parts, count)
        return self._known[key]

    def caption(self, category: str, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode the caption's prompt, without garments."""
        return self._ids(split_prompt(DEPTH_PROMPT, category_words([category]), text), 0)

    def captioned(self, text: str, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a caption, and after it the garments that it found."""
        return self._ids(split_prompt(CAPTION_PROMPT, caption=text), count)

    def empty(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode the unconditional prompt."""
        return self._ids([""], 0)

    def _ids(self, parts: list[str], count: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = windows(
            parts,
            [torch.zeros(self._words, 1)] * count,
            lambda text: [
                (token, 1.0) for token in self._tokenizer(text, add_special_tokens=False).input_ids
            ],
            start=self._tokenizer.bos_token_id,
            end=self._tokenizer.eos_token_id,
            pad=0,
            length=self._length,
        )
        if len(found) > 1:
            raise ValueError(
                f"{count} garments of {self._words} pseudo-words and the prompt {parts} don't fit "
                f"into {self._length} tokens: train with fewer garments, or shorter captions."
            )
        places = torch.tensor([torch.is_tensor(token) for token, _ in found[0]])
        ids = torch.tensor([0 if torch.is_tensor(token) else token for token, _ in found[0]])
        return ids, places


def own_first(own: int, found: list[int], count: int) -> list[int]:
    """Give the own garment, followed by the best ones that the retriever finds beside it.

    The picture shows the own garment: a model that is trained so paints the first photo, and asks
    no further one.

    Args:
        own: row of the garment that the person wears.
        found: rows of the garments that the caption finds, best first.
        count: how many garments, 0 or more.
    """
    others = [row for row in found if row != own]
    return [own, *others[: count - 1]] if count else []


def as_retrieved(
    rng: random.Random,
    own: int,
    found: list[int],
    count: int,
    *,
    own_left_out: float,
    in_catalogue: float,
    keep: float,
) -> list[int]:
    """Give what a search in a catalogue returns, in its order, as when the method is used.

    The catalogue is another one for every sample: some of the garments of the split, at random.
    The own garment stands where the caption finds it, if it does.

    Args:
        own, found, count: see `own_first`.
        own_left_out: probability that the catalogue lacks the own garment.
        in_catalogue: probability of any other garment to be in it.
        keep: probability of each found garment to be given.
    """
    with_own = rng.random() >= own_left_out
    candidates = dict.fromkeys(found)  # a small category repeats its last garment
    there = [row for row in candidates if (with_own if row == own else rng.random() < in_catalogue)]
    return [row for row in there[:count] if rng.random() < keep]


def sample_mask_mode(rng: random.Random, modes: Mapping[str, float]) -> str:
    """Pick a mask mode at random, by its share."""
    names = sorted(modes)
    return rng.choices(names, [modes[name] for name in names])[0]


def picture(tensor: torch.Tensor) -> Image.Image:
    """Turn (3, H, W) uint8 into a picture."""
    return Image.fromarray(tensor.permute(1, 2, 0).contiguous().cpu().numpy())


__all__ = [
    "Prompts",
    "as_retrieved",
    "own_first",
    "person_inputs",
    "picture",
    "sample_mask_mode",
]
