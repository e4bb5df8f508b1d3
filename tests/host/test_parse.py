"""A photo to labels to the mask of a garment, with the miniature's own parser."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from fashion_rag.comfyui_server.client import Graph, Node
from fashion_rag.comfyui_server.installations import PACK
from PIL import Image

pytestmark = pytest.mark.host
PEOPLE = PACK / "miniature" / "examples" / "people"
GARMENT = {"category": "upper_body", "mode": "mask", "grow": 10, "person": 0}


@pytest.fixture(scope="module")
def photos(bare):
    """Drawn people among the server's input pictures."""
    for name in ("drawn_top", "drawn_trousers"):
        picture = Image.open(PEOPLE / name / "photo.jpg")
        picture.save(bare.base / "input" / f"{name}.png")
        Image.open(PEOPLE / name / "mask.png").convert("RGB").save(
            bare.base / "input" / f"{name}_mask.png"
        )
    Image.new("RGB", (384, 512), (240, 238, 236)).save(bare.base / "input" / "nobody.png")
    return bare


class Parse(Graph):
    """Photos of the same size, as one batch, to labels."""

    def __init__(self, *names: str, size: tuple[int, int] | None = None):
        super().__init__()
        self.parser = self.add("HumanParserLoader", parser_name="miniature")
        self.photo = self.add("LoadImage", image=f"{names[0]}.png")
        for name in names[1:]:
            other = self.add("LoadImage", image=f"{name}.png")
            self.photo = self.add("ImageBatch", image1=self.photo, image2=other)
        if size:
            self.photo = self.add(
                "ImageScale", image=self.photo, upscale_method="area", width=size[0],
                height=size[1], crop="disabled",
            )  # fmt: skip
        self.labels = self.add("HumanParse", parser=self.parser, image=self.photo)

    def garment(self, **inputs) -> Node:
        mask = self.add("GarmentMask", **{"image": self.photo, **GARMENT, **inputs})
        self.shown = [
            self.add("PreviewImage", images=self.add("MaskToImage", mask=mask[output]))
            for output in range(3)
        ] + [self.add("PreviewImage", images=mask[3])]
        return mask


def white(picture: np.ndarray) -> np.ndarray:
    return picture[..., 0] > 127


@pytest.mark.parametrize("size", [None, (96, 128)])
def test_a_drawn_photo_to_its_mask(photos, size):
    graph = Parse("drawn_top", size=size)
    mask = graph.garment(labels=graph.labels)
    result = photos.client.run(graph)
    assert "upper_clothes" in photos.client.text(result, graph.labels)
    (labels,) = photos.client.images(result, graph.labels)
    assert labels.shape[:2] == ((512, 384) if size is None else size[::-1])
    found, garment, keep = (
        white(photos.client.images(result, node)[0]) for node in graph.shown[:3]
    )
    true = Image.open(PEOPLE / "drawn_top" / "mask.png").convert("L").resize(found.shape[::-1])
    true = np.asarray(true) > 127
    assert (found & true).sum() / (found | true).sum() > 0.75
    assert not (found & keep).any() and keep.any() and (garment & found).sum() > 0
    assert "% of the" in photos.client.text(result, mask)
    (shown,) = photos.client.images(result, graph.shown[3])
    (on_node,) = photos.client.images(result, mask)
    np.testing.assert_array_equal(shown, on_node)


def test_a_batch_is_told_photo_by_photo(photos):
    graph = Parse("drawn_top", "nobody")
    mask = graph.garment(labels=graph.labels, category="outfit")
    result = photos.client.run(graph)
    first, second = photos.client.text(result, mask).splitlines()
    assert first.startswith("0: ") and "% of the person" in first
    assert second.startswith("1: ") and "empty" in second or "nobody is there" in second
    masks = photos.client.images(result, graph.shown[0])
    assert white(masks[0]).any() and not white(masks[1]).any()


def test_masks_of_another_pack_in_place_of_labels(photos):
    graph = Parse("drawn_top", "drawn_top")
    garment = graph.add("LoadImageMask", image="drawn_top_mask.png", channel="red")
    graph.garment(garment=garment, mode="garment", grow=0)
    result = photos.client.run(graph)
    true = np.asarray(Image.open(PEOPLE / "drawn_top" / "mask.png").convert("L")) > 127
    for picture in photos.client.images(result, graph.shown[0]):
        np.testing.assert_array_equal(white(picture), true)


def test_what_does_not_fit_together_is_said(photos):
    graph = Parse("drawn_top")
    graph.garment()
    assert "Connect either labels" in photos.client.error_of(graph)

    graph = Parse("drawn_top")
    graph.garment(labels=graph.labels, garment=graph.add("SolidMask", value=1, width=8, height=8))
    assert "not both" in photos.client.error_of(graph)

    graph = Parse("drawn_top", "drawn_top", "drawn_top")
    other = graph.add("ImageBatch", image1=graph.add("LoadImage", image="drawn_top.png"),
                      image2=graph.add("LoadImage", image="drawn_top.png"))  # fmt: skip
    graph.garment(labels=graph.add("HumanParse", parser=graph.parser, image=other))
    assert "labels holds 2 for 3 images" in photos.client.error_of(graph)

    graph = Parse("drawn_top")
    wide = graph.add("ImageScale", image=graph.photo, upscale_method="area", width=200, height=100,
                     crop="disabled")  # fmt: skip
    graph.garment(labels=graph.add("HumanParse", parser=graph.parser, image=wide))
    error = photos.client.error_of(graph)
    assert "labels has 200x100 pixels, the images have 384x512" in error


def test_a_parser_of_ones_own_and_broken_ones(photos):
    store = photos.store / "parsers"
    shutil.copytree(PACK / "miniature" / "weights" / "parser", store / "own")
    shutil.copytree(store / "own", store / "with code")
    file = store / "with code" / "config.json"
    config = json.loads(file.read_text()) | {"auto_map": {"AutoModel": "evil.Model"}}
    file.write_text(json.dumps(config))
    shutil.copytree(store / "own", store / "pickled")
    (store / "pickled" / "model.safetensors").rename(store / "pickled" / "pytorch_model.bin")
    (store / "no config").mkdir()
    offered = photos.client.json("/object_info/HumanParserLoader")
    spec = offered["HumanParserLoader"]["input"]["required"]["parser_name"]
    names = spec[1]["options"] if "options" in spec[1] else spec[0]
    assert names == ["own", "pickled", "with code", "miniature"]

    graph = Parse("drawn_top")
    graph.garment(labels=graph.labels)
    for name, words in (
        ("with code", ("auto_map", "never run")),
        ("pickled", ("pickle only", "pytorch_model.bin")),
        ("nowhere", ("No parser 'nowhere'", "segformer_b2_clothes")),
    ):
        graph[graph.parser.number]["inputs"]["parser_name"] = name
        error = photos.client.error_of(graph)
        assert all(word in error for word in words), error
    graph[graph.parser.number]["inputs"]["parser_name"] = "own"
    photos.client.run(graph)
