"""Preparing picture and mask for an inpainting model, and pasting its result back.

Pure functions on tensors, shared by the ComfyUI nodes and the headless pipeline. Pictures are
float (b, H, W, 3) in 0..1, masks float (b, H, W) in 0..1 with 1 = repaint.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, label
from torch.nn import functional

from ...pictures.tensors import rgb_on_white
from .mask_files import THRESHOLD, check_mask_size, check_not_empty, normalise_mask

logger = logging.getLogger(__name__)

CELL = 8
"""Pixels of the picture to one of the latent, per axis."""
_EIGHT_NEIGHBOURS = [[1, 1, 1], [1, 1, 1], [1, 1, 1]]


@dataclass(frozen=True)
class Inpainting:
    """What an inpainting model gets; H8 and W8 are the picture's sizes padded to multiples of 8."""

    image: torch.Tensor
    """(b, H8, W8, 3): the picture, continued by its edge."""
    masked_image: torch.Tensor
    """(b, H8, W8, 3): the same, mid-grey (0.5, which the VAE sees as 0) where it is repainted."""
    mask: torch.Tensor
    """(b, H8, W8): exactly 0 or 1."""
    soft_mask: torch.Tensor
    """(b, H8, W8): the mask as it came, for a noise mask; 1 in the cells of strokes that the
    latent mask would lose."""
    latent_mask: torch.Tensor
    """(b, 1, H8/8, W8/8), 0 or 1: the top-left pixel of each 8x8 cell of `mask`, as in training;
    strokes that none of these pixels meets have every cell that they touch."""


def prepare_inpainting(image: torch.Tensor, mask: torch.Tensor) -> Inpainting:
    """Make the model's inputs from a picture (b, H, W, 3) and a soft mask (b, h, w).

    The mask is resized to the picture and split at 0.5; the smaller batch is repeated. Sizes that
    are not multiples of 8 are padded at the right and at the bottom (`composite` crops them back).
    A picture with transparency is laid on white.

    Raises:
        ValueError: wrong shapes, a mask of other proportions than the picture, or nothing to
            repaint.
    """
    if image.ndim != 4:
        raise ValueError(
            f"the picture has the shape {tuple(image.shape)}, expected (batch, height, width, 3)."
        )
    image = rgb_on_white(image)
    mask = fit_mask(mask, (image.shape[1], image.shape[2])).to(image)
    count = max(len(image), len(mask))
    image, mask = repeat_batch(image, count), repeat_batch(mask, count)
    image = pad_to_cells(image.movedim(-1, 1)).movedim(1, -1)
    soft = pad_to_cells(mask[:, None])[:, 0]
    hard = (soft >= THRESHOLD).to(soft)
    _check_coverage(hard, soft)
    latent_mask, lost = _latent_mask(hard)
    if lost.any():
        cells = functional.interpolate(lost.to(soft), scale_factor=CELL)[:, 0]
        soft = torch.maximum(soft, cells)
    return Inpainting(
        image=image,
        masked_image=torch.where(hard[..., None] > 0, 0.5, image),
        mask=hard,
        soft_mask=soft,
        latent_mask=latent_mask,
    )


