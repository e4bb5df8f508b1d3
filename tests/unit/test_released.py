"""What version 0.1.0 wrote opens as it is: adapter and embedding. Its index is in
test_retriever_index.py, its workflows in tests/host."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from fashion_rag.adapter.garment.checkpoints import convert, load_adapter
from safetensors.torch import load_file

RELEASED = Path(__file__).parent.parent / "data" / "released_0_1_0"
HOLDS = json.loads((RELEASED / "holds.json").read_text())
FEATURES = torch.linspace(-1, 1, 2 * 3 * 128).reshape(2, 3, 128).cos()
WORDS = torch.tensor(HOLDS["pseudo_words"])


def test_its_adapter_gives_the_same_pseudo_words(tmp_path):
    adapter = load_adapter(RELEASED / "adapter.safetensors")
    assert asdict(adapter.config) == HOLDS["config"]
    assert adapter.metadata["preprocess"] == "fit"
    with torch.no_grad():
        words = adapter.float()(FEATURES)
    torch.testing.assert_close(words.reshape(-1, 64), WORDS, atol=1e-4, rtol=0)
    convert(RELEASED / "adapter.safetensors", tmp_path / "again.safetensors")
    before, after = (
        load_file(path)
        for path in (RELEASED / "adapter.safetensors", tmp_path / "again.safetensors")
    )
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_its_embedding_holds_its_pseudo_words():
    (words,) = load_file(RELEASED / "embedding.safetensors").values()
    torch.testing.assert_close(words, WORDS, atol=1e-6, rtol=0)
