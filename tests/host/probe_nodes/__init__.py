"""Nodes for the tests alone: they feed poses in and write down what travels through a graph."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import comfy.patcher_extension
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io
from safetensors.torch import save_file

from . import editors

CATEGORY = "tests"


def flatten(value, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor inside lists, dicts and dataclasses, by its path."""
    if torch.is_tensor(value):
        return {name or "value": value.detach().cpu().contiguous().clone()}
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, (list, tuple)):
        value = dict(enumerate(value))
    if not isinstance(value, dict):
        return {}
    found = {}
    for key, part in value.items():
        found |= flatten(part, f"{name}.{key}" if name else str(key))
    return found


def write(name: str, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, Path(folder_paths.get_output_directory()) / f"{name}.safetensors")


class ProbePose(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbePose",
            category=CATEGORY,
            inputs=[io.String.Input("frames", multiline=True)],
            outputs=[io.Custom("POSE_KEYPOINT").Output()],
        )

    @classmethod
    def execute(cls, frames):
        return io.NodeOutput(json.loads(frames))


class ProbeSave(io.ComfyNode):
    """Writes every tensor of a value to NAME.safetensors in the output folder."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeSave",
            category=CATEGORY,
            is_output_node=True,
            inputs=[io.AnyType.Input("value"), io.String.Input("name")],
        )

    @classmethod
    def execute(cls, value, name):
        write(name, flatten(value))
        return io.NodeOutput(ui={"text": [name]})


class ProbeText(io.ComfyNode):
    """Shows a text."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeText",
            category=CATEGORY,
            is_output_node=True,
            inputs=[io.String.Input("value", force_input=True)],
        )

    @classmethod
    def execute(cls, value):
        return io.NodeOutput(ui={"text": [value]})


class ProbeIds(io.ComfyNode):
    """Shows the token ids that the host makes of a text."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeIds",
            category=CATEGORY,
            is_output_node=True,
            inputs=[io.Clip.Input("clip"), io.String.Input("text")],
        )

    @classmethod
    def execute(cls, clip, text):
        ((window,),) = clip.tokenize(text).values()
        return io.NodeOutput(ui={"text": [json.dumps([token for token, _ in window])]})


class ProbeVision(io.ComfyNode):
    """The vision tower's output for pixels that need no resizing any more."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeVision",
            category=CATEGORY,
            is_output_node=True,
            inputs=[
                io.ClipVision.Input("clip_vision"),
                io.Image.Input("image"),
                io.String.Input("name"),
            ],
        )

    @classmethod
    def execute(cls, clip_vision, image, name):
        output = clip_vision.encode_image(image)
        write(name, {"image": image, "last_hidden_state": output.last_hidden_state.cpu()})
        return io.NodeOutput(ui={"text": [name]})


class ProbeVAE(io.ComfyNode):
    """A VAE that writes the number of its encodings to NAME.txt."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeVAE",
            category=CATEGORY,
            not_idempotent=True,
            inputs=[io.Vae.Input("vae"), io.String.Input("name")],
            outputs=[io.Vae.Output()],
        )

    @classmethod
    def execute(cls, vae, name):
        vae, calls = copy.copy(vae), []
        encode, file = vae.encode, Path(folder_paths.get_output_directory()) / f"{name}.txt"

        def count(pixels):
            calls.append(None)
            file.write_text(str(len(calls)))
            return encode(pixels)

        vae.encode = count
        return io.NodeOutput(vae)


class ProbeUNet(io.ComfyNode):
    """Writes input and output of every U-Net call to NAME_0.safetensors, NAME_1 and so on."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeUNet",
            category=CATEGORY,
            inputs=[io.Model.Input("model"), io.String.Input("name")],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model, name):
        model, calls = model.clone(), []

        def record(execute, x, timesteps, context, *rest, **options):
            given = {"x": x, "timesteps": timesteps, "context": context}
            given = {key: value.detach().clone().contiguous() for key, value in given.items()}
            output = execute(x, timesteps, context, *rest, **options)
            write(f"{name}_{len(calls)}", {**given, "output": output.contiguous().clone()})
            calls.append(None)
            return output

        kind = comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL
        model.add_wrapper_with_key(kind, "probe", record)
        return io.NodeOutput(model)


class ProbeControlNet(io.ComfyNode):
    """An untrained ControlNet of the same sizes as a loaded U-Net.

    width: that of the text it reads; 0 is the U-Net's own.
    """

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ProbeControlNet",
            category=CATEGORY,
            inputs=[
                io.Model.Input("model"),
                io.Int.Input("width", default=0, optional=True),
            ],
            outputs=[io.ControlNet.Output()],
        )

    @classmethod
    def execute(cls, model, width=0):
        config = dict(model.model.model_config.unet_config)
        for key in ("out_channels", "disable_unet_model_creation"):
            config.pop(key, None)
        config.update(in_channels=4, hint_channels=3, dtype=torch.float32)
        config["context_dim"] = width or config["context_dim"]
        config["operations"] = comfy.ops.disable_weight_init
        control = comfy.cldm.cldm.ControlNet(**config)
        generator = torch.Generator().manual_seed(0)
        for parameter in control.parameters():
            torch.nn.init.normal_(parameter.data, std=0.05, generator=generator)
        return io.NodeOutput(comfy.controlnet.ControlNet(control))


class Probes(ComfyExtension):
    async def get_node_list(self):
        return [
            ProbePose,
            ProbeSave,
            ProbeText,
            ProbeIds,
            ProbeVision,
            ProbeVAE,
            ProbeUNet,
            ProbeControlNet,
            *editors.NODES,
        ]


async def comfy_entrypoint():
    return Probes()
