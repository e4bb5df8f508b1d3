"""A person cut out of a photo and put back: geometry, pixels, poses, large and tiny photos."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from fashion_rag.adapter.person.cut_out import (
    Frame,
    cut_image,
    cut_mask,
    cut_out,
    find_frames,
    move_keypoints,
    move_pose,
    paste_back,
)
from fashion_rag.adapter.person.inpainting import composite
from fashion_rag.adapter.person.pose import pose_of_frame
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from . import peak

CANVAS = (64, 48)


def box_mask(size: tuple[int, int], box: tuple[int, int, int, int]) -> torch.Tensor:
    left, top, right, bottom = box
    mask = torch.zeros(size)
    mask[top:bottom, left:right] = 1
    return mask


@st.composite
def photos_with_masks(draw):
    """A size (height, width) and a box in it."""
    height, width = draw(st.integers(8, 400)), draw(st.integers(8, 400))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    right, bottom = draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))
    return (height, width), (left, top, right, bottom)


@settings(max_examples=200, deadline=None)
@given(
    photos_with_masks(),
    st.floats(0, 2),
    st.sampled_from([(64, 48), (512, 384), (96, 96), (48, 64), (40, 200)]),
)
def test_the_box_holds_the_mask_and_has_the_canvas_proportions(case, context, canvas):
    size, box = case
    (frame,) = find_frames(box_mask(size, box)[None], [None], canvas, context)
    left, top, right, bottom = frame.box
    assert left <= box[0] and top <= box[1] and right >= box[2] and bottom >= box[3]
    across, down, ratio = right - left, bottom - top, canvas[1] / canvas[0]
    assert abs(across - down * ratio) <= max(1, ratio)
    # Beside the photo only where the photo itself is too short, and then the photo is whole.
    for start, end, limit in ((left, right, size[1]), (top, bottom, size[0])):
        if end - start <= limit:
            assert start >= 0 and end <= limit
        else:
            assert start <= 0 and end >= limit


def test_the_margin_is_a_share_of_the_masks_size():
    mask = box_mask((1000, 1000), (400, 300, 490, 420))
    for context, expected in ((0.0, (400, 300, 490, 420)), (0.5, (355, 240, 535, 480))):
        (frame,) = find_frames(mask[None], [None], CANVAS, context)
        assert frame.box == expected


def person() -> np.ndarray:
    """Nose, neck, a hip, a knee and an ankle of somebody upright in 1000 x 1000 pixels."""
    joints = np.zeros((18, 3))
    for joint, y in ((0, 300), (1, 340), (11, 500), (12, 640), (13, 740)):
        joints[joint] = 500, y, 1
    return joints


@pytest.mark.parametrize(
    ("rows", "head", "feet"),
    [((360, 500), True, False), ((480, 720), False, True), ((350, 700), True, True)],
)
def test_head_and_feet_are_inside_where_they_belong_to_the_garment(rows, head, feet):
    mask = box_mask((1000, 1000), (470, rows[0], 530, rows[1]))
    (frame,) = find_frames(mask[None], [person()], CANVAS, 0.0)
    assert (frame.box[1] <= 300 - 40) == head
    assert (frame.box[3] >= 740 + 30) == feet


def test_joints_that_are_not_known_or_not_on_the_photo_do_not_count():
    mask = box_mask((1000, 1000), (450, 400, 550, 500))
    unknown = person() * (1, 1, 0)
    assert find_frames(mask[None], [unknown], CANVAS) == find_frames(mask[None], [None], CANVAS)
    outside, without = person(), person()
    outside[13], without[13] = (520, 5000, 1), 0
    both = [find_frames(mask[None], [one], CANVAS) for one in (outside, without)]
    assert both[0] == both[1] and both[0][0].box[1] <= 260


@settings(max_examples=60, deadline=None)
@given(photos_with_masks(), st.integers(0, 12), st.booleans())
def test_outside_the_mask_every_value_is_the_photos(case, feather, as_bytes):
    size, box = case
    generator = torch.Generator().manual_seed(size[0])
    photo = torch.rand((*size, 3), generator=generator)
    if as_bytes:
        photo = (photo * 255).round().byte()
    mask = box_mask(size, box)
    (frame,) = find_frames(mask[None], [None], CANVAS)
    generated = torch.rand((*CANVAS, 3), generator=generator)
    kept = photo.clone()
    pasted = paste_back(photo, generated, mask, frame, feather)
    assert pasted.dtype == photo.dtype and torch.equal(photo, kept)
    assert torch.equal(pasted[mask < 0.5], photo[mask < 0.5])


@pytest.mark.parametrize("value", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("box", [(100, 60, 190, 290), (0, 0, 240, 320), (0, 200, 30, 320)])
def test_a_constant_picture_has_no_edge(value, box):
    photo = torch.full((320, 240, 3), value)
    mask = box_mask((320, 240), box)
    (frame,) = find_frames(mask[None], [None], CANVAS)
    pasted = paste_back(photo, cut_image(photo, frame), mask, frame, 8)
    for axis in (0, 1):
        assert pasted.diff(dim=axis).abs().max() <= 1 / 255


def test_a_smooth_photo_comes_back_as_it_was():
    """Painted by a model that changes nothing: cutting out and pasting back are each other's
    inverse but for the resolution."""
    rows, columns = torch.meshgrid(
        torch.linspace(0, 1, 320), torch.linspace(0, 1, 240), indexing="ij"
    )
    photo = torch.stack([rows, columns, (rows + columns) / 2], dim=-1)
    mask = box_mask((320, 240), (60, 80, 180, 300))
    (frame,) = find_frames(mask[None], [None], CANVAS)
    assert frame.scale < 0.5
    pasted = paste_back(photo, cut_image(photo, frame), mask, frame, 0)
    assert (pasted - photo).abs().max() <= 1.5 / 255


def test_a_canvas_padded_to_multiples_of_8_is_cropped():
    photo, canvas = torch.rand(320, 240, 3), (125, 93)
    mask = box_mask((320, 240), (60, 80, 180, 300))
    (frame,) = find_frames(mask[None], [None], canvas)
    padded = torch.nn.functional.pad(torch.rand(*canvas, 3), (0, 0, 0, 3, 0, 3), value=9.0)
    expected = paste_back(photo, padded[:125, :93], mask, frame, 0)
    assert torch.equal(paste_back(photo, padded, mask, frame, 0), expected)


def test_strips_paste_as_a_whole_would():
    """A mask higher than a strip, on a canvas of the photo's own size."""
    generator = torch.Generator().manual_seed(3)
    photo, generated = (torch.rand((720, 90, 3), generator=generator) for _ in range(2))
    mask = (torch.rand((45, 6), generator=generator) > 0.3).float()
    mask = torch.nn.functional.interpolate(mask[None, None], size=(720, 90))[0, 0]
    frame = Frame((720, 90), (720, 90), (0, 0, 90, 720))
    whole = composite(photo[None], generated[None], mask[None], 20)[0]
    assert torch.allclose(paste_back(photo, generated, mask, frame, 20), whole, atol=1e-6)


