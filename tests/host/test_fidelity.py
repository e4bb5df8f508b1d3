"""Garment Fidelity in the host: the best of a batch, its score and its line."""

from __future__ import annotations

import numpy as np
import pytest
from fashion_rag.adapter.garment.fidelity import garment_of_photo
from fashion_rag.comfyui_server.client import Graph
from PIL import Image, ImageOps

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def people(server, index):
    """A person in a found garment, and in the same of the opposite colours; and the mask."""
    graph = Graph()
    garments = graph.add("TextGarmentRetrieve", index=opened(graph, index), **QUERY)
    graph.add("SaveImage", images=garments[1], filename_prefix="found")
    result = server.client.run(graph)
    (garment,) = server.client.images(result, graph.node("SaveImage"))
    garment = Image.fromarray(garment).resize((96, 128))
    for name, shown in (("wrong", ImageOps.invert(garment)), ("right", garment)):
        person = Image.new("RGB", (160, 200), (120, 130, 140))
        person.paste(shown, (32, 40))
        person.save(server.base / "input" / f"{name}.png")
    mask = Image.new("RGB", (160, 200), "black")
    mask.paste("white", (32, 40), Image.fromarray(garment_of_photo(garment)).convert("L"))
    mask.save(server.base / "input" / "where.png")
    return server


QUERY = {"text": "a jacket", "category": "any", "top_k": 1, "pinned": "denim-jacket-front"}


def opened(graph: Graph, index: str):
    return graph.add("GarmentIndexLoader", index_name=index)


def test_the_best_of_a_batch(people, index):
    graph = Graph()
    found = opened(graph, index)
    garments = graph.add("TextGarmentRetrieve", index=found, **QUERY)
    wrong, right = (graph.add("LoadImage", image=f"{name}.png") for name in ("wrong", "right"))
    batch = graph.add("ImageBatch", image1=wrong, image2=right)
    mask = graph.add("LoadImageMask", image="where.png", channel="red")
    scored = graph.add("GarmentFidelity", images=batch, mask=mask, garments=garments, index=found)
    graph.add("SaveImage", images=scored, filename_prefix="best")
    result = people.client.run(graph)
    (best,) = people.client.images(result, graph.node("SaveImage"))
    shown = Image.open(people.base / "input" / "right.png").convert("RGB")
    np.testing.assert_array_equal(best, np.asarray(shown))
    first, second = people.client.text(result, scored).splitlines()
    assert second.endswith(", the best") and not first.endswith("best")
    score = [float(line.split(": ")[1].split(" (")[0]) for line in (first, second)]
    assert score[0] < 0.75 * score[1] and score[1] > 0.9


def test_masks_of_another_number_are_said(people, index):
    graph = Graph()
    found = opened(graph, index)
    garments = graph.add("TextGarmentRetrieve", index=found, **QUERY)
    picture = graph.add("LoadImage", image="right.png")
    mask = graph.add("LoadImageMask", image="where.png", channel="red")
    masks = graph.add("RepeatImageBatch", image=graph.add("MaskToImage", mask=mask), amount=3)
    masks = graph.add("ImageToMask", image=masks, channel="red")
    graph.add("GarmentFidelity", images=picture, mask=masks, garments=garments, index=found)
    with pytest.raises(Exception, match="1 pictures and 3 masks"):
        people.client.run(graph)


def test_an_empty_mask_of_a_batch_is_named(people, index):
    graph = Graph()
    found = opened(graph, index)
    garments = graph.add("TextGarmentRetrieve", index=found, **QUERY)
    picture = graph.add("LoadImage", image="right.png")
    pictures = graph.add("RepeatImageBatch", image=picture, amount=2)
    mask = graph.add("LoadImageMask", image="where.png", channel="red")
    whole = graph.add("MaskToImage", mask=mask)
    nothing = graph.add(
        "ImageBlend", image1=whole, image2=whole, blend_factor=1.0, blend_mode="difference"
    )
    masks = graph.add("ImageBatch", image1=whole, image2=nothing)
    masks = graph.add("ImageToMask", image=masks, channel="red")
    graph.add("GarmentFidelity", images=pictures, mask=masks, garments=garments, index=found)
    with pytest.raises(Exception, match="mask 2 of 2 is empty"):
        people.client.run(graph)
