"""Folders in transformers' layout, against transformers' own processors and models."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from fashion_rag.retriever.encoders.auto_model import ARCHITECTURES, AutoModelEncoder
from fashion_rag.retriever.encoders.model_files import refuse_code
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.encoders.preprocessing import read_preprocessing
from fashion_rag.retriever.upkeep.build import build_index
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from .encoder_folders import (
    changed,
    check_a_pickle_is_not_read,
    check_code_is_refused,
    noise_photos,
)
from .retriever_fakes import draw_catalogue
from .transformers_fakes import (
    KINDS,
    LENGTH,
    write_transformers_folder,
    write_words_tokenizer,
)

torch.set_num_threads(1)
TEXTS = ["a red coat", "blue denim jacket with metal buttons", "white"]
LARGEST = 1e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("encoders")
    return {kind: write_transformers_folder(base / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def encoders(folders) -> dict[str, AutoModelEncoder]:
    return {kind: load_encoder(folder) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return noise_photos((90, 60), (33, 47), (32, 32), (5, 200), (300, 301))


@pytest.fixture
def broken(folders, tmp_path) -> Path:
    """A copy of the SigLIP folder."""
    return shutil.copytree(folders["siglip"], tmp_path / "broken")


def rewrite(path: Path, **changes) -> None:
    path.write_text(json.dumps(changed(json.loads(path.read_text("utf-8")), **changes)))


def image_processor(folder: Path):
    """transformers' own, the one that works with Pillow."""
    old = transformers.__version__.startswith("4.")
    options = {"use_fast": False} if old else {"backend": "pil"}
    return transformers.AutoImageProcessor.from_pretrained(folder, **options)


def tensor_of(features) -> torch.Tensor:
    return features if torch.is_tensor(features) else features.pooler_output


