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
