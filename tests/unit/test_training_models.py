"""The models that are trained: what enters them, what stays frozen, and what is written."""

from __future__ import annotations

import json
import math
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("accelerate")
pytest.importorskip("aggdraw")
pytest.importorskip("tensorboard")

from diffusers import UNet2DConditionModel  # noqa: E402
from fashion_rag.adapter.garment.prompts import (
    DEPTH_PROMPT,
    PAPER_PROMPT,
    category_words,
    split_prompt,
)
from fashion_rag.adapter.headless.pipeline import FashionRAGPipeline  # noqa: E402
from fashion_rag.commands.main import main  # noqa: E402
from fashion_rag.retriever.encoders.open_clip import load_encoder  # noqa: E402
from fashion_rag.training import stages as cli  # noqa: E402
from fashion_rag.training.cached_tensors import cached_tensors  # noqa: E402
from fashion_rag.training.fashion_rag import FashionRagTask  # noqa: E402
from fashion_rag.training.retrieval import captions_of, searched_captions  # noqa: E402
from fashion_rag.training.samples import as_retrieved, own_first, sample_mask_mode  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from .training_small import ADAPTER, CLIP, UNET, VAE, settings, small_model, small_world  # noqa: E402


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return small_world(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_model(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("encoded")


@pytest.fixture
def make(world, model, cache):
    def task(stage="fashion_rag", folder=model, **changes):
        torch.manual_seed(0)
        config = cli.parse_stage(settings(folder) | {"stage": stage} | changes)[1]
        return FashionRagTask(config, world, cache, torch.device("cpu"))

    return task


def batch_of(task, positions):
    return torch.utils.data.default_collate([task.stream[position] for position in positions])


def loss_of(task, batch, seed=0):
    torch.manual_seed(seed)
    return task(batch)[0]


def test_encoding_before_and_while_training_give_one_loss(make):
    now, before = make().train(), make(precompute=True).train()
    # float16 of what is encoded, and nothing else, lies between them.
    for positions in (range(6), range(100, 106)):
        one = loss_of(now, batch_of(now, positions))
        other = loss_of(before, batch_of(before, positions))
        assert one.item() == pytest.approx(other.item(), rel=2e-3)
    samples = [before.stream[position] for position in range(40)]
    counts = [int(sample["garment_there"].sum()) for sample in samples]
    assert set(counts) == {0, 1, 2, 3} and any(sample["dropped"] for sample in samples)


def test_offset_noise_is_shared_by_all_pixels_of_a_channel(make):
    seen, std = [], 4.0
    for offset in (0.0, std):
        task = make(noise_offset=offset)
        task.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
        loss_of(task, batch_of(task, range(64)))
    (plain, steps), (shifted, again) = [inputs[:2] for inputs in seen]
    assert torch.equal(steps, again) and torch.equal(plain[:, 4:], shifted[:, 4:])
    added = (shifted - plain)[:, :4]
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added), rtol=0, atol=1e-4)
    shared = added[..., 0, 0] / (1 - task.alphas[steps]).sqrt()[:, None]
    assert shared.std().item() == pytest.approx(std, rel=0.25)


def test_encodings_follow_what_they_were_made_from(make, cache, tmp_path):
    make(precompute=True)
    people, garments = cache / "people.safetensors", cache / "garments.safetensors"
    first = {file: file.read_bytes() for file in (people, garments)}
    make(precompute=True)
    assert first == {file: file.read_bytes() for file in first}
    make(precompute=True, mirror=False)
    assert len(load_file(people)["latents"]) == 9 and len(first[people]) > people.stat().st_size
    assert garments.read_bytes() == first[garments]
    # A damaged one is made again.
    file = tmp_path / "kept.safetensors"
    file.write_bytes(b"half")
    assert cached_tensors(file, "a", lambda: {"x": torch.ones(2)})["x"].sum() == 2
    assert cached_tensors(file, "a", lambda: {"x": torch.zeros(2)})["x"].sum() == 2
    assert cached_tensors(file, "b", lambda: {"x": torch.zeros(2)})["x"].sum() == 0