def test_what_is_not_a_number_stays_inside_the_mask():
    photo, mask = torch.rand(100, 80, 3), box_mask((100, 80), (20, 20, 60, 80))
    (frame,) = find_frames(mask[None], [None], CANVAS)
    generated = torch.full((*CANVAS, 3), torch.nan)
    pasted = paste_back(photo, generated, mask, frame, 4)
    assert torch.equal(pasted[mask == 0], photo[mask == 0])


@settings(max_examples=60, deadline=None)
@given(photos_with_masks())
def test_joints_move_with_the_pixels(case):
    """A dark spot of the photo is where the joint on it goes."""
    size, box = case
    (frame,) = find_frames(box_mask(size, box)[None], [None], (256, 192))
    x, y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    photo = torch.ones((*size, 3))
    photo[y, x] = 0
    cut = 1 - cut_image(photo, frame)[..., 0]
    (moved,) = move_keypoints(np.array([[x + 0.5, y + 0.5, 1.0]]), frame)
    darkest = np.unravel_index(cut.argmax().item(), cut.shape)
    reach = max(1.5, 1.5 * frame.scale)
    assert abs(darkest[1] + 0.5 - moved[0]) <= reach and abs(darkest[0] + 0.5 - moved[1]) <= reach


def test_a_pose_moves_in_pixels_and_in_shares():
    frame = Frame((200, 100), (64, 48), (10, 20, 85, 120))
    joints = np.zeros((18, 3))
    joints[0], joints[4] = (10, 20, 1), (85, 120, 0.5)
    hand = np.tile([47.5, 70, 1.0], (21, 1))
    pixels = {
        "canvas_height": 200,
        "canvas_width": 100,
        "people": [
            {
                "pose_keypoints_2d": joints.flatten().tolist(),
                "hand_left_keypoints_2d": hand.flatten().tolist(),
                "face_keypoints_2d": None,
            }
        ],
    }
    shares = {**pixels, "people": [{}]}
    for name, values in (("pose_keypoints_2d", joints), ("hand_left_keypoints_2d", hand)):
        shares["people"][0][name] = (values / (100, 200, 1)).flatten().tolist()
    for pose in (pixels, shares):
        moved = move_pose(pose, frame)
        assert (moved["canvas_height"], moved["canvas_width"]) == (64, 48)
        (person,) = moved["people"]
        body = np.reshape(person["pose_keypoints_2d"], (18, 3))
        assert np.allclose(body[[0, 4]], [[0, 0, 1], [48, 64, 0.5]])
        assert not body[1:4].any()
        assert np.allclose(np.reshape(person["hand_left_keypoints_2d"], (21, 3)), [24, 32, 1])
    assert move_pose({"people": []}, frame)["people"] == []


