"""Garment photos on their way to the vision tower."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fashion_rag.adapter.garment.garment_images import PREPROCESS, garment_pixels, photos_to_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 200, (height, width, 3), dtype=np.uint8))


def batch(*photos: Image.Image) -> torch.Tensor:
    return torch.stack([torch.from_numpy(np.array(p, np.float32) / 255) for p in photos])


def test_fit_is_clips_own_processing_at_the_native_size():
    native = photo(384, 512)
    expected = native.resize((224, 298), Image.Resampling.BICUBIC).crop((0, 37, 224, 261))
    found = garment_pixels(batch(native))
    assert torch.equal(found[0].mul(255).round().byte(), torch.from_numpy(np.array(expected)))


def test_fit_pads_on_white_where_the_official_code_stretches():
    wide = photo(400, 200)
    fitted = garment_pixels(batch(wide))[0]
    stretched = garment_pixels(batch(wide), "paper_stretch")[0]
    assert (fitted[0] == 1).all() and (fitted[-1] == 1).all()
    assert not (stretched[0] == 1).any()


def test_whole_loses_nothing():
    tall = Image.new("RGB", (100, 400), (10, 20, 30))
    pixels = garment_pixels(batch(tall), "whole")[0]
    assert pixels.shape == (224, 224, 3)
    assert torch.equal(pixels[:, 112] * 255, torch.tensor([[10.0, 20, 30]]).expand(224, 3))
    assert (pixels[:, 0] == 1).all() and (pixels[:, -1] == 1).all()


@settings(max_examples=40, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    mode=st.sampled_from(PREPROCESS),
    size=st.sampled_from([32, 224]),
)
def test_any_size_gives_the_uint8_grid(width, height, mode, size):
    pixels = garment_pixels(batch(photo(width, height)), mode, size)
    assert pixels.shape == (1, size, size, 3) and pixels.dtype == torch.float32
    levels = pixels.double() * 255
    assert (levels - levels.round()).abs().max() < 1e-4
    assert 0 <= pixels.min() and pixels.max() <= 1


def test_unknown_mode():
    with pytest.raises(ValueError, match="'squash'"):
        garment_pixels(batch(photo(8, 8)), "squash")


def test_photos_of_one_size_keep_their_pixels():
    photos = [photo(90, 120, seed) for seed in range(3)]
    assert torch.equal(photos_to_batch(photos), batch(*photos))


def test_photos_of_several_sizes_share_a_canvas_on_white():
    canvas = photos_to_batch([photo(90, 120), photo(200, 100)])
    assert canvas.shape == (2, 1024, 768, 3)
    assert (canvas[1, 0] == 1).all() and not (canvas[0, 0] == 1).any()


def test_a_large_photo_is_brought_to_the_canvas():
    assert photos_to_batch([photo(900, 1200)]).shape == (1, 1024, 768, 3)


@pytest.mark.parametrize("size", [(1500, 1500), (1000, 1000), (3000, 2000), (900, 1000)])
def test_whole_fills_the_square_whatever_the_photos_size(size):
    """1500x1500 filled 168 of 224 pixels once, 1000x1000 all of them."""
    dark = photos_to_batch([Image.new("RGB", size, (9, 9, 9))])
    pixels = garment_pixels(dark, "whole")[0, ..., 0] < 0.5
    larger, smaller = max(size), min(size)
    longest = max(pixels.any(dim=0).sum().item(), pixels.any(dim=1).sum().item())
    shortest = min(pixels.any(dim=0).sum().item(), pixels.any(dim=1).sum().item())
    assert longest == 224 and abs(shortest - 224 * smaller / larger) <= 1


def test_squares_of_several_sizes_stay_squares():
    sizes = [(1500, 1500), (1000, 1000), (300, 300)]
    dark = photos_to_batch([Image.new("RGB", size, (9, 9, 9)) for size in sizes])
    assert (garment_pixels(dark, "whole") < 0.5).all()


@settings(max_examples=30, deadline=None)
@given(
    width=st.integers(100, 700),
    height=st.integers(100, 700),
    mode=st.sampled_from(PREPROCESS),
)
def test_a_photo_of_twice_the_size_is_the_same_photo(width, height, mode):
    random = np.random.default_rng(width * 1000 + height)
    coarse = Image.fromarray(random.integers(0, 256, (4, 3, 3), dtype=np.uint8))
    small = coarse.resize((width, height), Image.Resampling.BICUBIC)
    double = small.resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    one, other = (garment_pixels(photos_to_batch([photo]), mode) for photo in (small, double))
    assert (one - other).abs().mean() < 2 / 255 * 2


def test_transparency_is_white():
    """Background removers leave black under cleared pixels."""
    rgba = torch.cat([batch(photo(40, 40)), torch.ones(1, 40, 40, 1)], dim=-1)
    rgba[:, :20] = 0
    on_white = batch(photo(40, 40))
    on_white[:, :20] = 1
    for mode in PREPROCESS:
        assert torch.equal(garment_pixels(rgba, mode), garment_pixels(on_white, mode))


def test_half_transparent_pixels_are_half_white():
    rgba = torch.full((1, 8, 8, 4), 0.5)
    assert (garment_pixels(rgba, "whole") * 255 - 191).abs().max() <= 1


def test_grey_is_grey():
    grey = torch.full((2, 30, 40, 1), 0.25)
    assert torch.equal(garment_pixels(grey), garment_pixels(grey.expand(-1, -1, -1, 3)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 8, 8, 5), "expected .batch"),
        ((8, 8, 3), "expected .batch"),
        ((0, 8, 8, 3), "batch is empty"),
        ((1, 0, 8, 3), "batch is empty"),
    ],
)
def test_what_is_no_batch_of_pictures(shape, message):
    with pytest.raises(ValueError, match=message):
        garment_pixels(torch.zeros(shape))
