"""A Dress Code folder to train on: what is read, and what is missing or damaged."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("aggdraw")

from fashion_rag.training.dresscode import DressCode, caption  # noqa: E402
from fashion_rag.training.samples import person_inputs  # noqa: E402

from .training_small import small_world  # noqa: E402


@pytest.fixture
def world(tmp_path, tmp_path_factory):
    """A copy of the drawn world, to break."""
    return shutil.copytree(small_world(tmp_path_factory.getbasetemp()), tmp_path / "world")


def test_pairs_with_all_that_belongs_to_them(world):
    data = DressCode(world)
    assert len(data) == 9 and {pair.category for pair in data.pairs} == {
        "dresses",
        "upper_body",
        "lower_body",
    }
    pair = data.pairs[0]
    assert len(pair.chunks) == 3 and caption(pair.chunks) == ", ".join(sorted(pair.chunks))
    plain, mirrored = person_inputs(data, pair, (64, 48), "mask")
    shapes = {name: tuple(tensor.shape) for name, tensor in plain.items()}
    assert shapes == {
        "pixels": (3, 64, 48),
        "masked": (3, 64, 48),
        "mask": (1, 64, 48),
        "latent_mask": (1, 8, 6),
        "pose": (18, 8, 6),
    }
    assert (mirrored["pixels"] == plain["pixels"].flip(2)).all()
    # The right shoulder of the mirrored person is where the left one was.
    right, left = mirrored["pose"][2].float(), plain["pose"][5].float().flip(1)
    assert (right - left).abs().max() < 0.05
    # Mid-grey where it is repainted, the photo elsewhere.
    inside = plain["mask"].bool().expand(3, -1, -1)
    assert (plain["masked"][inside] == 128).all()
    assert (plain["masked"][~inside] == plain["pixels"][~inside]).all()


def remove(pattern):
    def change(world):
        for file in world.glob(pattern):
            file.unlink()

    return change


def write(pattern, content):
    def change(world):
        for file in world.glob(pattern):
            file.write_text(content) if isinstance(content, str) else file.write_bytes(content)

    return change


def no_caption(world):
    for file in world.glob("*_captions.json"):
        content = json.loads(file.read_text())
        content.pop(DressCode(world).pairs[0].garment)
        file.write_text(json.dumps(content))


MISSING = [
    (remove("*_captions.json"), FileNotFoundError, "neither fine_captions.json nor coarse"),
    (no_caption, ValueError, "no caption for .*add them, or take these pairs out of the list"),
    (write("fine_captions.json", "{"), ValueError, "fine_captions.json is damaged .*Fetch it"),
    (write("fine_captions.json", '{"1": "red"}'), ValueError, "damaged .'1' has 'red'"),
    (remove("dresses/keypoints/*"), FileNotFoundError, r"lacks 3 files .*\(keypoints\).*_2.json"),
    (remove("dresses/label_maps/*"), FileNotFoundError, r"\(labels\).*_4.png.*Add them, or take"),
    (remove("dresses/images/*_0.jpg"), FileNotFoundError, r"\(photos\).*_0.jpg"),
    (remove("dresses/images/*_1.jpg"), FileNotFoundError, r"\(garments\).*_1.jpg"),
    (remove("dresses/train_pairs.txt"), FileNotFoundError, "train_pairs.txt is missing"),
    (write("dresses/train_pairs.txt", "a b\n"), ValueError, "line 1: 'a b' names no pair"),
    (write("dresses/train_pairs.txt", "../../x_0.jpg 1_1.jpg"), ValueError, "names no pair"),
    (write("*/train_pairs.txt", "\n"), ValueError, "train_pairs.txt names no pair of dresses"),
]


@pytest.mark.parametrize(("change", "error", "message"), MISSING)
def test_what_is_missing_is_named_before_training_begins(world, change, error, message):
    change(world)
    with pytest.raises(error, match=message):
        DressCode(world)


DAMAGED = [
    (
        "images/*_0.jpg",
        b"\xff\xd8 no picture",
        "_0.jpg can't be read as a picture .*fetch it again",
    ),
    ("label_maps/*_4.png", b"\x89PNG\r\n\x1a\n", "_4.png can't be read as a picture"),
    ("keypoints/*_2.json", "[1, 2]", "_2.json holds no Dress Code keypoints .*fetch it again"),
    ("keypoints/*_2.json", "{}", "_2.json holds no Dress Code keypoints"),
    ("keypoints/*_2.json", '{"keypoints": [[1]]}', "_2.json holds no Dress Code keypoints"),
]


@pytest.mark.parametrize(("pattern", "content", "message"), DAMAGED)
def test_damaged_files_are_named(world, pattern, content, message):
    write(f"*/{pattern}", content)(world)
    data = DressCode(world)
    with pytest.raises(ValueError, match=message):
        person_inputs(data, data.pairs[0], (64, 48), "mask")


def test_a_cut_photo_and_labels_in_colour_are_named(world):
    data = DressCode(world)
    pair = data.pairs[0]
    photo = world / pair.category / "images" / f"{pair.person}_0.jpg"
    whole = photo.read_bytes()
    photo.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f"{pair.person}_0.jpg can't be read as a picture"):
        data.photo(pair)
    photo.write_bytes(whole)
    labels = world / pair.category / "label_maps" / f"{pair.person}_4.png"
    data.photo(pair).save(labels)
    with pytest.raises(ValueError, match=f"{pair.person}_4.png has the shape .*one label a pixel"):
        data.labels(pair)


def test_labels_without_the_garment_name_the_file(world):
    from PIL import Image

    data = DressCode(world)
    pair = next(pair for pair in data.pairs if pair.category == "lower_body")
    labels = world / pair.category / "label_maps" / f"{pair.person}_4.png"
    Image.new("P", (48, 64)).save(labels)
    with pytest.raises(ValueError, match=f"{pair.person}_4.png: There is nothing .*out of the lis"):
        person_inputs(data, pair, (64, 48), "mask")
