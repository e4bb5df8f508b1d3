"""The three masks of a garment, several people, and what is said about them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fashion_rag.adapter.person.garment_mask import (
    GarmentMasks,
    largest_first,
    masks_from_labels,
    masks_from_masks,
    preview,
)
from fashion_rag.adapter.person.hands import find_hands
from fashion_rag.adapter.person.masks import CATEGORIES, LABELS, MODES, inpainting_mask
from hypothesis import given, settings
from hypothesis import strategies as st

PERSON = {
    "hair": (170, 30, 214, 50),
    "face": (172, 50, 212, 120),
    "upper_clothes": (140, 120, 244, 260),
    "left_arm": (244, 120, 270, 300),
    "right_arm": (114, 120, 140, 300),
    "pants": (140, 260, 244, 450),
    "left_shoe": (200, 450, 244, 480),
    "right_shoe": (140, 450, 184, 480),
}


def drawn(*people: tuple[float, int, int], size=(512, 384)) -> np.ndarray:
    """A label map with people, each a scale and the place of their left upper corner."""
    labels = np.zeros(size, np.uint8)
    for scale, x, y in people:
        for name, box in PERSON.items():
            left, top, right, bottom = (round(scale * side) for side in box)
            labels[y + top : y + bottom, x + left : x + right] = LABELS[name]
    return labels


def standing(*people: tuple[float, int, int], size=(512, 384)) -> dict:
    """A POSE_KEYPOINT frame of people who stand so."""
    places = {
        0: (192, 80), 1: (192, 115), 2: (150, 125), 3: (127, 210), 4: (127, 290),
        5: (234, 125), 6: (257, 210), 7: (257, 290), 8: (160, 265), 11: (224, 265),
    }  # fmt: skip
    frame = {"canvas_height": size[0], "canvas_width": size[1], "people": []}
    for scale, left, top in people:
        joints = np.zeros((18, 3))
        for joint, (x, y) in places.items():
            joints[joint] = (left + scale * x, top + scale * y, 1)
        frame["people"].append({"pose_keypoints_2d": joints.flatten().tolist()})
    return frame


LABELS_OF_ONE = drawn((1, 0, 0))


def shown(photo: torch.Tensor, masks: GarmentMasks) -> torch.Tensor:
    return preview(photo, *map(torch.from_numpy, (masks.mask, masks.garment, masks.keep)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("category", ["upper_body", "lower_body", "outfit"])
def test_the_mask_is_that_of_the_labels(category, mode):
    found = masks_from_labels(LABELS_OF_ONE, category, mode, grow=7)
    prepared = LABELS_OF_ONE.copy()
    prepared[100:120, 172:212] = 0  # the neck
    prepared[find_hands(LABELS_OF_ONE)] = LABELS["bag"]
    plain = inpainting_mask(prepared, None, category, mode, grow=7) > 0
    np.testing.assert_array_equal(found.mask, plain)
    posed = masks_from_labels(LABELS_OF_ONE, category, mode, grow=7, pose=standing((1, 0, 0)))
    joints = np.reshape(standing((1, 0, 0))["people"][0]["pose_keypoints_2d"], (18, 3))
    plain = inpainting_mask(LABELS_OF_ONE, joints, category, mode, grow=7, frame=(512, 384)) > 0
    np.testing.assert_array_equal(posed.mask, plain)
    assert not (found.mask & found.keep).any()
    worn = {"upper_body": ["upper_clothes"], "lower_body": ["pants"]}
    names = worn.get(category, ["upper_clothes", "pants"])
    np.testing.assert_array_equal(
        found.garment, np.isin(LABELS_OF_ONE, [LABELS[name] for name in names])
    )
    for name in ("hair", "left_shoe"):
        assert found.keep[LABELS_OF_ONE == LABELS[name]].all(), name
    assert found.keep[50:100, 172:212].all()  # the face


def test_hands_are_kept_with_a_pose_and_without():
    pose = standing((1, 0, 0))
    pose["people"][0]["pose_keypoints_2d"][4 * 3 + 1] = 250  # the right wrist
    slender = LABELS_OF_ONE.copy()
    slender[:, 114:122][slender[:, 114:122] == LABELS["right_arm"]] = 0
    for labels, known in ((LABELS_OF_ONE, pose), (slender, None)):
        found = masks_from_labels(labels, "upper_body", "mask", pose=known)
        assert found.keep[285:300, 122:140].all() and not found.mask[285:300, 122:140].any()
        assert found.mask[150:230, 130:138].all()  # the arm


def test_the_edge_of_what_is_worn_does_not_stay_on_the_neck():
    """With a pose the neck is repainted below the shoulders, without one beside the garment."""
    for pose in (None, standing((1, 0, 0))):
        mask = masks_from_labels(LABELS_OF_ONE, "upper_body", "mask", pose=pose).mask
        assert mask[115:120, 175:209].all() and not mask[50:98, 172:212].any()


def test_nobody_and_nothing_are_said():
    found = masks_from_labels(np.zeros((50, 40), np.uint8), "dresses", "mask")
    assert not found.mask.any() and not found.keep.any()
    assert found.notes == ("nobody is there: the parser sees nothing but background",)
    shirtless = np.where(LABELS_OF_ONE == LABELS["upper_clothes"], 0, LABELS_OF_ONE)
    found = masks_from_labels(shirtless, "upper_body", "garment")
    (note,) = found.notes
    assert not found.mask.any() and note.startswith("nothing of upper_body is there (hair, pants,")


@pytest.mark.parametrize("mode", ["mask", "garment"])
def test_a_parsers_specks_are_repainted_and_gaps_are_not(mode):
    """Dots of the old cloth would stay; a hole of some size is the wall behind a bent arm."""
    labels = LABELS_OF_ONE.copy()
    labels[150:158, 180:190] = 0
    labels[160:164, 200:204] = LABELS["hair"]
    labels[200:240, 160:190] = 0
    found = masks_from_labels(labels, "upper_body", mode, grow=0)
    assert found.mask[150:158, 180:190].all() and found.mask[160:164, 200:204].all()
    assert not found.keep[160:164, 200:204].any()
    assert not found.mask[210:230, 170:180].any()


@pytest.mark.parametrize("category", ["tops", "dress", ""])
def test_an_unknown_category_is_named(category):
    for make in (
        lambda: masks_from_labels(LABELS_OF_ONE, category, "mask"),
        lambda: masks_from_masks(LABELS_OF_ONE > 0, None, category, "mask"),
    ):
        with pytest.raises(ValueError, match=f"category is '{category}'; expected one of dresses"):
            make()


def test_a_parsers_specks_beside_a_person_are_passed_over():
    labels = LABELS_OF_ONE.copy()
    labels[200:203, 60:64] = LABELS["upper_clothes"]
    found = masks_from_labels(labels, "upper_body", "mask")
    without = masks_from_labels(LABELS_OF_ONE, "upper_body", "mask")
    np.testing.assert_array_equal(found.mask, without.mask)
    np.testing.assert_array_equal(found.keep, without.keep)


def test_a_speck_in_the_mask_is_repainted_as_what_is_around_it():
    labels = LABELS_OF_ONE.copy()
    labels[200:203, 107:111] = LABELS["upper_clothes"]
    found = masks_from_labels(labels, "upper_body", "mask")
    assert found.mask[200:203, 107:111].all()


def test_much_of_the_person_is_said():
    (note,) = masks_from_labels(LABELS_OF_ONE, "outfit", "mask").notes
    assert "the mask covers 8" in note and "% of the person" in note
    assert masks_from_labels(LABELS_OF_ONE, "upper_body", "garment").notes == ()


NOTHING_KEPT = "nothing is kept, no face and no hand: connect keep"


def test_a_mask_that_touches_the_face_is_said():
    assert masks_from_labels(LABELS_OF_ONE, "upper_body", "mask").notes == ()
    high = LABELS_OF_ONE.copy()
    high[60:120, 140:172] = LABELS["upper_clothes"]  # a collar beside the chin
    assert "touches the face" in masks_from_labels(high, "upper_body", "mask").notes[-1]
    garment, nose = np.zeros((512, 384), bool), standing((1, 0, 0))
    garment[60:260, 140:244] = True
    said = masks_from_masks(garment, None, "upper_body", "mask", pose=nose).notes
    kept = np.zeros((512, 384), bool)
    assert said == ("the mask touches the face", NOTHING_KEPT)
    said = masks_from_masks(garment, kept, "upper_body", "mask", pose=nose).notes
    assert said == ("the mask touches the face",)


TWO = ((0.8, 120, 80), (0.6, 0, 150))
"""The larger one first."""


def test_of_two_people_the_larger_or_the_one_that_is_named():
    labels = drawn(*TWO)
    people = largest_first(labels)
    assert len(people) == 2 and people[0].sum() > people[1].sum()
    for person in (0, 1):
        found = masks_from_labels(labels, "upper_body", "bounding_box", person=person)
        assert (found.garment & people[person]).any()
        for mask in (found.mask, found.garment, found.keep):
            assert not (mask & people[1 - person]).any()
        assert found.notes[0] == f"2 people are there, number {person} (0 is the largest) is taken"
    found = masks_from_labels(labels, "upper_body", "mask", person=2)
    assert not found.mask.any() and "nobody numbered 2 is there (2 found)" in found.notes[0]


@pytest.mark.parametrize("person", [0, 1])
def test_the_pose_is_of_whoever_stands_there(person):
    labels = drawn(*TWO)
    alone = masks_from_labels(
        labels, "upper_body", "mask", person=person, pose=standing(TWO[1 - person])
    )
    assert any("nobody where this person stands" in note for note in alone.notes)
    both = masks_from_labels(labels, "upper_body", "mask", person=person, pose=standing(*TWO))
    own = masks_from_labels(
        labels, "upper_body", "mask", person=person, pose=standing(TWO[1 - person], TWO[person])
    )
    np.testing.assert_array_equal(both.mask, own.mask)
    assert not any("pose" in note for note in both.notes)


def test_an_empty_pose_is_said():
    found = masks_from_labels(LABELS_OF_ONE, "upper_body", "mask", pose=standing())
    assert "nobody where this person stands" in found.notes[0]
    garment = LABELS_OF_ONE == LABELS["pants"]
    found = masks_from_masks(garment, None, "lower_body", "mask", pose=standing())
    assert "nobody numbered 0" in found.notes[0]


@pytest.mark.parametrize("category", CATEGORIES)
def test_masks_made_elsewhere(category):
    garment, keep = LABELS_OF_ONE == LABELS["pants"], LABELS_OF_ONE == LABELS["left_shoe"]
    keep[260:270, 140:244] = True  # a belt bag over the trousers
    found = masks_from_masks(garment, keep, category, "mask", grow=5)
    assert not (found.mask & keep).any() and found.mask[garment & ~keep].all()
    np.testing.assert_array_equal(found.keep, keep)
    np.testing.assert_array_equal(found.garment, garment & ~keep)
    assert found.mask[455:460, :].any() is np.True_ or found.mask[300, 135]


def test_masks_of_two_sizes_and_an_empty_one():
    with pytest.raises(ValueError, match="keep has the size .5, 4., the garment .3, 4."):
        masks_from_masks(np.ones((4, 3), bool), np.ones((4, 5), bool), "dresses", "mask")
    with pytest.raises(ValueError, match="'shoes'"):
        masks_from_masks(np.ones((4, 3), bool), None, "shoes", "mask")
    found = masks_from_masks(np.zeros((4, 3), bool), None, "dresses", "mask")
    assert not found.mask.any() and "nothing of dresses is there" in found.notes[0]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_labels(data):
    height, width = data.draw(st.integers(1, 90)), data.draw(st.integers(1, 90))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    coarse = random.integers(0, 18, (height // 9 + 1, width // 9 + 1), dtype=np.uint8)
    coarse *= random.random(coarse.shape) < 0.5
    labels = coarse.repeat(9, 0).repeat(9, 1)[:height, :width]
    found = masks_from_labels(
        labels,
        data.draw(st.sampled_from(CATEGORIES)),
        data.draw(st.sampled_from(MODES)),
        data.draw(st.integers(0, 128)),
        person=data.draw(st.integers(0, 2)),
        pose=data.draw(st.sampled_from([None, standing(), standing((0.2, 5, 5))])),
    )
    assert not (found.mask & found.keep).any()
    assert found.mask.any() or any("empty" in n or "nobody" in n for n in found.notes)
    people = largest_first(labels)
    assert sum(map(np.count_nonzero, people)) <= (labels > 0).sum()
    picture = shown(torch.rand(height, width, 3), found)
    assert picture.shape == (height, width, 3) and 0 <= picture.min() <= picture.max() <= 1


def test_the_preview_shows_all_three_and_leaves_the_rest():
    photo = torch.full((512, 384, 3), 0.5)
    found = masks_from_labels(LABELS_OF_ONE, "upper_body", "mask")
    picture = shown(photo, found)
    beside = ~(found.mask | found.garment | found.keep)
    assert torch.equal(picture[torch.from_numpy(beside)], photo[torch.from_numpy(beside)])
    red, _, blue = picture[200, 150].tolist()  # the garment, inside the mask
    assert red > 0.7 > blue
    assert picture[60, 190, 0] < 0.5 < picture[60, 190, 1]  # the face


@pytest.mark.parametrize(("category", "part"), [("upper_body", "upper"), ("lower_body", "lower")])
def test_half_of_a_dress(category, part):
    """The part that is repainted is the garment, the other is kept, and a note says so."""
    dress = drawn((1, 0, 0))
    dress[(dress == LABELS["upper_clothes"]) | (dress == LABELS["pants"])] = LABELS["dress"]
    found = masks_from_labels(dress, category, "garment", 0, pose=standing((1, 0, 0)))
    np.testing.assert_array_equal(found.mask, found.garment)
    there = dress == LABELS["dress"]
    assert found.garment.any() and (found.keep & there).any()
    np.testing.assert_array_equal((found.garment | found.keep) & there, there)
    assert any(f"whose {part} part is repainted" in note for note in found.notes)


def test_a_pose_without_a_frame_refers_to_the_photo():
    """Labels of a large photo are made smaller; the pose's pixels stay the photo's."""
    pose = standing((2, 0, 0))
    small = masks_from_labels(LABELS_OF_ONE, "upper_body", "mask", pose=standing((1, 0, 0)))
    del pose["canvas_height"], pose["canvas_width"]
    found = masks_from_labels(LABELS_OF_ONE, "upper_body", "mask", pose=pose, photo=(1024, 768))
    np.testing.assert_array_equal(found.mask, small.mask)
    assert found.notes == small.notes
