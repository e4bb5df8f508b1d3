"""Loading a diffusers model folder as ComfyUI models, in SD2's sizes or smaller ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.diffusers_convert
import comfy.ldm.models.autoencoder
import comfy.model_detection
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.sd2_clip
import folder_paths
import torch

from ...adapter.garment.checkpoints import load_tensors, unet_diffusers_to_ldm
from ...files import read_object
from ...model_parts import (
    CLIP_VOCABULARY,
    CONFIG,
    check_names,
    check_shapes,
    read_config,
    shapes_of,
    told_of,
    weights_of,
)
from .memory import ManagedAdapter
from .unet import check_network, check_unet, expected_shapes, with_pose_channels

Config = dict[str, Any]
StateDict = dict[str, torch.Tensor]
SD_LATENT_SCALE = 0.18215


def load_model_folder(folder: Path) -> tuple:
    """Load (MODEL, CLIP, VAE, CLIP_VISION, adapter) of a folder.

    The folder holds unet, text_encoder, vae, image_encoder (each config.json and safetensors) and
    inversion_adapter.safetensors.

    Raises:
        FileNotFoundError: a part is missing.
        ValueError: a part does not fit the method; the message names file, value and expectation.
    """
    _check_prediction(folder)
    adapter = folder / "inversion_adapter.safetensors"
    if not adapter.is_file():
        raise FileNotFoundError(f"{adapter} is missing: a model folder holds its own adapter.")
    model, clip, vae = load_unet_part(folder), _load_text_encoder(folder), _load_vae(folder)
    # The host loads the weights again from here where it needs a second copy of them.
    clip.patcher.cached_patcher_init = (_text_encoder_patcher, (folder,))
    vae.patcher.cached_patcher_init = (_vae_patcher, (folder,))
    return model, clip, vae, _load_vision(folder), ManagedAdapter.load(adapter)


def _check_prediction(folder: Path) -> None:
    """Refuse a model that does not predict the noise, which the host takes an inpainting SD2 to do.

    Raises:
        ValueError: naming the file.
    """
    file = folder / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return
    kind = read_object(file, "fetch it again").get("prediction_type", _NOISE)
    if kind != _NOISE:
        raise ValueError(
            f"{file}: prediction_type is {kind!r}; expected {_NOISE!r} (the noise), which SD2 "
            "inpainting predicts and the host takes its like to predict. Use such a model."
        )


_NOISE = "epsilon"


def load_unet_part(folder: Path, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Load the U-Net of a model folder; `disable_dynamic` as in `load_unet`."""
    part = folder / "unet"
    config, state_dict = read_part(part, "diffusion_pytorch_model")
    model = unet_model(part, config, state_dict, disable_dynamic)
    model.cached_patcher_init = (load_unet_part, (folder,))
    return model


