"""Input as it comes: masks, poses, sizes and batches that must work."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from fashion_rag.adapter.person.pose import pose_map, pose_of_frame
from fashion_rag.comfyui_server.client import Node
from safetensors.numpy import load_file

from .graphs import Dress

pytestmark = pytest.mark.host
SIZE = (192, 256)


def conditioning(server, graph: Dress, inputs: Node) -> tuple[dict, dict, dict]:
    """Positive, negative and latent of FashionInpaintConditioning, as arrays by name."""
    parts = []
    for output in range(3):
        graph.add("ProbeSave", value=inputs[output], name=f"part_{output}")
    server.client.run(graph)
    for output in range(3):
        arrays = load_file(server.base / "output" / f"part_{output}.safetensors")
        parts.append({name.removeprefix("0.1."): array for name, array in arrays.items()})
    return tuple(parts)


def pose_of(part: dict) -> np.ndarray:
    return part["fashionrag_pose"]


def soft_mask(graph: Dress) -> Node:
    """The mask with a wide soft border."""
    picture = graph.add("MaskToImage", mask=graph.mask)
    picture = graph.add("ImageBlur", image=picture, blur_radius=12, sigma=6.0)
    return graph.add("ImageToMask", image=picture, channel="red")


def test_soft_mask(server, index):
    """Split at 0.5 for the model, soft for the noise mask."""
    graph = Dress(index=index)
    inputs = graph.inpaint(graph.photo, soft_mask(graph))
    positive, negative, latent = conditioning(server, graph, inputs)
    assert set(np.unique(positive["concat_mask"])) == {0.0, 1.0}
    np.testing.assert_array_equal(positive["concat_mask"], negative["concat_mask"])
    noise_mask = latent["noise_mask"]
    assert ((noise_mask > 0.05) & (noise_mask < 0.95)).any()
    assert latent["samples"].shape == (1, 4, 32, 24)
    assert positive["concat_mask"].shape[-2:] == (32, 24)


def test_noise_mask_off_starts_from_zero(server, index):
    graph = Dress(index=index)
    inputs = graph.inpaint(graph.photo, graph.mask, noise_mask=False)
    _, _, latent = conditioning(server, graph, inputs)
    assert set(latent) == {"samples"} and not latent["samples"].any()


@pytest.mark.parametrize(("noise_mask", "encodings"), [(True, "2"), (False, "1")])
def test_the_photo_itself_is_encoded_only_for_a_noise_mask(server, index, noise_mask, encodings):
    graph = Dress(index=index)
    name = f"encodings_{noise_mask}"
    vae = graph.add("ProbeVAE", vae=graph.models[2], name=name)
    inputs = graph.inpaint(graph.photo, graph.mask, noise_mask=noise_mask)
    graph[inputs.number]["inputs"]["vae"] = vae[0]
    conditioning(server, graph, inputs)
    assert (server.base / "output" / f"{name}.txt").read_text() == encodings


def test_mask_of_another_size(server, index, poses):
    """A mask at twice the photo's size gives what a mask at its size gives."""
    graph = Dress(index=index, size=SIZE)
    original = graph.add("LoadImageMask", image="1_mask.png", channel="red")
    _, large = graph.scaled(graph.photo, original, (SIZE[0] * 2, SIZE[1] * 2))
    positive, _, latent = conditioning(server, graph, graph.inpaint(graph.photo, large))
    graph = Dress(index=index, size=SIZE)
    expected, _, _ = conditioning(server, graph, graph.inputs)
    assert latent["noise_mask"].shape[-2:] in {SIZE[::-1], (32, 24)}
    assert np.mean(positive["concat_mask"] != expected["concat_mask"]) < 0.02
    assert positive["concat_mask"].any()


