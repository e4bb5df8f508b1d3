"""Weights of every accepted kind, and what is refused."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from random import Random

import pytest
import torch
from diffusers import UNet2DConditionModel
from fashion_rag.adapter.garment.checkpoints import (
    convert,
    is_diffusers_unet,
    load_adapter,
    load_tensors,
    unet_diffusers_to_ldm,
    unet_in_channels,
)
from fashion_rag.adapter.garment.inversion import InversionAdapter, InversionAdapterConfig
from fashion_rag.commands.main import main
from safetensors.torch import save_file

CONFIG = InversionAdapterConfig(
    width=160, heads=2, layers=1, mlp_width=64, hidden=32, words=16, output_width=24
)


def adapter_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return InversionAdapter(CONFIG).state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_sizes_come_from_the_tensors(tmp_path, suffix):
    path = tmp_path / f"inversion_adapter{suffix}"
    save = torch.save if suffix == ".pth" else save_file
    save(adapter_weights(), path)
    adapter = load_adapter(path)
    assert adapter.config == CONFIG
    assert not adapter.training and not any(p.requires_grad for p in adapter.parameters())


def test_metadata_settles_heads_and_words(tmp_path):
    path = tmp_path / "adapter.safetensors"
    save_file(adapter_weights(), path, metadata={"heads": "5", "words": "4"})
    config = load_adapter(path).config
    assert (config.heads, config.words, config.output_width) == (5, 4, 96)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"heads": "7"}, "7 heads"),
        ({"words": "5"}, "5 pseudo-words"),
        ({"preprocess": "squash"}, "'squash'"),
        ({"heads": "0"}, "'0' for `heads`"),
        ({"words": "0"}, "'0' for `words`"),
        ({"words": "-4"}, "'-4' for `words`"),
        ({"heads": "many"}, "'many' for `heads`"),
    ],
)
def test_metadata_that_does_not_fit(tmp_path, metadata, message):
    path = tmp_path / "adapter.safetensors"
    save_file(adapter_weights(), path, metadata=metadata)
    with pytest.raises(ValueError, match=message) as error:
        load_adapter(path)
    assert str(path) in str(error.value)


def test_something_else_is_no_adapter(tmp_path):
    path = tmp_path / "unet.safetensors"
    save_file({"conv_in.weight": torch.zeros(1, 27, 3, 3)}, path)
    with pytest.raises(ValueError, match="no inversion adapter"):
        load_adapter(path)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("post_layernorm.weight", torch.ones(())),
        ("layers.0.weight", torch.ones(32)),
        ("layers.0.weight", torch.ones(0, 160)),
        ("encoder_layers.0.mlp.fc1.weight", torch.ones(())),
        ("encoder_layers.0.self_attn.q_proj.weight", torch.ones(160)),
        ("encoder_l", torch.ones(1)),
    ],
)
def test_a_tensor_of_another_shape_is_named(tmp_path, name, tensor):
    path = tmp_path / "adapter.safetensors"
    save_file({**adapter_weights(), name: tensor}, path)
    with pytest.raises(ValueError, match=re.escape(name)) as error:
        load_adapter(path)
    assert str(path) in str(error.value)


def test_shapes_are_checked_before_a_network_is_made(tmp_path):
    """A file of a few hundred kilobytes claims two layers of 60000 x 60000."""
    path, made = tmp_path / "adapter.safetensors", []

    class Linear(torch.nn.Linear):
        def __init__(self, *sizes, **options):
            made.append(sizes)

    operations = type("Operations", (), {"Linear": Linear, "LayerNorm": torch.nn.LayerNorm})
    for tensor in (torch.ones(60_000, 1), torch.ones(60_000, 0)):
        save_file({**adapter_weights(), "layers.0.weight": tensor}, path)
        with pytest.raises(ValueError, match=r"layers\.\d\.(weight|bias)") as error:
            load_adapter(path, operations)
        assert str(path) in str(error.value) and not made


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(60_000, 60_000),
        torch.zeros(60_000, 60_000, layout=torch.sparse_coo),
        torch.empty(60_000, 60_000, device="meta"),
    ],
    ids=["repeated", "sparse", "meta"],
)
def test_a_tensor_that_is_larger_than_its_file_is_refused(tmp_path, tensor):
    torch.save({"layers.0.weight": tensor}, tmp_path / "adapter.pth")
    with pytest.raises(ValueError, match=r"adapter\.pth (is damaged|holds no state dict)"):
        load_tensors(tmp_path / "adapter.pth")


def test_a_first_layer_of_no_channels(tmp_path):
    save_file({"conv_in.weight": torch.ones(())}, tmp_path / "unet.safetensors")
    with pytest.raises(ValueError, match=r"conv_in\.weight has the shape \(\)"):
        convert(tmp_path / "unet.safetensors", tmp_path / "new.safetensors")


class Malicious:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    path, trace = tmp_path / "unet_120000.pth", tmp_path / "was_run"
    path.write_bytes(pickle.dumps({"weight": Malicious(trace)}))
    torch.save({"weight": Malicious(trace)}, tmp_path / "zipped.pth")
    for file in (path, tmp_path / "zipped.pth"):
        with pytest.raises(ValueError, match="more than tensors"):
            load_tensors(file)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.safetensors", b"\x08\0\0\0\0\0\0\0{", "damaged"),
        ("short.pth", b"PK\x03\x04", "damaged"),
        ("empty.pth", b"", "damaged"),
        ("notes.txt", b"hello", "'.txt'"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_tensors(tmp_path / name)
    assert name in str(error.value)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_a_changed_byte_is_read_or_called_damaged(tmp_path, zipped):
    """torch raises ten classes of errors over such files."""
    path, random = tmp_path / "adapter.pth", Random(0)
    weights = {"a": torch.zeros(4, 5), "b.c": torch.ones(3)}
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[random.randrange(min(700, len(whole)))] = random.randrange(256)
        path.write_bytes(changed)
        try:
            load_tensors(path)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"{path} "), error
    assert refused > 30


@pytest.mark.parametrize("error", [MemoryError("no room"), PermissionError(13, "denied")])
def test_what_is_no_damage_is_not_called_so(tmp_path, monkeypatch, error):
    def load(*_, **__):
        raise error

    torch.save(adapter_weights(), tmp_path / "adapter.pth")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(error), match="no room|denied"):
        load_tensors(tmp_path / "adapter.pth")


@pytest.mark.parametrize("name", ["A.SAFETENSORS", "A.PTH", "A.Sft"])
def test_an_ending_in_capitals(tmp_path, name):
    save = torch.save if name == "A.PTH" else save_file
    save(adapter_weights(), tmp_path / name)
    assert load_adapter(tmp_path / name).config == CONFIG


def test_a_state_dict_inside_a_checkpoint(tmp_path):
    torch.save({"state_dict": adapter_weights(), "step": 5}, tmp_path / "last.pth")
    assert load_adapter(tmp_path / "last.pth").config == CONFIG


def unet(levels: int, linear: bool, attended: int) -> dict[str, torch.Tensor]:
    """A U-Net whose first `attended` resolutions have attention."""
    down = ["CrossAttnDownBlock2D"] * attended + ["DownBlock2D"] * (levels - attended)
    with torch.device("meta"):
        model = UNet2DConditionModel(
            in_channels=27,
            block_out_channels=(32, 64, 96, 96)[:levels],
            down_block_types=down,
            up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
            layers_per_block=2 if levels > 2 else 1,
            cross_attention_dim=48,
            attention_head_dim=4,
            use_linear_projection=linear,
        )
    return model.state_dict()


@pytest.mark.parametrize(("levels", "attended"), [(4, 3), (3, 2), (3, 3), (2, 1)])
@pytest.mark.parametrize("linear", [True, False])
def test_every_unet_tensor_gets_a_name_of_its_own(levels, attended, linear):
    weights = unet(levels, linear, attended)
    renamed = unet_diffusers_to_ldm(weights)
    assert len(renamed) == len(weights)
    assert is_diffusers_unet(weights) and not is_diffusers_unet(renamed)
    assert unet_in_channels(weights) == unet_in_channels(renamed) == 27
    places = {"input_blocks", "middle_block", "output_blocks", "time_embed", "out"}
    assert {name.split(".")[0] for name in renamed} == places


def test_known_places_in_ldm_names():
    names = {
        "down_blocks.0.attentions.1.transformer_blocks.0.attn2.to_k.weight": (
            "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
        ),
        "down_blocks.2.downsamplers.0.conv.bias": "input_blocks.9.0.op.bias",
        "mid_block.resnets.1.conv2.weight": "middle_block.2.out_layers.3.weight",
        "up_blocks.0.upsamplers.0.conv.weight": "output_blocks.2.1.conv.weight",
        "up_blocks.1.upsamplers.0.conv.weight": "output_blocks.5.2.conv.weight",
        "up_blocks.3.resnets.2.time_emb_proj.bias": "output_blocks.11.0.emb_layers.1.bias",
    }
    weights = unet(4, True, 3)
    renamed = unet_diffusers_to_ldm(weights)
    for name, ldm in names.items():
        assert renamed[ldm] is weights[name]


def test_a_tensor_of_another_architecture_is_named():
    with pytest.raises(ValueError, match="add_embedding"):
        unet_diffusers_to_ldm({**unet(2, True, 1), "add_embedding.linear_1.weight": torch.zeros(1)})


@pytest.mark.parametrize("rest", ["", ".weight", ".conv9.weight"])
def test_an_unknown_tensor_of_a_known_block_is_named(rest):
    name = f"down_blocks.0.resnets.0{rest}"
    with pytest.raises(ValueError, match=f"'{name}' is no tensor"):
        unet_diffusers_to_ldm({**unet(2, True, 1), name: torch.zeros(1)})


def test_convert_unet_and_adapter(tmp_path, capsys):
    weights = {name: torch.randn(t.shape) for name, t in unet(2, True, 1).items()}
    torch.save(weights, tmp_path / "unet_120000.pth")
    torch.save(adapter_weights(), tmp_path / "inversion_adapter_120000.pth")
    for name in ("unet_120000", "inversion_adapter_120000"):
        command = ["convert", str(tmp_path / f"{name}.pth"), str(tmp_path / f"{name}.safetensors")]
        assert main(command) == 0
    found, metadata = load_tensors(tmp_path / "unet_120000.safetensors")
    assert metadata["in_channels"] == "27" and metadata["source"] == "unet_120000.pth"
    assert torch.equal(found["input_blocks.0.0.weight"], weights["conv_in.weight"])
    adapter = load_adapter(tmp_path / "inversion_adapter_120000.safetensors")
    assert adapter.config == CONFIG and adapter.metadata["kind"] == "inversion_adapter"
    assert "in_channels 27" in capsys.readouterr().out


def test_convert_loses_nothing(tmp_path, capsys):
    source, target = tmp_path / "adapter.pth", tmp_path / "adapter.safetensors"
    torch.save(adapter_weights(), source)
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        convert(source, target)
    assert target.read_bytes() == b"mine"
    assert main(["convert", str(source), str(tmp_path / "adapter.bin")]) == 1
    assert "must end in .safetensors" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["adapter.pth", "adapter.safetensors"]
