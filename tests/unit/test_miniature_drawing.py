"""The drawn world: the same pixels for the same seed and number, one garment on both photos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("aggdraw")

from fashion_rag.adapter.person.masks import MODES, inpainting_mask  # noqa: E402
from fashion_rag.miniature import cuts, world  # noqa: E402
from fashion_rag.miniature.body import Figure  # noqa: E402
from fashion_rag.miniature.cuts import DRESS, LEGS, NECKLINES, PANTS, SIDES, SKIRT, UPPER  # noqa: E402
from fashion_rag.miniature.draw import FRAME, draw_garment, draw_model  # noqa: E402
from fashion_rag.miniature.fabrics import MOTIFS, PATTERNS, Fabric  # noqa: E402
from fashion_rag.miniature.raster import Canvas  # noqa: E402
from fashion_rag.miniature.shapes import box  # noqa: E402

SMALL = (96, 128)


def model_of(number: int, size=SMALL):
    return draw_model(world.make_garment(3, number), world.make_scene(3, number), size)


def test_the_same_number_gives_the_same_pixels_whatever_was_drawn_before():
    first, shop = model_of(5), draw_garment(world.make_garment(3, 5), SMALL)
    for number in (4, 600_007):
        model_of(number)
    again = model_of(5)
    assert np.array_equal(np.asarray(first.picture), np.asarray(again.picture))
    assert np.array_equal(first.labels, again.labels)
    assert np.array_equal(first.keypoints, again.keypoints)
    assert np.array_equal(
        np.asarray(shop), np.asarray(draw_garment(world.make_garment(3, 5), SMALL))
    )


def test_another_seed_or_number_gives_another_picture():
    assert world.make_garment(3, 6) != replace(world.make_garment(3, 9), number=6)
    assert world.make_garment(3, 6) != world.make_garment(4, 6)
    assert world.make_scene(3, 6) != world.make_scene(4, 6)


def test_the_colours_of_a_garment_are_those_of_both_its_photos():
    for number in (1, 4, 12, 600_000, 600_002):
        # Neither colour is near that of the in-shop photo's background.
        garment = replace(
            world.make_garment(3, number),
            base=(0.2, 0.45, 0.7),
            print_colour=(0.9, 0.6, 0.2),
            trim="none",
        )
        shop = np.asarray(draw_garment(garment), float)
        photo = draw_model(garment, world.make_scene(3, number))
        worn = np.asarray(photo.picture, float)[photo.labels == garment.shape.label]
        lain = shop[np.ptp(shop, axis=2) > 40]
        assert len(worn) > 5000 and len(lain) > 5000
        assert np.abs(worn.mean(axis=0) - lain.mean(axis=0)).max() < 16, garment


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_print_covers_a_fair_share_and_keeps_to_its_two_colours(pattern):
    x, v = (axis.ravel() for axis in np.meshgrid(np.linspace(0, 4, 200), np.linspace(0, 4, 200)))
    fabric = Fabric((0.0, 0.0, 0.0), pattern, (1.0, 1.0, 1.0), repeat=1.0)
    cover = fabric.at(x, v, 0.02)
    assert cover.shape == (x.size, 3) and 0 <= cover.min() and cover.max() <= 1
    share = cover.mean()
    assert share == 0 if pattern == "plain" else 0.15 < share < 0.65


def test_a_motif_repeats():
    u = np.linspace(0, 1, 50)
    for name, motif in MOTIFS.items():
        assert np.allclose(motif(u, 0.3 * u, 0.05), motif(u + 1, 0.3 * u + 2, 0.05)), name


@pytest.mark.parametrize("number", [600_001, 600_002, 600_003, 7])
def test_labels_and_keypoints_agree_with_the_picture(number):
    garment, photo = world.make_garment(3, number), model_of(number)
    assert photo.labels.shape == (SMALL[1], SMALL[0]) and photo.labels.dtype == np.uint8
    expected = {"dresses": {DRESS}, "upper_body": {UPPER}, "lower_body": {SKIRT, PANTS}}
    assert garment.shape.label in expected[garment.category]
    assert (photo.labels == garment.shape.label).mean() > 0.05
    assert photo.labels.max() <= 17
    x, y, seen = photo.keypoints.T
    assert photo.keypoints.shape == (18, 3) and set(seen) <= {0.0, 1.0}
    assert ((x >= 0) & (x < FRAME[0]) & (y >= 0) & (y < FRAME[1])).all()
    # Seen hips lie on the person, not on the backdrop.
    for joint in (8, 11):
        if seen[joint]:
            assert photo.labels[int(y[joint] / 4), int(x[joint] / 4)] != 0


@pytest.mark.parametrize("mode", MODES)
def test_the_inpainting_mask_covers_the_garment_and_spares_the_face(mode):
    for number in (0, 1, 2, 600_004, 600_005):
        garment = world.make_garment(3, number)
        photo = model_of(number, (192, 256))
        mask = inpainting_mask(photo.labels, photo.keypoints, garment.category, mode)
        assert mask[photo.labels == garment.shape.label].mean() > 0.99
        assert 0.1 < mask.mean() < 0.8
        hair = photo.labels == 2
        assert not mask[hair].any()


def test_every_cut_neckline_and_trim_can_be_drawn():
    # In small, on a figure that poses: each option of the tables once.
    drawn = set()
    for number in range(400):
        garment = world.make_garment(1, number)
        options = {garment.cut, garment.neckline, garment.trim, garment.sleeve, garment.pattern}
        if not options <= drawn:
            drawn |= options
            model_of(number, (48, 64))
            draw_garment(garment, (48, 64))
    assert drawn >= {*SIDES, *LEGS, *(name for name in NECKLINES), *PATTERNS}
    assert drawn >= {trim for trims in world.TRIMS.values() for trim in trims}


def test_a_garment_is_the_same_cloth_in_every_pose():
    # A point of the paper pattern keeps its rest coordinates on the figure that wears it.
    for number in (0, 3, 600_000):
        chart = Figure(world.make_scene(3, number).pose).body
        rest = np.array([(-0.3, 0.8), (0.2, 1.4), (0.4, 2.1), (0.0, 3.0)])
        canvas = Canvas(400, 800, (100, 200, 100))
        mask = canvas.mask(box(-2, -1, 2, 7))
        for point, (x, v) in zip(chart.at(rest), rest, strict=True):
            column, row = np.floor(canvas.pixels(point)).astype(int) - (mask.x, mask.y)
            pixel = np.array([row * mask.alpha.shape[1] + column])
            found = chart.locate(canvas, mask, pixel)
            assert found[0][0] == pytest.approx(x, abs=0.02)
            assert found[1][0] == pytest.approx(v, abs=0.02)


def test_a_tucked_top_ends_at_the_waist():
    cut = cuts.Cut("t-shirt", 2.3, "short", "round").tucked_in
    assert cut.trunk()[:, 1].max() < 1.8
    assert cut.half_width(1.7) < cuts.Cut("t-shirt", 2.3).half_width(1.7)
