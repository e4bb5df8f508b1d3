"""Parity in fp32 on the full-size architecture: the graph in ComfyUI against the reference.

The server is stopped before the reference is loaded, so that only one of them is in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from fashion_rag.demo.client import Graph
from fashion_rag.demo.hosts import Host
from fashion_rag.demo.server import Server, link_or_copy
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from ..fullsize import full_size_folder
from ..reference import Adapter, Reference, pose_map
from .contract import PAPER_PROMPT

PROBES = Path(__file__).parent / "probe_nodes"

pytestmark = [pytest.mark.host, pytest.mark.fullsize]

WIDTH, HEIGHT, SEED, SCALE = 96, 128, 1234, 7.5
CATEGORY = "upper_body"
PHOTO, MASK, GARMENTS = "photo.png", "mask.png", ("garment_0.png", "garment_1.png")
SIGMA = 9 * HEIGHT / 512
FLAGS = ("--cache-classic", "--force-fp32", "--fp32-text-enc")


def draw(folder: Path) -> np.ndarray:
    """Write drawn photos of person, mask and garments; returns the keypoints (18, 3) in pixels."""
    random = np.random.default_rng(SEED)

    def picture(height: int, width: int) -> Image.Image:
        coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.BICUBIC)

    picture(HEIGHT, WIDTH).save(folder / PHOTO)
    mask = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    mask[30:93, 21:75] = 255
    Image.fromarray(mask).save(folder / MASK)
    for name in GARMENTS:
        picture(512, 384).save(folder / name)
    size = np.array([WIDTH, HEIGHT, 1])
    return np.concatenate([random.uniform(0.1, 0.9, (18, 2)), np.ones((18, 1))], axis=1) * size


def parity_graph(keypoints: np.ndarray) -> Graph:
    graph = Graph()
    models = graph.add("FashionRAGLoader", model_name="full size")
    unet = graph.add("FashionUNetLoader", unet_name="unet.safetensors", weight_dtype="default")
    first, second = (graph.add("LoadImage", image=name) for name in GARMENTS)
    words = graph.add(
        "GarmentTextualInversion",
        clip=models[1],
        clip_vision=models[3],
        adapter=models[4],
        prompt=PAPER_PROMPT,
        strength=1.0,
        preprocess="from adapter",
        images=graph.add("ImageBatch", image1=first, image2=second),
        category=CATEGORY,
    )
    empty = graph.add("CLIPTextEncode", clip=models[1], text="")
    frame = {
        "people": [{"pose_keypoints_2d": keypoints.flatten().tolist()}],
        "canvas_width": WIDTH,
        "canvas_height": HEIGHT,
    }
    inputs = graph.add(
        "FashionInpaintConditioning",
        positive=words,
        negative=empty,
        vae=models[2],
        image=graph.add("LoadImage", image=PHOTO),
        mask=graph.add("LoadImageMask", image=MASK, channel="red"),
        noise_mask=False,
        person=0,
        pose=graph.add("ProbePose", frames=json.dumps([frame])),
    )
    sampling = {
        "positive": inputs[0],
        "negative": inputs[1],
        "latent_image": inputs[2],
        "seed": SEED,
        "cfg": SCALE,
        "sampler_name": "ddim",
        "scheduler": "ddim_uniform",
        "denoise": 1.0,
    }
    four = graph.add(
        "KSampler", model=graph.add("ProbeUNet", model=unet, name="unet"), steps=4, **sampling
    )
    ten = graph.add("KSampler", model=models, steps=10, **sampling)
    decoded = graph.add("VAEDecode", samples=four, vae=models[2])
    graph.add(
        "ProbeVision",
        clip_vision=models[3],
        image=graph.add("LoadImage", image="crop.png"),
        name="vision",
    )
    for name, value in (
        ("tokens", words[1]),
        ("context", words),
        ("four", four),
        ("ten", ten),
        ("decoded", decoded),
    ):
        graph.add("ProbeSave", value=value, name=name)
    return graph


@pytest.fixture(scope="module")
def folder() -> Path:
    return full_size_folder()


@pytest.fixture(scope="module")
def run(host: Host, folder: Path, tmp_path_factory, note) -> Iterator[dict]:
    """What the graph left, by name, and where its pictures lie."""
    server = Server(host, tmp_path_factory.mktemp("fullsize"), flags=FLAGS, other_packs=(PROBES,))
    unets = server.base / "models" / "diffusion_models"
    for target in (unets, server.store / "models"):
        target.mkdir(parents=True)
    link_or_copy(folder, server.store / "models" / "full size")
    (weights,) = (folder / "unet").glob("*.safetensors")
    (unets / "unet.safetensors").symlink_to(weights)
    inputs = server.base / "input"
    keypoints = draw(inputs)
    crop_of(Image.open(inputs / GARMENTS[0])).save(inputs / "crop.png")
    try:
        result = server.start().client.run(parity_graph(keypoints), seconds=480)
    finally:
        server.stop()
    note(f"{host.version}  full size, {WIDTH}x{HEIGHT}, 4 and 10 steps: {result.seconds:.0f} s")
    files = (server.base / "output").glob("*.safetensors")
    return {"input": inputs, "keypoints": keypoints} | {f.stem: load_file(f) for f in files}


def crop_of(photo: Image.Image) -> Image.Image:
    """What CLIP's processor makes of a photo of 384x512: 224 wide, the middle 224 rows."""
    return photo.resize((224, 298), Image.BICUBIC).crop((0, 37, 224, 261))


