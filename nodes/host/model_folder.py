"""Loading a diffusers model folder as ComfyUI models, in SD2's sizes or smaller ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.clip_vision
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
from ...model_parts import CLIP_VOCABULARY, weights_of
from .memory import ManagedAdapter
from .unet import with_pose_channels

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
    adapter = folder / "inversion_adapter.safetensors"
    if not adapter.is_file():
        raise FileNotFoundError(f"{adapter} is missing: a model folder holds its own adapter.")
    model, clip, vae = load_unet_part(folder), _load_text_encoder(folder), _load_vae(folder)
    # The host loads the weights again from here where it needs a second copy of them.
    clip.patcher.cached_patcher_init = (_text_encoder_patcher, (folder,))
    vae.patcher.cached_patcher_init = (_vae_patcher, (folder,))
    return model, clip, vae, _load_vision(folder), ManagedAdapter.load(adapter)


def load_unet_part(folder: Path, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """Load the U-Net of a model folder; `disable_dynamic` as in `load_unet`."""
    model = unet_model(*read_part(folder / "unet", "diffusion_pytorch_model"), disable_dynamic)
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
        ValueError: the configuration is no JSON object.
    """
    config = part / "config.json"
    if not config.is_file():
        raise FileNotFoundError(
            f"{config} is missing: {part} must hold config.json and {stem}.safetensors "
            "(diffusers layout)."
        )
    weights = weights_of(part, stem)
    return read_object(config, "fetch it again"), load_tensors(weights)[0]


def unet_model(
    config: Config, state_dict: StateDict, disable_dynamic: bool = False
) -> comfy.model_patcher.ModelPatcher:
    """Make the MODEL of a U-Net in diffusers' names; it reads the pose if it has the channels."""
    state_dict = unet_diffusers_to_ldm(state_dict)
    if config["block_out_channels"][0] == 320:
        model = comfy.sd.load_diffusion_model_state_dict(
            state_dict, disable_dynamic=disable_dynamic
        )
    else:
        model = _small_unet(config, state_dict, disable_dynamic)
    return with_pose_channels(model) if config["in_channels"] > 9 else model


def _small_unet(
    config: Config, state_dict: StateDict, disable_dynamic: bool
) -> comfy.model_patcher.ModelPatcher:
    # The host recognises SD by its sizes, so a smaller U-Net gets SD2's settings by hand.
    management, patchers = comfy.model_management, comfy.model_patcher
    sd2 = comfy.supported_models.SD20(comfy.model_detection.detect_unet_config(state_dict, ""))
    sd2.unet_config.update(_heads(config), channel_mult=_multiples(config))
    device = management.get_torch_device()
    parameters = sum(tensor.numel() for tensor in state_dict.values())
    dtype = management.unet_dtype(
        model_params=parameters, supported_dtypes=sd2.supported_inference_dtypes
    )
    sd2.set_inference_dtype(
        dtype, management.unet_manual_cast(dtype, device, sd2.supported_inference_dtypes)
    )
    model = sd2.get_model(state_dict)
    _set_groups(model.diffusion_model, config)
    patcher_class = patchers.ModelPatcher if disable_dynamic else patchers.CoreModelPatcher
    patcher = patcher_class(model, device, management.unet_offload_device())
    model.load_model_weights(state_dict, assign=patcher.is_dynamic())
    return patcher


def _set_groups(model: torch.nn.Module, config: Config) -> None:
    # The host builds every group norm with SD's 32 groups; narrow networks have fewer.
    for module in model.modules():
        if isinstance(module, torch.nn.GroupNorm):
            module.num_groups = config.get("norm_num_groups", module.num_groups)


class _Multiple(float):
    """A level's width divided by the first level's; times that width it is a whole number again."""

    def __mul__(self, width: int) -> int:
        return round(float(self) * width)

    __rmul__ = __mul__


def _multiples(config: Config) -> list[_Multiple]:
    # The host rounds them down, and would take 64, 96, 128 for 64, 64, 128.
    widths = config["block_out_channels"]
    return [_Multiple(width / widths[0]) for width in widths]


def _heads(config: Config) -> dict[str, int]:
    # diffusers keeps the number of heads under `attention_head_dim` for this family.
    heads = config.get("num_attention_heads") or config["attention_head_dim"]
    widths = config["block_out_channels"]
    heads = [heads] * len(widths) if isinstance(heads, int) else heads
    head_widths = {width // count for width, count in zip(widths, heads, strict=True)}
    if len(head_widths) == 1:
        return {"num_heads": -1, "num_head_channels": head_widths.pop()}
    if len(set(heads)) == 1:
        return {"num_heads": heads[0], "num_head_channels": -1}
    raise ValueError(
        f"The U-Net's widths {widths} with {heads} heads have neither one head width nor one "
        "number of heads, as ComfyUI's Stable Diffusion needs."
    )


class _TextTower(comfy.sd1_clip.SDClipModel):
    """A CLIP text tower read after its last layer and final norm, as diffusers reads SD2's."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            layer="last",
            textmodel_json_config=model_options["fashionrag_text_config"],
            special_tokens={"start": 49406, "end": 49407, "pad": 0},
            model_options=model_options,
        )


class _TextModel(comfy.sd1_clip.SD1ClipModel):
    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options,
            clip_name="h",
            clip_model=_TextTower,
        )


def _load_text_encoder(folder: Path, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    part = folder / "text_encoder"
    config, state_dict = read_part(part, "model")
    if config["vocab_size"] != CLIP_VOCABULARY:
        raise ValueError(
            f"{part} has a vocabulary of {config['vocab_size']}; expected CLIP's {CLIP_VOCABULARY}."
        )
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
        model_options={"fashionrag_text_config": {**config, "eos_token_id": 49407}},
        disable_dynamic=disable_dynamic,
    )


def _load_vae(folder: Path) -> comfy.sd.VAE:
    part = folder / "vae"
    config, state_dict = read_part(part, "diffusion_pytorch_model")
    widths = config["block_out_channels"]
    if config.get("scaling_factor", SD_LATENT_SCALE) != SD_LATENT_SCALE or len(widths) != 4:
        raise ValueError(
            f"{part} has {len(widths)} levels and the latent scale {config.get('scaling_factor')}; "
            f"expected SD's 4 levels (8 times smaller) and {SD_LATENT_SCALE}."
        )
    settings = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": widths[0],
        "ch_mult": [width // widths[0] for width in widths],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {"ddconfig": settings, "embed_dim": config["latent_channels"]}
    vae = comfy.sd.VAE(sd=state_dict, config={"params": params})
    _set_groups(vae.first_stage_model, config)
    return vae


def _load_vision(folder: Path) -> comfy.clip_vision.ClipVisionModel:
    config, state_dict = read_part(folder / "image_encoder", "model")
    model = comfy.clip_vision.ClipVisionModel({**config, "model_type": "clip_vision_model"})
    model.load_sd(state_dict)
    return model
