"""The headless pipeline against the independent reference, in float32 on the CPU.

On the miniature stand-in, and on the full-size SD2-inpainting architecture at a small picture size
(the same weights file for both sides; tolerances as measured in float32 against float64).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from fashion_rag.adapter.garment.prompts import category_words, split_prompt
from fashion_rag.adapter.headless.pipeline import FashionRAGPipeline
from fashion_rag.miniature.standin import make_standin
from PIL import Image, ImageDraw

from .. import reference as independent
from ..fullsize import full_size_folder

HEIGHT, WIDTH = 128, 96
CATEGORY = "upper_body"
TEMPLATE = "a photo of a model wearing {category} made of {garments}"


@dataclass(frozen=True)
class Case:
    """The same inputs on both sides, and the models."""

    name: str
    pipeline: FashionRAGPipeline
    reference: independent.Reference
    person: Image.Image
    mask: np.ndarray
    keypoints: np.ndarray
    photos: list[Image.Image]

    @property
    def parts(self) -> list[str]:
        return split_prompt(TEMPLATE, category_words([CATEGORY]))

    def product_inputs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Inpainting channels, pose map and context as the product makes them."""
        pixels = torch.from_numpy(np.array(self.person, dtype=np.float32) / 255)[None]
        mask = torch.from_numpy(self.mask)[None]
        return (
            self.pipeline.inpainting_channels(pixels, mask),
            self.pipeline.pose_channels(self.keypoints, (HEIGHT, WIDTH)),
            self.pipeline.encode_prompt(self.parts, self.pipeline.pseudo_words(self.photos)),
        )

    def reference_inputs(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same as the reference makes them."""
        image = torch.from_numpy(np.array(self.person, dtype=np.float32) / 255) * 2 - 1
        mask = torch.from_numpy(self.mask)[None, None]
        return (
            self.reference.inpainting(image.permute(2, 0, 1)[None], mask),
            independent.pose_map(self.keypoints, HEIGHT, WIDTH, sigma=9 * HEIGHT / 512),
            self.reference.text(CATEGORY, self.reference.garment_words(self.photos)),
        )


@pytest.fixture(scope="module", autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(
    scope="module", params=["miniature", pytest.param("full size", marks=pytest.mark.fullsize)]
)
def case(request, tmp_path_factory) -> Case:
    miniature = request.param == "miniature"
    folder = make_standin(tmp_path_factory.mktemp("standin")) if miniature else full_size_folder()
    pipeline = FashionRAGPipeline.from_pretrained(folder)
    adapter = independent.Adapter(
        folder / "inversion_adapter.safetensors", heads=4 if miniature else 16
    )
    random = np.random.default_rng(5)
    coarse = random.integers(0, 256, (16, 12, 3), dtype=np.uint8)
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[29:90, 21:70] = 1.0
    mask[60:, 70:80] = 0.49
    keypoints = np.ones((18, 3), np.float32)
    keypoints[:, :2] = random.uniform(6, (WIDTH - 6, HEIGHT - 6), (18, 2))
    return Case(
        name=request.param,
        pipeline=pipeline,
        reference=independent.Reference(
            unet=pipeline.unet,
            vae=pipeline.vae,
            text_encoder=pipeline.text_encoder,
            tokenizer=pipeline.tokenizer,
            image_encoder=pipeline.image_encoder,
            adapter=adapter,
        ),
        person=Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC),
        mask=mask,
        keypoints=keypoints,
        photos=[drawn_garment("navy", "gold"), drawn_garment("crimson", "ivory")],
    )


def drawn_garment(colour: str, trim: str) -> Image.Image:
    """A pullover with a trim, 384x512 on white."""
    photo = Image.new("RGB", (384, 512), "white")
    draw = ImageDraw.Draw(photo)
    draw.polygon([(90, 90), (294, 90), (370, 320), (310, 340), (280, 480), (104, 480)], fill=colour)
    for row in range(120, 480, 60):
        draw.line([(110, row), (270, row + 20)], fill=trim, width=12)
    return photo


@pytest.fixture(scope="module")
def noise(case) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(1, 4, HEIGHT // 8, WIDTH // 8, generator=generator)


@pytest.fixture(scope="module")
def inputs(case) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    return case.product_inputs(), case.reference_inputs()


def relative(product: torch.Tensor, expected: torch.Tensor) -> float:
    """Norm of the difference over the expected norm."""
    return ((product - expected).norm() / expected.norm()).item()


def largest(product: torch.Tensor, expected: torch.Tensor) -> float:
    return (product - expected).abs().max().item()


def test_vision_and_adapter(case, record_figure):
    seen = []
    hook = case.pipeline.adapter.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    words = case.pipeline.pseudo_words(case.photos)
    hook.remove()
    (features,) = seen
    record_figure(
        f"{case.name}: vision last_hidden_state, relative",
        relative(features, case.reference.vision(case.photos)),
        1e-3,
    )
    expected = case.reference.adapter(features).reshape(words.shape)
    record_figure(f"{case.name}: adapter output, relative", relative(words, expected), 1e-5)
    assert relative(words[0], words[1]) > 0.01


def test_text_encoder_with_pseudo_words(case, record_figure):
    words = case.pipeline.pseudo_words(case.photos)
    product = case.pipeline.encode_prompt(case.parts, words)
    expected = case.reference.text(CATEGORY, words.flatten(0, 1))
    record_figure(f"{case.name}: text encoder, max abs", largest(product, expected), 1e-4)
    empty = case.pipeline.encode_prompt([""])
    record_figure(
        f"{case.name}: empty prompt, max abs", largest(empty, case.reference.text("")), 1e-4
    )
    assert largest(product, empty) > 0.1


def test_inpainting_and_pose_channels(case, inputs, record_figure):
    product, expected = inputs
    assert torch.equal(product[0][:, :1], expected[0][:, :1])
    record_figure(
        f"{case.name}: masked-image latents, relative",
        relative(product[0][:, 1:], expected[0][:, 1:]),
        1e-5,
    )
    record_figure(f"{case.name}: pose map, max abs", largest(product[1], expected[1]), 1e-6)


def test_one_prediction(case, inputs, noise, record_figure):
    product, expected = inputs
    calls = []
    hook = case.pipeline.unet.register_forward_hook(lambda _, args, out: calls.append((args, out)))
    case.pipeline.denoise(noise, *product, steps=1, guidance_scale=7.5)
    hook.remove()
    ((_, step), output) = calls[0]
    without, conditioned = output.sample.chunk(2)

    def predict(latents=noise, pose=expected[1], inpainting=expected[0], context=expected[2]):
        return case.reference.predict(latents, int(step), inpainting, pose, context)

    zero, nothing = torch.zeros_like(expected[1]), case.reference.text("")
    wanted = predict()
    record_figure(
        f"{case.name}: U-Net, conditional half, relative", relative(conditioned, wanted), 1e-5
    )
    record_figure(
        f"{case.name}: U-Net, unconditional half, relative",
        relative(without, predict(pose=zero, context=nothing)),
        1e-5,
    )
    # The comparison above means something only if every input is seen in the prediction.
    unmasked = expected[0].clone()
    unmasked[:, 0] = 0
    no_picture = expected[0].clone()
    no_picture[:, 1:] = 0
    swapped = case.reference.garment_words(case.photos[::-1])
    for what, changed in (
        ("empty prompt", predict(context=nothing)),
        ("no pose", predict(pose=zero)),
        ("pose channels reversed", predict(pose=expected[1].flip(1))),
        ("no mask", predict(inpainting=unmasked)),
        ("no masked image", predict(inpainting=no_picture)),
        ("garments swapped", predict(context=case.reference.text(CATEGORY, swapped))),
    ):
        effect = (changed - wanted).std() / wanted.std()
        assert effect > 1e-3, f"{what} changes the prediction by {effect:.2g} of its std"
    assert 0.1 < wanted.std() < 3


@pytest.mark.parametrize("steps", [4, 10])
def test_final_latents(case, inputs, noise, steps, record_figure):
    product, expected = inputs
    wanted = case.reference.sample(noise, *expected, steps=steps, scale=7.5)
    reached = case.pipeline.denoise(noise, *product, steps=steps, guidance_scale=7.5)
    record_figure(
        f"{case.name}: latents after {steps} steps, max abs / std",
        largest(reached, wanted) / wanted.std().item(),
        2e-4,
    )


def test_the_whole_call_and_the_decoded_picture(case, inputs, noise, record_figure):
    call = {
        "person": case.person,
        "mask": case.mask,
        "garments": case.photos,
        "category": CATEGORY,
        "keypoints": case.keypoints,
        "height": HEIGHT,
        "width": WIDTH,
        "steps": 2,
        "context": None,
        "seed": 11,
    }
    latents = case.pipeline(**call, output="latent")
    wanted = case.reference.sample(noise, *inputs[1], steps=2, scale=7.5)
    record_figure(
        f"{case.name}: whole call, 2 steps, max abs / std",
        largest(latents, wanted) / wanted.std().item(),
        2e-4,
    )
    picture = case.pipeline.decode(latents).movedim(-1, 1) * 2 - 1
    expected = case.reference.decode(latents).clamp(-1, 1)
    record_figure(f"{case.name}: decoded picture, max abs", largest(picture, expected), 1e-3)
