"""Fashion Frame and the way back: large photos, batches, tiny ones, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fashion_rag.comfyui_server.client import Node
from PIL import Image

from .graphs import Dress

pytestmark = pytest.mark.host


class Framed(Dress):
    """The main job on whole photos, framed."""

    def __init__(self, index: str, width: int = 72, height: int = 96, **options):
        super().__init__(index=index, size=None, **options)
        self.original = self.photo, self.mask
        self.frame = self.framed(self.photo, self.mask, width, height)

    def framed(self, photo, mask, width: int, height: int) -> Node:
        pose = {"pose": self.pose} if self.pose else {}
        return self.add(
            "FashionFrame",
            image=photo,
            mask=mask,
            width=width,
            height=height,
            context=0.25,
            person=0,
            **pose,
        )

    def put_back(self, repeat: int = 1, **changes) -> Node:
        """Paint, put back and save."""
        self.pose = self.frame[2] if self.pose else None
        self.inputs = self.inpaint(self.frame[0], self.frame[1])
        latent = self.inputs[2]
        if repeat > 1:
            latent = self.add("RepeatLatentBatch", samples=latent, amount=repeat)[0]
        decoded = self.add(
            "VAEDecode", samples=self.sample(latent_image=latent), vae=self.models[2]
        )
        photo, mask = self.original
        inputs = {"original": photo, "mask": mask, "frame": self.frame[3], **changes}
        pasted = self.add("FashionComposite", generated=decoded, feather=8, **inputs)
        return self.add("SaveImage", images=pasted, filename_prefix="framed")


def pictures_of(server, number: int) -> tuple[np.ndarray, np.ndarray]:
    folder = server.base / "input"
    photo = np.asarray(Image.open(folder / f"{number}.png").convert("RGB"))
    mask = np.asarray(Image.open(folder / f"{number}_mask.png").convert("L"))
    return photo, mask >= 128


def test_a_photo_keeps_its_size_and_its_pixels(server, index, poses):
    graph = Framed(index, pose=json.dumps([poses["1"]]))
    saved = graph.put_back(repeat=2)
    shown = graph.add("SaveImage", images=graph.frame, filename_prefix="cut")
    result = server.client.run(graph)
    photo, mask = pictures_of(server, 1)
    assert server.client.images(result, shown)[0].shape == (96, 72, 3)
    for picture in server.client.images(result, saved):
        assert picture.shape == photo.shape
        np.testing.assert_array_equal(picture[~mask], photo[~mask])
        assert (picture != photo)[mask].mean() > 0.9


def test_every_photo_of_a_batch_has_its_own_frame(server, index):
    graph = Framed(index)
    second = graph.add("LoadImage", image="3.png")
    other = graph.add("LoadImageMask", image="3_mask.png", channel="red")
    photos = graph.add("ImageBatch", image1=graph.photo, image2=second)
    pictures = [graph.add("MaskToImage", mask=mask) for mask in (graph.mask, other)]
    masks = graph.add("ImageBatch", image1=pictures[0], image2=pictures[1])
    masks = graph.add("ImageToMask", image=masks, channel="red")
    graph.original, graph.frame = (photos, masks), graph.framed(photos, masks, 72, 96)
    saved = graph.put_back()
    both = [
        graph.add("SaveImage", images=images, filename_prefix=name)
        for images, name in ((photos, "photos"), (graph.add("MaskToImage", mask=masks), "masks"))
    ]
    result = server.client.run(graph)
    pictures, photos, masks = (server.client.images(result, node) for node in (saved, *both))
    assert len(pictures) == 2
    for picture, photo, mask in zip(pictures, photos, masks, strict=True):
        kept = mask[..., 0] < 127
        np.testing.assert_array_equal(picture[kept], photo[kept])
        assert (picture != photo)[mask[..., 0] > 128].mean() > 0.9


def test_the_pose_beside_a_small_canvas_is_still_of_this_photo(server, index, poses):
    feet = np.zeros((1024, 768), np.uint8)
    feet[900:1000, 300:460] = 255
    Image.fromarray(feet).save(server.base / "input" / "feet.png")
    graph = Framed(index, pose=json.dumps([poses["1"]]))
    mask = graph.add("LoadImageMask", image="feet.png", channel="red")
    graph.original, graph.frame = (graph.photo, mask), graph.framed(graph.photo, mask, 72, 96)
    saved = graph.put_back()
    (picture,) = server.client.images(server.client.run(graph), saved)
    photo, _ = pictures_of(server, 1)
    np.testing.assert_array_equal(picture[feet == 0], photo[feet == 0])


def test_transparency_is_white_with_a_frame_as_without(server, index):
    graph = Framed(index)
    glass = graph.add(
        "JoinImageWithAlpha", image=graph.photo, alpha=graph.add("InvertMask", mask=graph.mask)
    )
    pasted = [
        graph.add(
            "FashionComposite",
            original=glass,
            generated=graph.photo,
            mask=graph.mask,
            feather=0,
            **optional,
        )
        for optional in ({}, {"frame": graph.framed(glass, graph.mask, 768, 1024)[3]})
    ]
    saved = [graph.add("SaveImage", images=node, filename_prefix="glass") for node in pasted]
    result = server.client.run(graph)
    without, framed = (server.client.images(result, node)[0] for node in saved)
    _, mask = pictures_of(server, 1)
    np.testing.assert_array_equal(without[~mask], framed[~mask])


def test_a_tiny_photo_is_enlarged(server, index):
    graph = Framed(index)
    photo, mask = graph.scaled(graph.photo, graph.mask, (40, 30))
    graph.original, graph.frame = (photo, mask), graph.framed(photo, mask, 72, 96)
    saved = graph.put_back()
    (picture,) = server.client.images(server.client.run(graph), saved)
    assert picture.shape == (30, 40, 3)
    assert "enlarged" in server.log


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("masks", "There are 3 masks for 1 photos"),
        ("empty", "mask 0 is empty"),
        ("photo", "connect the photo that was framed"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_line(server, index, wrong, message):
    graph = Framed(index)
    if wrong == "masks":
        masks = graph.add(
            "RepeatImageBatch", image=graph.add("MaskToImage", mask=graph.mask), amount=3
        )
        masks = graph.add("ImageToMask", image=masks, channel="red")
        graph.frame = graph.framed(graph.photo, masks, 72, 96)
    elif wrong == "empty":
        empty = graph.add("SolidMask", value=0.0, width=768, height=1024)
        graph.frame = graph.framed(graph.photo, empty, 72, 96)
    changes = {}
    if wrong == "photo":
        small, mask = graph.scaled(graph.photo, graph.mask, (96, 128))
        changes = {"original": small, "mask": mask}
    graph.put_back(**changes)
    assert message.lower() in server.client.error_of(graph).lower()
