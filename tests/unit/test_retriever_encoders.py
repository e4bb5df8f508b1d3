"""The open_clip folder format, against open_clip's own loading; the colour cards."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from fashion_rag.retriever.encoders.color_check import CARDS, check_text_image_pair
from fashion_rag.retriever.encoders.open_clip import OpenClipEncoder, load_encoder
from PIL import Image
from safetensors.torch import load_file, save_file

from .encoder_folders import changed, noise_photos
from .retriever_fakes import TINY, ColourEncoder, write_tiny_encoder

torch.set_num_threads(1)
TEXTS = ["a blue denim jacket with metal buttons", "white t-shirt"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoders") / "tiny one")


@pytest.fixture(scope="module")
def encoder(folder) -> OpenClipEncoder:
    return load_encoder(folder)


@pytest.fixture
def broken(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "broken")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return noise_photos((90, 60), (33, 47), (32, 32), (5, 200))


def rewrite(folder: Path, **changes) -> None:
    (folder / "open_clip_config.json").write_text(json.dumps(changed(TINY, **changes)))


def test_as_open_clip_does_it(folder, encoder, photos, record_figure):
    """Against a model and a preprocessing that open_clip makes from the same numbers."""
    import open_clip

    config = TINY["preprocess_cfg"]
    model = open_clip.CLIP(**TINY["model_cfg"]).eval()
    model.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    preprocess = open_clip.image_transform(
        32,
        is_train=False,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )
    with torch.no_grad():
        images = model.encode_image(torch.stack([preprocess(p) for p in photos]), normalize=True)
        texts = model.encode_text(open_clip.tokenize(TEXTS, context_length=20), normalize=True)
    ours = encoder.encode_images(photos), encoder.encode_texts(TEXTS)
    largest = max(float((a - b).abs().max()) for a, b in zip(ours, (images, texts), strict=True))
    record_figure("retrieval encoder against open_clip", largest, 1e-6)


def test_what_it_says_of_itself(encoder, photos):
    embeddings = encoder.encode_images(photos)
    assert (encoder.name, encoder.dim) == ("tiny one", 16)
    assert embeddings.dtype == torch.float32 and embeddings.shape == (4, 16)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    assert not embeddings.requires_grad and not encoder.model.training
    assert json.loads(json.dumps(encoder.preprocessing))["mean"] == TINY["preprocess_cfg"]["mean"]


def test_fingerprint(folder, encoder, broken):
    """Of weights and preprocessing: not of the folder's name, the device or the dtype."""
    assert load_encoder(broken, dtype=torch.bfloat16).fingerprint == encoder.fingerprint
    rewrite(broken, preprocess_cfg__mean=[0.5, 0.5, 0.5])
    assert load_encoder(broken).fingerprint != encoder.fingerprint
    rewrite(broken)
    state = load_file(broken / "open_clip_model.safetensors")
    state["ln_final.bias"] = state["ln_final.bias"] + 1e-3
    save_file(state, broken / "open_clip_model.safetensors")
    assert load_encoder(broken).fingerprint != encoder.fingerprint


def test_preprocessing_is_that_of_the_folder(broken, encoder, photos):
    rewrite(broken, preprocess_cfg__mean=[0.5, 0.5, 0.5], preprocess_cfg__resize_mode="longest")
    other = load_encoder(broken).encode_images(photos)
    assert (other - encoder.encode_images(photos)).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(folder, encoder, photos, dtype):
    half = load_encoder(folder, dtype=dtype)
    for ours, exact in (
        (half.encode_images(photos), encoder.encode_images(photos)),
        (half.encode_texts(TEXTS), encoder.encode_texts(TEXTS)),
    ):
        assert ours.dtype == torch.float32
        assert (ours * exact).sum(dim=1).min() > 0.999


@pytest.mark.parametrize("texts", [[""], ["a", " \n"]])
def test_empty_text(encoder, texts):
    with pytest.raises(ValueError, match="text is empty"):
        encoder.encode_texts(texts)


@pytest.mark.parametrize("name", ["open_clip_config.json", "open_clip_model.safetensors"])
def test_missing_file(broken, name):
    (broken / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing.*encoder get"):
        load_encoder(broken)


def test_a_pickle_is_not_opened(broken):
    """open_clip itself would take any .bin of the folder."""
    (broken / "open_clip_model.safetensors").unlink()
    (broken / "open_clip_pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(FileNotFoundError, match="open_clip_model.safetensors is missing"):
        load_encoder(broken)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model_cfg": {"text_cfg": {}}}'])
def test_config_that_is_none(broken, content):
    (broken / "open_clip_config.json").write_text(content)
    with pytest.raises(ValueError, match="open_clip_config.json is not the configuration"):
        load_encoder(broken)


def test_weights_of_another_model(broken):
    rewrite(broken, model_cfg__vision_cfg__width=48)
    with pytest.raises(ValueError, match="open_clip_model.safetensors does not fit"):
        load_encoder(broken)
    rewrite(broken, model_cfg__vision_cfg__unknown=1)
    with pytest.raises(ValueError, match="open_clip_model.safetensors does not fit"):
        load_encoder(broken)


def test_truncated_weights(broken):
    weights = broken / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ValueError, match="open_clip_model.safetensors does not fit"):
        load_encoder(broken)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_cfg__text_cfg__hf_model_name": "roberta-base"},
        {"model_cfg__vision_cfg__timm_model_name": "hf_hub:timm/vit"},
    ],
)
def test_towers_from_the_hub_are_refused(broken, changes):
    rewrite(broken, **changes)
    with pytest.raises(ValueError, match="fetched from the hub"):
        load_encoder(broken)


def test_tokenizer_of_the_folder(broken, monkeypatch):
    """A config that names a tokenizer of transformers takes it from the folder, offline."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    rewrite(broken, model_cfg__text_cfg__hf_tokenizer_name="somewhere/else")
    with pytest.raises(FileNotFoundError, match=r"'somewhere/else'.*tokenizer\.json"):
        load_encoder(broken)
    words = Tokenizer(models.WordLevel({"<pad>": 0, "<unk>": 1, "red": 2, "coat": 3}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(broken)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    encoder = load_encoder(broken)
    same, other = encoder.encode_texts(["red coat", "red  coat"]), encoder.encode_texts(["coat"])
    torch.testing.assert_close(same[0], same[1])
    assert (same[0] - other[0]).abs().max() > 1e-3


def test_open_clip_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match="pip install open_clip_torch"):
        load_encoder(folder)


class CardReader(ColourEncoder):
    """Reads every colour, and mixes up as many as it is told to."""

    def __init__(self, mixed_up: int):
        super().__init__()
        self.order = [*range(mixed_up)][::-1] + [*range(mixed_up, 8)]

    def encode_images(self, photos):
        colours = [photo.getpixel((0, 0)) for photo in photos]
        known = [Image.new("RGB", (1, 1), colour).getpixel((0, 0)) for colour in CARDS.values()]
        return torch.eye(8)[[self.order[known.index(colour)] for colour in colours]]

    def encode_texts(self, texts):
        return torch.eye(8)[[list(CARDS).index(text.split()[-1]) for text in texts]]


@pytest.mark.parametrize(("mixed_up", "right"), [(0, 8), (2, 6), (8, 0)])
def test_color_check(mixed_up, right):
    assert check_text_image_pair(CardReader(mixed_up)) == right


def test_a_tokenizer_with_code_is_refused(broken):
    rewrite(broken, model_cfg__text_cfg__tokenizer_kwargs={"trust_remote_code": True})
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_encoder(broken)
