"""Stock features on the loaded 27-channel U-Net: LoRA, ControlNet, previews, prompt depth."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.miniature.standin import MINIATURE, write_model_folder
from safetensors.torch import load_file, save_file

from .graphs import Dress

pytestmark = pytest.mark.host


def picture(server, graph: Dress, **sampling) -> np.ndarray:
    saved = graph.finish(graph.sample(**sampling))
    (image,) = server.client.images(server.client.run(graph), saved)
    return image.astype(int)


@pytest.fixture(scope="module")
def plain(server, index) -> np.ndarray:
    return picture(server, Dress(index=index))


def test_same_seed_same_picture(server, index, plain):
    server.client.post("/free", {"unload_models": True, "free_memory": True})
    np.testing.assert_array_equal(picture(server, Dress(index=index)), plain)


def test_lora(server, index, standin, plain):
    """A LoRA of the cross-attention, in the names that trainers write, acts by its strength."""
    (source,) = (standin / "unet").glob("*.safetensors")
    generator = torch.Generator().manual_seed(0)
    lora = {}
    for name, weight in load_file(source).items():
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            base = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            rows, columns = weight.shape
            lora[f"{base}.lora_up.weight"] = torch.randn(rows, 4, generator=generator)
            lora[f"{base}.lora_down.weight"] = torch.randn(4, columns, generator=generator)
            lora[f"{base}.alpha"] = torch.tensor(4.0)
    assert lora
    folder = server.base / "models" / "loras"
    folder.mkdir(exist_ok=True)
    save_file(lora, folder / "test.safetensors")
    pictures, start = {}, len(server.log)
    for strength in (0.0, 0.5, 1.0):
        graph = Dress(index=index)
        model = graph.add(
            "LoraLoaderModelOnly",
            model=graph.models,
            lora_name="test.safetensors",
            strength_model=strength,
        )
        pictures[strength] = picture(server, graph, model=model)
    assert "lora key not loaded" not in server.log[start:]
    np.testing.assert_array_equal(pictures[0.0], plain)
    assert np.any(pictures[0.5] != plain) and np.any(pictures[1.0] != pictures[0.5])


def test_controlnet(server, index, plain):
    pictures = {}
    for strength in (0.0, 1.0):
        graph = Dress(index=index)
        control = graph.add("ProbeControlNet", model=graph.models)
        graph.inputs = graph.add(
            "ControlNetApplyAdvanced",
            positive=graph.inputs[0],
            negative=graph.inputs[1],
            control_net=control,
            image=graph.photo,
            strength=strength,
            start_percent=0.0,
            end_percent=1.0,
        )
        latent = graph.node("FashionInpaintConditioning")[2]
        pictures[strength] = picture(server, graph, latent_image=latent)
    np.testing.assert_array_equal(pictures[0.0], plain)
    assert np.any(pictures[1.0] != plain)


def test_pose_acts(server, index, poses, plain):
    posed = picture(server, Dress(index=index, pose=json.dumps([poses["1"]])))
    assert np.any(posed != plain)


def test_nine_channels(server, index, poses):
    """A stock inpainting U-Net takes the same conditioning and knows nothing of the pose."""
    sizes = replace(MINIATURE, unet={**MINIATURE.unet, "in_channels": 9})
    write_model_folder(server.store / "models" / "nine", sizes)
    without = picture(server, Dress(index=index, model="nine"))
    posed = picture(server, Dress(index=index, model="nine", pose=json.dumps([poses["1"]])))
    np.testing.assert_array_equal(posed, without)


def test_previews_arrive_while_sampling(server, index):
    graph = Dress(index=index)
    graph.finish(graph.sample(seed=7, steps=3))
    socket = server.client.listen()
    prompt, previews = server.client.submit(graph), 0
    while True:
        frame = socket.recv()
        if isinstance(frame, bytes):
            previews += struct.unpack(">I", frame[:4])[0] in (1, 4)
        elif json.loads(frame)["type"] == "execution_success":
            break
    socket.close()
    assert server.client.wait(prompt).status == "execution_success"
    assert previews >= 3


def depth(server, index: str, levels: str, start_percent: float = 0.0) -> np.ndarray:
    """A picture with the pseudo-words at some depths and `a person` at the others."""
    graph = Dress(index=index)
    caption = graph.add("CLIPTextEncode", clip=graph.models[1], text="a person")
    patched = graph.add(
        "FashionPromptDepth",
        model=graph.models,
        garment_conditioning=graph.words,
        caption_conditioning=caption,
        levels=levels,
        start_percent=start_percent,
    )
    graph.words = patched
    graph[graph.inputs.number]["inputs"]["positive"] = patched[1]
    return picture(server, graph, model=patched, steps=2)


def test_prompt_depth(server, index):
    """All depths are the pseudo-words alone; none of them yet is the caption alone."""
    everywhere = depth(server, index, "0 1 2 3")
    np.testing.assert_allclose(everywhere, picture(server, Dress(index=index), steps=2), atol=1)
    late = depth(server, index, "0 1 2 3", start_percent=1.0)
    graph = Dress(index=index)
    graph[graph.inputs.number]["inputs"]["positive"] = graph.add(
        "CLIPTextEncode", clip=graph.models[1], text="a person"
    )[0]
    np.testing.assert_allclose(late, picture(server, graph, steps=2), atol=1)
    some = depth(server, index, "2")
    assert np.any(some != everywhere) and np.any(some != late)


def test_stock_sampler_with_denoise(server, index):
    """denoise below 1 keeps more of the photo inside the mask."""
    strong = picture(server, Dress(index=index), steps=4)
    weak = picture(server, Dress(index=index), steps=4, denoise=0.25)
    assert np.any(strong != weak)


def test_loader_reads_the_folder_once(server, index, standin: Path):
    graph = Dress(index=index)
    graph.add("ProbeSave", value=graph.empty, name="empty")
    server.client.run(graph)
    assert graph.models.number in server.client.run(graph).cached
