"""The MODEL socket: U-Nets of 9 and 27 channels, pose channels, and prompts by depth."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.conds
import comfy.model_detection
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sd
import comfy.utils
import folder_paths
import torch

from ...adapter.garment.checkpoints import is_diffusers_unet, load_tensors, unet_diffusers_to_ldm
from ...adapter.garment.checkpoints import unet_in_channels as in_channels_of
from ...adapter.person.pose import POSE_CHANNELS
from ...files import state_of_file
from ...model_parts import Shape, check_shapes, shapes_of, told_of

POSE_KEY = "fashionrag_pose"
GARMENT_CONTEXT_KEY = "fashionrag_garment_context"
WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
}
"""The stock loader's choices, each with the host's model options."""

Model = comfy.model_patcher.ModelPatcher


def unet_names() -> list[str]:
    """List the files of models/diffusion_models."""
    return folder_paths.get_filename_list("diffusion_models")


def states_of_unets(name: str | None) -> list[tuple]:
    """Return what changes when the file `name` does (None: any), for `fingerprint_inputs`."""
    names = unet_names() if name is None else [name]
    paths = [folder_paths.get_full_path("diffusion_models", name) for name in names]
    return [state_of_file(Path(path)) for path in paths if path is not None]


def load_unet_named(name: str, weight_dtype: str) -> Model:
    """Load the U-Net `name` of `unet_names`, its weights as one of WEIGHT_DTYPES.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see `load_unet`.
    """
    path = folder_paths.get_full_path_or_raise("diffusion_models", name)
    return load_unet(path, dict(WEIGHT_DTYPES[weight_dtype]))


def load_unet(path: str, options: dict[str, Any], disable_dynamic: bool = False) -> Model:
    """Load an inpainting U-Net of 9 or 27 input channels, in diffusers or LDM names.

    Args:
        options: the host's model options, such as `dtype`.
        disable_dynamic: the host asks for this where it loads the weights again, for hooks and
            compiled models.

    Raises:
        ValueError: another width, an architecture that the host does not know, or weights are
            missing.
    """
    state_dict, _ = load_tensors(path)
    try:
        channels = in_channels_of(state_dict)
        if is_diffusers_unet(state_dict):
            state_dict = unet_diffusers_to_ldm(state_dict)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if channels not in (9, 9 + POSE_CHANNELS):
        raise ValueError(
            f"{path} is a U-Net of {channels} input channels; expected 9 (SD inpainting) or 27 "
            "(Fashion-RAG: the same and 18 pose channels). For a 4-channel model use the stock "
            "loader with Set Latent Noise Mask."
        )
    check_unet(Path(path), state_dict)
    model = comfy.sd.load_diffusion_model_state_dict(
        state_dict, model_options=dict(options), disable_dynamic=disable_dynamic
    )
    model.cached_patcher_init = (load_unet, (path, options))
    return with_pose_channels(model) if channels > 9 else model


def check_unet(path: Path, state_dict: dict[str, torch.Tensor]) -> None:
    """Refuse a U-Net (LDM names) that the host does not know, or would fill with anything.

    The host leaves weights that a file lacks uninitialised, and only logs it.

    Raises:
        ValueError: it does not know it, or weights are missing or of another shape.
    """
    prefix = "model.diffusion_model."
    inside = {n.removeprefix(prefix): t for n, t in state_dict.items() if n.startswith(prefix)}
    state_dict = inside or state_dict
    with told_of(path):
        config = comfy.model_detection.model_config_from_unet(state_dict, "")
        model = config and config.get_model(state_dict, "", device="meta")
    if model is None:
        raise ValueError(
            f"{path}: ComfyUI does not know this U-Net. Expected Stable Diffusion 1.x or 2.x "
            "sizes; a smaller one is loaded as a model folder by the node Fashion-RAG Loader."
        )
    check_network(path, model.diffusion_model, state_dict)


_OF_UNETS = re.compile(
    r"(input_blocks|middle_block|output_blocks|time_embed|out)\..+\.(weight|bias)"
)


def check_network(
    path: Path, network: torch.nn.Module, state_dict: dict[str, torch.Tensor]
) -> None:
    """Compare a U-Net's weights (LDM names) with those of the network that the host makes for it.

    Raises:
        ValueError: some are missing or of another shape; or there are more of a U-Net's own, since
            the host leaves out whole layers where it misses the weight that it looks for.
    """
    expected = expected_shapes(network)
    check_shapes(path, expected, shapes_of(state_dict))
    more = sorted(n for n in state_dict if n not in expected and _OF_UNETS.fullmatch(n))
    if more:
        raise ValueError(
            f"{path} has {len(more)} weights of layers that ComfyUI takes for absent, the first is "
            f"{more[0]}: another weight beside it is missing. Fetch it again, with the config.json "
            "beside it if there is one."
        )


def expected_shapes(network: torch.nn.Module) -> dict[str, Shape]:
    """Return the shapes of a network's weights by name, before they are loaded."""
    shapes = shapes_of(network.state_dict())
    for name, layer in network.named_modules():
        # With dynamic memory the host makes these only when they are loaded.
        if isinstance(layer, torch.nn.Linear):
            shapes[f"{name}.weight"] = (layer.out_features, layer.in_features)
            if getattr(layer, "comfy_need_lazy_init_bias", False):
                shapes[f"{name}.bias"] = (layer.out_features,)
    return shapes