def test_a_widened_unet_predicts_the_same_until_it_is_trained(make, model):
    task = make()
    stock = UNet2DConditionModel.from_pretrained(model / "unet")
    assert task.unet.config.in_channels == 27 and stock.config.in_channels == 9
    inputs, context = torch.randn(2, 9, 8, 6), torch.randn(2, 77, 32)
    steps = torch.tensor([10, 900])
    for pose in (torch.zeros(2, 18, 8, 6), torch.rand(2, 18, 8, 6)):
        wide = task.unet(torch.cat([inputs, pose], dim=1), steps, context).sample
        # The one being trained attends by plain products on a CPU.
        torch.testing.assert_close(wide, stock(inputs, steps, context).sample, rtol=0, atol=1e-5)
    loss_of(task, batch_of(task, range(8))).backward()
    assert task.unet.conv_in.weight.grad[:, 9:].abs().max() > 0


def test_the_adapter_alone_leaves_the_rest_untouched(world, model, tmp_path):
    config = settings(model, garments=[0.5, 0.5], drop=0.5) | {"stage": "adapter"}
    # With one sample in a batch there often is no garment in it.
    config["run"] |= {"batch_size": 1, "steps": 6, "gradient_checkpointing": True}
    assert cli.run_stage(config, world, tmp_path / "run", False, None)
    out = tmp_path / "run" / "model"
    before = load_file(model / "unet" / "diffusion_pytorch_model.safetensors")
    after = load_file(out / "unet" / "diffusion_pytorch_model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name].half(), after[name]) for name in before)
    for part in ("vae", "text_encoder", "image_encoder", "tokenizer", "scheduler"):
        for file in (model / part).iterdir():
            assert file.read_bytes() == (out / part / file.name).read_bytes()
    old = load_file(model / "inversion_adapter.safetensors")
    new = load_file(out / "inversion_adapter.safetensors")
    assert any(not torch.equal(old[name].half(), new[name]) for name in old)
    weights = tmp_path / "run" / "checkpoints" / "step-00000006" / "weights.safetensors"
    assert all(name.startswith("adapter.") for name in load_file(weights))


def test_frozen_models_stay_in_evaluation(make):
    task = make()
    assert task.train() is task
    assert task.unet.training and task.adapter.training
    frozen = (task.vae, task.text_encoder, task.image_encoder)
    assert not any(part.training for part in frozen)
    assert not any(p.requires_grad for part in frozen for p in part.parameters())


def test_garments_are_the_own_one_and_then_the_retrieved():
    drawn = [tuple(own_first(4, [7, 4, 2, 9], count)) for count in range(4)]
    assert drawn == [(), (4,), (4, 7), (4, 7, 2)]
    rng = random.Random(0)
    assert {sample_mask_mode(rng, {"mask": 1.0, "bounding_box": 0.0}) for _ in range(20)} == {
        "mask"
    }


def test_garments_as_retrieved_keep_the_order_of_the_search():
    rng = random.Random(0)
    found = list(range(20))

    def draw(count=3, own=1, own_left_out=0.0, in_catalogue=1.0, keep=1.0):
        chances = {"own_left_out": own_left_out, "in_catalogue": in_catalogue, "keep": keep}
        return as_retrieved(rng, own, found, count, **chances)

    assert draw() == [0, 1, 2] and draw(own=30) == [0, 1, 2] and draw(count=0) == []
    assert draw(own_left_out=1.0) == [0, 2, 3]
    drawn = [draw(own=5, own_left_out=0.5, in_catalogue=0.2) for _ in range(4000)]
    assert all(rows == sorted(rows) for rows in drawn)
    # The own one is among the first three where at most two of five others stand before it.
    expected = 0.5 * sum(math.comb(5, k) * 0.2**k * 0.8 ** (5 - k) for k in range(3))
    assert abs(sum(5 in rows for rows in drawn) / len(drawn) - expected) < 0.03
    kept = [draw(keep=0.5) for _ in range(2000)]
    assert abs(sum(map(len, kept)) / len(kept) - 1.5) < 0.1


def test_every_caption_that_a_sample_may_have_is_searched(make):
    task = make(garments=[0, 0, 0, 1], captioned=1.0, order="retrieved", drop=0.0)
    chunks = task.stream.data.pairs[0].chunks
    assert len(captions_of(task.stream.data.pairs[0], (1, 2, 3))) == 7
    assert captions_of(task.stream.data.pairs[0], ()) == [", ".join(sorted(chunks))]
    for position in range(40):
        sample = task.stream[position]
        assert sample["garment_there"].any() and sample["places"].any()


def test_a_prompt_has_the_caption_or_it_has_not(make):
    task = make(garments=[0.25, 0.25, 0.25, 0.25], captioned=0.5, order="retrieved", drop=0.0)
    words = task.tokenizer
    read = [words.decode(task.stream[p]["ids"][~task.stream[p]["places"]]) for p in range(60)]
    garments = [int(task.stream[p]["garment_there"].sum()) for p in range(60)]
    made_of = ["made of" in text for text in read]
    asked = list(zip(made_of, garments, strict=True))
    assert all(count for paper, count in asked if paper)
    assert {count for paper, count in asked if not paper} == {0, 1, 2, 3}
    model = ["a photo of a model" in text for text in read]
    assert all(
        told == (paper or not count) for told, (paper, count) in zip(model, asked, strict=True)
    )


def test_without_captions_the_samples_are_those_of_before(make):
    """A run that was begun before `order` was known goes on with the samples that it had."""
    plain, named = make(), make(order="retrieved", catalogue=3, keep=0.5)
    for position in range(12):
        one, other = plain.stream[position], named.stream[position]
        assert all(torch.equal(one[name], other[name]) for name in one)
    added = {"order", "captioned", "own_left_out", "catalogue", "keep"}
    assert not added & cli.identity_of(plain.config).keys(), "as in the folder of such a run"
    assert added & cli.identity_of(named.config).keys() == {"order", "catalogue", "keep"}


def test_pairs_in_focus_are_shown_more_often_and_alone(make, world):
    data = make().stream.data
    listed = [data.pairs[row] for row in (2, 7, 7)]
    lines = [f"{pair.person}_0.jpg {pair.garment}_1.jpg" for pair in listed]
    (world / "often.txt").write_text("\n".join(lines))
    try:
        task = make(focus="often.txt", focus_share=1.0, captioned=1.0, precompute=True, drop=0.0)
        (world / "often.txt").write_text("999999_0.jpg 999999_1.jpg")
        with pytest.raises(ValueError, match="often.txt names 999999 999999.*split"):
            make(focus="often.txt")
    finally:
        (world / "often.txt").unlink()
    with pytest.raises(FileNotFoundError, match="often.txt is missing"):
        make(focus="often.txt")
    with pytest.raises(ValueError, match="focus 'often.txt'"):
        make(focus="often.txt", garments=[1.0, 0.0])
    own = task.stream.encoded["features"]
    shown = []
    for position in range(60):
        sample = task.stream[position]
        (row,) = [row for row in (2, 7) if torch.equal(sample["features"][0], own[row])]
        shown.append(row)
        assert sample["garment_there"][0], "never without its garment, whatever the shares"
    assert 25 < shown.count(7) < 55


def test_retrieved_garments_are_of_the_category_best_first(make, world, model):
    task = make(captioned=0.5)
    data = task.stream.data
    encoder = load_encoder(model / "encoder")
    captions = searched_captions(data, (1, 2, 3))
    assert set(captions.values()) == set(range(len(captions)))
    for row in (0, 4, 8):
        pair = data.pairs[row]
        others = [i for i, other in enumerate(data.pairs) if other.category == pair.category]
        for chunks in (pair.chunks, pair.chunks[:1]):
            caption = ", ".join(sorted(chunks))
            text = encoder.encode_texts([caption])
            photos = encoder.encode_images([data.garment(data.pairs[i]) for i in others])
            order = (photos @ text[0]).argsort(descending=True).tolist()
            found = task.stream.found(pair.category, caption)
            assert found[: len(others)] == [others[i] for i in order]


def test_prompts_are_those_of_the_pipeline(make):
    task = make()
    pipe = task.pipeline()
    pair = task.stream.data.pairs[0]
    words = torch.randn(3, 4, 32)
    rows = []
    for count in (1, 2, 3):
        ids, places = task.prompts.garments(pair.category, count)
        parts = split_prompt(PAPER_PROMPT, category_words([pair.category]))
        rows.append((ids, places, pipe.encode_prompt(parts, list(words[:count])), words[:count]))
    caption = "red dress, round neckline"
    ids, places = task.prompts.caption(pair.category, caption)
    parts = split_prompt(DEPTH_PROMPT, category_words([pair.category]), caption)
    rows.append((ids, places, pipe.encode_prompt(parts), None))
    rows.append((*task.prompts.empty(), pipe.encode_prompt([""]), None))
    for ids, places, expected, given in rows:
        assert places.sum() == (0 if given is None else given[..., 0].numel())
        found = task._prompt(ids, places, None if given is None else given.flatten(0, 1))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_the_batch_reads_pseudo_words_of_its_own_garments(make):
    """What a batch's samples read is what the pipeline reads for each of them alone."""
    task = make().eval()
    pipe = task.pipeline()
    positions = [p for p in range(30) if not task.stream[p]["dropped"]][:6]
    batch = batch_of(task, positions)
    batch |= task._encode(batch)
    contexts = task.context(batch)
    for row, position in enumerate(positions):
        sample = task.stream[position]
        there = sample["garment_there"]
        if not there.any():
            continue
        words = task.adapter(task._features(sample["garment_pixels"][there]))
        category = next(
            category
            for category in ("dresses", "upper_body", "lower_body")
            if torch.equal(task.prompts.garments(category, len(words))[0], sample["ids"])
        )
        expected = pipe.encode_prompt(
            split_prompt(PAPER_PROMPT, category_words([category])), list(words)
        )
        torch.testing.assert_close(contexts[row], expected[0], rtol=0, atol=1e-5)


def test_samples_travel_to_other_processes(make):
    """Spawned loaders get the stream as a pickle; positions give the same samples there."""
    stream = make().stream
    again = pickle.loads(pickle.dumps(stream))
    for position in (0, 17):
        one, other = stream[position], again[position]
        assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_a_trained_folder_paints(world, model, tmp_path):
    assert cli.run_stage(settings(model), world, tmp_path / "run", False, None)
    folder = tmp_path / "run" / "model"
    with Image.open(next((tmp_path / "run" / "previews").glob("*.png"))) as preview:
        assert preview.width > 500
    assert any((tmp_path / "run" / "logs").rglob("events.*"))
    pipe = FashionRAGPipeline.from_pretrained(folder)
    assert pipe.unet.config.in_channels == 27
    assert pipe.adapter.metadata["preprocess"] == "fit"
    person = Image.new("RGB", (48, 64), "grey")
    mask = np.zeros((64, 48), np.float32)
    mask[16:48, 8:40] = 1
    garment = Image.new("RGB", (48, 64), "red")
    size = {"steps": 2, "height": 64, "width": 48}
    painted = pipe(person, mask, [garment], category="dresses", **size)
    assert painted.size == (48, 64)
    other = pipe(person, mask, [Image.new("RGB", (48, 64), "blue")], category="dresses", **size)
    assert np.asarray(painted)[mask == 0].std() == 0
    assert (np.asarray(painted) != np.asarray(other)).any()


def test_the_two_towers_are_open_clips_model(world, tmp_path):
    run = settings(Path())["run"] | {"ema": 0.5}
    content = {"stage": "clip", "model": CLIP, "run": run}
    assert cli.run_stage(content, world, tmp_path / "run", False, None)
    folder = tmp_path / "run" / "model"
    own = load_encoder(folder / "encoder")
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    text = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder").float()
    vision = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder").float()
    pixels = torch.randn(3, 3, 32, 32)
    tokens = own._tokenizer(["a red dress", "trousers with stripes, belt", "x"])
    with torch.no_grad():
        torch.testing.assert_close(
            vision(pixel_values=pixels).image_embeds,
            own.model.encode_image(pixels),
            rtol=0,
            atol=1e-5,
        )
        torch.testing.assert_close(
            text(tokens).text_embeds, own.model.encode_text(tokens), rtol=0, atol=1e-5
        )
    # The model folder as an encoder, with the tokenizer beside it.
    from fashion_rag.model_parts import write_tokenizer

    write_tokenizer(folder / "tokenizer")
    towers = load_encoder(folder)
    texts = ["a red dress", "Trousers with stripes, belt", "wide-leg trousers, 2 buttons"]
    found = towers.encode_texts(texts)
    torch.testing.assert_close(found, own.encode_texts(texts), rtol=0, atol=1e-5)
    assert towers.dim == own.dim == 16
    recall = json.loads((folder / "recall.json").read_text())
    assert set(recall) == {"recall@1", "recall@3", "recall@5", "recall@10"}
    # An encoder folder is where the shipped configuration for fine-tuning goes on from.
    content = {"stage": "clip", "encoder": str(folder / "encoder"), "run": run | {"steps": 1}}
    assert cli.run_stage(content, world, tmp_path / "more", False, None)
    before = load_file(folder / "encoder" / "open_clip_model.safetensors")
    after = load_file(tmp_path / "more" / "model" / "encoder" / "open_clip_model.safetensors")
    name = "text_projection"
    assert 0 < (before[name].float() - after[name].float()).abs().max() < 0.01


def test_a_run_goes_on_with_its_own_data_alone(world, tmp_path):
    run = settings(Path())["run"] | {"steps": 1}
    content = {"stage": "vae", "model": VAE, "size": [64, 48], "crop": 32, "run": run}
    assert cli.run_stage(content, world, tmp_path / "run", False, None)
    moved, other = tmp_path / "moved", tmp_path / "other"
    for folder in (moved, other):
        shutil.copytree(world, folder)
    content["run"] = run | {"steps": 2}
    assert cli.run_stage(content, moved, tmp_path / "run", True, None)
    captions = json.loads((other / "fine_captions.json").read_text())
    captions[min(captions)][0] = "another garment"
    (other / "fine_captions.json").write_text(json.dumps(captions))
    with pytest.raises(ValueError, match="belongs to another run: data: '"):
        cli.run_stage(content, other, tmp_path / "run", True, None)


def test_photos_are_kept_where_all_of_them_fit(world, monkeypatch):
    from fashion_rag.training.dresscode import DressCode
    from fashion_rag.training.vae import CropStream

    run = settings(Path())["run"]
    content = {"stage": "vae", "model": VAE, "size": [64, 48], "crop": 32, "run": run}
    config, data = cli.parse_stage(content)[1], DressCode(world)
    streams = [CropStream(data, config)]
    monkeypatch.setattr(CropStream, "KEPT", len(data) * 3 * 64 * 48 - 1)
    streams.append(CropStream(data, config))
    for place in range(2 * len(data)):
        first, second = (stream[place]["pixels"] for stream in streams)
        assert torch.equal(first, second)
    assert [len(stream._kept) for stream in streams] == [len(data), 0]


def test_torch_before_2_6_trains_what_is_not_compiled(world, tmp_path, monkeypatch):
    monkeypatch.delattr(torch.compiler, "set_stance")
    run = settings(Path())["run"] | {"steps": 1}
    content = {"stage": "vae", "model": VAE, "size": [64, 48], "crop": 32, "run": run}
    assert cli.run_stage(content, world, tmp_path / "run", False, None)
    content["run"] = run | {"compile": True}
    with pytest.raises(ValueError, match="run.compile is true, but torch .* is installed"):
        cli.run_stage(content, world, tmp_path / "compiled", False, None)


def test_the_autoencoder_has_stable_diffusions_spread(world, tmp_path):
    from diffusers import AutoencoderKL

    run = settings(Path())["run"]
    content = {"stage": "vae", "model": VAE, "size": [64, 48], "crop": 32, "run": run}
    assert cli.run_stage(content, world, tmp_path / "run", False, None)
    vae = AutoencoderKL.from_pretrained(tmp_path / "run" / "model" / "vae")
    from fashion_rag.training.dresscode import DressCode
    from fashion_rag.training.vae import photo

    data = DressCode(world)
    pixels = torch.stack([photo(data, pair, (64, 48)) for pair in data.pairs]).float()
    with torch.no_grad():
        latents = vae.encode(pixels / 127.5 - 1).latent_dist.mode()
    assert (latents * vae.config.scaling_factor).std().item() == pytest.approx(1, rel=0.02)


def test_a_decoder_trained_alone_leaves_the_latents_as_they_are(world, model, tmp_path):
    from diffusers import AutoencoderKL
    from fashion_rag.training.dresscode import DressCode
    from fashion_rag.training.vae import photo

    run = settings(Path())["run"] | {"steps": 20, "learning_rate": 2e-3}
    content = {"stage": "vae", "start": str(model), "decoder_only": True, "run": run}
    content |= {"size": [64, 48], "crop": 32, "colour_weight": 1.0}
    assert cli.run_stage(content, world, tmp_path / "run", False, None)
    before, after = (
        AutoencoderKL.from_pretrained(folder / "vae").float()
        for folder in (model, tmp_path / "run" / "model")
    )
    data = DressCode(world)
    pixels = torch.stack([photo(data, pair, (64, 48)) for pair in data.pairs]).float() / 127.5 - 1
    with torch.no_grad():
        latents = before.encode(pixels).latent_dist.mode()
        # float16 of what is written lies between them.
        torch.testing.assert_close(
            after.encode(pixels).latent_dist.mode(), latents, rtol=0, atol=5e-3
        )
        errors = [(vae.decode(latents).sample - pixels).abs().mean() for vae in (before, after)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"neither \[model\] nor start is given"),
        ({"model": VAE, "start": "x"}, r"\[model\] and start are both given"),
        ({"model": VAE, "decoder_only": True}, "decoder_only is true, and start is not given"),
    ],
)
def test_what_an_autoencoder_begins_from_has_to_be_said(options, message):
    with pytest.raises(ValueError, match=message):
        cli.parse_stage({"stage": "vae", "run": settings(Path())["run"], **options})


