"""Keypoints of every source, and the pose map against the official one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.adapter.person.pose import (
    keypoints_from_dresscode,
    photo_keypoints,
    pose_map,
    pose_of_frame,
    present,
    read_pose,
)
from hypothesis import given, settings
from hypothesis import strategies as st

GOLDEN = np.load(Path(__file__).parent.parent / "data" / "mask_pose_upper.npz")
FRAME = (512, 384)


def person(x: float = 100, y: float = 100, size: float = 50, confidence: float = 1.0) -> dict:
    joints = [[x + size * (i % 3) / 2, y + size * (i // 3) / 5, confidence] for i in range(18)]
    return {"pose_keypoints_2d": np.array(joints).flatten().tolist()}


def frame(*people: dict, width: int = 384, height: int = 512) -> dict:
    return {"people": list(people), "canvas_width": width, "canvas_height": height}


def one_of(content: dict, number: int = 0) -> tuple | None:
    """The keypoints (18, 3) of one person of a frame, and the frame's size; None without them."""
    pose = pose_of_frame(content)
    return (pose.people[number], pose.frame) if number < len(pose.people) else None


@pytest.mark.parametrize("paper", [True, False])
def test_golden(record_figure, paper):
    keypoints = keypoints_from_dresscode(GOLDEN["keypoints"])
    found = pose_map(keypoints, FRAME, FRAME, paper)
    error = np.abs(found.numpy() - GOLDEN["pose_latent"]).max()
    record_figure("pose map, official, max abs", float(error), 1e-6)
    assert not found[4].any() and not found[10].any()  # missing joints


@pytest.mark.parametrize("size", [(512, 384), (256, 192), (640, 640)])
def test_against_a_plain_drawing(size):
    """Heat drawn at the picture's size and resized by torch."""
    height, width = size
    keypoints = keypoints_from_dresscode(GOLDEN["keypoints"])
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    expected = torch.zeros(18, height, width, dtype=torch.float64)
    for channel in np.flatnonzero(present(keypoints)):
        x, y = keypoints[channel, 0] * width / 384, keypoints[channel, 1] * height / 512
        distance = (columns - x) ** 2 + (rows - y) ** 2
        heat = torch.exp(-distance / (9 * height / 512) ** 2)
        expected[channel] = heat / (heat.max() + 1.19e-7)
    small = torch.nn.functional.interpolate(
        expected[None], size=(height // 8, width // 8), mode="bilinear"
    )[0]
    assert (pose_map(keypoints, FRAME, size) - small).abs().max() < 1e-5


def test_outside_the_picture_only_the_official_map_is_raised():
    keypoints = np.zeros((18, 3))
    keypoints[0] = (-12.0, 200.0, 1.0)
    faint = pose_map(keypoints, FRAME, FRAME).max()
    assert 0 < faint < 0.1 < 4 * faint < pose_map(keypoints, FRAME, FRAME, paper=True).max()


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(
        st.tuples(st.floats(-600, 900), st.floats(-600, 900), st.floats(0, 1)),
        min_size=18,
        max_size=18,
    ),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_a_pose_map_is_always_heat(values, height, width):
    keypoints = np.array(values)
    heat = pose_map(keypoints, FRAME, (8 * height, 8 * width))
    assert heat.shape == (18, height, width) and heat.dtype == torch.float32
    assert heat.isfinite().all() and 0 <= heat.min() and heat.max() <= 1
    assert not heat[~torch.from_numpy(present(keypoints))].any()


def test_pixels_and_shares_of_the_canvas_are_told_apart():
    pixels, size = one_of(frame(person()))
    shares = person(x=100 / 384, y=100 / 512, size=50)
    flat = np.array(shares["pose_keypoints_2d"]).reshape(18, 3)
    flat[:, 0] = 100 / 384 + (pixels[:, 0] - 100) / 384
    flat[:, 1] = 100 / 512 + (pixels[:, 1] - 100) / 512
    shares["pose_keypoints_2d"] = flat.flatten().tolist()
    found, same = one_of(frame(shares))
    assert size == same == FRAME
    np.testing.assert_allclose(found, pixels)


def test_the_largest_person_comes_first():
    small, large = person(x=10, size=40), person(x=200, size=90)
    both = frame(small, large)
    for number, x in ((0, 200), (1, 10)):
        keypoints, _ = one_of(both, number)
        assert keypoints[:, 0].min() == x
    assert one_of(both, 2) is None


def test_nobody_and_weak_joints():
    assert one_of(frame()) is None
    assert one_of(frame(person(confidence=0.29))) is None
    keypoints, _ = one_of(frame(person(confidence=0.3)))
    assert present(keypoints).all()


def test_none_of_dwpose_counts_as_missing():
    body = person()
    body["pose_keypoints_2d"][:3] = [None, None, None]
    keypoints, _ = one_of(frame(body))
    assert not present(keypoints)[0] and present(keypoints)[1:].all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (frame({"pose_keypoints_2d": [1.0] * 51}), "51 body values"),
        ({"people": [person(x=1000)], "canvas_width": 384, "canvas_height": 512}, "another frame"),
        ({"keypoints": [[2 * x, 900] for x in range(18)]}, "another frame than 384x512"),
        ([], "18 rows"),
        ({"people": "all"}, "a list"),
        ({"animals": []}, "neither `people`"),
        ([[1, 2]] * 17, "18 rows"),
        ({"keypoints": "many"}, "18 rows"),
        ({"keypoints": [[10**400, 2]] * 18}, "18 rows"),
    ],
)
def test_what_is_no_pose_is_named(tmp_path, content, message):
    path = tmp_path / "pose.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        read_pose(path)
    assert str(path) in str(error.value)


