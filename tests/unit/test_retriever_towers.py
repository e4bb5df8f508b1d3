"""The pair of towers in a model folder: the shipped one, its names, fingerprints and photos."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fashion_rag import model_parts
from fashion_rag.miniature import trained
from fashion_rag.retriever.encoders import fingerprint as fingerprints
from fashion_rag.retriever.encoders.fingerprint import fingerprint_of_files, fingerprint_of_pair
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.encoders.towers import TowersEncoder, square_on_white
from fashion_rag.retriever.store.index import GarmentIndex
from fashion_rag.retriever.upkeep.build import build_index
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from .retriever_fakes import draw_catalogue

torch.set_num_threads(1)
WEIGHTS = trained.WEIGHTS
PARTS = ("text_encoder", "image_encoder")


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASHION_RAG_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def encoder() -> TowersEncoder:
    """The shipped miniature, as it lies in the repository."""
    return load_encoder(WEIGHTS)


@pytest.fixture
def towers(tmp_path) -> Path:
    """A copy of the shipped towers."""
    for part in PARTS:
        shutil.copytree(WEIGHTS / part, tmp_path / "towers" / part)
    return tmp_path / "towers"


def drawn(width: int, height: int, seed: int = 0) -> Image.Image:
    """A photo with coarse detail, so that resampling loses little."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (5, 4, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )


def test_the_shipped_folder_without_its_tokenizer(encoder, tmp_path):
    whole = load_encoder(trained.write_miniature(tmp_path / "miniature"))
    texts = ["red blouse, square neckline", "white slim trousers"]
    assert torch.equal(encoder.encode_texts(texts), whole.encode_texts(texts))
    assert encoder.fingerprint == whole.fingerprint


def test_a_tokenizer_that_is_not_clips(towers):
    config = towers / "text_encoder" / "config.json"
    content = json.loads(config.read_text("utf-8"))
    config.write_text(json.dumps({**content, "vocab_size": 30000}))
    with pytest.raises(FileNotFoundError, match=r"tokenizer is missing.*30000 tokens"):
        load_encoder(towers)


def test_fp16_names(towers, encoder):
    for part in PARTS:
        path = towers / part / "model.safetensors"
        path.rename(path.with_name("model.fp16.safetensors"))
    found = load_encoder(towers)
    assert found.fingerprint == encoder.fingerprint
    photos = [drawn(90, 120)]
    assert torch.equal(found.encode_images(photos), encoder.encode_images(photos))


def test_missing_weights_name_those_that_are_there(towers):
    path = towers / "image_encoder" / "model.safetensors"
    path.rename(path.with_name("pytorch_model.bin"))
    with pytest.raises(
        FileNotFoundError,
        match=r"image_encoder.model\.safetensors is missing \(found: pytorch_model\.bin.*fp16",
    ):
        load_encoder(towers)


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_are_not_whole(towers, part):
    """transformers would fill them with random ones."""
    weights = towers / part / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in sorted(tensors) if name.endswith("layer_norm1.bias"))
    del tensors[name]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"{part}/model.safetensors lacks 1 weights"):
        load_encoder(towers)
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ValueError, match=f"{part}/model.safetensors can't be loaded"):
        load_encoder(towers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_the_fingerprint_in_every_precision(dtype, encoder):
    rounded = [
        {name: tensor.to(dtype) for name, tensor in encoder.model[part].state_dict().items()}
        for part in PARTS
    ]
    assert fingerprint_of_pair(*rounded) == encoder.fingerprint


@pytest.mark.parametrize("part", PARTS)
def test_another_training_has_another_fingerprint(towers, encoder, part):
    path = towers / part / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("layers.0.mlp.fc1.weight"))
    noise = torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(0))
    weights[name] = (weights[name] + 0.01 * weights[name].std() * noise).to(weights[name].dtype)
    save_file(weights, path, metadata={"format": "pt"})
    assert load_encoder(towers).fingerprint != encoder.fingerprint


def test_an_index_of_version_0_1(encoder, tmp_path):
    """It names the encoder by the bytes of both files."""
    folder = tmp_path / "index"
    build_index(draw_catalogue(tmp_path / "catalogue"), folder, encoder)
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update((WEIGHTS / part / "model.safetensors").read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["encoder"]["fingerprint"] == encoder.fingerprint != digest.hexdigest()
    index = GarmentIndex.open(folder)
    index.check_encoder(encoder)
    index.manifest["encoder"]["fingerprint"] = digest.hexdigest()
    index.check_encoder(encoder)
    index.manifest["encoder"]["fingerprint"] = "0" * 64
    with pytest.raises(ValueError, match="was built with the encoder"):
        index.check_encoder(encoder)


def test_large_files_are_hashed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprints, "_REMEMBERED_FROM", 4)
    path = tmp_path / "weights"
    path.write_bytes(b"weights")
    expected = hashlib.sha256(b"startweights").hexdigest()
    assert fingerprint_of_files(b"start", [path]) == expected
    monkeypatch.setattr("builtins.open", None)
    assert fingerprint_of_files(b"start", [path]) == expected
    monkeypatch.undo()
    path.write_bytes(b"others, longer")
    changed = hashlib.sha256(b"startothers, longer").hexdigest()
    assert fingerprint_of_files(b"start", [path]) == changed


@settings(max_examples=12, deadline=None)
@given(width=st.integers(60, 800), height=st.integers(60, 800), seed=st.integers(0, 99))
def test_a_photo_of_twice_the_size_is_the_same_photo(encoder, width, height, seed):
    """Above 1024 pixels too, where photos were padded to 3:4 before."""
    photo = drawn(width, height, seed)
    double = photo.resize((2 * width, 2 * height), Image.Resampling.BICUBIC)
    one, other = encoder.encode_images([photo, double])
    assert float(one @ other) > 0.995
    apart = (square_on_white(photo, 224).float() - square_on_white(double, 224).float()).abs()
    assert apart.mean() < 2


def test_transparency_is_white(encoder):
    photo = drawn(120, 160).convert("RGBA")
    cleared = np.array(photo)
    cleared[:40] = (0, 0, 0, 0)
    on_white = np.array(photo.convert("RGB"))
    on_white[:40] = 255
    ours, expected = encoder.encode_images([Image.fromarray(cleared), Image.fromarray(on_white)])
    assert torch.allclose(ours, expected, atol=1e-6)


def test_smaller_batches(encoder, monkeypatch):
    photos = [drawn(60, 80, seed) for seed in range(5)]
    expected = encoder.encode_images(photos)
    forward, batches = encoder.model["image_encoder"].forward, []

    def small(pixel_values, **options):
        if len(pixel_values) > 2:
            raise RuntimeError("MPS backend out of memory")
        batches.append(len(pixel_values))
        return forward(pixel_values=pixel_values, **options)

    monkeypatch.setattr(encoder.model["image_encoder"], "forward", small)
    assert torch.allclose(encoder.encode_images(photos), expected, atol=1e-6)
    assert max(batches) == 2


def test_the_tokenizer_in_the_cache_is_written_once(monkeypatch):
    first = model_parts.tokenizer_of(WEIGHTS)
    monkeypatch.setattr(model_parts, "write_tokenizer", None)
    assert model_parts.tokenizer_of(WEIGHTS) == first
