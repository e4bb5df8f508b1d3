"""Parity in fp32 on the full-size architecture: the graph in ComfyUI against the reference.

The server is stopped before the reference is loaded, so that only one of them is in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from fashion_rag.comfyui_server.client import Graph
from fashion_rag.comfyui_server.installations import Host, cache_folder
from fashion_rag.comfyui_server.server import Server, link_or_copy
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

from .. import fullsize, reference
from ..fullsize import full_size_folder
from ..reference import training_alphas
from .contract import PAPER_PROMPT

PROBES = Path(__file__).parent / "probe_nodes"

pytestmark = [pytest.mark.host, pytest.mark.fullsize]

WIDTH, HEIGHT, SEED, SCALE = 96, 128, 1234, 7.5
CATEGORY = "upper_body"
PHOTO, MASK, GARMENTS = "photo.png", "mask.png", ("garment_0.png", "garment_1.png")
UNET = Path("full size") / "diffusion_pytorch_model.safetensors"
CROP, NOISE = "crop.png", "noise.latent"
FOUR_STEPS = (751, 501, 251, 1)
SIGMA = 9 * HEIGHT / 512
LATENT_SCALE = 0.18215
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
    unet = graph.add("FashionUNetLoader", unet_name=str(UNET), weight_dtype="default")
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
    recorded = graph.add("ProbeUNet", model=unet, name="unet")
    vision = {"clip_vision": models[3], "image": graph.add("LoadImage", image=CROP)[0]}
    graph.add("ProbeVision", name="vision", **vision)
    noise = graph.add("LoadLatent", latent=NOISE)
    for name, value in (
        ("words", words[1]),
        ("context", words),
        ("four", graph.add("KSampler", model=recorded, steps=4, **sampling)),
        ("ten", graph.add("KSampler", model=models, steps=10, **sampling)),
        ("decoded", graph.add("VAEDecode", samples=noise, vae=models[2])),
    ):
        graph.add("ProbeSave", value=value, name=name)
    return graph


def starting_noise() -> torch.Tensor:
    """What KSampler draws for the seed."""
    shape = (1, 4, HEIGHT // 8, WIDTH // 8)
    return torch.randn(shape, generator=torch.manual_seed(SEED))


def first_input(noise: torch.Tensor) -> torch.Tensor:
    """What the host's U-Net sees of it at the first of 4 steps: scaled by s / sqrt(1 + s^2)."""
    alpha = training_alphas()[FOUR_STEPS[0]]
    return noise * (1 - alpha).sqrt()


