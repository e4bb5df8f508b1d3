"""The model's picture and mask inputs, and the way back to the original pixels."""

from __future__ import annotations

import logging

import pytest
import torch
from fashion_rag.adapter.person.inpainting import composite, prepare_inpainting
from hypothesis import given, settings
from hypothesis import strategies as st


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed))


def box(height: int, width: int, value: float = 1.0) -> torch.Tensor:
    mask = torch.zeros(1, height, width)
    mask[:, height // 4 : height // 2, width // 4 : width // 2] = value
    return mask


def test_a_picture_of_whole_cells_stays_as_it_is():
    image, mask = picture(1, 64, 48), box(64, 48)
    mask[0, 20, 20] = 0.49
    result = prepare_inpainting(image, mask)
    assert torch.equal(result.image, image)
    assert torch.equal(result.soft_mask, mask)
    assert torch.equal(result.mask, (mask >= 0.5).float())
    assert torch.equal(result.latent_mask, result.mask[:, None, ::8, ::8])
    hole = result.mask[..., None].bool().expand_as(image)
    assert torch.equal(result.masked_image[~hole], image[~hole])
    assert bool((result.masked_image[hole] == 0.5).all())


def test_the_caller_keeps_their_mask():
    mask = box(64, 48, value=0.7)
    prepare_inpainting(picture(1, 64, 48), mask)
    assert torch.equal(mask, box(64, 48, value=0.7))


def test_odd_sizes_are_continued_by_the_edge():
    image = picture(1, 61, 45)
    result = prepare_inpainting(image, box(61, 45))
    assert result.image.shape == (1, 64, 48, 3)
    assert result.latent_mask.shape == (1, 1, 8, 6)
    assert torch.equal(result.image[:, 61:, :45], image[:, -1:].expand(-1, 3, -1, -1))
    assert torch.equal(result.image[:, :61, 45:], image[:, :, -1:].expand(-1, -1, 3, -1))


def test_a_mask_of_another_size_and_a_batch_are_matched():
    result = prepare_inpainting(picture(3, 64, 48), box(128, 96))
    assert result.mask.shape == (3, 64, 48)
    assert torch.equal(result.mask[:1], box(64, 48))
    many = prepare_inpainting(picture(1, 64, 48), box(64, 48).repeat(4, 1, 1))
    assert many.image.shape[0] == 4
    assert torch.equal(many.image[3], many.image[0])


@pytest.mark.parametrize("shape", [(64, 48), (1, 1, 64, 48)])
def test_masks_come_in_other_shapes(shape):
    mask = box(64, 48).reshape(shape)
    assert prepare_inpainting(picture(1, 64, 48), mask).mask.shape == (1, 64, 48)


def test_errors_say_what_was_found():
    with pytest.raises(ValueError, match="largest value is 0.4"):
        prepare_inpainting(picture(1, 64, 48), box(64, 48, value=0.4))
    with pytest.raises(ValueError, match="mask has the shape"):
        prepare_inpainting(picture(1, 64, 48), torch.ones(1, 3, 64, 48))
    with pytest.raises(ValueError, match="picture has the shape"):
        prepare_inpainting(torch.ones(64, 48, 3), box(64, 48))


@pytest.mark.parametrize(
    ("mask", "warned"),
    [(1 - box(64, 48), True), (torch.ones(1, 64, 48), True), (box(64, 48), False)],
)
def test_an_inverted_mask_is_only_warned_of(caplog, mask, warned):
    with caplog.at_level(logging.WARNING):
        prepare_inpainting(picture(1, 64, 48), mask)
    assert ("inverted" in caplog.text) == warned


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(9, 70),
    width=st.integers(9, 70),
    feather=st.integers(0, 20),
    seed=st.integers(0, 99),
)
def test_outside_the_mask_every_pixel_is_the_originals(height, width, feather, seed):
    original = picture(1, height, width, seed=seed)
    mask = (picture(1, height, width, seed=seed + 1)[..., 0] > 0.4).float()
    generated = picture(1, height + -height % 8, width + -width % 8, seed=seed + 2)
    result = composite(original, generated, mask, feather)
    outside = mask[..., None].expand_as(original) < 0.5
    assert torch.equal(result[outside], original[outside])
    if feather == 0:
        cropped = generated[:, :height, :width]
        assert torch.equal(result[~outside], cropped[~outside])


def test_the_feather_rises_inwards_and_keeps_the_middle():
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:48, 16:48] = 1
    result = composite(torch.zeros(1, 64, 64, 3), torch.ones(1, 64, 64, 3), mask, feather=8)
    row = result[0, 32, :33, 0]
    assert torch.equal(row[:16], torch.zeros(16))
    assert torch.allclose(row[16:25], torch.arange(1, 10) / 9)
    assert torch.equal(row[24:], torch.ones(9))


def test_a_full_mask_has_no_border_to_feather():
    generated = picture(1, 32, 32)
    result = composite(picture(1, 32, 32, seed=1), generated, torch.ones(1, 32, 32), feather=8)
    assert torch.equal(result, generated)


def test_a_generated_picture_of_another_size_is_resized_and_batches_repeat():
    result = composite(picture(1, 100, 80), torch.full((2, 64, 48, 3), 0.25), box(100, 80), 0)
    assert result.shape == (2, 100, 80, 3)
    assert torch.allclose(result[:, 30, 25], torch.tensor(0.25))


def test_what_is_no_number_stays_inside_the_mask():
    """Half-precision VAEs overflow; the photo around the mask is kept all the same."""
    original, mask = picture(1, 64, 48), box(64, 48)
    result = composite(original, torch.full((1, 64, 48, 3), torch.nan), mask, feather=8)
    outside = mask[..., None].expand_as(original) < 0.5
    assert torch.equal(result[outside], original[outside])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pictures_in_half_precision(dtype):
    """As a host gives them that keeps what travels between nodes in half precision."""
    original, mask = picture(1, 61, 45).to(dtype), box(61, 45)
    inputs = prepare_inpainting(original, mask)
    assert inputs.masked_image.dtype == dtype and inputs.masked_image.shape == (1, 64, 48, 3)
    result = composite(original, torch.full((1, 32, 24, 3), 0.25, dtype=dtype), mask, feather=4)
    outside = mask[..., None].expand_as(original) < 0.5
    assert result.dtype == dtype and torch.equal(result[outside], original[outside])


@pytest.mark.parametrize("shape", [(0, 64, 48, 3), (1, 0, 48, 3), (0, 64, 48, 4)])
def test_a_batch_without_a_picture_is_named(shape):
    """Other packs give it where they found nothing."""
    picture, mask = torch.rand(1, 64, 48, 3), torch.ones(1, 64, 48)
    with pytest.raises(ValueError, match="no picture among the images: the batch is empty"):
        prepare_inpainting(torch.zeros(shape), mask)
    for pair in ((torch.zeros(shape), picture), (picture, torch.zeros(shape))):
        with pytest.raises(ValueError, match="no picture among the images"):
            composite(*pair, mask)


def test_a_batch_without_a_mask_is_named():
    picture = torch.rand(1, 64, 48, 3)
    with pytest.raises(
        ValueError, match=r"no mask: the batch is empty, its shape is \(0, 64, 48\)"
    ):
        prepare_inpainting(picture, torch.zeros(0, 64, 48))
    with pytest.raises(ValueError, match="There is no mask"):
        composite(picture, picture, torch.zeros(0, 64, 48))
