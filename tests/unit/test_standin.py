"""The untrained stand-in: deterministic, in the real formats, with Stable Diffusion's tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from fashion_rag.adapter.garment.checkpoints import load_tensors
from fashion_rag.miniature.standin import make_standin, untrained_weights
from fashion_rag.model_parts import write_tokenizer
from fashion_rag.retriever.encoders.open_clip import load_encoder
from PIL import Image
from transformers import CLIPTokenizer

PROMPTS = json.loads((Path(__file__).parent.parent / "data/prompt_ids.json").read_text())
# Of openai/clip-vit-large-patch14, which Stable Diffusion and ComfyUI use.
VOCABULARY = "51b8a58f8c87bc7af902c70cbcdd0287f5baffaa34044e30b8ff8e22c54ec1a0"
MERGES = "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"


def test_a_seed_gives_the_same_weights_and_another_seed_others(tmp_path):
    first, again, other = (
        make_standin(tmp_path / name, seed)
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    names = [path.relative_to(first) for path in first.rglob("*") if path.is_file()]
    weights = [name for name in names if name.suffix == ".safetensors"]
    assert len(weights) == 6
    for name in weights:
        (mine, metadata), same, (others, _) = (
            load_tensors(folder / name) for folder in (first, again, other)
        )
        assert metadata == same[1]
        for key, tensor in mine.items():
            assert torch.equal(tensor, same[0][key])
            assert not torch.equal(tensor, others[key])
    for name in set(names) - set(weights):
        assert (first / name).read_bytes() == (other / name).read_bytes()


def test_the_tokenizer_is_stable_diffusions(tmp_path):
    folder = write_tokenizer(tmp_path)
    vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    listed = json.dumps(vocabulary, sort_keys=True).encode()
    assert hashlib.sha256(listed).hexdigest() == VOCABULARY
    assert hashlib.sha256((folder / "merges.txt").read_bytes()).hexdigest() == MERGES
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    empty = tokenizer("", padding="max_length", max_length=77).input_ids
    assert empty == PROMPTS["uncond_input_ids"]
    assert tokenizer.pad_token_id == 0


def test_the_encoder_loads_as_any_other(tmp_path):
    encoder = load_encoder(make_standin(tmp_path) / "encoder")
    photos = encoder.encode_images([Image.new("RGB", (80, 100), c) for c in ("red", "white")])
    texts = encoder.encode_texts(["a red shirt", "a white shirt"])
    assert photos.shape == texts.shape == (2, encoder.dim)
    assert torch.allclose(photos.norm(dim=1), torch.ones(2))
    assert not torch.allclose(texts[0], texts[1])


@pytest.mark.parametrize("shape", [(128, 256), (64, 32, 3, 3)])
def test_weights_keep_the_size_of_activations(shape):
    layer = torch.nn.Linear(256, 128) if len(shape) == 2 else torch.nn.Conv2d(32, 64, 3)
    weights = untrained_weights(layer, "seed")
    layer.load_state_dict(weights)
    given = torch.randn(64, *shape[1:2], *((16, 16) if len(shape) > 2 else ()))
    with torch.no_grad():
        assert 0.8 < layer(given).std() < 1.25
    assert weights["bias"].abs().min() > 0