def test_pose_files(tmp_path):
    path = tmp_path / "pose.json"
    path.write_text(json.dumps([frame(person())]))
    keypoints, size = read_pose(path)
    assert size == FRAME and present(keypoints).all()
    path.write_text(json.dumps({"keypoints": GOLDEN["keypoints"].tolist()}))
    assert present(read_pose(path)[0]).sum() == 16


BODY = np.array(person()["pose_keypoints_2d"]).reshape(18, 3)


def flat(joints: np.ndarray) -> dict:
    return {"pose_keypoints_2d": joints.flatten().tolist()}


def body_25() -> np.ndarray:
    joints = np.full((25, 3), 7.0)
    joints[[*range(8), *range(9, 19)]] = BODY
    return joints


@pytest.mark.parametrize(
    "empty",
    [
        [None, None, 1], [None, None, None], [50, 50, None], [0, 0, 1], [-1, -1, 1], [-3, -9, 1],
        [-1, 200, 1], [50, 50, 0], [50, 50, -1], [float("nan"), 9, 1], [0, 0, 0],
    ],
)  # fmt: skip
def test_what_makes_a_joint_missing(empty):
    content = flat(BODY)
    content["pose_keypoints_2d"][12:15] = empty
    keypoints, _ = one_of(frame(content))
    assert np.flatnonzero(~present(keypoints)).tolist() == [4]
    assert not pose_map(keypoints, FRAME, FRAME)[4].any()


def test_a_joint_a_little_outside_the_picture_counts():
    joints = BODY.copy()
    joints[4, 0] = -12
    assert present(one_of(frame(flat(joints)))[0]).all()


@pytest.mark.parametrize(
    "other", [None, {}, {"pose_keypoints_2d": None}, {"pose_keypoints_2d": []}, flat(BODY[:17])]
)
def test_a_person_who_is_not_whole_does_not_cost_the_others(other, caplog):
    for people in ([other, person()], [person(), other]):
        pose = pose_of_frame(frame(*people))
        assert len(pose.people) == 1
        np.testing.assert_array_equal(pose.people[0], BODY)
    assert ("passed over" in caplog.text) == bool(other and other.get("pose_keypoints_2d"))


def test_nobody_is_no_error_but_animals_are():
    for content in (frame() | {"people": None}, frame(None), None, {}):
        assert one_of(content) is None
    for animal in (
        frame(flat(np.ones((17, 3)))),
        {"version": "ap10k", "animals": [[[1, 2, 1]] * 17], "canvas_width": 9, "canvas_height": 9},
    ):
        with pytest.raises(ValueError, match="animal pose"):
            one_of(animal)


def test_body_25_is_read():
    keypoints, size = one_of(frame(flat(body_25())))
    assert size == FRAME
    np.testing.assert_array_equal(keypoints, BODY)


@pytest.mark.parametrize(
    ("content", "photo"),
    [
        ({"version": 1.3, "people": [flat(body_25())]}, FRAME),  # no canvas: the photo's frame
        (frame(person()) | {"canvas_width": "384", "canvas_height": "512"}, FRAME),
        ([[frame(person())]], (1024, 768)),
        ({"width": 384, "height": 512, "keypoints": BODY[:, :2].tolist()}, FRAME),
        ({"width": 192, "height": 256, "keypoints": (BODY[:, :2] / 2).tolist()}, (1024, 768)),
        ({"keypoints": body_25().tolist()}, FRAME),
        ({"keypoints": (BODY[:, :2] / (384, 512)).tolist()}, (700, 500)),
        ({"people": [flat(BODY / (384, 512, 1))]}, FRAME),
        # Joints outside Dress Code's frame, or a stated one: it is refused, not the pose.
        ({"keypoints": (BODY[:, :2] * 4).tolist()}, (2048, 1536)),
        (frame(flat(BODY * (4, 4, 1))), (2048, 1536)),
    ],
)
def test_the_frame_and_the_unit(tmp_path, content, photo):
    path = tmp_path / "pose.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(json.dumps(content), encoding=encoding)
        found = photo_keypoints(path, 0, photo[::-1])
        scale = (photo[1] / 384, photo[0] / 512, 1)
        np.testing.assert_allclose(found, BODY * scale, rtol=1e-6)


def test_a_pose_of_another_picture_is_refused(tmp_path):
    path = tmp_path / "pose.json"
    path.write_text(json.dumps(frame(flat(BODY * (4, 4, 1)))))
    with pytest.raises(ValueError, match="pose.json: the joints reach to .* another picture"):
        photo_keypoints(path, 0, (384, 512))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(
            st.sampled_from(
                [
                    "people",
                    "keypoints",
                    "pose_keypoints_2d",
                    "canvas_width",
                    "canvas_height",
                    "width",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=60,
)


@settings(max_examples=150, deadline=None)
@given(content=JSON)
def test_any_json_is_a_pose_nobody_or_a_named_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(content))
    try:
        found = read_pose(path, photo=FRAME)
    except ValueError as error:
        assert "any.json" in str(error)
    else:
        assert found is None or (found[0].shape == (18, 3) and np.isfinite(found[0]).all())