@torch.no_grad()
def by_transformers(folder: Path, photos, texts) -> tuple[torch.Tensor, torch.Tensor]:
    """As the model cards write it."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    images = image_processor(folder)(images=photos, return_tensors="pt")
    if "siglip" in model.config.model_type:
        whole = {"padding": "max_length", "truncation": True, "max_length": LENGTH}
        tokens = tokenizer(texts, **whole, return_tensors="pt")
        tokens = {"input_ids": tokens["input_ids"]}
    else:
        tokens = tokenizer(texts, padding=True, return_tensors="pt")
        tokens = {name: tokens[name] for name in ("input_ids", "attention_mask")}
    normalize = torch.nn.functional.normalize
    return (
        normalize(tensor_of(model.get_image_features(**images)), dim=-1),
        normalize(tensor_of(model.get_text_features(**tokens)), dim=-1),
    )


def test_every_architecture_is_tested():
    assert set(KINDS) == set(ARCHITECTURES)


@pytest.mark.parametrize("kind", KINDS)
def test_as_transformers_does_it(kind, folders, encoders, photos, record_figure):
    expected = by_transformers(folders[kind], photos, TEXTS)
    ours = encoders[kind].encode_images(photos), encoders[kind].encode_texts(TEXTS)
    for one, other in zip(ours, expected, strict=True):
        assert one.shape == other.shape and one.dtype == torch.float32
        assert (one[0] - one[1]).abs().max() > 1e-3, "photos or texts that differ look the same"
    largest = max(float((a - b).abs().max()) for a, b in zip(ours, expected, strict=True))
    record_figure(f"{kind} folder against transformers", largest, LARGEST)


@pytest.mark.parametrize("kind", KINDS)
def test_a_feature_is_a_tensor_or_an_object_that_holds_it(kind, encoders, photos, monkeypatch):
    """transformers 4 gives the former, 5 the latter."""
    encoder = encoders[kind]
    expected = encoder.encode_images(photos), encoder.encode_texts(TEXTS)
    for name in ("get_image_features", "get_text_features"):
        own = getattr(encoder.model, name)

        def other(own=own, **inputs):
            found = own(**inputs)
            if torch.is_tensor(found):
                return transformers.modeling_outputs.BaseModelOutputWithPooling(pooler_output=found)
            return found.pooler_output

        monkeypatch.setattr(encoder.model, name, other)
    assert torch.equal(encoder.encode_images(photos), expected[0])
    assert torch.equal(encoder.encode_texts(TEXTS), expected[1])


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    width=st.integers(4, 300),  # transformers 4 takes sides of 1 and 3 for channels
    height=st.integers(4, 300),
    resample=st.sampled_from([2, 3]),
)
def test_pixels_are_transformers(kind, width, height, resample, folders, tmp_path_factory):
    """Any photo, squashed, cropped about the middle, or in patches."""
    folder = tmp_path_factory.mktemp("pixels")
    path = folder / "preprocessor_config.json"
    shutil.copy(folders[kind] / path.name, path)
    rewrite(path, resample=resample)
    noise = np.random.default_rng(width * 1000 + height)
    photo = Image.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8))
    read = read_preprocessing(folder, {path.name: json.loads(path.read_text())}, kind == "siglip2")
    expected = image_processor(folder)(images=[photo], return_tensors="pt")
    found = read(photo)
    if kind == "siglip2":
        rows, columns = expected["spatial_shapes"][0].tolist()
        assert found[0, :2].tolist() == [rows, columns]
        found = found[1:]
    assert (found - expected["pixel_values"][0]).abs().max() < 1e-5


def test_a_whole_processor_in_one_file(broken, encoders, photos):
    """transformers 5 writes processor_config.json alone."""
    path = broken / "preprocessor_config.json"
    nested = {"image_processor": json.loads(path.read_text()), "processor_class": "SiglipProcessor"}
    path.rename(broken / "processor_config.json").write_text(json.dumps(nested))
    found = load_encoder(broken).encode_images(photos)
    assert torch.equal(found, encoders["siglip"].encode_images(photos))


def test_siglip_reads_the_last_place(encoders):
    """Its texts are padded to the whole length: padded to the longest, they'd be others."""
    encoder = encoders["siglip"]
    tokens = encoder._tokenizer(TEXTS, padding=True, return_tensors="pt").input_ids
    with torch.no_grad():
        wrong = tensor_of(encoder.model.get_text_features(input_ids=tokens))
    wrong = torch.nn.functional.normalize(wrong, dim=-1)
    assert (wrong - encoder.encode_texts(TEXTS)).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_the_same_in_any_company(kind, encoders):
    alone = torch.cat([encoders[kind].encode_texts([text]) for text in TEXTS])
    assert (alone - encoders[kind].encode_texts(TEXTS)).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_says_of_itself(kind, encoders, photos):
    encoder = encoders[kind]
    assert encoder.name == kind and encoder.context_length == LENGTH
    assert encoder.encode_images(photos).shape == (len(photos), encoder.dim)
    torch.testing.assert_close(encoder.encode_texts(TEXTS).norm(dim=1), torch.ones(3))
    assert json.loads(json.dumps(encoder.preprocessing))
    long = "red " * 200
    assert encoder.count_tokens(long) > LENGTH
    assert encoder.encode_texts([long]).isfinite().all()
    assert not encoder.multilingual
    prepare = pickle.loads(pickle.dumps(encoder.prepare))  # as processes get it
    assert torch.equal(prepare(photos[0]), encoder.prepare(photos[0]))
    with pytest.raises(ValueError, match="text is empty"):
        encoder.encode_texts(["a", " "])


@pytest.mark.parametrize("lower", [True, False])
def test_letter_case_is_the_tokenizers(broken, lower):
    write_words_tokenizer(broken, lower=lower)
    small, capital = load_encoder(broken).encode_texts(["a red coat", "A RED COAT"])
    assert torch.equal(small, capital) == lower


