"""Multimodal embedders in sentence-transformers' layout, against transformers' own model."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers
from fashion_rag.retriever.encoders.open_clip import load_encoder
from fashion_rag.retriever.encoders.sentence import SentenceEncoder
from fashion_rag.retriever.upkeep.build import build_index
from PIL import Image

from .encoder_folders import (
    check_a_pickle_is_not_read,
    check_code_is_refused,
    noise_photos,
    rewrite,
)
from .retriever_fakes import draw_catalogue
from .transformers_fakes import PROMPT, write_qwen_folder, write_words_tokenizer

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
torch.set_num_threads(1)
TEXTS = ["red coat", "blue denim jacket with metal buttons"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_qwen_folder(tmp_path_factory.mktemp("encoders") / "qwen")


@pytest.fixture(scope="module")
def encoder(folder) -> SentenceEncoder:
    return load_encoder(folder)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return noise_photos((90, 60), (33, 47), (64, 200))


@pytest.fixture
def broken(folder, tmp_path) -> Path:
    return shutil.copytree(folder, tmp_path / "broken")


@torch.no_grad()
def by_transformers(folder: Path, photos, texts) -> tuple[torch.Tensor, torch.Tensor]:
    """The state of the last token of a chat that holds the photo, or the prompt and the text."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)

    def embed(*messages: tuple[str, dict]) -> torch.Tensor:
        inputs = processor.apply_chat_template(
            [{"role": role, "content": [content]} for role, content in messages],
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        return torch.nn.functional.normalize(model(**inputs).last_hidden_state[0, -1], dim=-1)

    prompt = ("system", {"type": "text", "text": PROMPT})
    images = [embed(("user", {"type": "image", "image": photo})) for photo in photos]
    asked = [embed(prompt, ("user", {"type": "text", "text": text})) for text in texts]
    return torch.stack(images), torch.stack(asked)


def test_as_transformers_does_it(folder, encoder, photos, record_figure):
    expected = by_transformers(folder, photos, TEXTS)
    ours = encoder.encode_images(photos), encoder.encode_texts(TEXTS)
    assert (ours[0][0] - ours[0][1]).abs().max() > 1e-3
    largest = max(float((a - b).abs().max()) for a, b in zip(ours, expected, strict=True))
    record_figure("Qwen3-VL embedder against transformers", largest, 1e-5)


def test_what_it_says_of_itself(encoder, photos):
    embeddings = encoder.encode_images(photos)
    assert (encoder.name, encoder.dim) == ("qwen", 32)
    assert embeddings.dtype == torch.float32 and embeddings.shape == (3, 32)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    assert not encoder.multilingual and json.dumps(encoder.preprocessing)
    with pytest.raises(ValueError, match="text is empty"):
        encoder.encode_texts([" "])


def test_half_precision(folder, encoder, photos):
    half = load_encoder(folder, dtype=torch.bfloat16)
    assert half.fingerprint == encoder.fingerprint
    assert (half.encode_images(photos) * encoder.encode_images(photos)).sum(dim=1).min() > 0.98


def test_an_index(encoder, tmp_path):
    catalogue, folder = draw_catalogue(tmp_path / "photos", 5), tmp_path / "index"
    assert build_index(catalogue, folder, encoder, batch_size=2).count == 5


def test_the_fingerprint_covers_the_prompts(broken, encoder):
    path = broken / "config_sentence_transformers.json"
    as_it_was = path.read_text()
    rewrite(path, lambda content: {**content, "__version__": {"transformers": "4"}})
    assert load_encoder(broken).fingerprint == encoder.fingerprint
    rewrite(path, lambda content: {**content, "prompts": {"document": "a garment"}})
    assert load_encoder(broken).fingerprint != encoder.fingerprint
    path.write_text(as_it_was)
    template = broken / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert load_encoder(broken).fingerprint != encoder.fingerprint


def of_type(kind: str):
    return lambda modules: [{**modules[0], "type": kind}, *modules[1:]]


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("modules.json", of_type("code.Model"), "names the module 'code.Model'"),
        ("modules.json", of_type("os.system"), "names the module 'os.system'"),
        (
            "modules.json",
            of_type("sentence_transformers.base.modules.router.Router"),
            r"router\.Router'.*never run",
        ),
        ("modules.json", lambda modules: [{**modules[0], "path": "../x"}], "places a module in"),
        ("modules.json", lambda modules: {}, "no list of modules"),
        ("config.json", lambda c: {**c, "auto_map": {"AutoModel": "code.Model"}}, "asks for code"),
        (
            "sentence_bert_config.json",
            lambda c: {**c, "model_args": {"trust_remote_code": True}},
            "asks for code",
        ),
        (
            "sentence_bert_config.json",
            lambda c: {**c, "model_kwargs": {"subfolder": "x"}},
            "has model_kwargs",
        ),
        (
            "sentence_bert_config.json",
            lambda c: {**c, "transformer_task": "retrieval"},
            "transformer_task 'retrieval'",
        ),
        ("sentence_roberta_config.json", lambda c: {"config_args": {"x": 1}}, "has config_args"),
        (
            "sentence_bert_config.json",
            lambda c: {**c, "modality_config": {"text": {"method": "push_to_hub"}}},
            "calls the model by 'push_to_hub'",
        ),
    ],
)
def test_a_folder_with_code(broken, tmp_path, file, change, message):
    rewrite(broken / file, change)
    check_code_is_refused(broken, tmp_path / "trace", message)


def test_a_folder_with_a_pickle_only(broken):
    check_a_pickle_is_not_read(broken)


def test_a_model_of_texts_alone(tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.BertModel(config).save_pretrained(tmp_path / "plain")
    write_words_tokenizer(tmp_path / "plain")
    modules = [Transformer(str(tmp_path / "plain")), Pooling(32)]
    SentenceTransformer(modules=modules).save(str(tmp_path / "bert"))
    with pytest.raises(ValueError, match="reads no images"):
        load_encoder(tmp_path / "bert")


def test_the_package_is_missing(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ImportError, match="pip install sentence-transformers"):
        load_encoder(folder)
