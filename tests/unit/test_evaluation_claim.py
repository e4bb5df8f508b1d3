"""The claim's targets on made-up measurements: what passes, what misses, and what is void."""

from __future__ import annotations

import numpy as np
import pytest
from fashion_rag.evaluation.columns import CLAIM, SEVERAL
from fashion_rag.evaluation.dresscode import Sample
from fashion_rag.evaluation.miniature.claim import judge
from fashion_rag.evaluation.miniature.patterns import (
    WINDOW,
    PatternClassifier,
    garment_view,
    load_classifier,
    save_classifier,
)
from fashion_rag.evaluation.results import Measured
from fashion_rag.training.dresscode import Pair

COUNT = 240


def measured(**changes: dict[str, float]) -> tuple[Measured, np.ndarray]:
    """A run that meets every target, but for `changes`: by column, the means of measures."""
    rng = np.random.default_rng(0)
    own = (rng.random(COUNT) < 0.4).astype(float)
    errors = {"k0": 20.0, "oracle": 6.0, "oracle_parsed": 6.1, "vae": 1.0, "k1_without_own": 18.0}
    patterns = {
        "k0": 0.2,
        "oracle": 0.93,
        "oracle_parsed": 0.93,
        "vae": 0.98,
        "k1_without_own": 0.2,
    }
    values, features = {}, {"": rng.normal(size=(COUNT, 8))}
    for column in (*CLAIM, *SEVERAL):
        error = np.full(COUNT, errors.get(column.key, 0))
        right = patterns.get(column.key, 0)
        if column.key in ("k1", "k2", "k3"):
            error, right = np.where(own > 0, 6.0, 18.0), np.where(own > 0, 0.93, 0.2)
        if column.captioned:
            better = 3 * column.garments
            error, right = error + 21.0 - better, 0.4 + better / 20
        error = error * rng.uniform(0.9, 1.1, COUNT)
        values[column.key] = {
            "colour_error": error,
            "mask_error": error / 100,
            "garment_error": error / 100,
            "rest_error": error / 100,
            "pattern": (rng.random(COUNT) < right).astype(float),
            "retrieved_pattern": (rng.random(COUNT) < 0.93).astype(float),
            "retrieved_colour_error": 6.2 * rng.uniform(0.9, 1.1, COUNT),
            "outside_changed": np.zeros(COUNT),
        }
        shift = 0.5 if column.key == "k0" else 0.2
        features[column.key] = rng.normal(size=(COUNT, 8)) + shift
    for column, means in changes.items():
        for name, mean in means.items():
            values[column][name] = np.full(COUNT, mean) + rng.uniform(-0.01, 0.01, COUNT)
    samples = [Sample(Pair("dresses", str(n), str(n), ("x",) * 3), "f", None) for n in range(COUNT)]
    return Measured(samples, values, {"clip": features}), own


def missed(**changes) -> dict[str, str]:
    return {t.name: t.reason for t in judge(*measured(**changes), []) if not t.passed}


def test_a_run_that_meets_them_all():
    targets = judge(*measured(), [])
    assert [target.name for target in targets if not target.passed] == []
    gain = next(t for t in targets if t.name == "oracle against k = 0: colour error")
    assert gain.reached.value == pytest.approx(0.7, abs=0.01)
    assert gain.reached.low < gain.reached.value < gain.reached.high
    assert {target.reached.count for target in targets} == {COUNT}


@pytest.mark.parametrize(
    ("changes", "name", "reason"),
    [
        (
            {"oracle": {"colour_error": 9.0}},
            "oracle against k = 0: colour error",
            "95 % is the most",
        ),
        (
            {"oracle": {"mask_error": 0.16}},
            "oracle against k = 0: error inside",
            "rest of the mask",
        ),
        ({"oracle": {"pattern": 0.8}}, "oracle: pattern", "of the VAE's round trips"),
        ({"oracle_parsed": {"colour_error": 6.5}}, "oracle, masks by the parser: colour", "true"),
        ({"oracle_parsed": {"pattern": 0.8}}, "oracle, masks by the parser: pattern", "0.8 on"),
        ({"k1": {"colour_error": 19.0}}, "k = 1 against k = 0: colour error", "wrong garment"),
        ({"k1": {"retrieved_pattern": 0.7}}, "k = 1: pattern of the retrieved", "classifier"),
        ({"k1": {"retrieved_colour_error": 7}}, "k = 1: colour error against the ret", "fit"),
        (
            {"k3_captioned": {"colour_error": 16.0}},
            "caption and 3 garments against caption and 1: colour",
            "and 16: what more",
        ),
        (
            {"k3_captioned": {"pattern": 0.57}},
            "caption and 3 garments against caption and 1: pattern",
            "hardly used",
        ),
        (
            {"k3_captioned_without_own": {"colour_error": 19.0}},
            "caption and 3 garments, own removed",
            "and 19",
        ),
        ({"k2": {"outside_changed": 1}}, "pixels outside the mask", "bug"),
    ],
)
def test_what_falls_short_is_named_with_its_reason(changes, name, reason):
    found = missed(**changes)
    assert len(found) == 1, found
    ((which, why),) = found.items()
    assert which.startswith(name) and reason in why