def fit_mask(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bring a mask of any range and scale to (b, *size) in 0..1; see `normalise_mask`.

    Raises:
        ValueError: another shape, or other proportions than `size` (height, width) has. An empty
            mask is let through, and so is a full one, which has no form that could be squeezed.
    """
    mask = normalise_mask(_three_axes(mask))
    hard = mask >= THRESHOLD
    if bool(hard.any()) and not bool(hard.all()):
        check_mask_size((mask.shape[2], mask.shape[1]), (size[1], size[0]))
    return resize_mask(mask, size)


def resize_mask(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bring a mask (b, h, w), (h, w) or (b, 1, h, w) to (b, *size); the same size stays as it is.

    Raises:
        ValueError: another shape.
    """
    mask = _three_axes(mask).float()
    if mask.shape[1:] == tuple(size):
        return mask
    return resize(mask[:, None], size)[:, 0]


def _three_axes(mask: torch.Tensor) -> torch.Tensor:
    if mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim != 3:
        raise ValueError(
            f"the mask has the shape {tuple(mask.shape)}, expected (batch, height, width)."
        )
    if 0 in mask.shape:
        raise ValueError(
            f"There is no mask: the batch is empty, its shape is {tuple(mask.shape)}. See whether "
            "the node before found anything."
        )
    return mask


def resize(pixels: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize (b, c, h, w) to (b, c, *size), bilinear, antialiased where it shrinks."""
    # torch antialiases in single precision alone on the CPU.
    resized = functional.interpolate(
        pixels.float(), size=tuple(size), mode="bilinear", antialias=True
    )
    return resized.to(pixels)


def repeat_batch(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """Return `count` entries: the batch, repeated over and over."""
    return tensor[torch.arange(count, device=tensor.device) % len(tensor)]


def pad_to_cells(pixels: torch.Tensor) -> torch.Tensor:
    """Continue (b, c, h, w) by its edge, right and bottom, to multiples of 8 pixels."""
    height, width = pixels.shape[-2:]
    return functional.pad(pixels, (0, -width % CELL, 0, -height % CELL), mode="replicate")


def composite(
    original: torch.Tensor, generated: torch.Tensor, mask: torch.Tensor, feather: int = 8
) -> torch.Tensor:
    """Paste what was painted inside the mask back onto the original picture.

    The transition lies inside the mask: over `feather` pixels from its border inwards the result
    goes from the original to the generated picture. Outside every pixel is the original's.

    Args:
        original: (b, H, W, 3); with transparency, it is laid on white. Its size is the result's.
        generated: (b, h, w, 3), the original's size padded to multiples of 8 (cropped), or any
            other (resized).
        mask: (b, h, w), resized to the original and split at 0.5.
        feather: width of the transition in pixels of the original, 0 or more.

    Raises:
        ValueError: the mask has other proportions than the original.
    """
    original, generated = rgb_on_white(original), rgb_on_white(generated)
    height, width = original.shape[1:3]
    padded = (height + -height % CELL, width + -width % CELL)
    generated = generated.to(original)
    if generated.shape[1:3] == padded:
        generated = generated[:, :height, :width]
    elif generated.shape[1:3] != (height, width):
        generated = resize(generated.movedim(-1, 1), (height, width)).movedim(1, -1)
    hard = fit_mask(mask, (height, width)) >= THRESHOLD
    count = max(len(original), len(generated), len(hard))
    alpha = torch.stack([_ramp_inwards(one, feather) for one in hard.cpu()]).to(original)
    original, generated, alpha = (
        repeat_batch(part, count) for part in (original, generated, alpha[..., None])
    )
    # Not by the weight 0 alone: a VAE in half precision may give NaN, and 0 * NaN is NaN.
    return torch.where(alpha > 0, torch.lerp(original, generated.clamp(0, 1), alpha), original)


def _ramp_inwards(mask: torch.Tensor, feather: int) -> torch.Tensor:
    """Turn a mask (H, W) of bools into weights: 0 outside, 1 from `feather` pixels inwards."""
    if feather <= 0 or bool(mask.all()):
        return mask.float()
    depth = torch.from_numpy(distance_transform_edt(mask.numpy())).float()
    return (depth / (feather + 1)).clamp(max=1)


def _latent_mask(hard: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bring a hard mask (b, H8, W8) to latent size, and find the cells that nearest sampling loses.

    Both are (b, 1, H8/8, W8/8). A connected stroke of which no cell's top-left pixel is part, and
    which is the mask's only one or at least as large as a cell, is lost as a whole in the official
    mask, while the photo beneath it is greyed all the same: its cells are added.
    """
    nearest = hard[:, None, ::CELL, ::CELL]
    lost = torch.zeros_like(nearest, dtype=torch.bool)
    for row, mask in enumerate(hard.bool().cpu().numpy()):
        strokes = np.empty(mask.shape, np.int32)
        label(mask, _EIGHT_NEIGHBOURS, output=strokes)
        sizes = np.bincount(strokes.ravel())
        missed = np.ones(len(sizes), bool)
        missed[0] = missed[strokes[::CELL, ::CELL]] = False
        if not missed[1:].all():
            missed &= sizes >= CELL * CELL
        if missed.any():
            cells = missed[strokes].reshape(nearest.shape[2], CELL, nearest.shape[3], CELL)
            lost[row, 0] = torch.from_numpy(cells.any(axis=(1, 3))).to(lost.device)
    return torch.where(lost, 1.0, nearest).to(nearest), lost & (nearest == 0)


def _check_coverage(hard: torch.Tensor, soft: torch.Tensor) -> None:
    """Refuse a mask with nothing to repaint; warn of one that is full or looks inverted."""
    for index, one in enumerate(hard):
        covered = one.mean().item()
        check_not_empty(soft[index].max().item(), f"mask {index}")
        corners = one[:: one.shape[0] - 1, :: one.shape[1] - 1]
        if covered > 0.95 or (covered > 0.5 and bool(corners.all())):
            logger.warning(
                "Mask %d covers %.0f %% of the picture%s: is it inverted? White (1) is repainted.",
                index,
                100 * covered,
                " and its four corners" if bool(corners.all()) else "",
            )
