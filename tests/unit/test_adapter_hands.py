"""Hands in the label maps of drawn people, whose keypoints tell where hands begin."""

from __future__ import annotations

import numpy as np
import pytest
from fashion_rag.adapter.person.hands import find_hands
from fashion_rag.adapter.person.masks import LABELS, inpainting_mask
from fashion_rag.miniature import world
from fashion_rag.miniature.draw import draw_model
from hypothesis import given, settings
from hypothesis import strategies as st

ARMS = [LABELS["left_arm"], LABELS["right_arm"]]


@pytest.fixture(scope="module")
def people() -> list[tuple[np.ndarray, np.ndarray]]:
    """Label maps (512, 384) of forty people in tops and dresses, and their true hands."""
    found = []
    for number in range(60):
        garment, scene = world.make_garment(3, number), world.make_scene(3, number)
        category = world.category_of(number)
        if category == "lower_body":
            continue
        drawn = draw_model(garment, scene)
        arms = np.isin(drawn.labels, ARMS)
        repainted = inpainting_mask(drawn.labels, drawn.keypoints, category, "mask") > 0
        found.append((drawn.labels, arms & ~repainted))
    return found


def test_most_hands_are_found_and_little_else(people):
    """Hands at the photo's edge are passed over; of arms on the back some are taken for hands."""
    found = [(find_hands(labels), true) for labels, true in people]
    assert all((hands <= np.isin(labels, ARMS)).all()
               for (hands, _), (labels, _) in zip(found, people, strict=True))  # fmt: skip
    both = sum((hands & true).sum() for hands, true in found)
    assert both > 0.7 * sum(true.sum() for _, true in found)
    assert both > 0.7 * sum(hands.sum() for hands, _ in found)


def test_a_mirrored_person_has_the_mirrored_hands(people):
    for labels, _ in people[:10]:
        mirrored = find_hands(labels[:, ::-1])[:, ::-1]
        hands = find_hands(labels)
        assert (mirrored != hands).sum() <= 0.1 * max(hands.sum(), 1)


def test_a_larger_photo_has_the_same_hands(people):
    for labels, _ in people[:10]:
        large = find_hands(labels.repeat(2, axis=0).repeat(2, axis=1))[::2, ::2]
        hands = find_hands(labels)
        assert (large != hands).sum() <= 0.15 * max(hands.sum(), 1)


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.sampled_from([0, 4, 7, 11, *ARMS]), min_size=12, max_size=12),
    shape=st.sampled_from([(3, 4), (4, 3), (1, 12), (12, 1)]),
    scale=st.sampled_from([1, 7, 60]),
)
def test_any_map_of_labels_is_taken(numbers, shape, scale):
    labels = np.array(numbers, np.uint8).reshape(shape).repeat(scale, axis=0).repeat(scale, axis=1)
    hands = find_hands(labels)
    assert hands.shape == labels.shape and (hands <= np.isin(labels, ARMS)).all()


def test_an_arm_thinner_than_a_pixel_is_passed_over():
    labels = np.zeros((900, 900), np.uint8)
    labels[10:20, 10:20] = LABELS["face"]
    labels[np.arange(100, 900), np.arange(100, 900)] = LABELS["left_arm"]
    labels[100, 100:900] = LABELS["left_arm"]
    assert (find_hands(labels) <= np.isin(labels, ARMS)).all()


def person(arm_length: int, face: bool = True, height: int = 400) -> np.ndarray:
    """A person in a short-sleeved top whose right arm shows so many pixels, twenty wide."""
    labels = np.zeros((height, 300), np.uint8)
    if face:
        labels[20:70, 130:170] = LABELS["face"]
    labels[70:250, 110:190] = LABELS["upper_clothes"]
    labels[70:130, 85:110] = LABELS["upper_clothes"]
    labels[130 : 130 + arm_length, 88:108] = LABELS["right_arm"]
    return labels


def test_a_hand_is_the_end_of_the_arm():
    hands = find_hands(person(arm_length=160))
    rows, columns = np.nonzero(hands)
    assert rows.max() == 289 and 35 <= rows.max() - rows.min() <= 48  # about 2.1 times 20
    assert (columns.min(), columns.max()) == (88, 107)


def test_below_a_long_sleeve_all_that_is_seen_is_a_hand():
    labels = person(arm_length=160)
    labels[130:240, 88:108] = LABELS["upper_clothes"]
    np.testing.assert_array_equal(find_hands(labels), labels == LABELS["right_arm"])


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(person(arm_length=76), id="that may be an elbow"),
        pytest.param(person(arm_length=160, height=290), id="at the edge of the photo"),
        pytest.param(person(arm_length=160, face=False), id="without a face"),
        pytest.param(person(arm_length=0), id="without arms"),
        pytest.param(np.zeros((40, 30), np.uint8), id="nobody"),
        pytest.param(np.zeros((1, 1), np.uint8), id="a picture of one pixel"),
    ],
)
def test_no_hand_is_made_up(labels):
    assert not find_hands(labels).any()