def test_pose_enters_the_positive_side_alone(server, index, poses):
    graph = Dress(index=index, pose=json.dumps([poses["1"]]))
    positive, negative, _ = conditioning(server, graph, graph.inputs)
    assert pose_of(positive).shape == (1, 18, 32, 24)
    assert (pose_of(positive)[0].max(axis=(1, 2)) > 0.1).all()
    assert not pose_of(negative).any()
    # The nose of person 1 is at (386, 398) of 768x1024: the brightest cell of channel 0.
    row, column = np.unravel_index(pose_of(positive)[0, 0].argmax(), (32, 24))
    assert (row, column) == (398 * 32 // 1024, 386 * 24 // 768)


def test_several_people(server, index, poses):
    """0 is the largest, 1 the next, whatever their order; nobody at that number is a zero map."""
    frame = copy.deepcopy(poses["1"])
    large = frame["people"][0]["pose_keypoints_2d"]
    small = [value if i % 3 == 2 else value * 0.3 for i, value in enumerate(large)]
    maps = {}
    for order in ("small first", "large first"):
        people = [small, large] if order == "small first" else [large, small]
        frame["people"] = [{"pose_keypoints_2d": p} for p in people]
        for person in (0, 1, 2):
            graph = Dress(index=index, pose=json.dumps([frame]))
            inputs = graph.inpaint(graph.photo, graph.mask, person=person)
            maps[order, person] = pose_of(conditioning(server, graph, inputs)[0])
    for person in (0, 1):
        first, second = maps["small first", person], maps["large first", person]
        np.testing.assert_array_equal(first, second)
    rows = (
        maps["small first", 0][0, 0].max(axis=1).argmax(),
        maps["small first", 1][0, 0].max(axis=1).argmax(),
    )
    assert rows == (398 * 32 // 1024, int(398 * 0.3) * 32 // 1024)
    assert not maps["small first", 2].any()
    assert "Nobody numbered 2" in server.log


def test_missing_joints(server, index, poses):
    """A joint of zero confidence, or below 0.3, is a zero channel."""
    frame = copy.deepcopy(poses["1"])
    points = frame["people"][0]["pose_keypoints_2d"]
    points[3 * 4 : 3 * 5] = [0.0, 0.0, 0.0]
    points[3 * 7 + 2] = 0.2
    graph = Dress(index=index, pose=json.dumps([frame]))
    found = pose_of(conditioning(server, graph, graph.inputs)[0])[0].max(axis=(1, 2)) > 0
    assert [channel for channel in range(18) if not found[channel]] == [4, 7]


def test_normalised_pose(server, index, poses):
    """Coordinates from 0 to 1 (OpenPose) give the map of pixels (DWPose)."""
    frame = copy.deepcopy(poses["1"])
    points = frame["people"][0]["pose_keypoints_2d"]
    points[0::3] = [x / frame["canvas_width"] for x in points[0::3]]
    points[1::3] = [y / frame["canvas_height"] for y in points[1::3]]
    maps = []
    for pose in (frame, poses["1"]):
        graph = Dress(index=index, pose=json.dumps([pose]))
        maps.append(pose_of(conditioning(server, graph, graph.inputs)[0]))
    np.testing.assert_allclose(*maps, atol=1e-5)


def test_nobody_in_the_pose(server, index, poses):
    graph = Dress(index=index, pose=json.dumps([poses["1"] | {"people": []}]))
    saved = graph.finish(graph.sample())
    positive, _, _ = conditioning(server, graph, graph.inputs)
    assert not pose_of(positive).any()
    assert "Nobody" in server.log
    assert saved.number in server.client.run(graph).outputs


def test_size_not_divisible_by_8(server, index, poses):
    """Padded for the model, cropped back by FashionComposite; the kept pixels are the photo's."""
    size = (189, 251)
    graph = Dress(index=index, size=size, pose=json.dumps([poses["1"]]))
    saved = graph.finish(graph.sample())
    photo = graph.add("SaveImage", images=graph.photo, filename_prefix="odd")
    mask = graph.add("MaskToImage", mask=graph.mask)
    mask = graph.add("SaveImage", images=mask, filename_prefix="odd_mask")
    result = server.client.run(graph)
    picture, photo, mask = (server.client.images(result, node)[0] for node in (saved, photo, mask))
    assert picture.shape == (251, 189, 3)
    kept = mask[..., 0] < 128
    np.testing.assert_array_equal(picture[kept], photo[kept])
    assert (picture != photo).any()


def test_pose_of_a_size_not_divisible_by_8(server, index, poses):
    """The joints stay where they are in the photo; the padding moves nothing."""
    graph = Dress(index=index, size=(189, 251), pose=json.dumps([poses["1"]]))
    positive, _, _ = conditioning(server, graph, graph.inputs)
    (joints,) = pose_of_frame(poses["1"]).on_photo((251, 189))
    expected = pose_map(joints, (256, 192), (256, 192))
    np.testing.assert_allclose(pose_of(positive)[0], expected, atol=1e-5)


@pytest.mark.parametrize("form", ["bare", "nested", "others unreadable", "no canvas"])
def test_poses_of_other_packs(server, index, poses, form):
    """A frame without its list, one list too many, people of whom only a hand was found."""
    graph = Dress(index=index, pose=json.dumps([poses["1"]]))
    expected = pose_of(conditioning(server, graph, graph.inputs)[0])
    frame = copy.deepcopy(poses["1"])
    if form == "others unreadable":
        frame["people"] += [None, {"pose_keypoints_2d": None}, {"pose_keypoints_2d": []}]
    if form == "no canvas":
        points = frame["people"][0]["pose_keypoints_2d"]
        points[0::3] = [x * SIZE[0] / frame["canvas_width"] for x in points[0::3]]
        points[1::3] = [y * SIZE[1] / frame["canvas_height"] for y in points[1::3]]
        del frame["canvas_width"], frame["canvas_height"]
    pose = {"bare": frame, "nested": [[frame]]}.get(form, [frame])
    graph = Dress(index=index, pose=json.dumps(pose))
    found = pose_of(conditioning(server, graph, graph.inputs)[0])
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("noise_mask", [True, False])
def test_batch_of_people(server, index, poses, noise_mask):
    """Two photos with a pose each come out as two pictures, each its own."""
    graph = Dress(index=index, pose=json.dumps([poses["1"], poses["3"]]))
    second = graph.add("LoadImage", image="3.png")
    second_mask = graph.add("LoadImageMask", image="3_mask.png", channel="red")
    second, second_mask = graph.scaled(second, second_mask, SIZE)
    photos = graph.add("ImageBatch", image1=graph.photo, image2=second)
    masks = [graph.add("MaskToImage", mask=mask) for mask in (graph.mask, second_mask)]
    masks = graph.add("ImageBatch", image1=masks[0], image2=masks[1])
    masks = graph.add("ImageToMask", image=masks, channel="red")
    graph.photo, graph.mask = photos, masks
    graph.inputs = graph.inpaint(photos, masks, noise_mask=noise_mask)
    saved = graph.finish(graph.sample())
    positive, _, _ = conditioning(server, graph, graph.inputs)
    assert pose_of(positive).shape == (2, 18, 32, 24)
    assert positive["concat_mask"].shape[0] == 2
    pictures = server.client.images(server.client.run(graph), saved)
    assert len(pictures) == 2 and np.any(pictures[0] != pictures[1])


def test_latent_batch_of_one_person(server, index, poses):
    """One photo sampled four times: mask, masked latents and pose are repeated."""
    graph = Dress(index=index, pose=json.dumps([poses["1"]]))
    latents = graph.add("RepeatLatentBatch", samples=graph.inputs[2], amount=4)
    saved = graph.finish(graph.sample(latent_image=latents[0]))
    pictures = server.client.images(server.client.run(graph), saved)
    assert len(pictures) == 4
    assert all(np.any(pictures[0] != other) for other in pictures[1:])


def test_prompt_of_many_garments(server, index):
    """More garments than one window of 77 tokens holds go on in further windows."""
    graph = Dress(index=index, top_k=24)
    graph.add("ProbeSave", value=graph.words[0], name="many")
    saved = graph.finish(graph.sample())
    result = server.client.run(graph)
    context = load_file(server.base / "output" / "many.safetensors")["0.0"]
    assert context.shape[1] % 77 == 0 and context.shape[1] > 77
    assert server.client.images(result, saved)


def test_text_with_signs_of_its_own(server, index):
    """`$`, braces, brackets and weights in the user's words pass."""
    graph = Dress(index=index, text="a $5 coat {blue} (warm:1.2) [x] \\ 💙")
    words = graph.invert(
        "(a $5 coat:1.2) of ({garments}:1.3), {caption}",
        garments=graph.found[0],
        caption="{garments} for $1, {0} (\\",
    )
    shown = graph.add("ProbeText", value=words[2])
    assert "$5" in server.client.text(server.client.run(graph), shown)
