"""Garment fidelity: colours against scikit-image, and pictures whose order anybody would give."""

from __future__ import annotations

import numpy as np
import pytest
from fashion_rag.adapter.garment.fidelity import garment_fidelity, garment_of_photo
from fashion_rag.pictures.colour_difference import ciede2000, lab_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from skimage.color import deltaE_ciede2000, rgb2lab

MASK = np.zeros((160, 120), bool)
MASK[30:130, 30:90] = True


def encode(photos) -> np.ndarray:
    """Mean colours as unit vectors: not what is tested here."""
    means = np.array([np.asarray(photo).mean(axis=(0, 1)) + 1 for photo in photos])
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def cloth(colour: tuple, stripe: tuple | None = None, period: int = 12, across: bool = False):
    """A garment (60, 100) of a colour, with stripes."""
    picture = Image.new("RGB", (60, 100), colour)
    draw = ImageDraw.Draw(picture)
    for place in range(0, 100, period) if stripe else ():
        box = (0, place, 60, place + period // 2 - 1)
        draw.rectangle(box if across else (box[1], 0, box[3], 100), fill=stripe)
    return picture


def worn(garment: Image.Image) -> Image.Image:
    picture = Image.new("RGB", (120, 160), (90, 140, 90))
    picture.paste(garment, (30, 30))
    return picture


def product(garment: Image.Image) -> Image.Image:
    photo = Image.new("RGB", (300, 400), "white")
    photo.paste(garment.resize((180, 300), Image.Resampling.NEAREST), (60, 50))
    return photo


NAVY, RED, CREAM = (30, 40, 90), (190, 30, 40), (240, 230, 210)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_colours_are_those_of_scikit_image(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 50, 3))
    second[:5], first[5:10] = first[:5], first[5:10, :1]  # equal ones, greys
    np.testing.assert_allclose(lab_of(first), rgb2lab(first), atol=1e-3)
    one, two = rgb2lab(first), rgb2lab(second)
    np.testing.assert_allclose(ciede2000(one, two), deltaE_ciede2000(one, two), atol=1e-9)


def test_the_same_garment_is_near_and_its_parts_say_what_differs():
    striped = cloth(NAVY, CREAM)
    photos = {
        "same": striped,
        "other colour": cloth(RED, CREAM),
        "plain": cloth(tuple((a + b) // 2 for a, b in zip(NAVY, CREAM, strict=True))),
        "across": cloth(NAVY, CREAM, across=True),
    }
    scores = garment_fidelity(worn(striped), MASK, [product(g) for g in photos.values()], encode)
    found = dict(zip(photos, scores, strict=True))
    assert found["same"].score > 0.9 and found["same"].difference < 3
    assert max(found.values(), key=lambda one: one.score) is found["same"]
    assert found["other colour"].colour < 0.75 * found["same"].colour
    for name in ("plain", "across"):
        assert found[name].texture < 0.8 * found["same"].texture
    for one in scores:
        parts = (one.score, one.cosine, one.colour, one.texture)
        assert all(0 <= part <= 1 for part in parts)


def test_the_ground_of_a_photo_does_not_count():
    garment = cloth(RED)
    grey = Image.new("RGB", (300, 400), (200, 200, 204))
    grey.paste(product(garment).crop((60, 50, 240, 350)), (60, 50))
    cut = product(garment).convert("RGBA")
    cut.putalpha(Image.fromarray(garment_of_photo(product(garment))).convert("L"))
    on_white, on_grey, cut_out = garment_fidelity(
        worn(garment), MASK, [product(garment), grey, cut], encode
    )
    assert on_white.colour == pytest.approx(on_grey.colour, abs=0.02)
    assert on_white.score == pytest.approx(cut_out.score, abs=0.02)


def test_of_a_white_shirt_on_white_all_counts():
    """Its rim alone stands out."""
    photo = Image.new("RGB", (300, 400), (240, 240, 240))
    assert garment_of_photo(photo).all()
    ImageDraw.Draw(photo).rectangle((60, 50, 240, 350), fill=(246, 246, 246), outline="grey")
    ImageDraw.Draw(photo).line((100, 350, 140, 350), fill=(240, 240, 240))  # where the ground leaks
    assert garment_of_photo(photo).all()


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"60, 100.*\(120, 160\)"):
        garment_fidelity(worn(cloth(RED)), np.ones((100, 60)), [cloth(RED)], encode)
    with pytest.raises(ValueError, match="empty"):
        garment_fidelity(worn(cloth(RED)), np.zeros((160, 120)), [cloth(RED)], encode)