@dataclass(frozen=True)
class _Extended:
    """A method of the host's model with something added, put in its place by an object patch."""

    method: Callable

    def of(self, model: torch.nn.Module) -> _Extended:
        """Return the same for another model of the same class."""
        return replace(self, method=_method_of(model, self.method))


def _method_of(model: torch.nn.Module, method: Callable) -> Callable:
    if isinstance(method, _Extended):
        return method.of(model)
    if isinstance(getattr(method, "__self__", None), torch.nn.Module):
        return method.__func__.__get__(model)
    return method


def _extend(model: Model, extended: _Extended, name: str) -> None:
    model.add_object_patch(name, extended)
    callbacks = comfy.patcher_extension.CallbacksMP.ON_CLONE
    model.remove_callbacks_with_key(callbacks, "fashionrag")
    model.add_callback_with_key(callbacks, "fashionrag", _follow)


def _follow(model: Model, clone: Model) -> None:
    # A clone with weights of its own (hooks, compiling, several GPUs) still has the methods of the
    # model that it was cloned from.
    if clone.model is not model.model:
        for name, patch in clone.object_patches.items():
            if isinstance(patch, _Extended):
                clone.object_patches[name] = patch.of(clone.model)


class _ConcatPose(_Extended):
    """`concat_cond` and the pose map of the conditioning, zero where there is none."""

    def __call__(self, **kwargs: Any) -> torch.Tensor:
        channels = self.method(**kwargs)
        batch, _, height, width = channels.shape
        pose = kwargs.get(POSE_KEY)
        if pose is None:
            pose = channels.new_zeros(1, POSE_CHANNELS, height, width)
        pose = pose.to(channels)
        if pose.shape[-2:] != (height, width):
            pose = torch.nn.functional.interpolate(pose, size=(height, width), mode="bilinear")
        # As BaseModel.concat_cond does with the masked photo, so that each keeps its own pose.
        return torch.cat([channels, comfy.utils.resize_to_batch_size(pose, batch)], dim=1)


class _GarmentContext(_Extended):
    """`extra_conds` and the garment context of the conditioning, else its own context."""

    def __call__(self, **kwargs: Any) -> dict[str, Any]:
        conds = self.method(**kwargs)
        context = kwargs.get(GARMENT_CONTEXT_KEY)
        # Set for every conditioning: the host batches only those that carry the same keys.
        context = kwargs["cross_attn"] if context is None else context
        return {**conds, GARMENT_CONTEXT_KEY: comfy.conds.CONDCrossAttn(context)}


def with_pose_channels(model: Model) -> Model:
    """Let a 27-channel model read the pose map of its conditioning (zero where there is none)."""
    model = model.clone()
    _extend(model, _ConcatPose(model.get_model_object("concat_cond")), "concat_cond")
    return model