def test_an_encoder_is_trained_on_towards_stable_diffusions_spread_alone(world, model, tmp_path):
    folder = tmp_path / "flux"
    shutil.copytree(model / "vae", folder / "vae")
    config = json.loads((folder / "vae" / "config.json").read_text())
    (folder / "vae" / "config.json").write_text(json.dumps(config | {"scaling_factor": 0.3611}))
    content = {"stage": "vae", "start": str(folder), "run": settings(Path())["run"]}
    content |= {"size": [64, 48], "crop": 32}
    with pytest.raises(ValueError, match="scaling_factor is 0.3611; expected 0.18215"):
        cli.run_stage(content, world, tmp_path / "run", False, None)


REFUSED = [
    ({"unet": {"colour": 3}}, ValueError, r"\[unet\] is no UNet2DConditionModel configuration"),
    ({"adapter": {"width": 32}}, ValueError, r"\[adapter\] does not name an adapter's sizes"),
    ({"adapter": ADAPTER | {"output_width": 48}}, ValueError, "adapter's output width is 48"),
    ({"unet": {**UNET, "in_channels": 4}}, ValueError, "has 4 input channels, expected 27"),
    ({"model": "nowhere"}, FileNotFoundError, "model nowhere lacks vae, .*Expected SD2 inpaint"),
    ({"encoder": "nowhere"}, FileNotFoundError, "open_clip_config.json is missing"),
]


