"""Weights files: loading them without running code, reading sizes, renaming, converting."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from ...files import atomic_file
from ...model_parts import check_shapes, shapes_of
from .garment_images import PREPROCESS
from .inversion import InversionAdapter, InversionAdapterConfig

logger = logging.getLogger(__name__)

StateDict = dict[str, torch.Tensor]
WORDS = 16
HEAD_WIDTH = 80
"""Width of CLIP ViT-H/14's attention heads, by which the number of heads is known."""


def load_tensors(path: str | Path) -> tuple[StateDict, dict[str, str]]:
    """Read the tensors and metadata (empty for a pickle) of a weights file; run no code in it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, holds more than tensors, or has another ending.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: check the name and the folder.")
    suffix = path.suffix.lower()
    if suffix in (".safetensors", ".sft"):
        try:
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}): fetch the file again.") from error
    if suffix not in (".pth", ".pt", ".bin", ".ckpt"):
        raise ValueError(f"{path} ends in {path.suffix!r}; expected .safetensors or .pth.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # what torch raises over damaged files has no common class
        raise ValueError(
            f"{path} is damaged or holds more than tensors; it was not run, since a pickle can "
            "carry code. Fetch the original file, or a safetensors version of it."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(map(_is_named_tensor, content.items())):
        raise ValueError(
            f"{path} holds no state dict: expected names with tensors whose numbers are all in "
            "the file. Fetch the original file, or a safetensors version of it."
        )
    return content, {}


def _is_named_tensor(item: tuple[object, object]) -> bool:
    """Tell a name with a dense tensor from anything else that a pickle holds.

    A tensor that repeats its numbers, or is sparse, takes no room in the file and any in memory.
    """
    name, tensor = item
    return (
        isinstance(name, str)
        and isinstance(tensor, torch.Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_quantized
        and tensor.device.type == "cpu"
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def load_adapter(
    path: str | Path,
    operations: ModuleType | type = nn,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> InversionAdapter:
    """Load an inversion adapter, frozen and in eval mode; its attribute `metadata` is the file's.

    Raises:
        ValueError: the file is no inversion adapter, or its metadata contradicts its tensors.
    """
    state_dict, metadata = load_tensors(path)
    try:
        config = adapter_config(state_dict, metadata)
        # Built without memory of its own first: the file's shapes are claims of whoever made it.
        expected = InversionAdapter(config, device="meta").state_dict()
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is no inversion adapter: {error}") from error
    check_shapes(Path(path), shapes_of(expected), shapes_of(state_dict))
    adapter = InversionAdapter(config, operations, device, dtype)
    try:
        adapter.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit an inversion adapter: {error}") from error
    adapter.metadata = metadata
    return adapter.eval().requires_grad_(False)


def adapter_config(
    state_dict: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> InversionAdapterConfig:
    """Read the sizes of an adapter from its tensors; `heads` and `words` from its metadata.

    Without metadata a head is 80 wide and a garment has 16 pseudo-words, as in all published
    adapters.

    Raises:
        KeyError: a tensor of the adapter is missing. ValueError: the sizes do not add up.
    """
    (width,) = _sizes(state_dict, "post_layernorm.weight", 1)
    hidden, _ = _sizes(state_dict, "layers.0.weight", 2)
    output, _ = _sizes(state_dict, "layers.6.weight", 2)
    mlp_width, _ = _sizes(state_dict, "encoder_layers.0.mlp.fc1.weight", 2)
    heads = _count(metadata, "heads", max(1, width // HEAD_WIDTH))
    words = _count(metadata, "words", WORDS)
    if width % heads or output % words:
        raise ValueError(
            f"width {width} with {heads} heads, {output} outputs with {words} pseudo-words: one "
            "does not divide evenly; put `heads` and `words` into the file's metadata."
        )
    if metadata.get("preprocess", PREPROCESS[0]) not in PREPROCESS:
        raise ValueError(
            f"its metadata asks for the preprocess {metadata['preprocess']!r}; expected one of "
            f"{', '.join(PREPROCESS)}."
        )
    return InversionAdapterConfig(
        width=width,
        heads=heads,
        layers=len({name.split(".")[1] for name in state_dict if name.startswith(_LAYERS)}),
        mlp_width=mlp_width,
        hidden=hidden,
        words=words,
        output_width=output // words,
    )


_LAYERS = "encoder_layers."


def _sizes(state_dict: Mapping[str, torch.Tensor], name: str, dimensions: int) -> Sequence[int]:
    shape = tuple(state_dict[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(
            f"{name} has the shape {shape}, expected {dimensions} sizes of at least 1: fetch the "
            "file again."
        )
    return shape


def _count(metadata: Mapping[str, str], name: str, default: int) -> int:
    text = metadata.get(name, str(default))
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", text, re.ASCII):
        raise ValueError(
            f"its metadata has {text[:40]!r} for `{name}`, expected a whole number of at least 1: "
            "mend it, or leave it out."
        )
    return int(text)


def is_diffusers_unet(state_dict: Mapping[str, torch.Tensor]) -> bool:
    """Tell diffusers' names of a U-Net (`conv_in.weight`) from LDM's (`input_blocks.0.0`)."""
    return "conv_in.weight" in state_dict


def unet_in_channels(state_dict: Mapping[str, torch.Tensor]) -> int:
    """Count the input channels of a U-Net, in either naming and below a checkpoint's prefix.

    Raises:
        ValueError: the tensors are those of no U-Net.
    """
    for name in ("conv_in.weight", "input_blocks.0.0.weight"):
        for prefix in ("", "model.diffusion_model."):
            if prefix + name in state_dict:
                return _sizes(state_dict, prefix + name, 4)[1]
    raise ValueError(
        "no U-Net in it: neither conv_in.weight (diffusers) nor input_blocks.0.0.weight (LDM)."
    )


_PLACES = {
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)")


def unet_diffusers_to_ldm(state_dict: Mapping[str, torch.Tensor]) -> StateDict:
    """Rename the tensors of an SD-family U-Net from diffusers to LDM names, whatever its sizes.

    LDM counts all blocks of one side through: each resolution has `layers` of them and one for the
    change of resolution (down), or `layers` + 1, the last of which holds it (up).

    Raises:
        ValueError: a tensor that such a U-Net does not have.
    """
    layers = len(
        {m[1] for name in state_dict if (m := re.match(r"down_blocks\.0\.resnets\.(\d+)", name))}
    )
    attended = {
        m[1] for name in state_dict if (m := re.match(r"up_blocks\.(\d+)\.attentions", name))
    }
    renamed: StateDict = {}
    for name, tensor in state_dict.items():
        renamed[_ldm_name(name, layers, attended)] = tensor
    return renamed


def _ldm_name(name: str, layers: int, attended: set[str]) -> str:
    found = re.match(r"(?:mid_block\.(?:resnets|attentions)\.\d|time_embedding\.\w+|\w+)", name)
    head = found[0] if found else ""
    place, rest = _PLACES.get(head), name.removeprefix(head)
    if match := _BLOCK.match(name):
        side, block, kind, number = match[1], int(match[2]), match[3], int(match[4])
        rest = name[match.end() :]
        first = (layers + 1) * block
        if kind == "downsamplers":
            place, rest = f"input_blocks.{first + layers + 1}.0", rest.replace(".conv", ".op", 1)
        elif kind == "upsamplers":
            place = f"output_blocks.{first + layers}.{2 if match[2] in attended else 1}"
        else:
            count = first + number + (1 if side == "down" else 0)
            blocks = "input_blocks" if side == "down" else "output_blocks"
            place = f"{blocks}.{count}.{0 if kind == 'resnets' else 1}"
    part = rest.split(".")[1] if "resnets" in name and "." in rest else ""
    if place is None or ("resnets" in name and part not in _RESNET):
        raise ValueError(f"{name!r} is no tensor of a Stable Diffusion U-Net in diffusers names.")
    if "resnets" in name:
        rest = rest.replace(part, _RESNET[part], 1)
    return place + rest


def convert(source: Path, target: Path) -> dict[str, str]:
    """Convert an adapter or a U-Net of any accepted format to safetensors; return its metadata.

    A U-Net in diffusers names gets LDM names, which ComfyUI loads at any number of channels.

    Raises:
        FileExistsError: the target is there.
        ValueError: the source is neither, or the target does not end in .safetensors.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise ValueError(f"{target} must end in .safetensors.")
    if target.exists():
        raise FileExistsError(f"{target} exists: choose another name or remove it first.")
    state_dict, metadata = load_tensors(source)
    if "post_layernorm.weight" in state_dict:
        config = adapter_config(state_dict, metadata)
        metadata = {**metadata, **{name: str(value) for name, value in asdict(config).items()}}
        metadata["kind"] = "inversion_adapter"
    else:
        channels = unet_in_channels(state_dict)
        if is_diffusers_unet(state_dict):
            state_dict = unet_diffusers_to_ldm(state_dict)
        metadata = {**metadata, "kind": "unet", "in_channels": str(channels)}
    metadata["source"] = source.name
    write_safetensors(state_dict, target, metadata)
    return metadata


def write_safetensors(
    state_dict: StateDict, target: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file in one step, so that the target is never half written."""
    tensors = {name: tensor.contiguous() for name, tensor in state_dict.items()}
    with atomic_file(target) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", **(metadata or {})})