def test_a_tokenizer_that_only_records_that_it_lowercases(broken):
    write_words_tokenizer(broken, lower=False)
    rewrite(broken / "tokenizer_config.json", do_lower_case=True)
    small, capital = load_encoder(broken).encode_texts(["a red coat", "A RED COAT"])
    assert torch.equal(small, capital)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(kind, folders, encoders, photos, dtype):
    half = load_encoder(folders[kind], dtype=dtype)
    assert half.fingerprint == encoders[kind].fingerprint
    for ours, exact in (
        (half.encode_images(photos), encoders[kind].encode_images(photos)),
        (half.encode_texts(TEXTS), encoders[kind].encode_texts(TEXTS)),
    ):
        assert ours.dtype == torch.float32
        assert (ours * exact).sum(dim=1).min() > 0.99


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_an_index(kind, encoders, tmp_path):
    """Photos are prepared while they are read, in patches too; cancelled, it goes on."""
    catalogue, folder = draw_catalogue(tmp_path / "photos", 9), tmp_path / "index"

    def cancel(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(catalogue, folder, encoders[kind], batch_size=4, progress=cancel)
    report = build_index(catalogue, folder, encoders[kind], batch_size=4)
    assert report.count == 9 and report.resumed == 4


@pytest.mark.parametrize("kind", ["clip", "siglip2"])
def test_smaller_batches(kind, encoders, photos, monkeypatch):
    encoder, batches = encoders[kind], []
    expected = encoder.encode_images(photos)
    own = encoder.model.get_image_features

    def small(**inputs):
        if len(inputs["pixel_values"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        batches.append(len(inputs["pixel_values"]))
        return own(**inputs)

    monkeypatch.setattr(encoder.model, "get_image_features", small)
    assert (encoder.encode_images(photos) - expected).abs().max() < 1e-6
    assert max(batches) == 2


def test_the_fingerprint(broken, encoders):
    """Of weights, architecture and preprocessing; not of the name, or of who saved them."""
    fingerprint = encoders["siglip"].fingerprint
    rewrite(broken / "config.json", transformers_version="4.0.0", _name_or_path="elsewhere")
    assert load_encoder(broken).fingerprint == fingerprint
    rewrite(broken / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    assert load_encoder(broken).fingerprint != fingerprint
    rewrite(broken / "preprocessor_config.json", image_mean=[0.4, 0.5, 0.6])
    state = load_file(broken / "model.safetensors")
    name = min(state)
    state[name] = state[name] + 1e-3
    save_file(state, broken / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(broken).fingerprint != fingerprint


def test_shards(broken, encoders, photos):
    state = load_file(broken / "model.safetensors")
    (broken / "model.safetensors").unlink()
    names, of = sorted(state), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        of |= dict.fromkeys(part, file)
        save_file({n: state[n] for n in part}, broken / file, metadata={"format": "pt"})
    index = broken / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": of}))
    found = load_encoder(broken).encode_images(photos)
    assert torch.equal(found, encoders["siglip"].encode_images(photos))
    (broken / file).rename(broken / "other.safetensors")
    with pytest.raises(FileNotFoundError, match="00002.safetensors is missing"):
        load_encoder(broken)
    for odd, message in (
        ("../other.safetensors", "is no list of weights"),
        ("x.bin", "not opened"),
    ):
        index.write_text(json.dumps({"weight_map": {**of, names[0]: odd}}))
        with pytest.raises(ValueError, match=message):
            load_encoder(broken)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("config.json", {"auto_map": {"AutoModel": "code.Model"}}),
        ("config.json", {"text_config": {"auto_map": {"AutoModel": "code.Model"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}),
        ("preprocessor_config.json", {"auto_map": {"AutoImageProcessor": "code.Processor"}}),
        ("processor_config.json", {"auto_map": {"AutoProcessor": "code.Processor"}}),
        ("config.json", {"attn_implementation": "somebody/kernel"}),
        ("config.json", {"trust_remote_code": True}),
    ],
)
def test_a_folder_with_code(broken, tmp_path, file, settings):
    path = broken / file
    content = json.loads(path.read_text()) if path.exists() else {}
    for key, value in settings.items():
        content[key] = {**content[key], **value} if key == "text_config" else value
    path.write_text(json.dumps(content))
    check_code_is_refused(broken, tmp_path / "trace", rf"{file} asks for code.*never run")


def test_settings_that_are_nested_deeply(tmp_path):
    """What looks for code in them finds it at any depth."""
    settings = {"auto_map": {"AutoModel": "code.Model"}}
    for _ in range(3000):
        settings = {"a": [settings]}
    with pytest.raises(ValueError, match="asks for code"):
        refuse_code(tmp_path / "config.json", settings)


def test_a_folder_with_a_pickle_only(broken):
    check_a_pickle_is_not_read(broken)


def test_a_model_of_texts_alone(tmp_path):
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    write_words_tokenizer(tmp_path / "bert")
    with pytest.raises(ValueError, match=r"the type 'bert'.*expected one of clip, siglip"):
        load_encoder(tmp_path / "bert")


def test_towers_of_different_widths(tmp_path):
    folder = write_transformers_folder(tmp_path / "wide", "siglip", hidden_size=48)
    with pytest.raises(ValueError, match="text tower gives vectors of 32 dimensions.*tower of 48"):
        load_encoder(folder)


def test_a_part_of_the_weights(broken):
    """transformers itself would fill up the image tower with random numbers."""
    state = load_file(broken / "model.safetensors")
    texts = {name: tensor for name, tensor in state.items() if not name.startswith("vision")}
    save_file(texts, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks .* tensors .* such as vision_model"):
        load_encoder(broken)


def test_files_that_do_not_fit(broken, folders):
    weights = broken / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="model.safetensors does not fit"):
        load_encoder(broken)
    weights.write_bytes(whole)
    rewrite(broken / "config.json", vision_config__intermediate_size=72)
    with pytest.raises(ValueError, match=r"model.safetensors has \d+ weights of another shape"):
        load_encoder(broken)
    shutil.copy(folders["siglip"] / "config.json", broken)
    rewrite(broken / "preprocessor_config.json", size={"height": 48, "width": 48})
    with pytest.raises(ValueError, match="does not fit its image tower"):
        load_encoder(broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": {"shortest_edge": 32}}, "photos of different sizes"),
        ({"size": {"height": 1 << 20, "width": 32}}, "is no preprocessing"),
        ({"size": {"height": math.inf, "width": 32}}, "is no preprocessing"),
        ({"rescale_factor": 10**400}, "is no preprocessing"),
        ({"image_mean": [0, math.nan, 0]}, "is no preprocessing"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"do_thumbnail": True}, "asks for do_thumbnail"),
    ],
)
def test_preprocessing_that_is_none(broken, changes, message):
    rewrite(broken / "preprocessor_config.json", **changes)
    with pytest.raises(ValueError, match=message):
        load_encoder(broken)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["tokenizer.json"], "holds no tokenizer"),
        (["preprocessor_config.json"], "preprocessor_config.json is missing"),
        (["config.json"], "an encoder is a folder with"),
    ],
)
def test_missing_files(broken, files, message):
    for name in files:
        (broken / name).unlink()
    with pytest.raises(FileNotFoundError, match=message):
        load_encoder(broken)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_files_that_are_no_json(broken, name):
    (broken / name).write_text("{")
    with pytest.raises(ValueError, match=name.split(".")[0].split("_")[0]):
        load_encoder(broken)


def test_an_adapter_of_a_model_elsewhere(broken):
    (broken / "adapter_config.json").write_text('{"base_model_name_or_path": "somewhere/else"}')
    with pytest.raises(ValueError, match="adapter_config.json .*whole model"):
        load_encoder(broken)


_NO_NETWORK = """
import socket, sys
def fail(*args, **kwargs):
    sys.exit("a connection was asked for")
socket.socket.connect = socket.getaddrinfo = fail
from fashion_rag.retriever.encoders.open_clip import load_encoder
for folder in sys.argv[1:]:
    load_encoder(folder).encode_texts(["a red coat"])
"""


def test_nothing_is_asked_of_the_hub(folders):
    """Not even whether a folder's files are the newest."""
    done = subprocess.run(
        [sys.executable, "-c", _NO_NETWORK, *map(str, folders.values())],
        env={**os.environ, "HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