def test_garments_after_a_caption_are_judged_where_they_were_measured():
    found, own = measured()
    everything = {target.name for target in judge(found, own, [])}
    for column in SEVERAL:
        del found.values[column.key]
    left_out = everything - {target.name for target in judge(found, own, [])}
    assert len(left_out) == 3 and all(name.startswith("caption and 3") for name in left_out)


def test_the_error_in_the_mask_is_told_apart_by_plain_and_printed():
    found, own = measured(oracle={"mask_error": 0.16})
    plain = np.arange(COUNT) < 60
    patterns = ["plain" if one else "dots" for one in plain]
    for column, of_plain in (("k0", 0.2), ("oracle", 0.1)):
        found.values[column]["mask_error"] = np.where(plain, of_plain, 0.2)
    reason = next(
        t.reason for t in judge(found, own, patterns) if t.name.endswith("error inside the mask")
    )
    assert "50 % lower for plain garments and 0 % for printed ones" in reason


def test_a_blind_classifier_voids_the_pattern_rows():
    found = missed(vae={"pattern": 0.9})
    assert found["oracle: pattern"] == "void: see the classifier"
    assert found["k = 1: pattern of the retrieved garment"] == "void: see the classifier"
    assert "pattern classifier on VAE round trips" in found


def test_a_share_of_no_gain_is_not_met():
    found = missed(oracle={"colour_error": 20.0})
    assert found["k = 1 against k = 0: colour error"] == "the oracle gains nothing"


def test_the_classifiers_window_is_about_the_masks_middle():
    mask = np.zeros((128, 96))
    mask[30:50, 10:40] = 1
    picture = np.zeros((128, 96, 3), np.float32)
    picture[40, 25] = 1
    view = garment_view(picture, mask)
    assert view.shape == (3, WINDOW, WINDOW)
    assert view[:, 32, 32].tolist() == [1, 1, 1]
    assert (view[0] == 0.5).sum() == WINDOW**2 - 20 * 30
    assert garment_view(picture, mask, margin=8).shape == (3, WINDOW + 16, WINDOW + 16)


def test_a_larger_picture_is_seen_at_the_classifiers_size():
    picture = np.random.default_rng(1).random((128, 96, 3)).astype(np.float32)
    mask = np.zeros((128, 96), np.float32)
    mask[30:50, 10:40] = 1
    twice = [np.repeat(np.repeat(pixels, 2, axis=0), 2, axis=1) for pixels in (picture, mask)]
    near = (garment_view(*twice) - garment_view(picture, mask)).abs()
    # The antialiasing filter reaches into the neighbours.
    assert near.shape == (3, WINDOW, WINDOW) and near.mean() < 0.05
    assert (garment_view(*twice) == 0.5).sum() == (garment_view(picture, mask) == 0.5).sum()


def test_a_classifier_is_kept_in_half_precision(tmp_path):
    network = PatternClassifier().eval()
    save_classifier(network, tmp_path / "c.safetensors", {"command": "x"})
    loaded = load_classifier(tmp_path / "c.safetensors")
    view = garment_view(np.random.default_rng(0).random((128, 96, 3)), np.ones((128, 96)))[None]
    assert (loaded(view) - network(view)).abs().max() < 0.02
    assert (tmp_path / "c.safetensors").stat().st_size < 500_000
    (tmp_path / "other.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="other.safetensors holds no pattern classifier"):
        load_classifier(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="pattern-classifier"):
        load_classifier(tmp_path / "none.safetensors")