@pytest.fixture(scope="session")
def drawn(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A folder with the pictures and the noise, and the keypoints."""
    folder = tmp_path_factory.mktemp("drawn")
    keypoints = draw(folder)
    crop_of(Image.open(folder / GARMENTS[0])).save(folder / CROP)
    latent = {"latent_tensor": starting_noise(), "latent_format_version_0": torch.tensor([])}
    save_file(latent, folder / NOISE)
    return folder, keypoints


@pytest.fixture(scope="module")
def run(host: Host, drawn, tmp_path_factory, note) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors that the graph left, by name."""
    folder, keypoints = drawn
    server = Server(host, tmp_path_factory.mktemp("fullsize"), flags=FLAGS, other_packs=(PROBES,))
    unets = server.base / "models" / "diffusion_models"
    for target in (unets, server.store / "models"):
        target.mkdir(parents=True)
    models = full_size_folder()
    link_or_copy(models, server.store / "models" / "full size")
    link_or_copy(models / "unet", unets / UNET.parent)
    shutil.copytree(folder, server.base / "input", dirs_exist_ok=True)
    try:
        result = server.start().client.run(parity_graph(keypoints), seconds=1800)
    finally:
        server.stop()
    note(f"{host.version}  full size, {WIDTH}x{HEIGHT}, 4 and 10 steps: {result.seconds:.0f} s")
    files = (server.base / "output").glob("*.safetensors")
    return {file.stem: load_file(file) for file in files}


def crop_of(photo: Image.Image) -> Image.Image:
    """What CLIP's processor makes of a photo of 384x512: 224 wide, the middle 224 rows."""
    return photo.resize((224, 298), Image.BICUBIC).crop((0, 37, 224, 261))


@pytest.fixture(scope="session")
def kept(drawn) -> Path:
    """Where the reference's tensors are kept; named by all that they depend on."""
    digest = hashlib.sha256()
    for module in (fullsize, reference):
        digest.update(Path(module.__file__).read_bytes())
    digest.update(Path(__file__).read_bytes())
    digest.update(
        f"{torch.__version__} {diffusers.__version__} {transformers.__version__}".encode()
    )
    for file in sorted(drawn[0].iterdir()):
        digest.update(file.read_bytes())
    return cache_folder() / f"reference-{digest.hexdigest()[:12]}.safetensors"


@pytest.fixture
def expected(run, drawn, kept) -> dict[str, torch.Tensor]:
    """The reference's tensors, made once. `run` comes first: its server has ended by now."""
    if not kept.is_file():
        with torch.no_grad():
            tensors = reference_tensors(*drawn)
        partial = kept.with_suffix(f".{os.getpid()}")
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        partial.replace(kept)
    return load_file(kept)


def reference_tensors(folder: Path, keypoints: np.ndarray) -> dict[str, torch.Tensor]:
    """The whole method on the drawn input, by the reference."""
    models = full_size_folder()
    method = reference.Reference(
        unet=UNet2DConditionModel.from_pretrained(models / "unet"),
        vae=AutoencoderKL.from_pretrained(models / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(models / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(models / "tokenizer"),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(models / "image_encoder"),
        adapter=reference.Adapter(models / "inversion_adapter.safetensors", heads=16),
    )
    features = method.vision([Image.open(folder / name) for name in GARMENTS])
    words = method.adapter(features).reshape(-1, 1024)
    context, empty = method.text(CATEGORY, words), method.text("")
    image = torch.from_numpy(np.array(Image.open(folder / PHOTO), np.float32) / 127.5 - 1)
    mask = torch.from_numpy(np.array(Image.open(folder / MASK).convert("L"), np.float32) / 255)
    inpainting = method.inpainting(image.permute(2, 0, 1)[None], mask[None, None])
    pose = reference.pose_map(keypoints, HEIGHT, WIDTH, SIGMA)
    noise = starting_noise()
    step, latents = FOUR_STEPS[0], first_input(noise)
    return {
        "vision": features[:1],
        "words": words,
        "context": context,
        "empty": empty,
        "inpainting": inpainting,
        "pose": pose,
        "conditional": method.predict(latents, step, inpainting, pose, context),
        "unconditional": method.predict(latents, step, inpainting, torch.zeros_like(pose), empty),
        "four": method.sample(noise, inpainting, pose, context, steps=4, scale=SCALE),
        "ten": method.sample(noise, inpainting, pose, context, steps=10, scale=SCALE),
        "decoded": method.decode(noise * LATENT_SCALE),
    }


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def largest(found: torch.Tensor, expected: torch.Tensor) -> float:
    return (found - expected).abs().max().item()


@pytest.fixture
def figure(host, record_figure):
    """`record_figure` with the host's version."""
    return lambda what, *values: record_figure(f"ComfyUI {host.version}: {what}", *values)


def test_vision(run, expected, figure):
    found = run["vision"]["last_hidden_state"]
    figure("vision last_hidden_state, relative", relative(found, expected["vision"]), 1e-3)


def test_pseudo_words(run, expected, figure):
    (found,) = run["words"].values()
    assert found.shape == (2 * 16, 1024)
    figure("pseudo-words from photos, relative", relative(found, expected["words"]), 1e-5)
    assert relative(found[:16], found[16:]) > 0.01


def test_text_encoder_with_pseudo_words(run, expected, figure):
    found = run["context"]["0.0"]
    figure("text encoder with pseudo-words, max abs", largest(found, expected["context"]), 1e-4)


def test_unet_inputs(run, expected, figure):
    """Channels: noise 4, mask 1, masked-image latents 4, pose 18; one row a guidance half."""
    for step, timestep in enumerate(FOUR_STEPS):
        assert run[f"unet_{step}"]["timesteps"].tolist() == [timestep, timestep]
    x, context = run["unet_0"]["x"], run["unet_0"]["context"]
    row = conditional_row(run)
    assert not x[1 - row, 9:].any()
    assert torch.equal(x[:, 4:5], expected["inpainting"][:, :1].expand(2, -1, -1, -1))
    latents = expected["inpainting"][:, 1:].expand(2, -1, -1, -1)
    figure("masked-image latents, max abs", largest(x[:, 5:9], latents), 1e-4)
    figure("pose map, max abs", largest(x[row, 9:], expected["pose"][0]), 1e-6)
    figure("context, max abs", largest(context[row], expected["context"][0]), 1e-4)
    figure("empty context, max abs", largest(context[1 - row], expected["empty"][0]), 1e-4)


def conditional_row(run) -> int:
    """The row of the U-Net's batch that has a pose."""
    return int(run["unet_0"]["x"][1, 9:].any())


def test_one_prediction(run, expected, figure):
    """The U-Net's first output; the reference makes every input itself."""
    call, row = run["unet_0"], conditional_row(run)
    noisy = first_input(starting_noise()).expand(2, -1, -1, -1)
    figure("noisy latents of the first step, max abs", largest(call["x"][:, :4], noisy), 1e-6)
    for place, half in ((row, "conditional"), (1 - row, "unconditional")):
        found = call["output"][place]
        figure(f"one U-Net prediction, {half}, relative", relative(found, expected[half][0]), 1e-5)


@pytest.mark.parametrize(("name", "limit"), [("four", 0.03), ("ten", 0.01)])
def test_final_latents(run, expected, figure, name, limit):
    found = run[name]["samples"] * LATENT_SCALE
    figure(f"latents after {name} steps, relative", relative(found, expected[name]), limit)


def test_decoded_picture(run, expected, figure):
    (found,) = run["decoded"].values()
    wanted = expected["decoded"].clamp(-1, 1).movedim(1, -1)
    figure("decoded picture, max abs", largest(found * 2 - 1, wanted), 1e-3)