@pytest.mark.parametrize(("changes", "error", "message"), REFUSED)
def test_models_that_do_not_fit_are_named(make, changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_another_kind_of_prediction_is_refused(make, model, tmp_path):
    other = shutil.copytree(model, tmp_path / "model")
    file = other / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"prediction_type": "v_prediction"}))
    with pytest.raises(ValueError, match="scheduler is of a model that predicts 'v_prediction'"):
        make(folder=other)


def test_a_clip_that_the_towers_cannot_hold_is_refused_before_training(world):
    from fashion_rag.training.clip import ClipTask

    def task(**vision):
        model = {**CLIP, "vision_cfg": {**CLIP["vision_cfg"], **vision}}
        run = settings(Path())["run"]
        return ClipTask(cli.parse_stage({"stage": "clip", "model": model, "run": run})[1], world)

    for vision, what in (
        ({"pool_type": "avg"}, "pooling"),
        ({"ls_init_value": 0.1}, "layer scale"),
    ):
        with pytest.raises(ValueError, match=f"the CLIP has .*{what}.*choose a plain one"):
            task(**vision)
    with pytest.raises(ValueError, match=r"\[model\] is no model_cfg"):
        task(colour=1)


@pytest.mark.parametrize("name", ["adapter", "fashion_rag"])
def test_the_real_configurations_run_at_small_sizes(world, model, tmp_path, capsys, name):
    """With the shipped files and --set alone, on models of any size."""
    sets = ["run.steps=2", "run.batch_size=2", "run.workers=0", "run.mixed_precision=no"]
    sets += ["run.accumulate=1", f"model={model}", f"encoder={model / 'encoder'}", "size=[64, 48]"]
    sets += [f"adapter={inline(ADAPTER)}"] if name == "adapter" else []
    command = ["train", name, "--data", str(world), "--out", str(tmp_path / "run")]
    assert main([*command, *(part for value in sets for part in ("--set", value))]) == 0
    assert "model is ready" in capsys.readouterr().out
    unet = json.loads((tmp_path / "run" / "model" / "unet" / "config.json").read_text())
    assert unet["in_channels"] == (9 if name == "adapter" else 27)
    weights = load_file(tmp_path / "run" / "model" / "inversion_adapter.safetensors")
    assert all(math.isfinite(tensor.float().sum()) for tensor in weights.values())


def inline(table):
    return "{" + ", ".join(f"{name} = {value}" for name, value in table.items()) + "}"