@pytest.fixture(scope="module")
def reference(run, folder) -> Reference:
    with torch.no_grad():
        return Reference(
            unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
            vae=AutoencoderKL.from_pretrained(folder / "vae"),
            text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            image_encoder=CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder"),
            adapter=Adapter(folder / "inversion_adapter.safetensors", heads=16),
        )


@pytest.fixture(scope="module")
def context(run, reference) -> torch.Tensor:
    photos = [Image.open(run["input"] / name) for name in GARMENTS]
    with torch.no_grad():
        return reference.text(CATEGORY, reference.garment_words(photos))


@pytest.fixture(scope="module")
def channels(run, reference) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference's inpainting channels and pose map."""
    image = torch.from_numpy(np.array(Image.open(run["input"] / PHOTO), np.float32) / 127.5 - 1)
    mask = torch.from_numpy(
        np.array(Image.open(run["input"] / MASK).convert("L"), np.float32) / 255
    )
    with torch.no_grad():
        inpainting = reference.inpainting(image.permute(2, 0, 1)[None], mask[None, None])
    return inpainting, pose_map(run["keypoints"], HEIGHT, WIDTH, SIGMA)


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def largest(found: torch.Tensor, expected: torch.Tensor) -> float:
    return (found - expected).abs().max().item()


@torch.no_grad()
def test_vision(host, run, reference, record_figure):
    photo = Image.open(run["input"] / GARMENTS[0])
    found = run["vision"]["last_hidden_state"]
    what = f"ComfyUI {host.version}: vision last_hidden_state, relative"
    record_figure(what, relative(found, reference.vision([photo])), 1e-3)


@torch.no_grad()
def test_pseudo_words(host, run, reference, record_figure):
    photos = [Image.open(run["input"] / name) for name in GARMENTS]
    (found,) = run["tokens"].values()
    expected = reference.garment_words(photos)
    assert found.shape == (2 * 16, 1024)
    what = f"ComfyUI {host.version}: pseudo-words from photos, relative"
    record_figure(what, relative(found, expected), 1e-4)
    assert relative(found[:16], found[16:]) > 0.01


@torch.no_grad()
def test_text_encoder_with_pseudo_words(host, run, context, record_figure):
    what = f"ComfyUI {host.version}: text encoder with pseudo-words, max abs"
    record_figure(what, largest(run["context"]["0.0"], context), 1e-4)


@torch.no_grad()
def test_unet_inputs(host, run, reference, context, channels, record_figure):
    """A row a half; channels: noise 4, mask 1, masked-image latents 4, pose 18."""
    inpainting, pose = channels
    for step, timestep in enumerate((751, 501, 251, 1)):
        assert run[f"unet_{step}"]["timesteps"].tolist() == [timestep, timestep]
    x, texts = run["unet_0"]["x"], run["unet_0"]["context"]
    conditional = int(x[1, 9:].any())
    assert not x[1 - conditional, 9:].any()
    assert torch.equal(x[:, 4:5], inpainting[:, :1].expand(2, -1, -1, -1))
    name = f"ComfyUI {host.version}"
    for row in x:
        record_figure(
            f"{name}: masked-image latents, max abs", largest(row[5:9], inpainting[0, 1:]), 1e-4
        )
    record_figure(f"{name}: pose map, max abs", largest(x[conditional, 9:], pose[0]), 1e-6)
    record_figure(f"{name}: context, max abs", largest(texts[conditional], context[0]), 1e-4)
    empty = reference.text("")[0]
    record_figure(f"{name}: empty context, max abs", largest(texts[1 - conditional], empty), 1e-4)


@torch.no_grad()
def test_one_prediction(host, run, reference, context, channels, record_figure):
    """The U-Net's first output against the reference's, which makes every input but the noise."""
    inpainting, pose = channels
    call = run["unet_0"]
    conditional = int(call["x"][1, 9:].any())
    for row, what, text, map_ in (
        (conditional, "conditional", context, pose),
        (1 - conditional, "unconditional", reference.text(""), torch.zeros_like(pose)),
    ):
        expected = reference.predict(call["x"][row : row + 1, :4], 751, inpainting, map_, text)
        name = f"ComfyUI {host.version}: one U-Net prediction, {what} half, relative"
        record_figure(name, relative(call["output"][row], expected[0]), 1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("name", "steps", "limit"), [("four", 4, 0.03), ("ten", 10, 0.01)])
def test_final_latents(host, run, reference, context, channels, record_figure, name, steps, limit):
    noise = torch.randn(1, 4, HEIGHT // 8, WIDTH // 8, generator=torch.manual_seed(SEED))
    expected = reference.sample(noise, *channels, context, steps=steps, scale=SCALE)
    what = f"ComfyUI {host.version}: latents after {steps} steps, relative"
    record_figure(what, relative(run[name]["samples"], expected / 0.18215), limit)


@torch.no_grad()
def test_decoded_picture(host, run, reference, record_figure):
    (found,) = run["decoded"].values()
    latents = run["four"]["samples"] * 0.18215
    expected = (reference.decode(latents) / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    what = f"ComfyUI {host.version}: decoded picture, max abs"
    record_figure(what, 2 * largest(found, expected), 1e-3)
