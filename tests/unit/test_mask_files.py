"""Masks as people export them: one reading for every file, picture and tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fashion_rag.adapter.person.framing import mask_tensor
from fashion_rag.adapter.person.inpainting import composite, prepare_inpainting
from fashion_rag.adapter.person.mask_files import (
    check_mask_size,
    mask_from_picture,
    normalise_mask,
    read_mask,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

SIZE = (96, 128)
INSIDE = np.zeros((128, 96), bool)
INSIDE[40:100, 30:70] = True
STENCIL = Image.fromarray(INSIDE)


def photo(grey: bool = False) -> Image.Image:
    """A picture of many colours."""
    picture = Image.new("RGB", SIZE, "#b0c4de")
    draw = ImageDraw.Draw(picture)
    for number, colour in enumerate(("#c0392b", "#27ae60", "#f1c40f", "#8e44ad", "#2c3e50")):
        draw.rectangle((number * 18, 20, number * 18 + 15, 110), fill=colour)
    return picture.convert("L").convert("RGB") if grey else picture


def layer(colour: str, below: str = "black") -> Image.Image:
    """Strokes of a colour on a clear layer."""
    picture = Image.new("RGB", SIZE, below).convert("RGBA")
    picture.putalpha(0)
    picture.paste(Image.new("RGBA", SIZE, colour), mask=STENCIL)
    return picture


def with_holes(picture: Image.Image, hole: int = 0) -> Image.Image:
    picture = picture.convert("RGBA")
    picture.putalpha(Image.fromarray(np.where(INSIDE, hole, 255).astype(np.uint8)))
    return picture


def two_colours(colour: str, background: str = "black") -> Image.Image:
    picture = Image.new("RGB", SIZE, background)
    picture.paste(colour, mask=STENCIL)
    return picture


def palette(*colours: tuple[int, int, int], swapped: bool = False) -> Image.Image:
    picture = Image.fromarray((INSIDE ^ swapped).astype(np.uint8)).convert("P")
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def black_and_white_layer() -> Image.Image:
    """White and black paint that covers half of a clear layer."""
    picture = layer("white")
    ImageDraw.Draw(picture).rectangle((0, 100, 40, 127), fill="black")
    return picture


PICTURES = {
    "grey": Image.fromarray(INSIDE * np.uint8(255)),
    "one bit": STENCIL,
    "rgb": two_colours("white"),
    "0 and 1": Image.fromarray(INSIDE.astype(np.uint8)),
    "16 bit": Image.fromarray(INSIDE.astype(np.uint16) * 65535),
    "16 bit of 0 and 1": Image.fromarray(INSIDE.astype(np.uint16)),
    "32 bit of 0 to 255": Image.fromarray(INSIDE.astype(np.int32) * 255),
    "float": Image.fromarray(INSIDE.astype(np.float32)),
    "red on black": two_colours("red"),
    "dark blue on black": two_colours("#000080"),
    "palette, dark red": palette((0, 0, 0), (128, 0, 0)),
    "palette, colours": palette((0, 255, 0), (0, 0, 255)),
    "palette, nearly black": palette((0, 0, 0), (1, 1, 1)),
    "palette, white is 0": palette((255, 255, 255), (0, 0, 0), swapped=True),
    "white strokes": layer("white"),
    "white strokes over white": layer("white", "white"),
    "red strokes": layer("red"),
    "red strokes over white": layer("red", "white"),
    "black strokes": layer("black", "white"),
    "white and black paint": black_and_white_layer(),
    "grey with alpha": layer("white").convert("LA"),
    "photo with a hole": with_holes(photo()),
    "grey photo with a hole": with_holes(photo(grey=True)),
    "black layer with a hole": with_holes(Image.new("RGB", SIZE)),
    "blue layer with a hole": with_holes(Image.new("RGB", SIZE, "blue")),
    "white layer with a hole": with_holes(Image.new("RGB", SIZE, "white")),
    "clear throughout, mask in the colours": Image.merge(
        "RGBA", [*two_colours("white").split(), Image.new("L", SIZE, 0)]
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_way_to_save_a_mask_gives_the_same(tmp_path, name):
    picture = PICTURES[name]
    np.testing.assert_array_equal(mask_from_picture(picture), INSIDE)
    assert torch.equal(mask_tensor(picture)[0], torch.from_numpy(INSIDE).float())
    path = tmp_path / ("mask.tif" if name == "float" or "32 bit" in name else "mask.png")
    picture.save(path)
    found = read_mask(path, SIZE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, INSIDE)


def test_a_half_transparent_brush():
    picture = Image.new("RGBA", SIZE)
    picture.paste(Image.new("RGBA", SIZE, (255, 0, 0, 110)), mask=STENCIL)
    np.testing.assert_array_equal(mask_from_picture(picture) >= 0.5, INSIDE)


def test_soft_borders_stay_soft():
    ramp = np.tile(np.linspace(0, 255, 96).round().astype(np.uint8), (128, 1))
    np.testing.assert_allclose(mask_from_picture(Image.fromarray(ramp)), ramp / 255, atol=1e-6)
    painted = Image.merge("LA", [Image.new("L", SIZE, 255), Image.fromarray(ramp)])
    np.testing.assert_allclose(mask_from_picture(painted), ramp / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (photo(), "coloured picture"),
        (two_colours("red", "white"), "coloured picture"),
        (Image.fromarray(np.zeros((128, 96), np.uint8)), "is empty: its largest value is 0,"),
        (Image.fromarray((INSIDE * 100).astype(np.uint8)), "largest value is 0.392"),
        (Image.new("RGBA", SIZE), "is empty"),
        (STENCIL.resize((96, 96)), "96x96 pixels and the photo 96x128"),
    ],
)
def test_what_is_no_mask_is_refused_with_its_name(tmp_path, picture, message):
    picture.save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=message) as error:
        read_mask(tmp_path / "mask.png", SIZE)
    assert "mask.png" in str(error.value)


def test_a_label_map_and_a_cut_out_are_no_masks():
    labels = Image.fromarray(np.arange(18, dtype=np.uint8).repeat(512).reshape(128, 72)).convert(
        "P"
    )
    labels.putpalette([value for n in range(18) for value in (n * 14, 90, 255 - n * 14)])
    with pytest.raises(ValueError, match=r"indexes 0, 1, .* label map"):
        mask_from_picture(labels)
    cut_out = photo().convert("RGBA")
    cut_out.putalpha(Image.fromarray(INSIDE * np.uint8(255)))
    with pytest.raises(ValueError, match="cut-out"):
        mask_from_picture(cut_out)


@settings(max_examples=80, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    data=st.data(),
)
def test_any_picture_is_a_mask_or_refused(mode, width, height, data):
    picture = Image.new(mode, (width, height))
    size = len(picture.tobytes())
    picture.frombytes(data.draw(st.binary(min_size=size, max_size=size)))
    try:
        mask = mask_from_picture(picture)
    except ValueError as error:
        assert "Paint the part" in str(error)
        return
    assert mask.shape == (height, width) and mask.dtype == np.float32
    assert np.isfinite(mask).all() and 0 <= mask.min() and mask.max() <= 1


@settings(max_examples=100, deadline=None)
@given(width=st.integers(64, 3000), height=st.integers(64, 3000), side=st.integers(64, 2048))
@example(width=64, height=1025, side=64)
def test_a_scaled_mask_fits_however_it_was_rounded(width, height, side):
    scale = side / max(width, height)
    for step in (1, 8):
        small = tuple(max(step, step * round(length * scale / step)) for length in (width, height))
        if min(width, height) * scale >= 8:
            check_mask_size(small, (width, height))
            check_mask_size((width, height), small)


@pytest.mark.parametrize("mask", [(512, 512), (384, 480), (420, 512), (512, 384), (64, 64)])
def test_other_proportions_do_not(mask):
    with pytest.raises(ValueError, match=f"{mask[0]}x{mask[1]} pixels and the photo 384x512"):
        check_mask_size(mask, (384, 512))


def test_masks_between_nodes_are_settled_alike():
    right = torch.from_numpy(INSIDE).float()[None]
    for tensor in (right * 255, right / 255, right * 1.02, right.double(), right - (1 - right)):
        assert torch.equal(normalise_mask(tensor), right)
    holed = right.clone()
    holed[0, 0, 0] = torch.nan
    assert torch.equal(normalise_mask(holed), right)
    faint = torch.full((1, 128, 96), 0.4)
    assert torch.equal(normalise_mask(faint), faint)


def test_a_squeezed_mask_is_refused_between_nodes_too():
    image, mask = torch.rand(1, 128, 96, 3), torch.zeros(1, 96, 96)
    mask[:, 20:60, 20:60] = 1
    with pytest.raises(ValueError, match="96x96 pixels and the photo 96x128"):
        prepare_inpainting(image, mask)
    with pytest.raises(ValueError, match="96x96 pixels and the photo 96x128"):
        composite(image, image, mask)
    # The blank mask that a loader gives for a photo without alpha is told as empty, not by size.
    with pytest.raises(ValueError, match="mask 0 is empty"):
        prepare_inpainting(image, torch.zeros(1, 64, 64))
    assert prepare_inpainting(image, torch.ones(1, 64, 64)).mask.all()


def test_a_person_with_alpha_stands_on_white():
    rgba = torch.rand(1, 128, 96, 4)
    right = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    mask = torch.from_numpy(INSIDE).float()[None]
    torch.testing.assert_close(prepare_inpainting(rgba, mask).image, right)
    outside = ~torch.from_numpy(INSIDE)[None]
    torch.testing.assert_close(composite(rgba, rgba, mask)[outside], right[outside])


@pytest.mark.parametrize("width", [1, 2, 5, 7])
def test_a_thin_stroke_is_repainted(width):
    """Between the pixels that nearest sampling looks at: columns 0, 8, 16, ..."""
    mask = torch.zeros(1, 128, 96)
    mask[:, 30:90, 41 : 41 + width] = 1
    inputs = prepare_inpainting(torch.rand(1, 128, 96, 3), mask)
    cells = torch.zeros(1, 1, 16, 12)
    cells[..., 3:12, 5 : 5 + -(-(width + 1) // 8)] = 1
    assert torch.equal(inputs.latent_mask, cells)
    assert torch.equal(inputs.mask, mask)
    assert (inputs.soft_mask[:, 24:96, 40:48] == 1).all() and inputs.soft_mask.mean() < 0.06


def test_a_strap_beside_a_garment_is_repainted_and_specks_are_left():
    mask = torch.from_numpy(INSIDE).float()[None].clone()
    official = mask[:, None, ::8, ::8].clone()
    mask[0, 110, 81:84] = 1  # a speck
    image = torch.rand(1, 128, 96, 3)
    assert torch.equal(prepare_inpainting(image, mask).latent_mask, official)
    mask[0, 10:90, 81:84] = 1
    strap = prepare_inpainting(image, mask).latent_mask - official
    assert strap[0, 0, 1:12, 10].all() and strap.sum() == 11
