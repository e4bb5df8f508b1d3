"""Inpainting masks: the official ones bit for bit, and the right rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fashion_rag.adapter.person.masks import LABELS, MODES, inpainting_mask, read_labels
from fashion_rag.adapter.person.pose import keypoints_from_dresscode
from fashion_rag.commands.main import main
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

GOLDEN = np.load(Path(__file__).parent.parent / "data" / "mask_pose_upper.npz")
MAP = GOLDEN["label_map"]
KEYPOINTS = keypoints_from_dresscode(GOLDEN["keypoints"])
CATEGORIES = ("dresses", "upper_body", "lower_body")


def drawn(**boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A label map (512, 384) of boxes: name=(left, top, right, bottom)."""
    labels = np.zeros((512, 384), np.uint8)
    for name, (left, top, right, bottom) in boxes.items():
        labels[top:bottom, left:right] = LABELS[name]
    return labels


def standing(**changes: tuple[float, float] | None) -> np.ndarray:
    """Keypoints of a person who stands upright; j4=None: without joint 4 (OpenPose)."""
    points = np.zeros((18, 3))
    places = {2: (150, 130), 3: (120, 210), 4: (110, 290), 5: (230, 130), 6: (260, 210)}
    places |= {7: (270, 290)} | {int(name[1:]): place for name, place in changes.items()}
    for joint, place in places.items():
        points[joint] = (0, 0, 0) if place is None else (*place, 1)
    return points


@pytest.mark.parametrize("mode", ["bounding_box", "mask"])
@pytest.mark.parametrize("paper", [True, False])
def test_golden(mode, paper):
    found = inpainting_mask(MAP, KEYPOINTS, "upper_body", mode, paper=paper)
    np.testing.assert_array_equal(found, GOLDEN[mode])


def test_a_skirt_is_covered_where_the_official_mask_leaves_it():
    labels = drawn(skirt=(130, 250, 250, 400), left_leg=(150, 400, 190, 480))
    skirt = labels == LABELS["skirt"]
    assert inpainting_mask(labels, None, "lower_body", "mask")[skirt].all()
    official = inpainting_mask(labels, standing(), "lower_body", "mask", paper=True)
    assert official[skirt].mean() < 0.15


def test_a_dress_replaces_separates():
    labels = drawn(upper_clothes=(140, 130, 240, 260), pants=(140, 260, 240, 450))
    assert inpainting_mask(labels, standing(), "dresses", "mask")[labels > 0].all()


def test_missing_wrists_never_draw_to_the_corner():
    labels = drawn(upper_clothes=(140, 130, 240, 260))
    keypoints = standing(j4=None, j7=None)
    assert not inpainting_mask(labels, keypoints, "upper_body", "mask")[:60, :60].any()
    official = inpainting_mask(labels, keypoints, "upper_body", "mask", paper=True)
    assert official[:20, :20].any()


def test_hands_face_and_hair_stay():
    labels = drawn(
        upper_clothes=(140, 130, 240, 260),
        face=(170, 50, 210, 100),
        hair=(160, 30, 220, 50),
        left_arm=(300, 280, 330, 320),
        pants=(140, 260, 240, 450),
    )
    for mode in MODES:
        mask = inpainting_mask(labels, standing(), "upper_body", mode)
        hands = () if mode == "garment" else ("left_arm",)
        for name in ("face", "hair", "pants", *hands):
            assert not mask[labels == LABELS[name]].any(), (mode, name)


def test_the_neck_is_repainted():
    labels = drawn(upper_clothes=(140, 130, 240, 260), face=(170, 50, 210, 132))
    mask = inpainting_mask(labels, standing(), "upper_body", "mask")
    assert mask[115:130, 180:200].all() and not mask[50:99, 170:210].any()


def test_lengths_follow_the_picture():
    labels = drawn(upper_clothes=(140, 130, 240, 260), face=(170, 50, 210, 100))
    small = inpainting_mask(labels, standing(), "upper_body", "mask")
    large = inpainting_mask(labels.repeat(2, 0).repeat(2, 1), standing(), "upper_body", "mask")
    assert abs(large.mean() / small.mean() - 1) < 0.02


