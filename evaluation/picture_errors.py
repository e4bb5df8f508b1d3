"""What a painted picture lacks against the truth, on arrays (H, W, 3) float in 0..1."""

from __future__ import annotations

import numpy as np
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity

from ..pictures.boxes import box_of


def ssim(picture: np.ndarray, truth: np.ndarray) -> float:
    """Compute structural similarity (Wang et al. 2004: Gaussian window, sigma 1.5).

    It is the channels' mean, the same as torchmetrics', which the official code takes.
    """
    return float(
        structural_similarity(
            picture,
            truth,
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def region_error(picture: np.ndarray, truth: np.ndarray, region: np.ndarray) -> float:
    """Compute the mean absolute error in 0..1 over a region (H, W) of bools; nan if it is empty."""
    return float(np.abs(picture - truth)[region].mean()) if region.any() else np.nan


def colour_error(picture: np.ndarray, truth: np.ndarray, region: np.ndarray) -> float:
    """Compute CIEDE2000 between two pictures' mean CIELAB colours over a region (H, W) of bools.

    0 is the same colour, about 2 is just noticeable, above 20 is another colour. nan where the
    region is empty.
    """
    if not region.any():
        return np.nan
    means = [rgb2lab(pixels[region][None]).mean(axis=(0, 1)) for pixels in (picture, truth)]
    return float(deltaE_ciede2000(*means))


def masked_garment(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Cut out what lies under a mask (H, W), on white, padded to a square, for CLIP-S."""
    box = box_of(mask)
    garment = np.where(mask[box][..., None] > 0, picture[box], 1.0)
    height, width = garment.shape[:2]
    square = np.ones((max(height, width),) * 2 + (3,))
    top, left = (len(square) - height) // 2, (len(square) - width) // 2
    square[top : top + height, left : left + width] = garment
    return square


def fabric_patch(picture: np.ndarray, mask: np.ndarray, category: str) -> np.ndarray:
    """Cut out the official patch for CLIP-I; outside the mask it is white.

    It is 64 x 64 pixels at a height of 512, in the middle of the mask's box; for lower_body 15
    pixels below its upper edge.
    """
    scale = picture.shape[0] / 512
    box = box_of(mask)
    garment = np.where(mask[box][..., None] > 0, picture[box], 1.0)
    side = max(1, round(64 * scale))
    top = round(15 * scale) if category == "lower_body" else (garment.shape[0] - side) // 2
    left = (garment.shape[1] - side) // 2
    # A box smaller than the patch is padded with white, as torchvision's CenterCrop pads.
    padded = np.pad(garment, ((side, side), (side, side), (0, 0)), constant_values=1.0)
    return padded[side + top : 2 * side + top, side + left : 2 * side + left]
