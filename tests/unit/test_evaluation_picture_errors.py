"""Measures, distances and intervals against known answers and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from fashion_rag.evaluation.distances import distance_figures, frechet_distance, kernel_distance
from fashion_rag.evaluation.dresscode import inner_region
from fashion_rag.evaluation.picture_errors import (
    colour_error,
    fabric_patch,
    masked_garment,
    region_error,
    ssim,
)
from fashion_rag.evaluation.statistics import mean_figure, shared_figure
from scipy.linalg import sqrtm

RNG = np.random.default_rng(0)
EVERYWHERE = np.ones((128, 96), bool)


def flat(*colour: float) -> np.ndarray:
    return np.broadcast_to(np.float32(colour), (128, 96, 3)).copy()


def test_colour_error_is_ciede2000_of_mean_colours():
    # sRGB grey 0.5 is L* 53.39; white L* 100, black L* 0: CIEDE2000 of black and white is 100.
    assert colour_error(flat(0, 0, 0), flat(1, 1, 1), EVERYWHERE) == pytest.approx(100, abs=0.01)
    stripes = flat(0.2, 0.3, 0.8)
    shifted = np.roll(np.where(np.arange(96)[None, :, None] % 8 < 4, 0.9, stripes), 4, axis=1)
    assert colour_error(shifted, np.roll(shifted, 4, axis=1), EVERYWHERE) == pytest.approx(0)
    assert colour_error(flat(0.8, 0.1, 0.1), flat(0.1, 0.6, 0.2), EVERYWHERE) > 40
    assert np.isnan(colour_error(stripes, stripes, ~EVERYWHERE))


def test_errors_count_the_region_alone():
    left = np.zeros((128, 96), bool)
    left[:, :48] = True
    half = flat(0, 0, 0)
    half[:, 48:] = 1
    assert region_error(half, flat(0, 0, 0), left) == 0
    assert region_error(half, flat(0, 0, 0), ~left) == 1
    assert np.isnan(region_error(half, half, ~EVERYWHERE))


def test_ssim_is_one_for_the_same_and_falls_with_noise():
    picture = RNG.random((128, 96, 3)).astype(np.float32)
    noisy = np.clip(picture + RNG.normal(0, 0.2, picture.shape), 0, 1).astype(np.float32)
    assert ssim(picture, picture) == pytest.approx(1)
    assert 0.2 < ssim(noisy, picture) < 0.95


def test_ssim_of_flat_pictures_is_the_luminance_term():
    a, b, c1 = 0.25, 0.75, 0.01**2
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim(flat(a, a, a), flat(b, b, b)) == pytest.approx(expected, rel=1e-4)


def test_the_inner_region_keeps_off_the_border_and_inside_the_mask():
    garment, mask = np.zeros((128, 96), bool), np.zeros((128, 96))
    garment[20:60, 20:60], mask[:40] = True, 1
    inner = inner_region(garment, mask)
    assert inner[21:40, 21:59].all() and inner.sum() == 19 * 38
    sliver = np.zeros_like(garment)
    sliver[10, 10:40] = True
    assert inner_region(sliver, mask).sum() == 30


def test_clip_sees_the_garment_on_white():
    mask = np.zeros((128, 96))
    mask[30:90, 40:60] = 1
    picture = flat(0.1, 0.2, 0.3)
    square = masked_garment(picture, mask)
    assert square.shape == (60, 60, 3)
    assert (square[:, :20] == 1).all() and (square[:, 40:] == 1).all()
    assert np.allclose(square[:, 20:40], picture[0, 0])


@pytest.mark.parametrize(("category", "row"), [("dresses", 32), ("lower_body", 4)])
def test_the_fabric_patch_is_the_official_one_scaled(category, row):
    mask = np.zeros((128, 96))
    mask[20:100, 30:70] = 1
    picture = flat(0, 0, 0)
    picture[..., 0] = np.arange(128)[:, None] / 128
    patch = fabric_patch(picture, mask, category)
    assert patch.shape == (16, 16, 3)
    assert patch[0, 0, 0] == pytest.approx((20 + row) / 128)
    mask[:] = 0
    mask[20:26, 30:70] = 1
    small = fabric_patch(picture, mask, category)
    assert small.shape == (16, 16, 3) and (small == 1).all(axis=(1, 2)).any()


@pytest.mark.parametrize(("n", "m", "d"), [(300, 250, 32), (40, 50, 64)])
def test_distances_are_those_of_clean_fid(n, m, d):
    fid = pytest.importorskip("cleanfid.fid")
    x = RNG.normal(size=(n, d)) @ RNG.normal(size=(d, d)) / d
    y = RNG.normal(size=(m, d)) + 0.2
    # Spelled out: clean-fid 0.1.35 passes scipy's sqrtm an argument that scipy 1.18 has not.
    a, b = np.cov(x.T), np.cov(y.T)
    apart = x.mean(0) - y.mean(0)
    expected = apart @ apart + np.trace(a + b - 2 * sqrtm(a @ b)).real
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-4)
    x, y = x[:40], y[:40]
    expected = fid.kernel_distance(x, y, num_subsets=1, max_subset_size=1000)
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_distance_intervals_hold_the_value_and_shrink():
    x, y = RNG.normal(size=(400, 8)), RNG.normal(size=(400, 8)) + 0.5
    for small, large in zip(distance_figures(x[:50], y[:50]), distance_figures(x, y), strict=True):
        assert small.low < small.value < small.high and large.count == 400
        assert large.high - large.low < 0.6 * (small.high - small.low)


def test_mean_intervals():
    values = RNG.normal(3, 1, 400)
    figure = mean_figure(np.append(values, np.nan))
    assert figure.count == 400 and figure.value == pytest.approx(values.mean())
    # 1.96 standard errors to either side.
    assert figure.high - figure.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.12)
    assert mean_figure(np.full(3, np.nan)) is None
    assert mean_figure(np.ones(5)).low == mean_figure(np.ones(5)).high == 1


def test_ratios_draw_samples_together():
    base = RNG.uniform(1, 20, 300)
    figure = shared_figure(lambda a, b: 1 - a / b, 0.4 * base, base)
    assert [figure.value, figure.low, figure.high] == pytest.approx([0.6] * 3)
    assert shared_figure(lambda a, b: a / b, base, 0 * base) is None