STANDING = np.array(
    [(200, 100), (200, 150), (165, 150), (150, 230), (145, 300), (235, 150), (250, 230), (255, 300)]
    + [(180, 300), (178, 430), (176, 550), (220, 300), (222, 430), (224, 550), (193, 93)]
    + [(207, 93), (184, 97), (216, 97)],
    dtype=float,
)
"""A person on a photo of 400x600, COCO-18."""


def standing(shift: float = 0, size: float = 1) -> list[float]:
    return np.column_stack([STANDING * size + (shift, 0), np.ones(18)]).flatten().tolist()


@settings(max_examples=60, deadline=None)
@given(case=photos_with_masks(), seed=st.integers(0, 99), people=st.integers(1, 3))
def test_a_moved_pose_is_read_as_the_joints_were_moved(case, seed, people):
    """Wherever the canvas lies: the same people in the same order, each joint in its place."""
    size, box = case
    (frame,) = find_frames(box_mask(size, box)[None], [None], (256, 192))
    rng = np.random.default_rng(seed)
    joints = rng.uniform(1, (size[1], size[0], 1), (people, 18, 3)).round(3)
    bodies = [{"pose_keypoints_2d": one.flatten().tolist()} for one in joints]
    pose = {"canvas_height": size[0], "canvas_width": size[1], "people": bodies}
    before = pose_of_frame(pose).on_photo(size)
    after = pose_of_frame(move_pose(pose, frame)).on_photo((256, 192))
    assert len(after) == len(before)
    for found, joints in zip(after, before, strict=True):
        wanted = move_keypoints(joints, frame)
        beside = (wanted[:, :2] <= 0).all(axis=1)
        assert np.allclose(found[~beside], wanted[~beside])


@pytest.mark.parametrize("number", [0, 1])
def test_the_feet_alone_of_two_people_are_no_other_picture(number):
    mask = box_mask((600, 400), (150, 440, 250, 560))
    (frame,) = find_frames(mask[None], [None], (512, 384))
    bodies = [{"pose_keypoints_2d": standing(shift, size)} for shift, size in ((0, 1), (90, 0.7))]
    pose = {"canvas_height": 600, "canvas_width": 400, "people": bodies}
    person = pose_of_frame(move_pose(pose, frame)).on_photo((512, 384))[number]
    ankle = STANDING[10] * (1, 0.7)[number] + ((0, 90)[number], 0)
    left, top, _, _ = frame.box
    assert np.allclose(person[10, :2], (ankle - (left, top)) * frame.scale, atol=0.5)


BODY = standing()
DOUBLED = (np.reshape(BODY, (18, 3)) * (2, 2, 1)).flatten().tolist()
SHARES = (np.reshape(BODY, (18, 3)) / (400, 600, 1)).flatten().tolist()
STATED = {"canvas_width": 400, "canvas_height": 600}


