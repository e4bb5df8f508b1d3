"""The graph that `fashion-rag demo` posts."""

from __future__ import annotations

import numpy as np
import pytest
from fashion_rag.demo.cli import SIZE, TEXT, main_graph
from PIL import Image

pytestmark = pytest.mark.host


def test_the_demos_graph_repaints_the_mask_alone(server, index):
    assert index == "openvto"
    images = {}
    for source, name in (("1.png", "person"), ("1_mask.png", "mask")):
        image = Image.open(server.base / "input" / source).convert("RGB").resize(SIZE)
        image.save(server.base / "input" / f"{name}.png")
        images[name] = np.asarray(image)
    graph, saved = main_graph(TEXT, steps=1)
    (picture,) = server.client.images(server.client.run(graph), saved)
    changed = (picture != images["person"]).any(axis=2)
    inside = images["mask"][..., 0] > 127
    assert changed[inside].mean() > 0.9
    assert not changed[images["mask"][..., 0] == 0].any()
