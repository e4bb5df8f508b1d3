"""The headless pipeline on the untrained stand-in: what counts, what comes out, what is refused."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag.adapter.garment import prompts
from fashion_rag.adapter.garment.checkpoints import load_tensors, unet_diffusers_to_ldm
from fashion_rag.adapter.garment.text_encoder import load_text_encoder, token_table
from fashion_rag.adapter.headless.depth import context_at, cross_attentions, parse_levels
from fashion_rag.adapter.headless.pipeline import FashionRAGPipeline
from fashion_rag.adapter.person.framing import frame, unframe
from fashion_rag.adapter.person.pose import photo_keypoints
from fashion_rag.miniature.standin import make_standin
from PIL import Image
from safetensors.torch import load_file, save_file

PROMPTS = json.loads((Path(__file__).parent.parent / "data/prompt_ids.json").read_text())
PLACEHOLDER = 259  # "$</w>", what the official code puts where pseudo-words come
SMALL = {"height": 64, "width": 48, "steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_standin(tmp_path_factory.mktemp("standin"))


@pytest.fixture(scope="module")
def pipeline(folder) -> FashionRAGPipeline:
    return FashionRAGPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def person() -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((90, 130), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    mask = np.zeros((130, 90), np.float32)
    mask[40:90, 20:70] = 1
    return mask


def garment(colour: str) -> Image.Image:
    photo = Image.new("RGB", (384, 512), "white")
    photo.paste(colour, (80, 100, 300, 420))
    return photo


def latents(pipeline, person, mask, garments, **options) -> torch.Tensor:
    return pipeline(person, mask, garments, **{**SMALL, "output": "latent", **options})


@pytest.mark.parametrize(
    ("name", "category", "count"),
    [("dresses_n1", "dresses", 1), ("upper_body_n3", "upper_body", 3), ("uncond", "", 0)],
)
def test_token_ids_are_the_official_ones(pipeline, name, category, count):
    template = prompts.PAPER_PROMPT if category else ""
    parts = prompts.split_prompt(template, prompts.category_words([category]))
    (window,) = prompts.windows(
        parts,
        [torch.zeros(16, 64)] * count,
        lambda text: [
            (i, 1.0) for i in pipeline.tokenizer(text, add_special_tokens=False).input_ids
        ],
        start=pipeline.tokenizer.bos_token_id,
        end=pipeline.tokenizer.eos_token_id,
        pad=pipeline.tokenizer.pad_token_id,
    )
    ids = [PLACEHOLDER if torch.is_tensor(token) else token for token, _ in window]
    assert ids == PROMPTS[f"{name}_input_ids"]


def test_the_marker_and_the_users_signs_survive_the_tokenizer(pipeline):
    words = torch.ones(2, 64)
    for text in ("$5 & up, \u00e9t\u00e9!", "(a) [b] {c}", "x" * 40, ""):
        (window,) = prompts.windows(
            [text, text], [words], pipeline._tokenize, start=49406, end=49407, pad=0
        )
        assert sum(torch.is_tensor(token) for token, _ in window) == 2
        alone = [i for i, _ in pipeline._tokenize(text)]
        around = [i for i, _ in window if not torch.is_tensor(i)]
        assert around[1 : 2 * len(alone) + 1] == alone + alone


def test_the_photo_comes_back_with_its_size_and_its_pixels(pipeline, person, mask):
    picture = pipeline(person, mask, [garment("navy")], **SMALL)
    assert picture.size == person.size
    before, after = np.array(person), np.array(picture)
    assert np.array_equal(before[mask < 0.5], after[mask < 0.5])
    assert (before != after)[mask >= 0.5].mean() > 0.9
    whole = pipeline(person, mask, [garment("navy")], **SMALL, feather=None)
    assert whole.size == (48, 64)


def test_a_seed_decides_and_every_input_counts(pipeline, person, mask):
    keypoints = np.array([[10.0 + 3 * i, 20.0 + 5 * i, 1.0] for i in range(18)])
    options = {"keypoints": keypoints, "category": "upper_body"}
    garments = [garment("navy"), garment("orange")]
    first = latents(pipeline, person, mask, garments, **options)
    assert first.shape == (1, 4, 8, 6)
    assert torch.equal(first, latents(pipeline, person, mask, garments, **options))
    for changed in (
        latents(pipeline, person, mask, garments, **options, seed=1),
        latents(pipeline, person, mask, garments[::-1], **options),
        latents(pipeline, person, mask, garments[:1], **options),
        latents(pipeline, person, mask, garments, **options, strength=0.5),
        latents(pipeline, person, mask, garments, **options, preprocess="whole"),
        latents(pipeline, person, mask, garments, **{**options, "category": "dresses"}),
        latents(pipeline, person, mask, garments, **{**options, "keypoints": None}),
        latents(pipeline, person, mask, garments, **options, guidance_scale=2.0),
        latents(pipeline, person.rotate(180), mask, garments, **options),
        latents(pipeline, person, np.roll(mask, 16, axis=0), garments, **options),
        latents(pipeline, person, mask, garments, **options, prompt=prompts.CAPTION_PROMPT),
    ):
        assert (changed - first).abs().max() > 1e-3


def test_strength_zero_is_the_prompt_without_garments(pipeline, person, mask):
    assert torch.equal(
        latents(pipeline, person, mask, [garment("navy")], strength=0.0),
        latents(pipeline, person, mask, []),
    )


def test_garments_of_a_further_window_count_too(pipeline, person, mask):
    # 4 pseudo-words each, 12 tokens of prompt: 15 garments fill the first window.
    many = [garment("navy")] * 15
    assert pipeline.encode_prompt(["a dress ", ""], pipeline.pseudo_words(many)).shape[1] == 77
    red, green = (
        latents(pipeline, person, mask, [*many, *[garment(colour)] * 3])
        for colour in ("red", "green")
    )
    assert (red - green).abs().max() > 1e-3


def test_all_levels_are_the_plain_mode_and_some_lie_between(pipeline, person, mask):
    garments, options = [garment("navy")], {"caption": "a navy shirt", "category": "dresses"}
    plain = latents(pipeline, person, mask, garments, **options)
    every = latents(pipeline, person, mask, garments, **options, levels={0, 1, 2})
    assert torch.allclose(plain, every, atol=1e-5)
    caption = latents(pipeline, person, mask, [], **options, prompt=prompts.DEPTH_PROMPT)
    for levels in ({0}, {2}, {1, 2}):
        some = latents(pipeline, person, mask, garments, **options, levels=levels)
        assert (some - plain).abs().max() > 1e-3
        assert (some - caption).abs().max() > 1e-3


def test_levels_are_counted_as_in_the_paper():
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 32, 32, 32), cross_attention_dim=8, attention_head_dim=4
        )
    names = {module: name for name, module in unet.named_modules()}
    found = {
        level: {names[layer].split(".attentions")[0] for layer in cross_attentions(unet, [level])}
        for level in parse_levels("0 1,2 3")
    }
    assert found == {
        0: {"mid_block"},
        1: {"down_blocks.2", "up_blocks.1"},
        2: {"down_blocks.1", "up_blocks.2"},
        3: {"down_blocks.0", "up_blocks.3"},
    }
    with pytest.raises(ValueError, match=r"levels \[7\].*\[0, 1, 2, 3\]"):
        cross_attentions(unet, [7])
    with pytest.raises(ValueError, match="'4'"):
        parse_levels("4")
    with context_at(cross_attentions(unet, [0]), torch.zeros(1)):
        assert all(layer._forward_pre_hooks for layer in cross_attentions(unet, [0]))
    assert not any(module._forward_pre_hooks for module in unet.modules())


@pytest.mark.parametrize(("scale", "rows"), [(7.5, 2), (1.0, 1)])
def test_the_unconditional_half_has_no_pose(pipeline, person, mask, scale, rows):
    keypoints = np.array([[10.0 + 3 * i, 20.0 + 5 * i, 1.0] for i in range(18)])
    seen = []
    hook = pipeline.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    latents(pipeline, person, mask, [garment("navy")], keypoints=keypoints, guidance_scale=scale)
    hook.remove()
    assert [call.shape for call in seen] == [(rows, 27, 8, 6)] * 2
    assert bool(seen[0][-1, 9:].flatten(1).any(dim=1).all())
    if rows == 2:
        assert not seen[0][0, 9:].any()
        assert torch.equal(seen[0][0, :9], seen[0][1, :9])


def test_the_callback_counts_and_may_stop(pipeline, person, mask):
    calls = []
    latents(pipeline, person, mask, [], steps=3, callback=lambda *call: calls.append(call))
    assert calls == [(1, 3), (2, 3), (3, 3)]

    def stop(done, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        latents(pipeline, person, mask, [], callback=stop)


def test_other_unet_files_take_the_folders_place(folder, pipeline, person, mask, tmp_path):
    weights, _ = load_tensors(folder / "unet" / "diffusion_pytorch_model.safetensors")
    expected = latents(pipeline, person, mask, [garment("navy")])
    torch.save(weights, tmp_path / "unet.pth")
    save_file(unet_diffusers_to_ldm(weights), tmp_path / "ldm.safetensors")
    for name in ("unet.pth", "ldm.safetensors"):
        other = FashionRAGPipeline.from_pretrained(folder, unet=tmp_path / name)
        assert torch.equal(latents(other, person, mask, [garment("navy")]), expected)

    stock = {**weights, "conv_in.weight": weights["conv_in.weight"][:, :9].contiguous()}
    save_file(stock, tmp_path / "stock.safetensors")
    nine = FashionRAGPipeline.from_pretrained(folder, unet=tmp_path / "stock.safetensors")
    assert nine.unet.config.in_channels == 9
    keypoints = np.ones((18, 3)) * 30
    assert torch.equal(
        latents(nine, person, mask, []), latents(nine, person, mask, [], keypoints=keypoints)
    )


def test_half_precision_runs(folder, person, mask):
    half = FashionRAGPipeline.from_pretrained(folder, dtype=torch.bfloat16)
    result = latents(half, person, mask, [garment("navy")], keypoints=np.ones((18, 3)) * 30)
    assert result.dtype == torch.bfloat16
    assert bool(result.isfinite().all())
    assert half(person, mask, [garment("navy")], **SMALL).size == person.size


@pytest.mark.parametrize(
    ("key", "weights", "report"),
    [
        ("text_projection.weight", torch.zeros(64, 64), None),
        ("text_projection.weight", torch.zeros(16, 64), "UNEXPECTED"),
        ("no_weight_of_it", torch.zeros(1), "UNEXPECTED"),
    ],
)
def test_a_projection_is_no_cause_for_a_warning(folder, pipeline, tmp_path, key, weights, report):
    """transformers reports the other keys of the text encoder that it does not expect."""
    part = shutil.copytree(folder / "text_encoder", tmp_path / "text_encoder")
    state = load_file(part / "model.safetensors")
    save_file({**state, key: weights}, part / "model.safetensors", metadata={"format": "pt"})
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    try:
        loaded = load_text_encoder(part)
    finally:
        logger.removeHandler(handler)
    assert (report is None and not messages) or (report and report in messages[0]), messages
    assert torch.equal(token_table(loaded), token_table(pipeline.text_encoder))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "image_encoder"])
def test_a_part_without_all_of_its_weights(folder, tmp_path, part):
    """The libraries would fill them with random ones, and go on."""
    broken = shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("encoder"))
    (weights,) = (broken / part).glob("*.safetensors")
    whole = load_file(weights)
    name = sorted(whole)[len(whole) // 2]
    known = re.escape(name.removeprefix("text_model."))
    for tensors, message in (
        ({n: t for n, t in whole.items() if n != name}, f"lacks 1 weights.*{known}"),
        ({**whole, name: torch.zeros(3, 2)}, rf"1 weights of another shape.*{known}.*\(3, 2\)"),
    ):
        save_file(tensors, weights, metadata={"format": "pt"})
        with pytest.raises(ValueError, match=f"{weights.name} .*{message}"):
            FashionRAGPipeline.from_pretrained(broken)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{part}/{weights.name} "):
        FashionRAGPipeline.from_pretrained(broken)
    for content in ("{", "[]"):
        (broken / part / "config.json").write_text(content)
        with pytest.raises(ValueError, match=f"{part}/config.json .*fetch"):
            FashionRAGPipeline.from_pretrained(broken)


def test_a_vision_tower_needs_no_projection(folder, tmp_path):
    """Pseudo-words are made from what comes before it."""
    lean = shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("encoder"))
    weights = lean / "image_encoder" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["visual_projection.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    FashionRAGPipeline.from_pretrained(lean)


def test_a_vae_in_the_names_of_published_ones(folder, pipeline, tmp_path):
    older = shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("encoder"))
    weights = older / "vae" / "diffusion_pytorch_model.safetensors"
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(weights)
    for name, former in names.items():
        tensors = {key.replace(f".{name}.", f".{former}."): t for key, t in tensors.items()}
    save_file(tensors, weights, metadata={"format": "pt"})
    found = FashionRAGPipeline.from_pretrained(older).vae.state_dict()
    expected = pipeline.vae.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_unfit_parts_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="unet, vae"):
        FashionRAGPipeline.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        FashionRAGPipeline.from_pretrained(folder, adapter=tmp_path / "nowhere.safetensors")

    weights, _ = load_tensors(folder / "unet" / "diffusion_pytorch_model.safetensors")
    twelve = {**weights, "conv_in.weight": weights["conv_in.weight"][:, :12].contiguous()}
    cut = {name: tensor for name, tensor in weights.items() if name != "conv_out.bias"}
    for name, tensors, message in (
        ("twelve", twelve, "12 input channels"),
        ("cut", cut, "conv_out.bias"),
        ("other", {"a": torch.zeros(1)}, "neither conv_in.weight"),
    ):
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(ValueError, match=message):
            FashionRAGPipeline.from_pretrained(folder, unet=tmp_path / f"{name}.safetensors")

    golden = Path(__file__).parent.parent / "data" / "adapter_tiny.safetensors"
    weights, _ = load_tensors(golden)
    save_file(weights, tmp_path / "narrow.safetensors", metadata={"heads": "4", "words": "4"})
    with pytest.raises(ValueError, match="output width is 32, the text encoder's 64"):
        FashionRAGPipeline.from_pretrained(folder, adapter=tmp_path / "narrow.safetensors")


def test_unfit_arguments_are_named(pipeline, person, mask):
    with pytest.raises(ValueError, match="60x48"):
        pipeline(person, mask, [], height=60, width=48)
    with pytest.raises(ValueError, match="'png'"):
        pipeline(person, mask, [], output="png")
    with pytest.raises(ValueError, match="mask 0 is empty"):
        pipeline(person, np.zeros_like(mask), [], **SMALL)


@pytest.mark.parametrize("size", [(90, 130), (300, 100), (48, 64)])
def test_a_photo_of_any_size_lies_centred_on_the_canvas(size):
    photo = Image.new("RGB", size, "white")
    corners = np.array([[0, 0, 1], [*size, 1]], np.float32)
    mask = np.full((size[1] // 2, size[0] // 2), 255, np.uint8)
    framed = frame(photo, mask, corners, (64, 48))
    left, top, right, bottom = framed.box
    assert framed.image.shape == (1, 64, 48, 3) and framed.mask.shape == (1, 64, 48)
    assert np.allclose(framed.keypoints[:, :2], [[left, top], [right, bottom]])
    assert right - left == 48 or bottom - top == 64
    assert abs(left - (48 - right)) <= 1 and abs(top - (64 - bottom)) <= 1
    assert torch.allclose(framed.mask, torch.ones(()))
    assert unframe(framed.image, framed.box, photo, mask, 0).size == size
    if size == (48, 64):
        assert framed.box == (0, 0, 48, 64)


def test_pose_files_of_either_kind(tmp_path, caplog):
    joints = [[i, 2 * i, 1] for i in range(18)]
    dwpose = {
        "people": [{"pose_keypoints_2d": sum(joints, [])}],
        "canvas_width": 100,
        "canvas_height": 50,
    }
    path = tmp_path / "pose.json"
    path.write_text(json.dumps([dwpose]))
    assert np.allclose(
        photo_keypoints(path, 0, (200, 200))[:, :2], [[2 * i, 8 * i] for i in range(18)]
    )
    with caplog.at_level(logging.WARNING):
        assert photo_keypoints(path, 1, (200, 200)) is None
    assert "numbered 1" in caplog.text
    path.write_text(json.dumps({"keypoints": [[38.4 * 2, 51.2 * 3, 0, 0]] * 18}))
    assert np.allclose(photo_keypoints(path, 0, (100, 100)), [[20, 30, 1]] * 18)
    for content, message in (("{}", "neither"), ("no", "holds no pose")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            photo_keypoints(path, 0, (100, 100))