@settings(max_examples=60, deadline=None)
@given(data=st.data(), category=st.sampled_from(CATEGORIES), paper=st.booleans())
def test_any_person_at_any_size(data, category, paper):
    height, width = data.draw(st.integers(16, 200)), data.draw(st.integers(16, 200))
    seed = data.draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    labels = random.integers(0, 18, (height // 4 + 1, width // 4 + 1), dtype=np.uint8)
    labels = labels.repeat(4, 0).repeat(4, 1)[:height, :width]
    keypoints = np.column_stack([random.uniform(0, 600, (18, 2)), random.random(18) > 0.3])
    try:
        mask = inpainting_mask(labels, keypoints, category, "mask", paper=paper)
    except ValueError as error:
        assert "nothing of the category" in str(error)
        return
    box = inpainting_mask(labels, keypoints, category, paper=paper)
    assert mask.shape == labels.shape and set(np.unique(mask)) <= {0, 1}
    assert (mask <= box).all()
    kept = [LABELS[n] for n in ("hair", "hat", "left_shoe", "right_shoe", "bag", "scarf")]
    assert not box[np.isin(labels, kept)].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((MAP, KEYPOINTS, "shoes"), "'shoes'"),
        ((MAP, KEYPOINTS, "dresses", "circle"), "'circle'"),
        ((MAP / 2, KEYPOINTS, "dresses"), "float64"),
        ((MAP, KEYPOINTS[:17], "dresses"), r"\(17, 3\)"),
        ((np.zeros_like(MAP), None, "lower_body"), "nothing of the category"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        inpainting_mask(*arguments)


PARTS = {
    "hair": (165, 40, 220, 90),
    "face": (170, 70, 215, 150),
    "top": (130, 170, 285, 430),
    "arm": (95, 200, 130, 460),
    "pants": (150, 430, 265, 480),
    "leg": (160, 480, 255, 500),
    "shoe": (160, 500, 250, 511),
}
NUMBERINGS = {
    "LIP": {"hair": 2, "face": 13, "top": 5, "arm": 15, "pants": 9, "leg": 17, "shoe": 19},
    "LIP without shoes": {"hair": 2, "face": 13, "top": 5, "arm": 15, "pants": 9},
    "LIP coat": {"hair": 2, "face": 13, "top": 7, "arm": 15, "pants": 9},
    "FASHN": {"hair": 2, "face": 1, "top": 3, "arm": 12, "pants": 6, "leg": 14, "shoe": 15},
    "Pascal": {"hair": 1, "face": 1, "top": 2, "arm": 4, "pants": 5, "leg": 6, "shoe": 6},
    "void": {"hair": 2, "face": 11, "top": 4, "arm": 15, "pants": 6, "leg": 13, "shoe": 255},
}
ATR = {"hair": 2, "face": 11, "top": 4, "arm": 15, "pants": 6, "leg": 13, "shoe": 9}


def person_of(numbers: dict[str, int]) -> np.ndarray:
    labels = np.zeros((512, 384), np.uint8)
    for part, (left, top, right, bottom) in PARTS.items():
        if part in numbers:
            labels[top:bottom, left:right] = numbers[part]
    return labels


@pytest.mark.parametrize("name", NUMBERINGS)
def test_other_numberings_are_refused(tmp_path, name):
    Image.fromarray(person_of(NUMBERINGS[name])).save(tmp_path / "labels.png")
    with pytest.raises(ValueError, match=r"labels.png is of another numbering than ATR's"):
        read_labels(tmp_path / "labels.png")


def test_label_maps_of_any_storage(tmp_path):
    labels = person_of(ATR)
    grey, palette = Image.fromarray(labels), Image.fromarray(labels).convert("P")
    palette.putpalette([value for n in range(18) for value in (200 - n, 5 * n, 9 * n)])
    for number, picture in enumerate((grey, palette, grey.convert("RGB"), grey.convert("I;16"))):
        picture.save(tmp_path / f"{number}.png")
        np.testing.assert_array_equal(read_labels(tmp_path / f"{number}.png"), labels)
    palette.convert("RGB").save(tmp_path / "drawn.png")
    with pytest.raises(ValueError, match="drawn.png is a picture of colours"):
        read_labels(tmp_path / "drawn.png")


@pytest.mark.parametrize("keypoints", [None, standing()])
@pytest.mark.parametrize("category", CATEGORIES)
def test_arms_and_legs_alone_are_no_garment(category, keypoints):
    for labels in (
        np.zeros((512, 384), np.uint8),
        drawn(left_leg=(1, 1, 9, 9), face=(9, 9, 20, 20)),
    ):
        with pytest.raises(ValueError, match="nothing of the category"):
            inpainting_mask(labels, keypoints, category)
    bare = drawn(left_leg=(150, 400, 190, 480), left_arm=(230, 150, 260, 300))
    assert inpainting_mask(bare, standing(), category, strict=False).any()


@pytest.mark.parametrize("hips", [True, False])
def test_half_of_a_dress_for_a_top_or_a_bottom(caplog, hips):
    labels = drawn(dress=(140, 130, 240, 450), face=(170, 50, 210, 100))
    keypoints = standing(j8=(160, 300), j11=(220, 300)) if hips else standing()
    top = inpainting_mask(labels, keypoints, "upper_body", "mask")
    assert top[130:280, 140:240].all() and not top[350:, 140:240].any()
    bottom = inpainting_mask(labels, keypoints, "lower_body", "mask")
    assert bottom[300:450, 140:240].all() and not bottom[:220].any()
    assert caplog.text.count("The person wears a dress") == 2
    for category in ("upper_body", "lower_body"):
        box = inpainting_mask(labels, keypoints, category)
        assert (box >= (top if category == "upper_body" else bottom)).all()


@pytest.mark.parametrize(("category", "mode"), [("outfit", "mask"), ("dresses", "garment")])
def test_what_the_official_code_does_not_know(category, mode):
    with pytest.raises(ValueError, match="official code makes no mask"):
        inpainting_mask(MAP, KEYPOINTS, category, mode, paper=True)


def test_the_garment_alone_is_grown_and_nothing_else():
    labels = drawn(
        upper_clothes=(140, 130, 240, 260),
        face=(170, 50, 210, 130),
        left_arm=(240, 130, 270, 320),
        pants=(140, 260, 240, 450),
    )
    mask = inpainting_mask(labels, standing(), "upper_body", "garment", grow=6) > 0
    assert mask[130:260, 134:246].all() and mask.sum() == 112 * 142 - 40 * 6 - 6 * 100
    assert not mask[labels == LABELS["face"]].any() and not mask[labels == LABELS["pants"]].any()
    same = inpainting_mask(labels, standing(), "upper_body", "garment", grow=0) > 0
    np.testing.assert_array_equal(same, labels == LABELS["upper_clothes"])


@pytest.mark.parametrize("mode", MODES)
def test_an_outfit_is_all_that_is_worn(mode):
    labels = drawn(upper_clothes=(140, 130, 240, 260), skirt=(130, 260, 250, 400))
    mask = inpainting_mask(labels, standing(), "outfit", mode)
    assert mask[labels > 0].all()
    np.testing.assert_array_equal(mask, inpainting_mask(labels, standing(), "dresses", mode))


@pytest.mark.parametrize("mode", MODES)
def test_more_growth_never_takes_away(mode):
    masks = [inpainting_mask(MAP, KEYPOINTS, "upper_body", mode, grow=g) for g in (0, 10, 30)]
    assert (masks[0] <= masks[1]).all() and (masks[1] <= masks[2]).all()
    assert masks[0].sum() < masks[2].sum()


def test_command(tmp_path, capsys):
    labels, keypoints, out = (tmp_path / n for n in ("labels.png", "pose.json", "mask.png"))
    Image.fromarray(MAP).save(labels)
    keypoints.write_text(json.dumps({"keypoints": GOLDEN["keypoints"].tolist()}))
    command = ["mask", "--labels", str(labels), "--keypoints", str(keypoints)]
    command += ["--category", "upper_body", "--out", str(out)]
    assert main([*command, "--paper"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out)), 255 * GOLDEN["bounding_box"])
    assert "%" in capsys.readouterr().out
    assert main([*command, "--category", "hats"]) == 1
    assert "'hats'" in capsys.readouterr().err