def with_prompt_depth(model: Model, levels: set[int], start_percent: float) -> Model:
    """Let cross-attention at the chosen depths read the garment context of its conditioning.

    A conditioning without one keeps its own context everywhere. The garment context enters once
    the noise is down to `start_percent` of the schedule.

    Raises:
        ValueError: the model has its depths already, or is no U-Net.
    """
    if model.get_wrappers(comfy.patcher_extension.WrappersMP.APPLY_MODEL, GARMENT_CONTEXT_KEY):
        raise ValueError(
            "This model comes from another Fashion Prompt Depth; expected one of them on the way "
            "to the sampler. Connect the model from before the first one, and name all depths in "
            "one `levels`."
        )
    unet = model.get_model_object("diffusion_model")
    if not hasattr(unet, "input_blocks"):
        raise ValueError(
            f"The model is a {type(unet).__name__}, which has no depths; expected the U-Net of "
            "Stable Diffusion, from Fashion U-Net Loader or an SD2 inpainting checkpoint."
        )
    model = model.clone()
    blocks = _blocks_of(unet, levels)
    start_sigma = model.get_model_object("model_sampling").percent_to_sigma(start_percent)
    _extend(model, _GarmentContext(model.get_model_object("extra_conds")), "extra_conds")

    def apply_model(
        execute,
        x,
        t,
        c_concat=None,
        c_crossattn=None,
        control=None,
        transformer_options=None,
        **kwargs,
    ) -> torch.Tensor:
        options = dict(transformer_options or {})
        garments = kwargs.pop(GARMENT_CONTEXT_KEY)
        if t.max().item() <= start_sigma:
            options[GARMENT_CONTEXT_KEY] = garments
        return execute(x, t, c_concat, c_crossattn, control, options, **kwargs)

    def attention(query, context, value, options):
        garments = options.get(GARMENT_CONTEXT_KEY)
        if garments is None or tuple(options["block"]) not in blocks:
            return query, context, value
        garments = garments.to(context)
        return query, garments, garments

    model.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.APPLY_MODEL, GARMENT_CONTEXT_KEY, apply_model
    )
    model.set_model_attn2_patch(attention)
    return model


def _blocks_of(unet: torch.nn.Module, levels: set[int]) -> set[tuple[str, int]]:
    # Level numbers as in the official code: 0 = the middle block (and the deepest resolution),
    # counted up to the full resolution, 3 in SD.
    deepest = sum(_resamples(block, "Downsample") for block in unet.input_blocks)
    blocks, depth = {("middle", 0)} if 0 in levels else set(), 0
    for number, block in enumerate(unet.input_blocks):
        depth += _resamples(block, "Downsample")
        if deepest - depth in levels:
            blocks.add(("input", number))
    for number, block in enumerate(unet.output_blocks):
        if deepest - depth in levels:
            blocks.add(("output", number))
        depth -= _resamples(block, "Upsample")
    return blocks


def _resamples(block: torch.nn.Module, kind: str) -> bool:
    return any(type(layer).__name__ == kind for layer in block)


def check_control_width(conditioning: list) -> None:
    """Compare the text width of every ControlNet on a CONDITIONING with the conditioning's own.

    Raises:
        ValueError: they differ; the host would only fail in a matrix product while sampling.
    """
    for embeddings, values in conditioning:
        control = values.get("control")
        while control is not None:
            reads = _context_width(getattr(control, "control_model", None))
            if reads not in (None, embeddings.shape[-1]):
                raise ValueError(
                    f"The ControlNet reads text of width {reads}, the conditioning has width "
                    f"{embeddings.shape[-1]}: load a ControlNet made for the same model "
                    "(1024: Stable Diffusion 2.1, 768: Stable Diffusion 1.5)."
                )
            control = control.previous_controlnet


def _context_width(control_model: torch.nn.Module | None) -> int | None:
    # None: it reads no text (T2I adapters), or is only made while sampling (control LoRAs).
    if control_model is None:
        return None
    keys = (m for name, m in control_model.named_modules() if name.endswith("attn2.to_k"))
    return next((key.in_features for key in keys), None)