def _text_encoder_patcher(
    folder: Path, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    return _load_text_encoder(folder, disable_dynamic).patcher


def _vae_patcher(folder: Path, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    return _load_vae(folder).patcher  # the host's own VAE has no such option either


def read_part(part: Path, stem: str) -> tuple[Config, StateDict]:
    """Read the config.json and the tensors of one part.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: one is damaged.
    """
    return read_config(part, stem), load_tensors(weights_of(part, stem))[0]


def unet_model(
    part: Path, config: Config, state_dict: StateDict, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Make the MODEL of a U-Net in diffusers' names; it reads the pose if it has the channels.

    Args:
        part: the folder that config and tensors were read from.

    Raises:
        ValueError: they don't fit each other, or lack something; the message names the file.
    """
    weights = weights_of(part, "diffusion_pytorch_model")
    try:
        state_dict = unet_diffusers_to_ldm(state_dict)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from error
    first = "input_blocks.0.0.weight"
    check_names(weights, {"conv_in.weight"} if first not in state_dict else ())
    found = tuple(state_dict[first].shape)
    widths, channels = _counts(part, config, "block_out_channels"), _count(part, config, _CHANNELS)
    if found[:2] != (widths[0], channels):
        raise ValueError(
            f"{weights}: conv_in.weight has the shape {found}; {part / CONFIG} says "
            f"({widths[0]}, {channels}, ...) by block_out_channels and {_CHANNELS}. Fetch both "
            "files again, of the same model."
        )
    if widths[0] == 320:
        check_unet(weights, state_dict)
        model = comfy.sd.load_diffusion_model_state_dict(
            state_dict, disable_dynamic=disable_dynamic
        )
    else:
        model = _small_unet(part, config, state_dict, disable_dynamic)
    return with_pose_channels(model) if channels > 9 else model


_CHANNELS = "in_channels"


def _small_unet(
    part: Path, config: Config, state_dict: StateDict, disable_dynamic: bool
) -> comfy.model_patcher.ModelPatcher:
    # The host recognises SD by its sizes, so a smaller U-Net gets SD2's settings by hand.
    management, patchers = comfy.model_management, comfy.model_patcher
    weights = weights_of(part, "diffusion_pytorch_model")
    sizes = {**_heads(part, config), "channel_mult": _multiples(part, config)}
    device = management.get_torch_device()
    parameters = sum(tensor.numel() for tensor in state_dict.values())
    with told_of(weights, part / CONFIG):
        sd2 = comfy.supported_models.SD20(comfy.model_detection.detect_unet_config(state_dict, ""))
        sd2.unet_config.update(sizes)
        dtype = management.unet_dtype(
            model_params=parameters, supported_dtypes=sd2.supported_inference_dtypes
        )
        sd2.set_inference_dtype(
            dtype, management.unet_manual_cast(dtype, device, sd2.supported_inference_dtypes)
        )
        model = sd2.get_model(state_dict)
    check_network(weights, model.diffusion_model, state_dict)
    _set_groups(model.diffusion_model, part, config)
    patcher_class = patchers.ModelPatcher if disable_dynamic else patchers.CoreModelPatcher
    patcher = patcher_class(model, device, management.unet_offload_device())
    model.load_model_weights(state_dict, assign=patcher.is_dynamic())
    return patcher


def _count(part: Path, config: Config, name: str) -> int:
    value = config.get(name)
    if not _is_count(value):
        raise _unfit(part, name, value, "a whole number from 1 on")
    return value


def _counts(part: Path, config: Config, name: str) -> list[int]:
    values = config.get(name)
    if not isinstance(values, list) or not values or not all(map(_is_count, values)):
        raise _unfit(part, name, values, "a list of whole numbers from 1 on")
    return values


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _unfit(part: Path, name: str, value: Any, expected: str) -> ValueError:
    return ValueError(
        f"{part / CONFIG} gives {name} as {value!r}; expected {expected}. Fetch the file again."
    )


def _set_groups(model: torch.nn.Module, part: Path, config: Config) -> None:
    # The host builds every group norm with SD's 32 groups; narrow networks have fewer.
    name = "norm_num_groups"
    groups = _count(part, config, name) if name in config else 32
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            if module.num_channels % groups:
                raise _unfit(part, name, groups, f"a divisor of all widths: {module.num_channels}")
            module.num_groups = groups


class _Multiple(float):
    """A level's width divided by the first level's; times that width it is a whole number again."""

    def __mul__(self, width: int) -> int:
        return round(float(self) * width)

    __rmul__ = __mul__


def _multiples(part: Path, config: Config) -> list[_Multiple]:
    # The host rounds them down, and would take 64, 96, 128 for 64, 64, 128.
    widths = _counts(part, config, "block_out_channels")
    return [_Multiple(width / widths[0]) for width in widths]


def _heads(part: Path, config: Config) -> dict[str, int]:
    # diffusers keeps the number of heads under `attention_head_dim` for this family.
    name = "num_attention_heads" if config.get("num_attention_heads") else "attention_head_dim"
    widths = _counts(part, config, "block_out_channels")
    single = isinstance(config.get(name), int)
    heads = [_count(part, config, name)] * len(widths) if single else _counts(part, config, name)
    if len(heads) != len(widths) or any(n > width for n, width in zip(heads, widths, strict=False)):
        raise _unfit(part, name, heads, f"a number of heads for each width of {widths}")
    head_widths = {width // count for width, count in zip(widths, heads, strict=True)}
    if len(head_widths) == 1:
        return {"num_heads": -1, "num_head_channels": head_widths.pop()}
    if len(set(heads)) == 1:
        return {"num_heads": heads[0], "num_head_channels": -1}
    raise ValueError(
        f"{part / CONFIG}: widths {widths} with {heads} heads have neither one head width nor one "
        "number of heads, as ComfyUI's Stable Diffusion needs."
    )


class _TextTower(comfy.sd1_clip.SDClipModel):
    """A CLIP text tower read after its last layer and final norm, as diffusers reads SD2's."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        self.weights = model_options["fashionrag_text_weights"]
        with told_of(self.weights, self.weights.with_name(CONFIG)):
            super().__init__(
                device=device,
                dtype=dtype,
                layer="last",
                textmodel_json_config=model_options["fashionrag_text_config"],
                special_tokens={"start": 49406, "end": 49407, "pad": 0},
                model_options=model_options,
            )

    def load_sd(self, sd):
        check_shapes(self.weights, expected_shapes(self.transformer), shapes_of(sd))
        return super().load_sd(sd)


class _TextModel(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options,
            clip_name="h",
            clip_model=_TextTower,
        )


_TOWER = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")


def _load_text_encoder(folder: Path, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    part = folder / "text_encoder"
    config, state_dict = read_part(part, "model")
    vocabulary = _count(part, config, "vocab_size")
    if vocabulary != CLIP_VOCABULARY:
        raise ValueError(
            f"{part} has a vocabulary of {vocabulary}; expected CLIP's {CLIP_VOCABULARY}."
        )
    for name in (*_TOWER, "max_position_embeddings"):
        _count(part, config, name)
    if not any(key.startswith("text_model.") for key in state_dict):
        state_dict = {
            key if key.startswith("text_projection") else f"text_model.{key}": tensor
            for key, tensor in state_dict.items()
        }
    width = config["hidden_size"]
    # Without a projection the host would leave its matrix uninitialised; zero is seen and refused.
    state_dict.setdefault("text_projection.weight", torch.zeros(width, width))
    return comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(
            comfy.text_encoders.sd2_clip.SD2Tokenizer, _TextModel
        ),
        embedding_directory=folder_paths.get_folder_paths("embeddings"),
        parameters=sum(tensor.numel() for tensor in state_dict.values()),
        state_dict=[state_dict],
        model_options={
            "fashionrag_text_config": {**config, "eos_token_id": 49407},
            "fashionrag_text_weights": weights_of(part, "model"),
        },
        disable_dynamic=disable_dynamic,
    )


def _load_vae(folder: Path) -> comfy.sd.VAE:
    part = folder / "vae"
    config, state_dict = read_part(part, "diffusion_pytorch_model")
    widths = _counts(part, config, "block_out_channels")
    if config.get("scaling_factor", SD_LATENT_SCALE) != SD_LATENT_SCALE or len(widths) != 4:
        raise ValueError(
            f"{part} has {len(widths)} levels and the latent scale {config.get('scaling_factor')}; "
            f"expected SD's 4 levels (8 times smaller) and {SD_LATENT_SCALE}."
        )
    latent_channels = _count(part, config, "latent_channels")
    settings = {
        "double_z": True,
        "z_channels": latent_channels,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": _count(part, config, "layers_per_block"),
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {"ddconfig": settings, "embed_dim": latent_channels}
    weights = weights_of(part, "diffusion_pytorch_model")
    with told_of(weights, part / CONFIG):
        # As the host does it, but even if the tensor that it tells the names by is missing.
        state_dict = comfy.diffusers_convert.convert_vae_state_dict(state_dict)
        with torch.device("meta"):
            network = comfy.ldm.models.autoencoder.AutoencoderKL(**params)
    check_shapes(weights, expected_shapes(network), shapes_of(state_dict))
    vae = comfy.sd.VAE(sd=state_dict, config={"params": params})
    _set_groups(vae.first_stage_model, part, config)
    return vae


def _load_vision(folder: Path) -> comfy.clip_vision.ClipVisionModel:
    part = folder / "image_encoder"
    config, state_dict = read_part(part, "model")
    for name in (*_TOWER, "image_size", "patch_size", "num_channels"):
        _count(part, config, name)
    weights = weights_of(part, "model")
    with told_of(weights, part / CONFIG):
        model = comfy.clip_vision.ClipVisionModel({**config, "model_type": "clip_vision_model"})
    expected = expected_shapes(model.model)
    if _PROJECTION not in state_dict:  # the host does without it
        expected.pop(_PROJECTION, None)
    check_shapes(weights, expected, shapes_of(state_dict))
    model.load_sd(state_dict)
    return model


_PROJECTION = "visual_projection.weight"