@pytest.mark.parametrize(
    "pose",
    [
        {"people": [{"pose_keypoints_2d": BODY}]},
        {"people": [{"pose_keypoints_2d": DOUBLED}], "image_width": 800, "image_height": 1200},
        {"people": [{"pose_keypoints_2d": DOUBLED}], "width": 800, "height": 1200},
        {"people": [{"pose_keypoints_2d": BODY}], "canvas_width": 60, "canvas_height": 90},
        {"people": [{"pose_keypoints_2d": BODY}], "canvas_width": "400", "canvas_height": "600"},
        {"people": [{"pose_keypoints": BODY}], **STATED},
        {"people": [{"pose_keypoints_2d": np.delete(BODY, range(2, 54, 3)).tolist()}], **STATED},
        {"people": [{"pose_keypoints_2d": STANDING.tolist()}], **STATED},
        {"people": [BODY], **STATED},
        {"people": {"pose_keypoints_2d": BODY}, **STATED},
        {"people": [{"pose_keypoints_2d": BODY, "face_keypoints_2d": 5}], **STATED},
        {"people": [{"pose_keypoints_2d": BODY, "face_keypoints_2d": [1, 2]}], **STATED},
        {"people": [{"pose_keypoints_2d": BODY, "face_keypoints_2d": [10**400, 2, 1]}], **STATED},
        {"people": [{"pose_keypoints_2d": [*SHARES[:-3], 2.5, 0.2, 1]}], **STATED},
        {"people": [{"face_keypoints_2d": [9, 9, 1]}, {"pose_keypoints_2d": BODY}], **STATED},
    ],
)
def test_every_form_of_a_pose_moves_alike(pose):
    frame = Frame((600, 400), (512, 384), (50, 40, 350, 440))
    (person,) = pose_of_frame(move_pose(pose, frame)).on_photo((512, 384))
    wanted = move_keypoints(np.reshape(BODY, (18, 3)), frame)
    assert np.allclose(person[:17], wanted[:17])


def test_a_pose_of_another_picture_is_not_moved():
    pose = {"people": [{"pose_keypoints_2d": (10 * np.array(BODY)).tolist()}]}
    with pytest.raises(ValueError, match="of another picture"):
        move_pose(pose, Frame((600, 400), (512, 384), (50, 40, 350, 440)))


def test_a_tiny_photo_is_enlarged_with_a_line(caplog):
    photo = Image.new("RGB", (40, 30), "navy")
    mask = np.zeros((30, 40), np.float32)
    mask[5:25, 10:30] = 1
    with caplog.at_level(logging.WARNING):
        found = cut_out(photo, mask, None, (512, 384))
    assert "enlarged" in caplog.text and "40x30" in caplog.text
    assert found.image.shape == (1, 512, 384, 3) and found.mask.shape == (1, 512, 384)
    assert found.paste(torch.ones(512, 384, 3), 0).size == (40, 30)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_frames(torch.zeros(1, 9, 9), [None], CANVAS), "mask 0 is empty"),
        (lambda: find_frames(torch.ones(1, 9, 9), [None], CANVAS, -0.1), "context is -0.1"),
        (
            lambda: cut_image(torch.zeros(9, 8, 3), Frame((9, 9), CANVAS, (0, 0, 9, 9))),
            "frame is of a photo of 9x9",
        ),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_mask_of_another_size_and_bytes():
    photo = Image.new("RGB", (300, 400), "white")
    small = Image.new("L", (30, 40), 0)
    small.paste(255, (10, 10, 20, 30))
    found = cut_out(photo, small, None, CANVAS)
    left, top, right, bottom = found.frame.box
    assert left <= 100 and top <= 100 and right >= 200 and bottom >= 300
    assert 0.2 < found.mask.mean() < 0.6 and found.mask.max() == 1


LARGE = """
import torch
from PIL import Image
from fashion_rag.adapter.person.cut_out import cut_out
photo = Image.new("RGB", (12000, 9000), "teal")
mask = Image.new("L", photo.size, 0)
mask.paste(255, (6000, 3000, 6900, 4500))
found = cut_out(photo, mask, None, (512, 384))
pasted = found.paste(torch.zeros(512, 384, 3), 8)
assert pasted.size == photo.size
assert pasted.getpixel((6400, 3700)) == (0, 0, 0)
assert pasted.getpixel((0, 0)) == photo.getpixel((0, 0))
print(peak())
"""


@pytest.mark.skipif(not peak.AVAILABLE, reason="the peak is read from Linux' /proc")
def test_a_large_photo_takes_less_than_3_gb(record_figure):
    """12,000 x 9,000 pixels with a person in it, torch itself included."""
    (megabytes,) = peak.run(LARGE)
    record_figure("memory of a photo of 12,000 x 9,000 pixels, MB", megabytes, 3000)


def test_cut_mask_goes_on_beside_the_photo():
    """As the photo's edge does, so that a garment goes on as a whole."""
    mask = box_mask((40, 200), (20, 0, 180, 40))
    (frame,) = find_frames(mask[None], [None], CANVAS)
    assert any(frame.beyond)
    cut = cut_mask(mask, frame)
    assert cut.shape == CANVAS and torch.allclose(cut[0], cut[32], atol=1e-6)
