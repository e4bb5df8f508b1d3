"""The main job in half precision: the models' weights, and what travels between the nodes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fashion_rag.comfyui_server.installations import optional_packages
from fashion_rag.comfyui_server.server import Server

from .graphs import Dress

pytestmark = pytest.mark.host

PRECISIONS = {
    # The CPU computes in float32 all the same: what is seen here is that every cast is there.
    "fp16": ("--force-fp16", "--fp16-vae", "--fp16-text-enc", "--fp16-intermediates"),
    "bf16": ("--bf16-unet", "--bf16-vae", "--bf16-text-enc"),
}
PROBES = Path(__file__).parent / "probe_nodes"


@pytest.fixture(params=PRECISIONS)
def half(request, host, server, index, tmp_path) -> Server:
    """A server of the same models, garments and photos in half precision."""
    packages = optional_packages(host.python)
    half = Server(host, tmp_path, packages, PRECISIONS[request.param], (PROBES,))
    shutil.copytree(server.store, half.store)
    for name in ("1.png", "1_mask.png"):
        shutil.copy(server.base / "input" / name, half.base / "input")
    yield half.start()
    half.stop()


def test_main_job(half, server, index, poses):
    """Nearly the picture of float32; outside the mask the photo to one level in 255."""
    pictures = {}
    for name, at in (("half", half), ("full", server)):
        graph = Dress(index=index, pose=json.dumps([poses["1"]]))
        saved = graph.finish(graph.sample(seed=3, steps=2))
        photo = graph.add("SaveImage", images=graph.photo, filename_prefix="photo")
        mask = graph.add("MaskToImage", mask=graph.mask)
        mask = graph.add("SaveImage", images=mask, filename_prefix="mask")
        result = at.client.run(graph)
        pictures[name], photo, mask = (
            at.client.images(result, node)[0].astype(int) for node in (saved, photo, mask)
        )
    outside = mask[..., 0] < 128
    assert np.abs(pictures["half"] - photo)[outside].max() <= 1
    apart = np.abs(pictures["half"] - pictures["full"])[~outside].mean()
    painted = np.abs(pictures["full"] - photo)[~outside].mean()
    assert apart < 0.1 * painted
