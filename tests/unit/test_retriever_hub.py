"""Fetching an encoder, against a hub that is a local folder."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from fashion_rag.retriever.encoders import hub
from fashion_rag.retriever.encoders.open_clip import load_encoder
from safetensors.torch import load_file

from .retriever_fakes import TINY, write_tiny_encoder
from .transformers_fakes import write_transformers_folder

torch.set_num_threads(1)
TAG = "ViT-L-14/laion2b_s32b_b82k"


class Hub:
    """Stands in for huggingface_hub; `root` holds the repositories."""

    def __init__(self, root: Path):
        self.root, self.fetched, self.fails_at = root, [], None

    def HfApi(self):  # noqa: N802
        return self

    def model_info(self, repository: str, files_metadata: bool):
        assert files_metadata
        files = [
            SimpleNamespace(
                rfilename=path.relative_to(self.root / repository).as_posix(),
                size=path.stat().st_size,
            )
            for path in (self.root / repository).rglob("*")
            if path.is_file()
        ]
        return SimpleNamespace(siblings=files, sha="abc", card_data={"license": "mit"})

    def hf_hub_download(self, repository: str, name: str, *, revision: str | None, local_dir: Path):
        if name == self.fails_at:
            raise ConnectionError("the hub is gone")
        (local_dir / ".cache").mkdir(parents=True, exist_ok=True)
        (local_dir / name).parent.mkdir(exist_ok=True)
        shutil.copy(self.root / repository / name, local_dir / name)
        self.fetched.append((repository, name, revision))


@pytest.fixture(scope="module")
def siglip(tmp_path_factory) -> Path:
    """Written and opened before the hub is stood in for: transformers imports the real one."""
    folder = write_transformers_folder(tmp_path_factory.mktemp("siglip") / "siglip", "siglip")
    load_encoder(folder)
    return folder


@pytest.fixture
def fake(tmp_path, monkeypatch) -> Hub:
    fake = Hub(tmp_path / "hub")
    write_tiny_encoder(fake.root / hub.SOURCES[TAG].repository)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def test_get(fake, tmp_path):
    """The folder loads, and its preprocessing is the weights' own: mean and std 0.5."""
    (fake.root / hub.SOURCES[TAG].repository / "README.md").write_text("not wanted")
    lines: list[str] = []
    folder = hub.get_encoder(TAG, tmp_path / "enc" / "vit", lines.append)
    assert sorted(path.name for path in folder.iterdir()) == [
        "open_clip_config.json",
        "open_clip_model.safetensors",
    ]
    encoder = load_encoder(folder)
    assert encoder.preprocessing["mean"] == encoder.preprocessing["std"] == [0.5, 0.5, 0.5]
    assert encoder.preprocessing["interpolation"] == TINY["preprocess_cfg"]["interpolation"]
    assert "GB, licence mit" in lines[0] and hub.SOURCES[TAG].repository in lines[0]
    assert {revision for _, _, revision in fake.fetched} == {"abc"}


def test_interrupted(fake, tmp_path):
    """Half a download is never an encoder; the second try completes it."""
    fake.fails_at = "open_clip_model.safetensors"
    with pytest.raises(OSError, match="the hub is gone"):
        hub.get_encoder(TAG, tmp_path / "vit", str)
    assert not (tmp_path / "vit").exists()
    fake.fails_at = None
    load_encoder(hub.get_encoder(TAG, tmp_path / "vit", str))
    assert not (tmp_path / "vit.part").exists()


def test_a_pickle_becomes_safetensors(fake, tmp_path):
    repository = fake.root / hub.SOURCES[TAG].repository
    state = load_file(repository / "open_clip_model.safetensors")
    (repository / "open_clip_model.safetensors").unlink()
    torch.save(state, repository / "open_clip_pytorch_model.bin")
    folder = hub.get_encoder(TAG, tmp_path / "vit", str)
    assert not list(folder.glob("*.bin"))
    loaded = load_file(folder / "open_clip_model.safetensors")
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_a_pickle_that_holds_more_than_tensors(fake, tmp_path):
    repository = fake.root / hub.SOURCES[TAG].repository
    (repository / "open_clip_model.safetensors").unlink()
    trace = tmp_path / "trace"

    class Payload:
        def __reduce__(self):
            return Path.mkdir, (trace,)

    torch.save({"weight": Payload()}, repository / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match="open_clip_pytorch_model.bin holds more than tensors"):
        hub.get_encoder(TAG, tmp_path / "vit", str)
    assert not trace.exists() and not (tmp_path / "vit").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02h\x07."])
def test_a_damaged_pickle(fake, tmp_path, content):
    repository = fake.root / hub.SOURCES[TAG].repository
    (repository / "open_clip_model.safetensors").unlink()
    (repository / "open_clip_pytorch_model.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"open_clip_pytorch_model\.bin .* is damaged"):
        hub.get_encoder(TAG, tmp_path / "vit", str)


@pytest.mark.parametrize("own", [True, False])
def test_tokenizer_files(fake, tmp_path, own):
    """From the model's repository, else from the one that its configuration names."""
    repository = fake.root / hub.SOURCES[TAG].repository
    path = repository / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "timm/words"
    path.write_text(json.dumps(config))
    words = repository if own else fake.root / "timm" / "words"
    words.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (words / name).write_text("{}")
    folder = hub.get_encoder(TAG, tmp_path / "vit", str)
    assert (folder / "tokenizer.json").is_file()
    sources = {source for source, name, _ in fake.fetched if name.startswith("tokenizer")}
    assert sources == {hub.SOURCES[TAG].repository if own else "timm/words"}


def test_a_folder_of_transformers(siglip, fake, tmp_path):
    """Settings, tokenizer and weights; no code, no pickles, no other formats."""
    tag = "google/siglip2-base-patch16-224"
    repository = shutil.copytree(siglip, fake.root / tag)
    unwanted = ("code.py", "pytorch_model.bin", "onnx/model.onnx", "README.md", "flax.msgpack")
    for name in (*unwanted, "1_Pooling/config.json"):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text("{}")
    folder = hub.get_encoder(tag, tmp_path / "enc" / "siglip2", str)
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert there == {
        "1_Pooling/config.json",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert load_encoder(folder).fingerprint == load_encoder(repository).fingerprint
    (repository / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="holds no model.safetensors"):
        hub.get_encoder(tag, tmp_path / "again", str)


def test_every_source_has_a_size_and_a_licence():
    for tag, source in hub.SOURCES.items():
        assert tag == source.repository or tag == TAG
        assert source.gigabytes > 0.1 and source.licence in ("mit", "apache-2.0")
        assert source.layout in (hub.OPEN_CLIP, hub.TRANSFORMERS)


def test_refusals(fake, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'ViT-Z'.*Marqo/marqo-fashionCLIP"):
        hub.get_encoder("ViT-Z", tmp_path / "x", str)
    (tmp_path / "x").mkdir()
    with pytest.raises(FileExistsError, match="x exists"):
        hub.get_encoder(TAG, tmp_path / "x", str)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match="pip install huggingface_hub"):
        hub.get_encoder(TAG, tmp_path / "y", str)
    assert not fake.fetched


def test_our_calls_fit_the_real_client():
    """The names and arguments that the fake accepts are those of huggingface_hub."""
    from inspect import signature

    import huggingface_hub

    assert {"revision", "local_dir"} <= set(signature(huggingface_hub.hf_hub_download).parameters)
    first_two = list(signature(huggingface_hub.hf_hub_download).parameters)[:2]
    assert first_two == ["repo_id", "filename"]
    assert "files_metadata" in signature(huggingface_hub.HfApi.model_info).parameters
